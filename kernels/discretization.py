"""Pixels as levels: the one-hot and the thermometer code of a value in [0,1].

Source: Buckman, Roy, Raffel, Goodfellow, "Thermometer Encoding: One Hot Way To Resist Adversarial Examples", ICLR 2018.
The code changes only where a pixel crosses a level, so it has no useful gradient. That is no robustness: with 16 levels
and ε = .031, nearly every pixel can cross one. Athalye, Carlini, Wagner, "Obfuscated Gradients Give a False Sense of
Security", ICML 2018, broke this defense by approximating its gradient in the backward pass (BPDA).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   l = min(⌊L·x⌋, L − 1)                   the level of x in [0,1], of L levels
#   onehot(x)_k = [k = l]                   k = 0 … L − 1
#   thermometer(x)_k = Σ_{j ≥ k} onehot(x)_j = [k ≤ l]
#
# A relaxed code has probabilities p_k in place of onehot(x)_k, and their sums from the end in place of the thermometer.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def encode_levels_reference(x: np.ndarray, levels: int, code: str) -> np.ndarray:
    """The code value by value; the levels of a channel are neighbors. Args and Returns as `encode_levels`."""
    x = np.asarray(x, np.float64)
    y = np.zeros((*x.shape, levels))
    for place in np.ndindex(*x.shape):
        if np.isnan(x[place]):
            y[place] = np.nan
            continue
        codes, level = y[place], int(min(max(levels * x[place], 0), levels - 1))
        for k in range(levels):
            codes[k] = k == level if code == "onehot" else k <= level
    return y.reshape(*x.shape[:-1], -1)


# 3. Tensor forms --------------------------------------------------------------------------------------------

CODES = ("onehot", "thermometer")


def level_of(x: tf.Tensor, levels: int) -> tf.Tensor:
    """Find the level of each value.

    Args:
        x: Any shape, in [0,1]; a value outside gets the nearest level, NaN any.
        levels: L of the equation, 2 or more.

    Returns:
        int32 of the shape of x, from 0 to levels − 1.
    """
    return tf.cast(tf.clip_by_value(tf.floor(levels * x), 0, levels - 1), tf.int32)


def encode_levels(x: tf.Tensor, levels: int, code: str) -> tf.Tensor:
    """Encode pixels by their levels.

    Args:
        x: [B,H,W,C] in [0,1].
        levels: 2 or more.
        code: "onehot" or "thermometer".

    Returns:
        [B,H,W,C·levels] in the type of x; the code of NaN is NaN.

    Raises:
        ValueError: If x is not [B,H,W,C], for fewer than two levels, or an unknown code.
    """
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected images [batch, height, width, channels]")
    if levels < 2:
        raise ValueError(f"levels is {levels!r}; expected 2 or more")
    onehot = tf.one_hot(level_of(x, levels), levels, dtype=x.dtype)  # [B,H,W,C,levels]
    return join_codes(tf.where(tf.math.is_nan(x)[..., None], float("nan"), onehot), code)


def join_codes(p: tf.Tensor, code: str) -> tf.Tensor:
    """Turn probabilities of levels into codes; differentiable.

    Args:
        p: [B,H,W,C,levels].
        code: "onehot" or "thermometer".

    Returns:
        [B,H,W,C·levels].

    Raises:
        ValueError: For an unknown code.
    """
    if code not in CODES:
        raise ValueError(f"code is {code!r}; expected one of {', '.join(CODES)}")
    p = p if code == "onehot" else tf.cumsum(p, axis=-1, reverse=True)
    return tf.reshape(p, (-1, *p.shape[1:3], p.shape[3] * p.shape[4]))


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def join_codes_gradient(gradient: tf.Tensor, levels: int, code: str) -> tf.Tensor:
    """Compute the gradient of `join_codes`: in a thermometer a probability counts in its level and all below it.

    The gradient of `encode_levels` itself is zero wherever it exists, which is its purpose.

    Args:
        gradient: ∂L/∂code [B,H,W,C·levels].
        levels: L of the equation.
        code: "onehot" or "thermometer".

    Returns:
        ∂L/∂p [B,H,W,C,levels].
    """
    _, height, width, channels = gradient.shape
    g = tf.reshape(gradient, (-1, height, width, channels // levels, levels))
    return g if code == "onehot" else tf.cumsum(g, axis=-1)


# 5. Cost ----------------------------------------------------------------------------------------------------


def encode_levels_cost(output_shape: Sequence[int]) -> Cost:
    """Count one comparison per value of the code; there is no backward pass.

    Args:
        output_shape: [B,H,W,C·levels].

    Returns:
        The cost of one call.
    """
    return Cost(flops=int(np.prod(output_shape)))
