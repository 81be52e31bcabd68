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
    """1 / (1 + exp(−x)) value by value, with the exponential that cannot overflow."""
    y = np.zeros(np.shape(x))
    for place in np.ndindex(y.shape):
        small = exp(-abs(float(x[place])))
        y[place] = (1 if x[place] >= 0 else small) / (1 + small)
    return y


def scale_channels_reference(x: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """[B,H,W,C], [B,C] → [B,H,W,C], value by value."""
    y = np.zeros(x.shape)
    for b, i, j, c in np.ndindex(x.shape):
        y[b, i, j, c] = float(x[b, i, j, c]) * float(scales[b, c])
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """1 / (1 + exp(−x)) for any shape."""
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
    if x.shape.rank != 4 or scales.shape.rank != 2 or x.shape[-1] != scales.shape[-1]:
        raise ValueError(f"scales {scales.shape} do not fit maps {x.shape}; expected [B,C] and [B,H,W,C]")
    return x * scales[:, None, None, :]


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def sigmoid_gradient(y: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """To x, from y = sigmoid(x): g·y·(1 − y)."""
    return gradient * y * (1 - y)


def scale_channels_gradient(x: tf.Tensor, scales: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """To the maps [B,H,W,C] and the scales [B,C]."""
    return gradient * scales[:, None, None, :], tf.reduce_sum(gradient * x, axis=(1, 2))


# 5. Cost ----------------------------------------------------------------------------------------------------


def sigmoid_cost(input_shape: Sequence[int]) -> Cost:
    """Forward: negation, exponential, sum, division. Backward: two products and a difference."""
    return elementwise_cost(input_shape, forward=4, backward=3)


def scale_channels_cost(input_shape: Sequence[int]) -> Cost:
    """Count a product per value; backward a product to the maps, a product and a sum to the scales."""
    return elementwise_cost(input_shape, forward=1, backward=3)
