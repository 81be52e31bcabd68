"""The rectifiers of visualizations: the ReLU with another backward rule."""

from __future__ import annotations

import tensorflow as tf

from kernels.activation import deconvnet_relu_gradient, guided_relu_gradient, redirected_relu_gradient, relu
from kernels.forms.differentiable import with_gradient


def deconvnet_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) for any shape; backward it rectifies the gradient, for every x (Zeiler & Fergus 2013)."""
    return with_gradient(relu, lambda inputs, y, gradient: deconvnet_relu_gradient(inputs[0], gradient))(x)


def guided_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) for any shape; backward only positive gradients pass, where x > 0 (Springenberg et al. 2014)."""
    return with_gradient(relu, lambda inputs, y, gradient: guided_relu_gradient(inputs[0], gradient))(x)


def redirected_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) for any shape; backward, where x ≤ 0, the gradients that would raise it pass too (lucid)."""
    return with_gradient(relu, lambda inputs, y, gradient: redirected_relu_gradient(inputs[0], gradient))(x)
