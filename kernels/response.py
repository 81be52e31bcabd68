"""Local response normalization: Krizhevsky et al. 2012, section 3.3.

Sums are computed in float32 (float64 for float64 input) whatever the type of x is; results have the type of x. Batch,
height and width may be unknown while tracing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y_i = x_i / (k + α·Σ_j x_j²)^β    i and j channels of one pixel, |j − i| ≤ r
#
# α is not divided by the size of the window, as in the paper; Caffe and PyTorch divide it.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def local_response_normalization_reference(
    x: np.ndarray, radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> np.ndarray:
    """The equation channel by channel, in float64. Args and Returns as `local_response_normalization`."""
    x = np.asarray(x, np.float64)
    y, channels = np.zeros_like(x), x.shape[-1]
    for i in range(channels):
        neighbors = range(max(i - radius, 0), min(i + radius, channels - 1) + 1)
        y[..., i] = x[..., i] / (bias + alpha * sum(x[..., j] ** 2 for j in neighbors)) ** beta
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def local_response_normalization(x: tf.Tensor, radius: int, bias: float, alpha: float, beta: float) -> tf.Tensor:
    """[B,H,W,C] → [B,H,W,C]: the sums are additions of 2·radius + 1 shifted views."""
    values = wide(x)
    s = bias + alpha * _neighbor_sums(tf.square(values), radius)
    return tf.cast(values * _inverse_power(s, beta), x.dtype)


def _neighbor_sums(x: tf.Tensor, radius: int) -> tf.Tensor:
    """[…,C] → […,C]: Σ_j x_j over |j − i| ≤ radius, with fewer terms at the first and last channels."""
    channels = x.shape[-1]
    padded = tf.pad(x, [(0, 0)] * (x.shape.rank - 1) + [(radius, radius)])
    return tf.add_n([padded[..., j : j + channels] for j in range(2 * radius + 1)])


def _inverse_power(s: tf.Tensor, beta: float) -> tf.Tensor:
    """s^(−β). For Krizhevsky's β = ¾ two roots cost a quarter of a logarithm and an exponential."""
    return tf.math.rsqrt(s) * tf.sqrt(tf.math.rsqrt(s)) if beta == 0.75 else s**-beta


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Let s_i = k + α·Σ_j x_j², so y_i = x_i·s_i^(−β). x_j moves y_j directly, and the s_i of all its neighbors by
# ∂s_i/∂x_j = 2α·x_j. If i is a neighbor of j then j is one of i, so the window of the sum is the same:
#   dx_j = g_j·s_j^(−β) − 2αβ·x_j·Σ_i g_i·x_i·s_i^(−β−1)


def local_response_normalization_input_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    radius: int = 2,
    bias: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> tf.Tensor:
    """Compute the gradient to the input.

    Args:
        x: [B,H,W,C].
        gradient: ∂L/∂y [B,H,W,C].
        radius, bias, alpha, beta: r, k, α and β of the equation.

    Returns:
        ∂L/∂x [B,H,W,C].
    """
    values, g = wide(x), wide(gradient)
    s = bias + alpha * _neighbor_sums(tf.square(values), radius)
    direct = g * _inverse_power(s, beta)
    return tf.cast(direct - 2 * alpha * beta * values * _neighbor_sums(direct * values / s, radius), x.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def local_response_normalization_cost(input_shape: Sequence[int], radius: int = 2) -> Cost:
    """Count the operations per value.

    Forward: a square, 2r additions, ·α, +k, a power, ·x. Backward: s and its power again (2r + 4), ·g, ·x, /s,
    2r additions, 2αβ·x, a product, a difference.

    Args:
        input_shape: [B,H,W,C].
        radius: r of the equation.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=2 * radius + 5, backward=4 * radius + 10)
