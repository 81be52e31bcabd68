"""Dropout of units, and of entire branches, with a mask that is a function of its seed.

Sources: Srivastava et al. 2014 for dropout, in the inverted form of their section 10: training scales the surviving
units up, so that evaluation does nothing. Larsson et al. 2017 ("FractalNet") for drop-path, which drops a branch for
an image as a whole, in the form of NASNet's published code: each branch is dropped independently and the others are
scaled up. FractalNet itself keeps at least one branch at each join, and averages the branches that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.random import random_words, random_words_reference

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   r ~ uniform on 0 … 2³² − 1 from the seed,   mask = [r ≥ rate · 2³²] / (1 − rate),   y = mask · x
#
#   E[mask] = 1 up to 2⁻³², so E[y] = x.   ∂L/∂x = mask · ∂L/∂y, with the same mask.
#
#   dropout draws one r per value of x, drop_path one per image.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def dropout_reference(x: np.ndarray, rate: float, seed: Sequence[int]) -> np.ndarray:
    """Dropout value by value, with the reference of the random generator. Args and Returns as `dropout`."""
    y = np.zeros(np.shape(x))
    for place, word in zip(np.ndindex(y.shape), random_words_reference(y.size, seed), strict=True):
        y[place] = float(x[place]) / (1 - rate) if word >= rate * 2**32 else 0.0
    return y


def drop_path_reference(x: np.ndarray, rate: float, seed: Sequence[int]) -> np.ndarray:
    """Drop-path value by value, with the reference of the random generator. Args and Returns as `drop_path`."""
    y, words = np.zeros(np.shape(x)), random_words_reference(len(x), seed)
    for place in np.ndindex(y.shape):
        y[place] = float(x[place]) / (1 - rate) if words[place[0]] >= rate * 2**32 else 0.0
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------

Words = Callable[[Sequence[int] | tf.Tensor, tf.Tensor], tf.Tensor]  # (shape, seed) → uint32 of that shape


def dropout_mask(
    shape: Sequence[int] | tf.Tensor,
    rate: float,
    seed: tf.Tensor,
    dtype: tf.DType = tf.float32,
    words: Words = random_words,
) -> tf.Tensor:
    """Draw a mask: 0 with probability `rate`, else 1/(1 − rate). `words` draws the random words.

    Raises:
        ValueError: If the rate is not in [0, 1), or the seed is not two ints.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate is {rate}; expected the share to drop, at least 0 and below 1")
    seed = tf.convert_to_tensor(seed)
    if not seed.shape.is_compatible_with((2,)) or not seed.dtype.is_integer:
        raise ValueError(f"dropout seed is {seed.dtype.name} {seed.shape}; expected two ints, such as (0, 1)")
    drawn = words(shape, tf.cast(seed, tf.int32))
    return tf.where(drawn >= ceil(rate * 2**32), tf.constant(1 / (1 - rate), dtype), 0)


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor, words: Words = random_words) -> tf.Tensor:
    """Zero each value of x (any shape) with probability `rate` and scale the others by 1/(1 − rate)."""
    return x * dropout_mask(tf.shape(x), rate, seed, x.dtype, words)


def drop_path(x: tf.Tensor, rate: float, seed: tf.Tensor, words: Words = random_words) -> tf.Tensor:
    """Zero each image of x [B,…] with probability `rate` and scale the others by 1/(1 − rate)."""
    batch = tf.shape(x)[:1]
    shape = tf.concat([batch, tf.ones(x.shape.rank - 1, tf.int32)], axis=0)  # [B,1,…,1]
    return x * dropout_mask(shape, rate, seed, x.dtype, words)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def dropout_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor, words: Words = random_words) -> tf.Tensor:
    """∂L/∂y → ∂L/∂x: draw the mask again from its seed instead of keeping it, and apply it to the gradient."""
    return dropout(gradient, rate, seed, words)


def drop_path_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor, words: Words = random_words) -> tf.Tensor:
    """∂L/∂y → ∂L/∂x: the same mask on the gradient."""
    return drop_path(gradient, rate, seed, words)


# 5. Cost ----------------------------------------------------------------------------------------------------


def dropout_cost(input_shape: Sequence[int]) -> Cost:
    """Count a comparison and a product per value forward, a product backward; random bits are integer work.

    Args:
        input_shape: The shape of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=2)


def drop_path_cost(input_shape: Sequence[int]) -> Cost:
    """Count a product per value, forward and backward.

    Args:
        input_shape: [B,…] of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape)
