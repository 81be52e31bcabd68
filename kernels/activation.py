"""Rectifiers: the ReLU, and three backward rules that visualizations use instead of its gradient.

These four have the same forward pass and differ only in the backward pass (Springenberg et al. 2015, figure 1):

    relu             the gradient: passes where the input was positive (Nair & Hinton 2010)
    deconvnet_relu   rectifies the gradient instead (Zeiler & Fergus 2014, section 2.1)
    guided_relu      both at once (Springenberg et al. 2015, section 3.4)
    redirected_relu  the gradient, and where the input was not positive, gradients that would raise it, so that gradient
                     ascent can start at a unit that is zero. lucid's redirected_relu_grad does this only for images in
                     which no unit passes a gradient, and only in the first 16 steps

A deconvnet differs from the gradient in more than its ReLU: it also skips response normalization and keeps channel
gates fixed (`rawcnn/visualize/deconvolution.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   relu(x) = max(x, 0)
#
# backward for g = ∂L/∂relu(x):
#
#   relu            g · [x > 0]
#   deconvnet_relu  max(g, 0)
#   guided_relu     max(g, 0) · [x > 0]
#   redirected_relu g · [x > 0] + max(g, 0) · [x ≤ 0]


# 2. NumPy reference -----------------------------------------------------------------------------------------


def relu_reference(x: np.ndarray) -> np.ndarray:
    """max(x, 0) value by value, in float64. Args and Returns as `relu`."""
    y = np.zeros(np.shape(x))
    for place in np.ndindex(y.shape):
        y[place] = max(float(x[place]), 0.0)
    return y


def relu_gradient_reference(
    x: np.ndarray, gradient: np.ndarray, rule: Literal["relu", "deconvnet", "guided", "redirected"] = "relu"
) -> np.ndarray:
    """The backward pass of a rectifier value by value, in float64. Args and Returns as `relu_gradient`.

    Args:
        rule: The rectifier: "relu", "deconvnet", "guided" or "redirected".
    """
    result = np.zeros(np.shape(x))
    for place in np.ndindex(result.shape):
        shut, lowers = x[place] <= 0, gradient[place] < 0
        stopped = {"relu": shut, "deconvnet": lowers, "guided": shut or lowers, "redirected": shut and lowers}[rule]
        result[place] = 0.0 if stopped else float(gradient[place])
    return result


# 3. Tensor forms --------------------------------------------------------------------------------------------


def relu(x: tf.Tensor) -> tf.Tensor:
    """Compute max(x, 0). The gradient is 0 at 0.

    Args:
        x: Any shape.

    Returns:
        The shape and type of x.
    """
    return tf.nn.relu(x)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Compute the gradient of `relu`: g · [x > 0].

    Args:
        x: The input of the forward pass, any shape.
        gradient: g = ∂L/∂relu(x), the shape of x.

    Returns:
        ∂L/∂x, the shape of x.
    """
    return tf.where(x > 0, gradient, 0)


def deconvnet_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Compute max(g, 0) for every x.

    Args:
        x: The input of the forward pass, any shape.
        gradient: g = ∂L/∂relu(x), the shape of x.

    Returns:
        The shape of x.
    """
    return tf.nn.relu(gradient)


def guided_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Compute max(g, 0) · [x > 0].

    Args:
        x: The input of the forward pass, any shape.
        gradient: g = ∂L/∂relu(x), the shape of x.

    Returns:
        The shape of x.
    """
    return tf.where(x > 0, tf.nn.relu(gradient), 0)


def redirected_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Compute g where x > 0, and max(g, 0) elsewhere.

    Args:
        x: The input of the forward pass, any shape.
        gradient: g = ∂L/∂relu(x), the shape of x.

    Returns:
        The shape of x.
    """
    return tf.where(x > 0, gradient, tf.nn.relu(gradient))


# 5. Cost ----------------------------------------------------------------------------------------------------


def relu_cost(input_shape: Sequence[int]) -> Cost:
    """Count one comparison per value, forward and backward.

    Args:
        input_shape: The shape of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape)
