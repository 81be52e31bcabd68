"""Rectifiers and softmax.

Four rectifiers share one forward pass and differ only in what they send back, which is all that tells the
gradient, the deconvnet and guided backpropagation apart (Springenberg et al. 2014, figure 1):

  relu             the gradient: passes where the input was positive (Nair & Hinton 2010)
  deconvnet_relu   rectifies what comes back instead (Zeiler & Fergus 2013, section 2.1)
  guided_relu      both at once (Springenberg et al. 2014, section 3.4)
  redirected_relu  the gradient, and where the input was not positive, what would raise it: a unit that nothing
                   excites can still be climbed towards (lucid's redirected_relu_grad)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   relu(x) = max(x, 0)            sent back for g = ∂L/∂relu(x):
#                                    relu            g · [x > 0]
#                                    deconvnet_relu  max(g, 0)
#                                    guided_relu     max(g, 0) · [x > 0]
#                                    redirected_relu g · [x > 0] + max(g, 0) · [x ≤ 0]
#
#   softmax(z)ᵢ = exp(zᵢ − max z) / Σⱼ exp(zⱼ − max z)          over the last axis; the maximum cancels, and
#   log_softmax(z)ᵢ = zᵢ − max z − log Σⱼ exp(zⱼ − max z)       keeps exp from overflowing


# 2. NumPy reference -----------------------------------------------------------------------------------------


def relu_reference(x: np.ndarray) -> np.ndarray:
    """max(x, 0), one number at a time."""
    y = np.zeros(np.shape(x))
    for place in np.ndindex(y.shape):
        y[place] = max(float(x[place]), 0.0)
    return y


def relu_gradient_reference(
    x: np.ndarray, gradient: np.ndarray, rule: Literal["relu", "deconvnet", "guided", "redirected"] = "relu"
) -> np.ndarray:
    """What the rectifier `rule` sends back, one number at a time."""
    back = np.zeros(np.shape(x))
    for place in np.ndindex(back.shape):
        shut, lowers = x[place] <= 0, gradient[place] < 0
        stopped = {"relu": shut, "deconvnet": lowers, "guided": shut or lowers, "redirected": shut and lowers}[rule]
        back[place] = 0.0 if stopped else float(gradient[place])
    return back


def softmax_reference(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, row by row."""
    return np.exp(log_softmax_reference(logits))


def log_softmax_reference(logits: np.ndarray) -> np.ndarray:
    """Logarithm of softmax over the last axis, row by row."""
    logits = np.asarray(logits, np.float64)
    y = np.zeros(logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        highest = max(logits[row])
        total = sum(np.exp(z - highest) for z in logits[row])
        for i, z in enumerate(logits[row]):
            y[row][i] = z - highest - np.log(total)
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0), any shape. Its gradient is 0 at 0."""
    return tf.nn.relu(x)


@tf.custom_gradient
def deconvnet_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """max(x, 0), any shape; backward it rectifies the gradient, wherever x was."""
    return tf.nn.relu(x), lambda gradient: deconvnet_relu_gradient(x, gradient)


@tf.custom_gradient
def guided_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """max(x, 0), any shape; backward only positive gradients pass, and only where x was positive."""
    return tf.nn.relu(x), lambda gradient: guided_relu_gradient(x, gradient)


@tf.custom_gradient
def redirected_relu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    """max(x, 0), any shape; backward, where x was not positive, what would raise it passes. For gradient ascent."""
    return tf.nn.relu(x), lambda gradient: redirected_relu_gradient(x, gradient)


def widened(x: tf.Tensor) -> tf.Tensor:
    """bfloat16 → float32, in which sums over many classes keep their digits; other types as they are."""
    return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """[..., classes] → probabilities [..., classes] that sum to 1."""
    z = widened(logits)
    powers = tf.exp(z - tf.stop_gradient(tf.reduce_max(z, axis=-1, keepdims=True)))
    return tf.cast(powers / tf.reduce_sum(powers, axis=-1, keepdims=True), logits.dtype)


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """[..., classes] → log probabilities [..., classes]; finite where softmax underflows to 0."""
    z = widened(logits)
    z -= tf.stop_gradient(tf.reduce_max(z, axis=-1, keepdims=True))
    return tf.cast(z - tf.math.log(tf.reduce_sum(tf.exp(z), axis=-1, keepdims=True)), logits.dtype)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """g · [x > 0]: the switch was open where the input was positive."""
    return tf.where(x > 0, gradient, 0)


def deconvnet_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """max(g, 0), whatever x was."""
    return tf.nn.relu(gradient)


def guided_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """max(g, 0) · [x > 0]."""
    return tf.where(x > 0, tf.nn.relu(gradient), 0)


def redirected_relu_gradient(x: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """g where x > 0, max(g, 0) elsewhere."""
    return tf.where(x > 0, gradient, tf.nn.relu(gradient))


def softmax_gradient(probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """To the logits, from p = softmax(z): ∂pᵢ/∂zⱼ = pᵢ·([i = j] − pⱼ), so dz = p · (g − Σ g·p)."""
    p, g = widened(probabilities), widened(gradient)
    return tf.cast(p * (g - tf.reduce_sum(g * p, axis=-1, keepdims=True)), gradient.dtype)


def log_softmax_gradient(log_probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """To the logits, from l = log_softmax(z): ∂lᵢ/∂zⱼ = [i = j] − exp lⱼ, so dz = g − exp(l) · Σ g."""
    log_p, g = widened(log_probabilities), widened(gradient)
    return tf.cast(g - tf.exp(log_p) * tf.reduce_sum(g, axis=-1, keepdims=True), gradient.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def relu_cost(input_shape: Sequence[int]) -> Cost:
    """A comparison an element, forward and backward."""
    return elementwise_cost(input_shape)


def softmax_cost(input_shape: Sequence[int]) -> Cost:
    """Forward maximum, difference, exp, sum, division; backward two products, a sum, a difference."""
    return elementwise_cost(input_shape, forward=5, backward=4)
