"""Images for which oneDNN's kernels need care: an empty batch, and images that are not finite.

oneDNN's convolution returns its input for an empty batch. In graphs, with a ReLU that TensorFlow fuses with it, it
turns NaN into 0. A network looks once at its images, so that its layers need not. A NaN that arises inside of the
network, from a variable or an overflow, is not marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import tensorflow as tf

from kernels.forms.empty import full_batches, never_empty
from kernels.forms.finite import checked_by_caller
from rawcnn.nn.trace import Forward


def of_any_images(
    run: Callable[[tf.Tensor], Forward], images: tf.Tensor, variables: Mapping[str, tf.Tensor | tf.Variable]
) -> Forward:
    """`run(images)`, with NaN as the logits of images that are not finite.

    An empty batch runs as one image of zeros, and the result is cut. It leaves the batch-norm averages as they are.

    Args:
        run: Images [B,H,W,3] → logits, activations and statistics.
        images: [B,H,W,3].
        variables: Path → value, which holds the averages.
    """
    full = never_empty(images)
    with full_batches(), checked_by_caller():
        forward = run(full)
    logits = _nan_for_other_images(forward.logits, full)
    if full is images:
        return forward._replace(logits=logits)
    some, count = tf.shape(images)[0] > 0, tf.shape(images)[0]
    statistics = {path: tf.where(some, value, variables[path]) for path, value in forward.statistics.items()}
    return Forward(logits[:count], _of_known_batch(forward.activations, images), statistics)


def activations_of_any_images(
    run: Callable[[tf.Tensor], dict[str, tf.Tensor]], images: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The same for a function that returns activations by layer."""
    full = never_empty(images)
    with full_batches(), checked_by_caller():
        activations = run(full)
    return activations if full is images else _of_known_batch(activations, images)


def _of_known_batch(activations: Mapping[str, tf.Tensor], images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Empty activations if the batch is known to be empty.

    If its size is unknown, they stay as they are, because gradients to them need the tensors that the logits depend on;
    then those of an empty batch have one row.
    """
    return {name: x if images.shape[0] is None else x[: images.shape[0]] for name, x in activations.items()}


def _nan_for_other_images(logits: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Logits [B,…], NaN for images that are not finite."""
    total = tf.reduce_sum(2.0**-32 * images, axis=(1, 2, 3))  # [B]; not even the largest floats overflow so
    finite = tf.math.is_finite(total)
    return tf.where(tf.reshape(finite, (-1, *[1] * (logits.shape.rank - 1))), logits, float("nan"))
