"""TensorFlow's own kernels, with gradients by hand where TensorFlow's CPU kernels lack them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import tensorflow as tf

import onednn
from kernels.convolution import conv2d, conv2d_filter_gradient_by_taps
from kernels.forms.compiler import compiler
from kernels.forms.differentiable import with_gradient
from kernels.forms.empty import cut
from kernels.geometry import Convolution, Sides, crop_image, kernel_size, pad_image
from kernels.transposed import conv2d_transpose_flipped


def nn_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """`tf.nn.conv2d`, or `tf.nn.depthwise_conv2d` for one channel per group.

    TensorFlow's CPU kernels have no gradients for groups and dilation, so these use the gradients by hand.
    """
    channels, (down, across) = x.shape[-1], convolution.stride
    if convolution.groups == channels > 1 and down == across and convolution.dilation == (1, 1):
        return cut(partial(_depthwise, filters=filters, convolution=convolution), x)
    if convolution.plain:
        return cut(partial(conv2d, filters=filters, convolution=convolution), x)

    def forward(x: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
        y = cut(partial(conv2d, filters=filters, convolution=convolution), x)
        return _unfused(y) if convolution.groups > 1 else y

    def backward(inputs: Sequence[tf.Tensor], y: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, filters = inputs
        gradient = fitting_gradient(gradient, filters.shape, x.shape[1:3], convolution)
        return (
            flipped_input_gradient(gradient, filters, x.shape[1:3], convolution),
            conv2d_filter_gradient_by_taps(x, gradient, kernel_size(filters), convolution),
        )

    return with_gradient(forward, backward)(x, filters)


def _unfused(y: tf.Tensor) -> tf.Tensor:
    """Keep TensorFlow from fusing the grouped convolution that computes y with the bias, norm or ReLU that follows.

    Eigen's fused convolution takes no groups; its plain one does. EnsureShape copies nothing, but ends the pattern that
    the graph optimizer looks for. A graph for another machine ("portable") gets it too: oneDNN may be off there.
    """
    if tf.executing_eagerly() or (onednn.in_use() and compiler() != "portable"):
        return y
    return tf.ensure_shape(y, y.shape)


def _depthwise(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """Every channel by itself."""
    size, kernel, channels = x.shape[1:3], kernel_size(filters), x.shape[-1]
    padding = convolution.padding_word(size, kernel) or ((0, 0), *convolution.pads(size, kernel), (0, 0))
    filters = tf.reshape(filters, (*kernel, channels, filters.shape[-1] // channels))
    return tf.nn.depthwise_conv2d(x, filters, (1, *convolution.stride, 1), padding)


def fitting_gradient(
    gradient: tf.Tensor, filter_shape: Sequence[int], input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """The gradient with the static shape [B,H',W',Cout], which a graph may have lost. ValueError if it has another."""
    kh, kw, _, channels = filter_shape
    expected = (None, *convolution.output_size(input_size, (kh, kw)), channels)
    if not gradient.shape.is_compatible_with(expected):
        raise ValueError(
            f"an image of {tuple(input_size)} convolves to {expected[1:]}; got {tuple(gradient.shape[1:])}"
        )
    return tf.ensure_shape(gradient, expected)


def flipped_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C]: the transposed convolution as a convolution with the flipped filter."""
    return conv2d_transpose_flipped(gradient, filters, input_size, convolution, convolve=nn_conv2d)


def nn_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C] by TensorFlow, for one group without dilation."""
    kernel, channels = kernel_size(filters), filters.shape[2]
    word = convolution.padding_word(input_size, kernel)
    pads = ((0, 0), (0, 0)) if word else convolution.pads(input_size, kernel)
    padded = [length + sum(pad) for length, pad in zip(input_size, pads, strict=True)]
    x = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=(tf.shape(gradient)[0], *padded, channels), filter=filters, out_backprop=gradient,
        strides=(1, *convolution.stride, 1), padding=word or "VALID",
    )  # fmt: skip
    return crop_image(tf.ensure_shape(x, (gradient.shape[0], *padded, channels)), pads)


def nn_filter_gradient(x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C,Cout] by TensorFlow, for one group without dilation."""
    word = convolution.padding_word(x.shape[1:3], kernel)
    padded = x if word else pad_image(x, convolution.pads(x.shape[1:3], kernel))
    return tf.raw_ops.Conv2DBackpropFilter(
        input=padded, filter_sizes=(*kernel, x.shape[-1], gradient.shape[-1]), out_backprop=gradient,
        strides=(1, *convolution.stride, 1), padding=word or "VALID",
    )  # fmt: skip
