"""Convolution: strides, dilation, groups, any padding; interchangeable forms and the gradients by hand.

What deep learning calls convolution is a cross-correlation: the filter is not flipped. Sources: AlexNet (2012, §3)
for groups, Yu & Koltun (2016) for dilation, Dumoulin & Visin (2016) for the geometry of the transposed form,
Lavin & Gray (2016) for Winograd's minimal filtering (`kernels.winograd`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

from kernels.choice import measured, pixels_of, shape_name
from kernels.cost import Cost
from kernels.geometry import (
    Padding,
    Pair,
    crop_image,
    crop_or_pad,
    output_size,
    pad_image,
    padding_word,
    pair,
    spread,
    window_padding,
)
from kernels.groups import dense_filters, of_each_group, own_filters, unfused
from kernels.matmuls import im2col, shifted, shifted_filter_gradient, shifted_input_gradient
from kernels.space_to_depth import (
    space_to_depth_conv2d,
    space_to_depth_filter_gradient,
    space_to_depth_input_gradient,
)
from kernels.winograd import F2, F4, check_winograd, winograd2, winograd4, winograd_filter_gradient

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y[b, p, q, o] = Σ_{i,j,c}  x[b, p·s + i·d − top, q·s + j·d − left, c + g·C/G] · w[i, j, c, o]
#
# s stride, d dilation, G groups; g = ⌊o·G/Cout⌋ is the group of output channel o and reads only its own C/G input
# channels. Outside the image x is 0. x [B,H,W,C], w [kh,kw,C/G,Cout], y [B,H',W',Cout]. Depthwise: G = C.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def conv2d_reference(x, filters, stride=1, padding="SAME", dilation=1, groups=1) -> np.ndarray:
    """The equation as loops over images, output pixels, output channels and taps, in float64."""
    x, filters = np.asarray(x, np.float64), np.asarray(filters, np.float64)
    (sh, sw), (dh, dw) = np.broadcast_to(stride, 2), np.broadcast_to(dilation, 2)
    batch, height, width, channels = x.shape
    kh, kw, depth, out_channels = filters.shape
    if padding == "SAME":
        down = max((int(np.ceil(height / sh)) - 1) * sh + (kh - 1) * dh + 1 - height, 0)
        across = max((int(np.ceil(width / sw)) - 1) * sw + (kw - 1) * dw + 1 - width, 0)
        (top, bottom), (left, right) = (down // 2, down - down // 2), (across // 2, across - across // 2)
    else:
        (top, bottom), (left, right) = ((0, 0), (0, 0)) if padding == "VALID" else padding
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


def conv2d(
    x: tf.Tensor,
    filters: tf.Tensor,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Convolve x [B,H,W,C] with filters [kh,kw,C/groups,Cout] → [B,H',W',Cout].

    `algorithm`: "nn" (tf.nn.conv2d), "im2col" (patches, then one matmul), "shifted" (one matmul a filter tap),
    "winograd" (F(2×2,3×3)), "winograd4" (F(4×4,3×3)), "space_to_depth" (a stride as channels), "split" (a convolution
    a group), "dense" (groups as one, with zeros between them), or "auto": for the output and for each gradient the form
    that was the fastest on such a shape (`kernels.choice`). All agree; only rounding and speed differ. Raises
    ValueError for shapes or settings that do not fit together.
    """
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    _check(x, filters, groups)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; expected one of {', '.join(ALGORITHMS)}")
    if None not in x.shape[1:3]:
        output_size(padding, x.shape[1:3], tuple(filters.shape[:2]), stride, dilation)  # says if it does not fit
    elif algorithm not in ("auto", "nn"):
        raise ValueError(f'x has shape {x.shape}; only algorithm "nn" takes images of unknown size')
    return ALGORITHMS[algorithm](x, filters, stride, padding, dilation, groups)


def _check(x: tf.Tensor, filters: tf.Tensor, groups: int) -> None:
    if len(x.shape) != 4 or len(filters.shape) != 4 or x.shape[-1] is None:
        raise ValueError(f"got x {x.shape} and filters {filters.shape}; expected [B,H,W,C] and [kh,kw,C/groups,Cout]")
    _check_groups(groups, x.shape[-1], filters.shape[-1])
    if x.shape[-1] != filters.shape[2] * groups:
        raise ValueError(
            f"x has {x.shape[-1]} channels, but filters {tuple(filters.shape)} in {groups} group(s) "
            f"read {filters.shape[2] * groups}"
        )


