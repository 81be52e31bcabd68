"""Space to depth: a convolution of stride s becomes one of stride 1 over an image of s×s blocks of pixels.

Libraries multiply channels in groups of 8 or 16, so the three channels of an image waste most of that work. The first
layer of AlexNet has 4·4·3 = 48 channels in this form. Its gradient to the image is a convolution of stride 1 as well,
which most libraries run faster than one with a stride.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from kernels.forms.empty import cut
from kernels.geometry import Convolution, Pads, Sides, crop_or_pad, kernel_size


def space_to_depth_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], filters [kh,kw,C,Cout] → [B,H',W',Cout], for one group without dilation."""
    blocks = _blocks(x, kernel_size(filters), convolution)
    deep = _filter_blocks(filters, convolution.stride)
    return cut(lambda blocks: tf.nn.conv2d(blocks, deep, 1, "VALID"), blocks)


def space_to_depth_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C]."""
    (sh, sw), channels = convolution.stride, filters.shape[2]
    deep = _filter_blocks(filters, convolution.stride)
    rows, columns = (out - 1 + taps for out, taps in zip(gradient.shape[1:3], deep.shape[:2], strict=True))
    blocks = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=(tf.shape(gradient)[0], rows, columns, deep.shape[2]),
        filter=deep, out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID",
    )  # fmt: skip
    image = tf.transpose(tf.reshape(blocks, (-1, rows, columns, sh, sw, channels)), (0, 1, 3, 2, 4, 5))
    image = tf.reshape(image, (-1, rows * sh, columns * sw, channels))  # [B,rows·sh,columns·sw,C]
    (top, bottom), (left, right) = _margins(input_size, kernel_size(filters), convolution)
    return crop_or_pad(image, ((-top, -bottom), (-left, -right)))


def space_to_depth_filter_gradient(
    x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution
) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C,Cout]."""
    (sh, sw), channels, out = convolution.stride, x.shape[-1], gradient.shape[-1]
    down, across = _block_taps(kernel, convolution.stride)
    deep = tf.raw_ops.Conv2DBackpropFilter(
        input=_blocks(x, kernel, convolution), filter_sizes=(down, across, sh * sw * channels, out),
        out_backprop=gradient, strides=(1, 1, 1, 1), padding="VALID",
    )  # fmt: skip
    filters = tf.transpose(tf.reshape(deep, (down, across, sh, sw, channels, out)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(filters, (down * sh, across * sw, channels, out))[: kernel[0], : kernel[1]]


def _blocks(x: tf.Tensor, kernel: Sides, convolution: Convolution) -> tf.Tensor:
    """The pixels that the filters read: [B,H,W,C] → [B,H'+⌈kh/sh⌉−1,W'+⌈kw/sw⌉−1,sh·sw·C]."""
    (sh, sw), channels = convolution.stride, x.shape[-1]
    x = crop_or_pad(x, _margins(x.shape[1:3], kernel, convolution))
    rows, columns = x.shape[1] // sh, x.shape[2] // sw
    x = tf.transpose(tf.reshape(x, (-1, rows, sh, columns, sw, channels)), (0, 1, 3, 2, 4, 5))
    return tf.reshape(x, (-1, rows, columns, sh * sw * channels))


def _filter_blocks(filters: tf.Tensor, stride: Sides) -> tf.Tensor:
    """[kh,kw,C,Cout] → [⌈kh/sh⌉,⌈kw/sw⌉,sh·sw·C,Cout], with zeros at the end of a block that is not full."""
    (sh, sw), (kh, kw, channels, out) = stride, filters.shape
    down, across = _block_taps((kh, kw), stride)
    filters = tf.pad(filters, ((0, down * sh - kh), (0, across * sw - kw), (0, 0), (0, 0)))
    filters = tf.transpose(tf.reshape(filters, (down, sh, across, sw, channels, out)), (0, 2, 1, 3, 4, 5))
    return tf.reshape(filters, (down, across, sh * sw * channels, out))


def _block_taps(kernel: Sides, stride: Sides) -> Sides:
    """The number of blocks that a filter covers."""
    return -(-kernel[0] // stride[0]), -(-kernel[1] // stride[1])


def _margins(size: Sequence[int], kernel: Sides, convolution: Convolution) -> Pads:
    """What to add before the first and after the last pixel; negative for pixels that no filter reads."""
    pads, out = convolution.pads(size, kernel), convolution.output_size(size, kernel)
    taps = _block_taps(kernel, convolution.stride)
    (top, bottom), (left, right) = (
        (before, (places - 1 + count) * step - before - length)
        for (before, _), places, count, step, length in zip(pads, out, taps, convolution.stride, size, strict=True)
    )
    return (top, bottom), (left, right)
