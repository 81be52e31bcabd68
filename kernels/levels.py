"""Pixels as levels: the one-hot and the thermometer code of a number in [0,1].

Buckman, Roy, Raffel, Goodfellow, "Thermometer Encoding: One Hot Way To Resist Adversarial Examples", ICLR 2018.
A network that reads codes cannot be led by small changes of a pixel: between levels they change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   l = min(⌊L·x⌋, L − 1)                   the level of x in [0,1], of L
#   onehot(x)_k = [k = l]                   k = 0 … L − 1
#   thermometer(x)_k = Σ_{j ≥ k} onehot(x)_j = [k ≤ l]
#
# A relaxed code has probabilities p_k in place of onehot(x)_k, and their sums from the end in place of the thermometer.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def encode_levels_reference(x: np.ndarray, levels: int, code: str) -> np.ndarray:
    """[…,C] → […,C·levels], one number at a time; the levels of a channel lie beside each other."""
    x = np.asarray(x, np.float64)
    y = np.zeros((*x.shape, levels))
    for place in np.ndindex(*x.shape):
        codes, level = y[place], min(int(levels * x[place]), levels - 1)
        for k in range(levels):
            codes[k] = k == level if code == "onehot" else k <= level
    return y.reshape(*x.shape[:-1], -1)


# 3. Tensor forms --------------------------------------------------------------------------------------------

CODES = ("onehot", "thermometer")


def level_of(x: tf.Tensor, levels: int) -> tf.Tensor:
    """The level, int32, of each number in [0,1]; what lies outside counts as the end that is near."""
    return tf.clip_by_value(tf.cast(tf.floor(levels * x), tf.int32), 0, levels - 1)


def encode_levels(x: tf.Tensor, levels: int, code: str) -> tf.Tensor:
    """Numbers in [0,1], [B,H,W,C] → codes [B,H,W,C·levels] of x's dtype. ValueError for no levels, an unknown code."""
    if levels < 2:
        raise ValueError(f"levels is {levels!r}; expected 2 or more")
    return join_codes(tf.one_hot(level_of(x, levels), levels, dtype=x.dtype), code)


def join_codes(p: tf.Tensor, code: str) -> tf.Tensor:
    """Probabilities of levels [B,H,W,C,levels] → codes [B,H,W,C·levels]; differentiable."""
    if code not in CODES:
        raise ValueError(f"code is {code!r}; expected one of {', '.join(CODES)}")
    p = p if code == "onehot" else tf.cumsum(p, axis=-1, reverse=True)
    return tf.reshape(p, (-1, *p.shape[1:3], p.shape[3] * p.shape[4]))


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def join_codes_gradient(gradient: tf.Tensor, levels: int, code: str) -> tf.Tensor:
    """[B,H,W,C·levels] → [B,H,W,C,levels]: a probability counts in its own level and in all below it.

    Of `encode_levels` itself the gradient is zero wherever it exists: that is its point.
    """
    _, height, width, channels = gradient.shape
    g = tf.reshape(gradient, (-1, height, width, channels // levels, levels))
    return g if code == "onehot" else tf.cumsum(g, axis=-1)


# 5. Cost ----------------------------------------------------------------------------------------------------


def encode_levels_cost(output_shape: Sequence[int]) -> Cost:
    """One comparison for each number of the code; nothing flows back."""
    return Cost(flops=int(np.prod(output_shape)))