def _check_groups(groups: int, channels: int, out_channels: int) -> None:
    if not isinstance(groups, int) or groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(
            f"groups is {groups!r}; expected a divisor of the {channels} input channels and of the "
            f"{out_channels} output channels"
        )


def _auto(x, filters, stride, padding, dilation, groups):
    """The forms that were measured to be the fastest; where that is TensorFlow's for all three, its own gradient."""
    if dilation != (1, 1) or groups == x.shape[-1] > 1 or None in x.shape[1:3]:
        return _nn(x, filters, stride, padding, dilation, groups)
    kernel = tuple(filters.shape[:2])
    pixels = pixels_of(x, output_size(padding, x.shape[1:3], kernel, stride))
    forms = {job: _fastest(job, x.dtype, pixels, filters.shape, stride, groups) for job in JOBS}
    if set(forms.values()) == {"nn"}:
        return _nn(x, filters, stride, padding, dilation, groups)

    @tf.custom_gradient
    def convolution(x, filters):
        y = ALGORITHMS[forms["conv2d"]](x, filters, stride, padding, dilation, groups)

        def gradients(dy):
            dy = tf.ensure_shape(dy, y.shape)  # which a graph may have lost on the way
            settings = stride, padding, dilation, groups
            return (
                conv2d_input_gradient(dy, filters, x.shape[1:3], *settings, forms["conv2d input gradient"]),
                conv2d_filter_gradient(x, dy, kernel, *settings, forms["conv2d filter gradient"]),
            )

        return y, gradients

    return convolution(x, filters)


def _fastest(job, dtype, pixels, filter_shape, stride, groups) -> str:
    """The form of one of `JOBS` that was measured to be so, without dilation."""
    known = GROUPED_JOBS if groups > 1 else JOBS
    return measured(job, dtype, shape_name(filter_shape, stride, groups), pixels, known[job])


