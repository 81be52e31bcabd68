"""The public dropout: if devices share a batch, each draws the mask of the whole batch and keeps its part."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from kernels import dropout as textbook
from kernels.dispatch.replica import random_words


def dropout_mask(
    shape: Sequence[int] | tf.Tensor, rate: float, seed: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Draw a dropout mask.

    Args:
        shape: The shape of the mask, [B,…].
        rate: The probability of 0, in [0, 1).
        seed: Two 32-bit ints; the same seed gives the same mask.
        dtype: The type of the mask.

    Returns:
        0 with probability `rate`, else 1/(1 − rate).

    Raises:
        ValueError: If the rate is not in [0, 1), or the seed is not two ints.
    """
    return textbook.dropout_mask(shape, rate, seed, dtype, random_words)


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Zero each value with probability `rate` and scale the others by 1/(1 − rate) (Srivastava et al. 2014).

    Args:
        x: Any shape [B,…].
        rate: The probability, in [0, 1).
        seed: Two 32-bit ints; the same seed gives the same mask.

    Returns:
        The shape and type of x.

    Raises:
        ValueError: As `dropout_mask`.
    """
    return textbook.dropout(x, rate, seed, random_words)


def drop_path(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Zero each image with probability `rate` and scale the others by 1/(1 − rate) (Larsson et al. 2017).

    Args:
        x: [B,…].
        rate: The probability, in [0, 1).
        seed: Two 32-bit ints; the same seed gives the same mask.

    Returns:
        The shape and type of x.

    Raises:
        ValueError: As `dropout_mask`.
    """
    return textbook.drop_path(x, rate, seed, random_words)


def dropout_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Apply the mask of `dropout` to the gradient; it is drawn again from its seed.

    Args:
        gradient: ∂L/∂y, the shape of x.
        rate: The probability of the forward pass, in [0, 1).
        seed: The two 32-bit ints of the forward pass.

    Returns:
        ∂L/∂x, the shape of the gradient.

    Raises:
        ValueError: As `dropout_mask`.
    """
    return textbook.dropout_gradient(gradient, rate, seed, random_words)


def drop_path_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Apply the mask of `drop_path` to the gradient; it is drawn again from its seed.

    Args:
        gradient: ∂L/∂y [B,…], the shape of x.
        rate: The probability of the forward pass, in [0, 1).
        seed: The two 32-bit ints of the forward pass.

    Returns:
        ∂L/∂x, the shape of the gradient.

    Raises:
        ValueError: As `dropout_mask`.
    """
    return textbook.drop_path_gradient(gradient, rate, seed, random_words)
