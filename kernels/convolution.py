"""Convolution with strides, dilation, groups and any padding.

Deep learning calls a cross-correlation a convolution: the filter is not flipped. Sources: Krizhevsky et al. 2012
(AlexNet), section 3, for groups; Yu & Koltun 2016 for dilation. `kernels.conv2d` runs one of the forms below or a
faster form of `kernels/forms`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from kernels.cost import Cost
from kernels.geometry import (
    Convolution,
    Padding,
    Pair,
    Sides,
    crop_image,
    kernel_size,
    pad_image,
    padding_reference,
    place_view,
    window_views,
)
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y[b, p, q, o] = Σ_{i,j,c}  x[b, p·s + i·d − top, q·s + j·d − left, c + g·C/G] · w[i, j, c, o]
#
# s is the stride, d the dilation, G the number of groups. Output channel o belongs to group g = ⌊o·G/Cout⌋ and reads
# only the C/G input channels of that group. x is 0 outside the image. Depthwise convolution has G = C.
# x [B,H,W,C], w [kh,kw,C/G,Cout], y [B,H',W',Cout].


# 2. NumPy reference -----------------------------------------------------------------------------------------


def conv2d_reference(
    x: np.ndarray, filters: np.ndarray, stride: Pair = 1, padding: Padding = "SAME", dilation: Pair = 1, groups: int = 1
) -> np.ndarray:
    """The equation as loops over images, output pixels, output channels and taps, in float64.

    Args and Returns as `conv2d`.
    """
    x, filters = np.asarray(x, np.float64), np.asarray(filters, np.float64)
    (sh, sw), (dh, dw) = np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2)
    batch, height, width, channels = x.shape
    kh, kw, depth, out_channels = filters.shape
    (top, bottom), (left, right) = padding_reference(padding, (height, width), (kh, kw), stride, dilation)
    out_height = (height + top + bottom - (kh - 1) * dh - 1) // sh + 1
    out_width = (width + left + right - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((batch, out_height, out_width, out_channels))
    for b, p, q, o in np.ndindex(*y.shape):
        first = (o * groups // out_channels) * (channels // groups)
        for i, j in np.ndindex(kh, kw):
            row, column = p * sh + i * dh - top, q * sw + j * dw - left
            if 0 <= row < height and 0 <= column < width:
                y[b, p, q, o] += x[b, row, column, first : first + depth] @ filters[i, j, :, o]
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """TensorFlow's convolution: x [B,H,W,C], filters [kh,kw,C/G,Cout] → [B,H',W',Cout]."""
    size, kernel = x.shape[1:3], kernel_size(filters)
    padding: Any = convolution.padding_word(size, kernel)
    if padding is None and convolution.plain:  # pad first: TensorFlow's gradients of explicit padding are slow
        x, padding = pad_image(x, convolution.pads(size, kernel)), "VALID"
    padding = padding or ((0, 0), *convolution.pads(size, kernel), (0, 0))
    return tf.nn.conv2d(x, filters, convolution.stride, padding, dilations=convolution.dilation)


