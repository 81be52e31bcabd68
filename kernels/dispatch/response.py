"""The public local response normalization: the choice of a form."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from kernels import response as textbook
from kernels.dispatch.selection import form_of, measured, pixels_of
from kernels.forms.compiler import compiler
from kernels.forms.differentiable import with_gradient
from kernels.forms.islands import compiled_response, compiled_response_gradient, image_by_image
from kernels.geometry import LARGEST
from kernels.precision import wide

RESPONSE_NORMS = ("nn", "explicit", "compiled")  # forms


def local_response_normalization(
    x: tf.Tensor,
    radius: int = 2,
    bias: float = 2.0,
    alpha: float = 1e-4,
    beta: float = 0.75,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Normalize each value by its neighbor channels (Krizhevsky et al. 2012, section 3.3, whose settings are default).

    Args:
        x: [B,H,W,C].
        radius: r; a window has 2r + 1 channels.
        bias, alpha, beta: k, α and β of the equation.
        algorithm: "nn" (TensorFlow's, which has no float64), "explicit" (2r + 1 shifted views), "compiled" (the same
            by XLA within any graph; image by image if the batch is unknown), or "auto", the form that was the fastest.

    Returns:
        [B,H,W,C].

    Raises:
        ValueError: If x is not [B,H,W,C], and for a radius below 0 or a form that the type of x does not have.
    """
    if x.shape.rank != 4 or not 0 <= radius <= LARGEST:
        raise ValueError(f"x has shape {x.shape} and radius is {radius}; expected [B,H,W,C], and 0 or more channels")
    forms = ("explicit",) if x.dtype == tf.float64 else RESPONSE_NORMS
    form = form_of(algorithm, x.dtype, forms)
    if algorithm == "auto" and None not in x.shape[1:3]:
        form = measured("lrn", x.dtype, str(x.shape[-1]), pixels_of(x), forms)
    settings = radius, bias, alpha, beta
    if form == "nn":
        return tf.cast(tf.nn.local_response_normalization(wide(x), *settings), x.dtype)
    forward, backward = _functions(form, x)
    return with_gradient(
        lambda x: forward(x, *settings), lambda inputs, y, gradient: backward(inputs[0], gradient, *settings)
    )(x)


def _functions(form: str, x: tf.Tensor) -> tuple[Callable, Callable]:
    """The forward and backward functions of a form. Where XLA compiles everything, it needs no island."""
    if form == "explicit" or compiler() == "xla":
        return textbook.local_response_normalization, textbook.local_response_normalization_input_gradient
    if x.shape[0] is None and None not in x.shape[1:3]:
        return partial(_by_image, compiled_response, 1), partial(_by_image, compiled_response_gradient, 2)
    return compiled_response, compiled_response_gradient


def _by_image(function: Callable, count: int, *arguments) -> tf.Tensor:
    """A function of `count` tensors and the settings, image by image."""
    return image_by_image(function, arguments[:count], *arguments[count:])
