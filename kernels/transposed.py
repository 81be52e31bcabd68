"""Transposed convolution: the adjoint of a convolution with the same filters, which enlarges a map.

Sources: Zeiler et al. 2010 ("Deconvolutional networks") for its use, Dumoulin & Visin 2016, section 4, for its
geometry. It is not an inverse: it adds each value, times the filter, to the pixels that the convolution read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost
from kernels.geometry import Convolution, Pair, Sides, crop_or_pad, insert_zeros, kernel_size

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y[b, p·s + i·d − top, q·s + j·d − left, c] += Σ_o  x[b, p, q, o] · w[i, j, c, o]      for all p, q, i, j
#
# s is the stride, d the dilation; terms outside y are dropped. x [B,H',W',Cout], w [kh,kw,C,Cout], y [B,H,W,C]: the
# output has the shape of the convolution's input, and ⟨conv(u), x⟩ = ⟨u, convᵀ(x)⟩. Groups as in `convolution.py`.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def conv2d_transpose_reference(
    x: np.ndarray,
    filters: np.ndarray,
    output_size: Sequence[int],
    stride: Pair = 1,
    offset: Sides = (0, 0),
    dilation: Pair = 1,
    groups: int = 1,
) -> np.ndarray:
    """The equation as loops over images, pixels, channels and taps, in float64. Args and Returns as `conv2d_transpose`.

    Args:
        output_size: (H, W).
        offset: (top, left), the padding of the convolution.
    """
    x, filters = np.asarray(x, np.float64), np.asarray(filters, np.float64)
    (sh, sw), (dh, dw) = np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2)
    (height, width), (top, left) = output_size, offset
    kh, kw, depth, out_channels = filters.shape
    y = np.zeros((len(x), height, width, depth * groups))
    for b, p, q, o in np.ndindex(*x.shape):
        first = (o * groups // out_channels) * depth
        for i, j in np.ndindex(kh, kw):
            row, column = p * sh + i * dh - top, q * sw + j * dw - left
            if 0 <= row < height and 0 <= column < width:
                y[b, row, column, first : first + depth] += x[b, p, q, o] * filters[i, j, :, o]
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------
#
# Insert s − 1 zeros between the values of x. Then every output reads its inputs with stride 1, so the transposed
# convolution is a convolution: the same dilation, the filter flipped in both directions, its channel axes exchanged.


def _convolve(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    return tf.nn.conv2d(x, filters, convolution.stride, convolution.padding, dilations=convolution.dilation)


def conv2d_transpose_flipped(
    x: tf.Tensor,
    filters: tf.Tensor,
    output_size: Sequence[int],
    convolution: Convolution,
    convolve: Callable[[tf.Tensor, tf.Tensor, Convolution], tf.Tensor] = _convolve,
) -> tf.Tensor:
    """x [B,H',W',Cout], filters [kh,kw,C/G,Cout] → [B,H,W,C], with `output_size` (H, W), by one convolution."""
    kh, kw = kernel_size(filters)
    (top, _), (left, _) = convolution.pads(output_size, (kh, kw))
    (dh, dw), groups, (height, width) = convolution.dilation, convolution.groups, output_size
    spaced = insert_zeros(x, convolution.stride)  # [B,(H'−1)s+1,(W'−1)s+1,Cout]
    rows = (kh - 1) * dh - top, height + top - spaced.shape[1]
    columns = (kw - 1) * dw - left, width + left - spaced.shape[2]
    spaced = crop_or_pad(spaced, (rows, columns))  # [B,H+(kh−1)d,W+(kw−1)d,Cout]
    return convolve(spaced, _flipped(filters, groups), Convolution((1, 1), "VALID", (dh, dw), groups))


def _flipped(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C/G,Cout] → [kh,kw,Cout/G,C]: flipped in both directions, the channel axes of each group exchanged."""
    kh, kw, depth, out = filters.shape
    flipped = tf.reshape(tf.reverse(filters, (0, 1)), (kh, kw, depth, groups, out // groups))
    return tf.reshape(tf.transpose(flipped, (0, 1, 4, 3, 2)), (kh, kw, out // groups, groups * depth))


def transposed_size(size: Sequence[int], kernel: Sides, convolution: Convolution) -> Sides:
    """The default (H, W) for x of `size` (H', W'): the largest for "SAME", which is H'·stride, else the smallest."""
    (sh, sw), (dh, dw) = convolution.stride, convolution.dilation
    if convolution.padding == "SAME":
        return size[0] * sh, size[1] * sw
    vertical, horizontal = convolution.pads(size, kernel)
    return (
        (size[0] - 1) * sh + (kernel[0] - 1) * dh + 1 - sum(vertical),
        (size[1] - 1) * sw + (kernel[1] - 1) * dw + 1 - sum(horizontal),
    )


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# The adjoint of an adjoint is the operation itself, so the gradient to x is the convolution of ∂L/∂y
# (`kernels.conv2d`). The gradient to the filters is the convolution's (`kernels.conv2d_filter_gradient`), with the two
# maps exchanged.


# 5. Cost ----------------------------------------------------------------------------------------------------


def conv2d_transpose_cost(filter_shape: Sequence[int], input_shape: Sequence[int]) -> Cost:
    """Count the operations of a transposed convolution: as many as those of the convolution.

    Args:
        filter_shape: [kh,kw,C/G,Cout].
        input_shape: [B,H',W',Cout]; each of its values is multiplied by kh·kw·C/G filter values.

    Returns:
        The cost of one call.
    """
    batch, height, width, out = input_shape
    kh, kw, depth, _ = filter_shape
    macs = batch * height * width * out * kh * kw * depth
    return Cost(macs=macs, flops=2 * macs, backward_flops=4 * macs)
