"""The rectifiers of visualizations: the ReLU with another backward rule."""

from __future__ import annotations

import tensorflow as tf

from kernels.activation import deconvnet_relu_gradient, guided_relu_gradient, redirected_relu_gradient, relu
from kernels.forms.differentiable import with_gradient


def deconvnet_relu(x: tf.Tensor) -> tf.Tensor:
    """Compute max(x, 0); backward it rectifies the gradient, for every x (Zeiler & Fergus 2014, section 2.1).

    Args:
        x: Any shape.

    Returns:
        The shape and type of x.
    """
    return with_gradient(relu, lambda inputs, y, gradient: deconvnet_relu_gradient(inputs[0], gradient))(x)


def guided_relu(x: tf.Tensor) -> tf.Tensor:
    """Compute max(x, 0); backward only positive gradients pass, where x > 0 (Springenberg et al. 2015, section 3.4).

    Args:
        x: Any shape.

    Returns:
        The shape and type of x.
    """
    return with_gradient(relu, lambda inputs, y, gradient: guided_relu_gradient(inputs[0], gradient))(x)


def redirected_relu(x: tf.Tensor) -> tf.Tensor:
    """Compute max(x, 0); backward, where x ≤ 0, the gradients that would raise it pass too (after lucid).

    Args:
        x: Any shape.

    Returns:
        The shape and type of x.
    """
    return with_gradient(relu, lambda inputs, y, gradient: redirected_relu_gradient(inputs[0], gradient))(x)
