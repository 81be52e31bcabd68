"""A backward pass: the size of each gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from rawcnn.notebook.html_table import table

if TYPE_CHECKING:
    from rawcnn.nn.backpropagation import Backward


def text(backward: Backward) -> str:
    """Say how much a backward pass computed."""
    return f"Backward({len(backward.parameters)} parameters, {len(backward.activations)} activations)"


def html(backward: Backward) -> str:
    """Return the size of the gradients to variables, and of those to activations."""
    import tensorflow as tf

    if tf.is_symbolic_tensor(backward.loss):
        return f"<p>{escape(text(backward))}</p>"
    header = ("gradient to", "shape", "norm", "largest magnitude")
    parts: Sequence[tuple[str, Mapping[str, Any]]] = (
        (f"Gradients of the loss {float(backward.loss):.6g} to the variables", backward.parameters),
        ("and to the activations", backward.activations),
    )
    return "".join(
        table(title, header, ((name, "×".join(map(str, g.shape)), *_norms(g)) for name, g in gradients.items()))
        for title, gradients in parts
    )


def _norms(gradient: Any) -> tuple[float, float]:
    """The Euclidean norm and the largest magnitude."""
    import tensorflow as tf

    wide = tf.cast(gradient, tf.float64)
    return float(tf.norm(wide)), float(tf.reduce_max(tf.abs(wide)))
