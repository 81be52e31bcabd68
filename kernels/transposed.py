"""Transposed convolution: the adjoint of a convolution with the same filters, by which a map grows.

Zeiler et al. (2010, "Deconvolutional networks") for the use, Dumoulin & Visin (2016, §4) for the geometry. It is no
inverse: it puts each number where the convolution took it from, times the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.convolution import conv2d_cost, conv2d_input_gradient
from kernels.cost import Cost
from kernels.geometry import Padding, Pair, pair, window_padding

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y[b, p·s + i·d − top, q·s + j·d − left, c] += Σ_o  x[b, p, q, o] · w[i, j, c, o]      for all p, q, i, j
#
# s stride, d dilation; what falls outside of y is dropped. x [B,H',W',Cout], w [kh,kw,C,Cout], y [B,H,W,C]: what
# `kernels.conv2d` reads is what this gives, ⟨conv(u), x⟩ = ⟨u, convᵀ(x)⟩. Groups as there.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def conv2d_transpose_reference(
    x, filters, output_size: Sequence[int], stride=1, offset=(0, 0), dilation=1, groups=1
) -> np.ndarray:
    """The equation as loops over images, pixels, output channels of the convolution and taps; `offset` (top, left)."""
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


def conv2d_transpose(
    x: tf.Tensor,
    filters: tf.Tensor,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    *,
    output_size: tuple[int, int] | None = None,
) -> tf.Tensor:
    """The transposed convolution: the adjoint of `conv2d` with the same filters, ⟨conv(u), x⟩ = ⟨u, convᵀ(x)⟩.

    x [B,H',W',Cout], filters [kh,kw,C/groups,Cout] as the convolution has them → [B,H,W,C]. Several H, W can
    give one H', W' when stride > 1; `output_size` chooses, by default the largest for "SAME" (H'·stride) and the
    smallest otherwise. Raises ValueError as `conv2d_input_gradient` does.
    """
    if output_size is None:
        output_size = _transposed_size(x, filters, pair(stride, "stride"), padding, pair(dilation, "dilation"))
    return conv2d_input_gradient(x, filters, output_size, stride, padding, dilation, groups)


def _transposed_size(x, filters, stride, padding, dilation) -> tuple[int, int]:
    """The default (H, W) of a transposed convolution."""
    if len(x.shape) != 4 or None in x.shape[1:3]:
        raise ValueError(f"x has shape {x.shape}; expected [B,H',W',Cout] of known size, or an output_size (H, W)")
    if padding == "SAME":
        return x.shape[1] * stride[0], x.shape[2] * stride[1]
    kernel = tuple(filters.shape[:2])
    pads = window_padding(padding, x.shape[1:3], kernel, stride, dilation)
    height, width = (
        (length - 1) * step + (taps - 1) * gap + 1 - sum(pad)
        for length, step, taps, gap, pad in zip(x.shape[1:3], stride, kernel, dilation, pads, strict=True)
    )
    return height, width


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Both are the convolution's: to x it is `conv2d` of ∂L/∂y, for the adjoint of an adjoint is the thing itself, and to
# the filter `conv2d_filter_gradient` with the two maps in each other's place.


# 5. Cost ----------------------------------------------------------------------------------------------------


def conv2d_transpose_cost(filter_shape: Sequence[int], input_shape: Sequence[int]) -> Cost:
    """Each number of x [B,H',W',Cout] is multiplied by kh·kw·C/G of the filter's: as many as the convolution's."""
    return conv2d_cost(filter_shape, input_shape)
