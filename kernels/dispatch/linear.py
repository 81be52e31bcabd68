"""The public fully connected layer: checks, and weights of a wider type than x."""

from __future__ import annotations

import tensorflow as tf

from kernels import linear as textbook
from kernels.forms.rounded import rounded_product


def dense(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    """Multiply a batch of vectors by a matrix of weights, and add a bias.

    Args:
        x: [B,I].
        weights: [I,O]; wider ones are rounded to the type of x, their gradient is not.
        bias: [O], or None.

    Returns:
        [B,O] in the type of x.

    Raises:
        ValueError: Unless x is [B,I] with the I of the weights, and the bias has their O.
    """
    fits = x.shape.rank == weights.shape.rank == 2 and x.shape[1:].is_compatible_with(weights.shape[:1])
    if not fits:
        raise ValueError(
            f"input {x.shape} does not fit dense weights {weights.shape}; "
            "expected [B,I] and [I,O]: flatten or pool images first"
        )
    if bias is not None and not bias.shape.is_compatible_with(weights.shape[1:]):
        raise ValueError(f"bias has shape {bias.shape}; expected {weights.shape[1:]}, one value for each unit")
    if weights.dtype == x.dtype and (bias is None or bias.dtype == x.dtype):
        return textbook.dense(x, weights, bias)
    y = rounded_product(x, weights)
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))
