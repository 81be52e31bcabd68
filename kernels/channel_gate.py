"""The gate of squeeze-and-excitation: a value between 0 and 1 per channel, and the channels times these values.

Source: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", CVPR 2018, equations 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   sigmoid(x) = 1 / (1 + exp(−x))                       σ' = σ·(1 − σ)
#
#   scale_channels: y[b,i,j,c] = x[b,i,j,c] · s[b,c]     ∂L/∂x = g·s     ∂L/∂s[b,c] = Σᵢⱼ g[b,i,j,c]·x[b,i,j,c]


# 2. NumPy reference -----------------------------------------------------------------------------------------


def sigmoid_reference(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)) value by value, with the exponential that cannot overflow. Args and Returns as `sigmoid`."""
    y = np.zeros(np.shape(x))
    for place in np.ndindex(y.shape):
        small = exp(-abs(float(x[place])))
        y[place] = (1 if x[place] >= 0 else small) / (1 + small)
    return y


def scale_channels_reference(x: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The product value by value, in float64. Args and Returns as `scale_channels`."""
    y = np.zeros(x.shape)
    for b, i, j, c in np.ndindex(x.shape):
        y[b, i, j, c] = float(x[b, i, j, c]) * float(scales[b, c])
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """Compute 1 / (1 + exp(−x)).

    Args:
        x: Any shape.

    Returns:
        The shape and type of x, in [0, 1].
    """
    return tf.sigmoid(x)


def scale_channels(x: tf.Tensor, scales: tf.Tensor) -> tf.Tensor:
    """Multiply each channel of each image by its own value.

    Args:
        x: [B,H,W,C].
        scales: [B,C].

    Returns:
        [B,H,W,C].

    Raises:
        ValueError: Unless each image has a scale for each of its channels.
    """
    if x.shape.rank != 4 or not scales.shape.is_compatible_with((x.shape[0], x.shape[-1])):
        raise ValueError(f"scales {scales.shape} do not fit maps {x.shape}; expected [B,C] and [B,H,W,C]")
    return x * scales[:, None, None, :]


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def sigmoid_gradient(y: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Compute the gradient to x from the output of `sigmoid`: g·y·(1 − y).

    Args:
        y: sigmoid(x), any shape.
        gradient: g = ∂L/∂y, the shape of y.

    Returns:
        ∂L/∂x, the shape of y.
    """
    return gradient * y * (1 - y)


def scale_channels_gradient(x: tf.Tensor, scales: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Compute the gradients to the maps and to the scales.

    Args:
        x: The maps [B,H,W,C].
        scales: [B,C].
        gradient: ∂L/∂y [B,H,W,C].

    Returns:
        (∂L/∂x [B,H,W,C], ∂L/∂scales [B,C]).
    """
    return gradient * scales[:, None, None, :], tf.reduce_sum(gradient * x, axis=(1, 2))


# 5. Cost ----------------------------------------------------------------------------------------------------


def sigmoid_cost(input_shape: Sequence[int]) -> Cost:
    """Count the operations per value.

    Forward: negation, exponential, sum, division. Backward: two products and a difference.

    Args:
        input_shape: The shape of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=4, backward=3)


def scale_channels_cost(input_shape: Sequence[int]) -> Cost:
    """Count a product per value; backward a product to the maps, a product and a sum to the scales.

    Args:
        input_shape: [B,H,W,C] of the maps.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=1, backward=3)