def conv2d_by_taps(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """The same as one matmul per filter tap: shift the image under the filter and add what each tap contributes."""
    groups, kernel = convolution.groups, kernel_size(filters)
    size = convolution.output_size(x.shape[1:3], kernel)
    total = None
    for (i, j), view in zip(_taps(kernel), _views(x, kernel, convolution), strict=True):
        term = tf.matmul(_rows(view, groups), _tap_filters(filters, i, j, groups))  # [G,N,C/G]·[G,C/G,Cout/G]
        total = term if total is None else total + term
    return tf.reshape(_join(total), (-1, *size, filters.shape[-1]))  # [B,H',W',Cout]


def _taps(kernel: Sides) -> list[Sides]:
    """(i, j) of all taps, row by row."""
    return list(product(range(kernel[0]), range(kernel[1])))


def _views(x: tf.Tensor, kernel: Sides, convolution: Convolution) -> list[tf.Tensor]:
    """What each tap reads: kh·kw strided views [B,H',W',C] of the padded image."""
    size = x.shape[1:3]
    padded, out = pad_image(x, convolution.pads(size, kernel)), convolution.output_size(size, kernel)
    return window_views(padded, kernel, convolution.stride, convolution.dilation, out)


def _rows(x: tf.Tensor, groups: int) -> tf.Tensor:
    """Pixels as rows: [B,H',W',C] → [G,N,C/G] with N = B·H'·W', or [N,C] for a single group."""
    channels = x.shape[-1]
    if groups == 1:
        return tf.reshape(x, (-1, channels))
    return tf.transpose(tf.reshape(x, (-1, groups, channels // groups)), (1, 0, 2))


def _tap_filters(filters: tf.Tensor, i: int, j: int, groups: int) -> tf.Tensor:
    """The matrix of one tap: [kh,kw,C/G,Cout] → [G,C/G,Cout/G], or [C,Cout] for a single group."""
    matrix = filters[i, j]  # [C/G,Cout]
    return matrix if groups == 1 else tf.transpose(tf.reshape(matrix, (matrix.shape[0], groups, -1)), (1, 0, 2))


def _join(y: tf.Tensor) -> tf.Tensor:
    """The groups' channels side by side: [G,N,D] → [N,G,D]; a single group's [N,D] stays."""
    return y if y.shape.rank == 2 else tf.transpose(y, (1, 0, 2))


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Pixel x[m] meets tap i in output p where p·s + i·d − top = m, so
#   ∂L/∂x[m] = Σ_{p,i : p·s + i·d − top = m} Σ_o ∂L/∂y[p,o] · w[i,:,o]:  each tap's matmul with w[i]ᵀ, put back
#                                                                       where the tap read (`kernels/transposed.py`
#                                                                       writes the same as a convolution)
#   ∂L/∂w[i] = Σ_{b,p,q} x[b, p·s + i·d − top, …]ᵀ · ∂L/∂y[b,p,q]:      one matmul per tap, of the same views


def conv2d_input_gradient_by_taps(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C], with `input_size` (H, W)."""
    kernel, groups = kernel_size(filters), convolution.groups
    pads = convolution.pads(input_size, kernel)
    padded = [length + sum(pad) for length, pad in zip(input_size, pads, strict=True)]
    rows, total = _rows(gradient, groups), None  # [G,N,Cout/G]
    for i, j in _taps(kernel):
        view = _join(tf.matmul(rows, _tap_filters(filters, i, j, groups), transpose_b=True))  # [N,G,C/G]
        view = tf.reshape(view, (-1, *gradient.shape[1:3], filters.shape[2] * groups))  # [B,H',W',C]
        placed = place_view(view, (i, j), convolution.stride, convolution.dilation, padded)
        total = placed if total is None else total + placed
    return crop_image(total, pads)


def conv2d_filter_gradient_by_taps(
    x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution
) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C/G,Cout], with `kernel` (kh, kw)."""
    groups = convolution.groups
    rows = _rows(gradient, groups)  # [G,N,Cout/G]
    taps = [  # of [C/G,G,Cout/G]
        _join(tf.matmul(_rows(view, groups), rows, transpose_a=True)) for view in _views(x, kernel, convolution)
    ]
    return tf.reshape(tf.stack(taps), (*kernel, x.shape[-1] // groups, gradient.shape[-1]))


def conv2d_bias_gradient(gradient: tf.Tensor) -> tf.Tensor:
    """Sum ∂L/∂y over images and pixels, because the bias is added at each: ∂L/∂bias = Σ_{b,p,q} ∂L/∂y[b,p,q].

    Args:
        gradient: ∂L/∂y [B,H',W',Cout].

    Returns:
        ∂L/∂bias [Cout].
    """
    return tf.cast(tf.reduce_sum(wide(gradient), axis=(0, 1, 2)), gradient.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def conv2d_cost(filter_shape: Sequence[int], output_shape: Sequence[int], *, input_gradient: bool = True) -> Cost:
    """Count the operations of a convolution: each output sums kh·kw·C/G products.

    Args:
        filter_shape: [kh,kw,C/G,Cout].
        output_shape: [B,H',W',Cout].
        input_gradient: False for the first layer, whose input is the image.

    Returns:
        The cost of one call; each of the two gradients costs as much as the forward pass.
    """
    macs = prod(output_shape) * prod(filter_shape[:3])
    return Cost(macs=macs, flops=2 * macs, backward_flops=2 * macs * (2 if input_gradient else 1))
