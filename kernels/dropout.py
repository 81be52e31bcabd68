"""Dropout of units, and of whole paths, with a mask that is a function of its seed.

Dropout: Srivastava et al. 2014, in the inverted form (section 10): what survives is scaled up in training, so that
evaluation does nothing. Drop-path drops a branch for an image as a whole (Larsson et al., "FractalNet", 2016).
The mask comes from the generator Philox 4×32-10 (Salmon et al. 2011), so that eager, graph and XLA draw the same
one, in every dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.share import random_words

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   r ~ uniform on 0 … 2³² − 1 from the seed,   mask = [r ≥ rate · 2³²] / (1 − rate),   y = mask · x
#
#   E[mask] = 1, so E[y] = x.   ∂L/∂x = mask · ∂L/∂y, with the same mask.
#
#   dropout draws a number of the mask for every number of x, drop_path one for every image of the batch.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def philox_reference(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox: four 32-bit counter words and two key words → four random 32-bit words."""
    (c0, c1, c2, c3), (k0, k1), low = counter, key, 0xFFFFFFFF
    for _ in range(10):
        p, q = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (q >> 32) ^ c1 ^ k0, q & low, (p >> 32) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def random_words_reference(count: int, seed: Sequence[int]) -> list[int]:
    """The 32-bit words of tf.random.stateless_uniform(alg="philox").

    TensorFlow first scrambles the seed, two 64-bit numbers, into key and counter with a key of its own; then
    the n-th block of four words has counter n.
    """
    first, second = (int(s) % 2**64 for s in seed)
    scrambled = (first % 2**32, first >> 32, second % 2**32, second >> 32)
    k0, k1, c2, c3 = philox_reference(scrambled, (0x3EC8F720, 0x02461E29))
    blocks = [philox_reference((n, 0, c2, c3), (k0, k1)) for n in range(-(-count // 4))]
    return [word for block in blocks for word in block][:count]


def dropout_reference(x: np.ndarray, rate: float, seed: Sequence[int]) -> np.ndarray:
    """Dropout one number at a time, its own random generator included."""
    y = np.zeros(np.shape(x))
    for place, word in zip(np.ndindex(y.shape), random_words_reference(y.size, seed), strict=True):
        y[place] = float(x[place]) / (1 - rate) if word >= rate * 2**32 else 0.0
    return y


def drop_path_reference(x: np.ndarray, rate: float, seed: Sequence[int]) -> np.ndarray:
    """Drop-path over [B,…], one number at a time."""
    y, words = np.zeros(np.shape(x)), random_words_reference(len(x), seed)
    for place in np.ndindex(y.shape):
        y[place] = float(x[place]) / (1 - rate) if words[place[0]] >= rate * 2**32 else 0.0
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def dropout_mask(
    shape: Sequence[int] | tf.Tensor, rate: float, seed: tf.Tensor, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """0 with probability `rate`, else 1/(1 − rate), from a `seed` of two 32-bit ints.

    Raises ValueError if the rate is not in [0, 1) or the seed is not two ints.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout rate is {rate}; expected the share to drop, at least 0 and below 1")
    seed = tf.convert_to_tensor(seed)
    if not seed.shape.is_compatible_with((2,)) or not seed.dtype.is_integer:
        raise ValueError(f"dropout seed is {seed.dtype.name} {seed.shape}; expected two ints, such as (0, 1)")
    words = random_words(shape, tf.cast(seed, tf.int32))
    return tf.where(words >= ceil(rate * 2**32), tf.constant(1 / (1 - rate), dtype), 0)


def dropout(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Zero each number of `x` (any shape) with probability `rate` and scale the rest by 1/(1 − rate).

    The same seed gives the same mask. Raises ValueError as `dropout_mask` does.
    """
    return x * dropout_mask(tf.shape(x), rate, seed, x.dtype)


def drop_path(x: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """Zero each image's part of `x` [B,…] with probability `rate` and scale the rest by 1/(1 − rate).

    The same seed gives the same mask. Raises ValueError as `dropout_mask` does.
    """
    batch = tf.shape(x)[:1]
    shape = tf.concat([batch, tf.ones(x.shape.rank - 1, tf.int32)], axis=0)
    return x * dropout_mask(shape, rate, seed, x.dtype)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def dropout_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """To the input: the mask is drawn again from its seed, not kept, and applied to the gradient."""
    return dropout(gradient, rate, seed)


def drop_path_gradient(gradient: tf.Tensor, rate: float, seed: tf.Tensor) -> tf.Tensor:
    """To the input: the same mask on the gradient."""
    return drop_path(gradient, rate, seed)


# 5. Cost ----------------------------------------------------------------------------------------------------


def dropout_cost(input_shape: Sequence[int]) -> Cost:
    """Forward a comparison and a product an element, backward a product; random bits are integer work."""
    return elementwise_cost(input_shape, forward=2)


def drop_path_cost(input_shape: Sequence[int]) -> Cost:
    """A product an element, forward and backward."""
    return elementwise_cost(input_shape)
