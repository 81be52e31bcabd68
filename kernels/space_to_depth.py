"""Space to depth: a convolution of stride s is one of stride 1 over an image whose blocks of s×s pixels are one each.

Libraries multiply channels in eights or sixteens, which wastes most of it on the three of an image; of AlexNet's first
layer they are 4·4·3 = 48 then. The way back to the image is a convolution of stride 1 as well; with strides it is a
slow one in most libraries.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from kernels.geometry import Padding, crop_or_pad, output_size, window_padding

Sides = tuple[int, int]


def space_to_depth_conv2d(x: tf.Tensor, filters: tf.Tensor, stride: Sides, padding: Padding) -> tf.Tensor:
    """x [B,H,W,C], filters [kh,kw,C,Cout] → [B,H',W',Cout]."""
    blocks = _blocks(x, tuple(filters.shape[:2]), stride, padding)
    return tf.nn.conv2d(blocks, _filter_blocks(filters, stride), 1, "VALID")


def space_to_depth_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sides, stride: Sides, padding: Padding
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C]."""
    deep = _filter_blocks(filters, stride)
    rows, columns = (out - 1 + taps for out, taps in zip(gradient.shape[1:3], deep.shape[:2], strict=True))
    blocks = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=(tf.shape(gradient)[0], rows, columns, deep.shape[2]),
        filter=deep, out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID",
    )  # fmt: skip
    (sh, sw), channels = stride, filters.shape[2]
    image = tf.transpose(tf.reshape(blocks, (-1, rows, columns, sh, sw, channels)), (0, 1, 3, 2, 4, 5))
    image = tf.reshape(image, (-1, rows * sh, columns * sw, channels))
    return crop_or_pad(image, _negative(_margins(input_size, tuple(filters.shape[:2]), stride, padding)))


def space_to_depth_filter_gradient(
    x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, stride: Sides, padding: Padding
) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C,Cout]."""
    (sh, sw), (down, across), channels, out = stride, _taps(kernel, stride), x.shape[-1], gradient.shape[-1]
    deep = tf.raw_ops.Conv2DBackpropFilter(
        input=_blocks(x, kernel, stride, padding), filter_sizes=(down, across, sh * sw * channels, out),
        out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID",
    )  # fmt: skip
    filters = tf.transpose(tf.reshape(deep, (down, across, sh, sw, channels, out)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(filters, (down * sh, across * sw, channels, out))[: kernel[0], : kernel[1]]


def _blocks(x: tf.Tensor, kernel: Sides, stride: Sides, padding: Padding) -> tf.Tensor:
    """[B,H,W,C] → [B,H'+⌈kh/sh⌉−1,W'+⌈kw/sw⌉−1,sh·sw·C]: the pixels that the filters see."""
    (sh, sw), channels = stride, x.shape[-1]
    x = crop_or_pad(x, _margins(tuple(x.shape[1:3]), kernel, stride, padding))
    rows, columns = x.shape[1] // sh, x.shape[2] // sw
    x = tf.transpose(tf.reshape(x, (-1, rows, sh, columns, sw, channels)), (0, 1, 3, 2, 4, 5))
    return tf.reshape(x, (-1, rows, columns, sh * sw * channels))


def _filter_blocks(filters: tf.Tensor, stride: Sides) -> tf.Tensor:
    """[kh,kw,C,Cout] → [⌈kh/sh⌉,⌈kw/sw⌉,sh·sw·C,Cout]: zeros behind, where a block is not full."""
    (sh, sw), (kh, kw, channels, out) = stride, filters.shape
    down, across = _taps((kh, kw), stride)
    filters = tf.pad(filters, ((0, down * sh - kh), (0, across * sw - kw), (0, 0), (0, 0)))
    filters = tf.transpose(tf.reshape(filters, (down, sh, across, sw, channels, out)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(filters, (down, across, sh * sw * channels, out))


def _taps(kernel: Sides, stride: Sides) -> Sides:
    """How many blocks a filter reaches over."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _margins(size: Sides, kernel: Sides, stride: Sides, padding: Padding) -> tuple[Sides, Sides]:
    """What is added to an image before its first pixel and behind its last; negative behind what no filter sees."""
    pads, out = window_padding(padding, size, kernel, stride), output_size(padding, size, kernel, stride)
    (top, down), (left, across) = (
        (before, (places - 1 + taps) * step - before - length)
        for (before, _), places, taps, step, length in zip(pads, out, _taps(kernel, stride), stride, size, strict=True)
    )
    return (top, down), (left, across)


def _negative(margins: Sequence[Sides]) -> tuple[Sides, Sides]:
    (top, bottom), (left, right) = margins
    return (-top, -bottom), (-left, -right)
