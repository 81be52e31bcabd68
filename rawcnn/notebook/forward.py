"""A forward pass: the predicted classes, and the range of each activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rawcnn.notebook.html_table import shape_text, table
from rawcnn.notebook.pictures import SHOWN

if TYPE_CHECKING:
    from rawcnn.nn.trace import Forward


def text(forward: Forward) -> str:
    """Say how much a forward pass computed."""
    shape = "×".join(map(str, forward.logits.shape))
    return f"Forward(logits {shape}, {len(forward.activations)} activations, {len(forward.statistics)} statistics)"


def html(forward: Forward) -> str:
    """Return the most probable class of the first images, and a row with the range of each activation."""
    header = ("activation", "shape", "smallest", "mean", "largest", "zeros")
    rows = ((name, shape_text(x.shape), *_range(x)) for name, x in forward.activations.items())
    return _predictions(forward) + table(text(forward), header, rows)


def _predictions(forward: Forward) -> str:
    """A table of the predicted classes; nothing while a function is traced, because there are no values."""
    import tensorflow as tf

    if tf.is_symbolic_tensor(forward.logits):
        return ""
    probabilities = tf.nn.softmax(forward.logits[:SHOWN]).numpy()  # [B,K]
    rows = ((n, int(row.argmax()), f"{row.max():.1%}") for n, row in enumerate(probabilities))
    return table("Most probable class", ("image", "class", "probability"), rows)


def _range(x: Any) -> tuple[object, ...]:
    """Smallest, mean and largest value, and the share of zeros; nothing while a function is traced."""
    import numpy as np
    import tensorflow as tf

    if tf.is_symbolic_tensor(x) or not tf.size(x):
        return ("", "", "", "")
    values = tf.cast(x, tf.float64 if x.dtype == tf.float64 else tf.float32).numpy()
    return (
        *(float(of(values)) for of in (np.min, np.mean, np.max)),
        f"{np.mean(values == 0):.1%}",
    )
