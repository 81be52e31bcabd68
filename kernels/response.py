"""Local response normalisation: Krizhevsky et al. 2012, §3.3.

Sums are computed in float32 (float64 for float64 input), whatever x is; results have the type of x. Any of batch,
height and width may be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from kernels.choice import compiler, form_of, measured, pixels_of
from kernels.cost import Cost, elementwise_cost
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y_i = x_i / (k + α·Σ_j x_j²)^β    i and j channels of one pixel, |j − i| ≤ r
#
# α is not divided by the size of the window.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def local_response_normalization_reference(
    x, radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> np.ndarray:
    x = np.asarray(x, np.float64)
    y, channels = np.zeros_like(x), x.shape[-1]
    for i in range(channels):
        neighbours = range(max(i - radius, 0), min(i + radius, channels - 1) + 1)
        y[..., i] = x[..., i] / (bias + alpha * sum(x[..., j] ** 2 for j in neighbours)) ** beta
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


RESPONSE_NORMS = ("nn", "explicit", "compiled")  # forms


def local_response_normalization(
    x: tf.Tensor,
    radius: int = 2,
    bias: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    algorithm: str = "auto",
) -> tf.Tensor:
    """[B,H,W,C] → [B,H,W,C]. The defaults are Krizhevsky's, with n = 2·radius + 1 = 5 channels in a window.

    Forms, of which "auto" takes the one that was measured to be the fastest: "nn" is tf.nn's, which has no float64;
    "explicit" (auto for float64) adds 2r+1 views; "compiled" is the same by XLA, one pass over x, within any graph, and
    image by image where the batch is unknown: XLA would compile every size that comes. Raises ValueError for a form
    that the type does not have.
    """
    forms = ("explicit",) if x.dtype == tf.float64 else RESPONSE_NORMS
    form = form_of(algorithm, x.dtype, forms)
    if algorithm == "auto" and None not in x.shape[1:3]:
        form = measured("lrn", x.dtype, str(x.shape[-1]), pixels_of(x), forms)
    settings = radius, bias, alpha, beta
    if form == "nn":
        return tf.cast(tf.nn.local_response_normalization(wide(x), *settings), x.dtype)
    forward, backward = _response, local_response_normalization_input_gradient
    if form == "compiled" and compiler() != "xla":
        forward, backward = _compiled_response, _compiled_response_gradient
        if x.shape[0] is None and None not in x.shape[1:3]:
            forward, backward = (partial(_by_image, function) for function in (forward, backward))

    @tf.custom_gradient
    def normalize(x):
        return forward(x, *settings), lambda gradient: backward(x, gradient, *settings)

    return normalize(x)


def _response(x: tf.Tensor, radius: int, bias: float, alpha: float, beta: float) -> tf.Tensor:
    numbers = wide(x)
    s = bias + alpha * _neighbour_sums(tf.square(numbers), radius)
    return tf.cast(numbers * _inverse_power(s, beta), x.dtype)


_compiled_response = tf.function(_response, jit_compile=True, autograph=False)


def _by_image(function: Callable, *arguments) -> tf.Tensor:
    """The function of tensors [B,H,W,C] and numbers → [B,H,W,C], of one image after the other."""
    images = [a for a in arguments if isinstance(a, tf.Tensor)]
    numbers = arguments[len(images) :]
    result = tf.TensorSpec(images[0].shape[1:], images[0].dtype)
    return tf.map_fn(lambda one: function(*(i[None] for i in one), *numbers)[0], images, fn_output_signature=result)


def _neighbour_sums(x: tf.Tensor, radius: int) -> tf.Tensor:
    """[…,C] → […,C]: Σ over |j − i| ≤ radius of x_j, fewer at the first and last channels."""
    channels = x.shape[-1]
    padded = tf.pad(x, [(0, 0)] * (x.shape.rank - 1) + [(radius, radius)])
    return tf.add_n([padded[..., j : j + channels] for j in range(2 * radius + 1)])


def _inverse_power(s: tf.Tensor, beta: float) -> tf.Tensor:
    """s^(−β); for Krizhevsky's β = ¾ by two roots, which cost a quarter of a logarithm and an exponential."""
    return tf.math.rsqrt(s) * tf.sqrt(tf.math.rsqrt(s)) if beta == 0.75 else s**-beta


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Let s_i = k + α·Σ_j x_j², so y_i = x_i·s_i^(−β). x_j moves y_j by itself, and the s_i of all its
# neighbours by ∂s_i/∂x_j = 2α·x_j; being a neighbour is mutual, so the window of the sum is the same:
#   dx_j = g_j·s_j^(−β) − 2αβ·x_j·Σ_i g_i·x_i·s_i^(−β−1)


def local_response_normalization_input_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    radius: int = 2,
    bias: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
) -> tf.Tensor:
    """[B,H,W,C] → [B,H,W,C]."""
    numbers, g = wide(x), wide(gradient)
    s = bias + alpha * _neighbour_sums(tf.square(numbers), radius)
    direct = g * _inverse_power(s, beta)
    return tf.cast(direct - 2 * alpha * beta * numbers * _neighbour_sums(direct * numbers / s, radius), x.dtype)


_compiled_response_gradient = tf.function(
    local_response_normalization_input_gradient, jit_compile=True, autograph=False
)


# 5. Cost ----------------------------------------------------------------------------------------------------


def local_response_normalization_cost(input_shape: Sequence[int], radius: int = 2) -> Cost:
    """Operations an element.

    Forward: a square, 2r additions, ·α, +k, a power, ·x. Backward: s and its power again (2r + 4), ·g, ·x,
    /s, 2r additions, 2αβ·x, a product, a difference.
    """
    return elementwise_cost(input_shape, forward=2 * radius + 5, backward=4 * radius + 10)