def _nn(x, filters, stride, padding, dilation, groups):
    """tf.nn.conv2d; TensorFlow's CPU kernels lack gradients for groups and dilation, so those take the hand's.

    They also leave to slow loops the gradients of padding in pixels, so that is said in words, or done before.
    """
    kernel, channels = tuple(filters.shape[:2]), x.shape[-1]
    words: Any = padding_word(padding, x.shape[1:3], kernel, stride, dilation)
    if words is None:
        pads = window_padding(padding, x.shape[1:3], kernel, stride, dilation)
        if groups == 1 and dilation == (1, 1):
            return tf.nn.conv2d(pad_image(x, pads), filters, stride, "VALID")
        words = ((0, 0), *pads, (0, 0))
    if groups == channels > 1 and stride[0] == stride[1] and dilation == (1, 1):
        depthwise = tf.reshape(filters, (*kernel, channels, filters.shape[-1] // channels))
        return tf.nn.depthwise_conv2d(x, depthwise, (1, *stride, 1), words)
    if groups == 1 and dilation == (1, 1):
        return tf.nn.conv2d(x, filters, stride, words)

    @tf.custom_gradient
    def convolution(x, filters):
        y = tf.nn.conv2d(x, filters, stride, words, dilations=dilation)
        y = unfused(y) if groups > 1 else y

        def gradients(dy):
            dy = tf.ensure_shape(dy, y.shape)  # which a graph may have lost on the way
            return (
                conv2d_input_gradient(dy, filters, x.shape[1:3], stride, padding, dilation, groups),
                conv2d_filter_gradient(x, dy, kernel, stride, padding, dilation, groups),
            )

        return y, gradients

    return convolution(x, filters)


def _space_to_depth(x, filters, stride, padding, dilation, groups):
    """A stride as channels."""
    _check_plain("space_to_depth", groups, dilation)
    return space_to_depth_conv2d(x, filters, stride, padding)


def _split(x, filters, stride, padding, dilation, groups):
    """A convolution a group."""
    return of_each_group(lambda x, filters: _nn(x, filters, stride, padding, dilation, 1), groups, x, filters)


def _dense(x, filters, stride, padding, dilation, groups):
    """All groups as one, with zeros between them."""
    return _nn(x, dense_filters(filters, groups), stride, padding, dilation, 1)


ALGORITHMS = {
    "auto": _auto,
    "nn": _nn,
    "im2col": im2col,
    "shifted": shifted,
    "winograd": winograd2,
    "winograd4": winograd4,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "dense": _dense,
}


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Each x[m] meets the filter's tap i in the output p with p·s + i·d − top = m, so
#   ∂L/∂x[m] = Σ_{p,i : p·s + i·d − top = m} Σ_o ∂L/∂y[p,o] · w[i,:,o].
# Spread ∂L/∂y by the stride (zeros between) and this is a convolution again: stride 1, the same dilation, with the
# filter flipped in both directions and its channel axes exchanged.
#   ∂L/∂w[i] = Σ_{b,p,q} x[b, p·s + i·d − top, …]ᵀ ∂L/∂y[b,p,q]: one matmul a tap, of the views of the forward pass.


def conv2d_input_gradient(
    gradient: tf.Tensor,
    filters: tf.Tensor,
    input_size: Sequence[int],
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "flipped",
) -> tf.Tensor:
    """∂L/∂x [B,H,W,C] from ∂L/∂y [B,H',W',Cout]; `input_size` is (H, W). Differentiable again.

    `algorithm`: "flipped" (the convolution above), "winograd" and "winograd4" (the same in that form), "shifted" (one
    matmul a tap, each put where the tap was), "nn" (TensorFlow's own) and "space_to_depth", both of one group without
    dilation, "split" (a gradient a group), "dense" (groups as one), or "auto", the one that was measured to be the
    fastest. Raises ValueError for shapes or settings that do not fit together, and for an unknown size.
    """
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    kh, kw, depth, out = filters.shape
    _check_groups(groups, depth * groups, out)
    gradient = _fitting(gradient, out, input_size, (kh, kw), stride, padding, dilation)
    if algorithm == "auto" and dilation == (1, 1):
        job = "conv2d input gradient"
        algorithm = _fastest(job, gradient.dtype, pixels_of(gradient), filters.shape, stride, groups)
    algorithm = "flipped" if algorithm == "auto" else algorithm
    _check_form(algorithm, INPUT_GRADIENTS, groups, dilation)
    if algorithm in ("split", "dense"):
        form = "nn" if dilation == (1, 1) else "flipped"

        def of_one(gradient, filters):
            return conv2d_input_gradient(gradient, filters, input_size, stride, padding, dilation, 1, form)

        if algorithm == "split":
            return of_each_group(of_one, groups, gradient, filters)
        return of_one(gradient, dense_filters(filters, groups))
    pads = window_padding(padding, input_size, (kh, kw), stride, dilation)
    if algorithm == "shifted":
        return shifted_input_gradient(gradient, filters, input_size, stride, pads, dilation, groups)
    if algorithm == "space_to_depth":
        return space_to_depth_input_gradient(gradient, filters, (input_size[0], input_size[1]), stride, padding)
    if algorithm == "nn":
        word = padding_word(padding, input_size, (kh, kw), stride)
        pads = ((0, 0), (0, 0)) if word else pads
        padded = [length + sum(pad) for length, pad in zip(input_size, pads, strict=True)]
        whole = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=(tf.shape(gradient)[0], *padded, depth), filter=filters, out_backprop=gradient,
            strides=(1, *stride, 1), padding=word or "VALID",
        )  # fmt: skip
        return crop_image(tf.ensure_shape(whole, (gradient.shape[0], *padded, depth)), pads)
    dense = spread(gradient, stride)  # [B,(H'−1)s+1,(W'−1)s+1,Cout]
    rows, columns = (
        ((taps - 1) * gap - before, wanted + before - length)
        for taps, gap, (before, _), wanted, length in zip(
            (kh, kw), dilation, pads, input_size, dense.shape[1:3], strict=True
        )
    )
    dense = crop_or_pad(dense, (rows, columns))  # [B,H+(kh−1)d,W+(kw−1)d,Cout]
    flipped = tf.reshape(tf.reverse(filters, (0, 1)), (kh, kw, depth, groups, out // groups))
    flipped = tf.reshape(tf.transpose(flipped, (0, 1, 4, 3, 2)), (kh, kw, out // groups, groups * depth))
    return conv2d(dense, flipped, 1, "VALID", dilation, groups, "nn" if algorithm == "flipped" else algorithm)


def _check_form(algorithm: str, known: Sequence[str], groups: int, dilation: tuple[int, int]) -> None:
    if algorithm not in known:
        raise ValueError(f"algorithm is {algorithm!r}; expected one of {', '.join(known)}")
    if algorithm in ("nn", "space_to_depth"):
        _check_plain(algorithm, groups, dilation)


def _check_plain(algorithm: str, groups: int, dilation: tuple[int, int]) -> None:
    if groups > 1 or dilation != (1, 1):
        raise ValueError(f'algorithm "{algorithm}" is for one group without dilation')


def conv2d_filter_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    filter_size: Pair,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "shifted",
) -> tf.Tensor:
    """∂L/∂w [kh,kw,C/groups,Cout] from x [B,H,W,C] and ∂L/∂y [B,H',W',Cout]. Differentiable again.

    `algorithm`: "shifted" (the matmuls above), "winograd", "winograd4" (`kernels.winograd`), "nn" (TensorFlow's own)
    and "space_to_depth", both of one group without dilation, "split" (a gradient a group), "dense" (groups as one).
    Raises ValueError for shapes or settings that do not fit together, and for an unknown size.
    """
    (kh, kw), stride, dilation = pair(filter_size, "filter_size"), pair(stride, "stride"), pair(dilation, "dilation")
    _check_groups(groups, x.shape[-1], gradient.shape[-1])
    gradient = _fitting(gradient, gradient.shape[-1], x.shape[1:3], (kh, kw), stride, padding, dilation)
    _check_form(algorithm, FILTER_GRADIENTS, groups, dilation)
    if algorithm in ("split", "dense"):
        form = "nn" if dilation == (1, 1) else "shifted"

        def of_one(x, gradient):
            return conv2d_filter_gradient(x, gradient, (kh, kw), stride, padding, dilation, 1, form)

        if algorithm == "split":
            return of_each_group(of_one, groups, x, gradient)
        return own_filters(of_one(x, gradient), groups)
    if algorithm.startswith("winograd"):
        check_winograd((kh, kw), stride, dilation, groups)
        return winograd_filter_gradient(x, gradient, padding, F2 if algorithm == "winograd" else F4)
    if algorithm == "space_to_depth":
        return space_to_depth_filter_gradient(x, gradient, (kh, kw), stride, padding)
    if algorithm == "nn":
        word = padding_word(padding, x.shape[1:3], (kh, kw), stride)
        padded = x if word else pad_image(x, window_padding(padding, x.shape[1:3], (kh, kw), stride))
        sizes = kh, kw, x.shape[-1], gradient.shape[-1]
        return tf.raw_ops.Conv2DBackpropFilter(
            input=padded, filter_sizes=sizes, out_backprop=gradient, strides=(1, *stride, 1), padding=word or "VALID"
        )
    return shifted_filter_gradient(x, gradient, (kh, kw), stride, padding, dilation, groups)


def _fitting(gradient, channels, input_size, kernel, stride, padding, dilation) -> tf.Tensor:
    """The gradient, if it has the shape of the output: [B,H',W',Cout], now also where it was unknown in a graph."""
    expected = (None, *output_size(padding, input_size, kernel, stride, dilation), channels)
    if not gradient.shape.is_compatible_with(expected):
        raise ValueError(
            f"an image of {tuple(input_size)} convolves to {expected[1:]}; got {tuple(gradient.shape[1:])}"
        )
    return tf.ensure_shape(gradient, expected)


INPUT_GRADIENTS = ("nn", "flipped", "shifted", "winograd", "winograd4", "space_to_depth", "split", "dense")
FILTER_GRADIENTS = ("nn", "shifted", "winograd", "winograd4", "space_to_depth", "split", "dense")
# What "auto" chooses a form for, among these; the first is the default. In groups, those of `_nn`.
JOBS: dict[str, Sequence[str]] = {
    "conv2d": tuple(name for name in ALGORITHMS if name != "auto"),
    "conv2d input gradient": INPUT_GRADIENTS,
    "conv2d filter gradient": FILTER_GRADIENTS,
}
GROUPED_JOBS: dict[str, Sequence[str]] = {
    "conv2d": ("nn", "split", "dense"),
    "conv2d input gradient": ("flipped", "split", "dense"),
    "conv2d filter gradient": ("shifted", "split", "dense"),
}


# 5. Cost ----------------------------------------------------------------------------------------------------


def conv2d_cost(filter_shape: Sequence[int], output_shape: Sequence[int], *, input_gradient: bool = True) -> Cost:
    """Every output sums kh·kw·C/G products. Backward: the filter gradient and (unless x is the image) the input's
    cost the same again, each."""
    macs = prod(output_shape) * prod(filter_shape[:3])
    return Cost(macs=macs, flops=2 * macs, backward_flops=2 * macs * (2 if input_gradient else 1))
