"""Convolution in groups as convolutions of one group.

"split" runs one convolution per group. "dense" runs a single convolution whose filters are zero for the channels of
other groups: G times the arithmetic, but in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from kernels.convolution import conv2d_filter_gradient_by_taps
from kernels.forms.nn import flipped_input_gradient, nn_conv2d, nn_filter_gradient, nn_input_gradient
from kernels.geometry import Convolution, Sides


def split_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], filters [kh,kw,C/G,Cout] → [B,H',W',Cout], one convolution per group."""
    function = partial(nn_conv2d, convolution=convolution.in_one_group())
    return _of_each_group(function, convolution.groups, x, filters)


def dense_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], filters [kh,kw,C/G,Cout] → [B,H',W',Cout], all groups in one convolution."""
    return nn_conv2d(x, dense_filters(filters, convolution.groups), convolution.in_one_group())


def split_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C], one gradient per group."""
    function = partial(_input_gradient, input_size=input_size, convolution=convolution.in_one_group())
    return _of_each_group(function, convolution.groups, gradient, filters)


def dense_input_gradient(
    gradient: tf.Tensor, filters: tf.Tensor, input_size: Sequence[int], convolution: Convolution
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C], all groups at once."""
    filters = dense_filters(filters, convolution.groups)
    return _input_gradient(gradient, filters, input_size, convolution.in_one_group())


def split_filter_gradient(x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C/G,Cout], one gradient per group."""
    function = partial(_filter_gradient, kernel=kernel, convolution=convolution.in_one_group())
    return _of_each_group(function, convolution.groups, x, gradient)


def dense_filter_gradient(x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂w [kh,kw,C/G,Cout], all groups at once."""
    dense = _filter_gradient(x, gradient, kernel, convolution.in_one_group())  # [kh,kw,C,Cout]
    return grouped_filters(dense, convolution.groups)


def _input_gradient(gradient, filters, input_size, convolution: Convolution) -> tf.Tensor:
    """For one group: by TensorFlow, which lacks it for dilation."""
    form = nn_input_gradient if convolution.plain else flipped_input_gradient
    return form(gradient, filters, input_size, convolution)


def _filter_gradient(x, gradient, kernel, convolution: Convolution) -> tf.Tensor:
    form = nn_filter_gradient if convolution.plain else conv2d_filter_gradient_by_taps
    return form(x, gradient, kernel, convolution)


def _of_each_group(function: Callable[..., tf.Tensor], groups: int, *tensors: tf.Tensor) -> tf.Tensor:
    """Apply the function to each group's channels of these tensors; concatenate the channels of the results."""
    parts = zip(*(tf.split(tensor, groups, axis=-1) for tensor in tensors), strict=True)
    return tf.concat([function(*part) for part in parts], axis=-1)


def dense_filters(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C/G,Cout] of G groups → [kh,kw,C,Cout] of one, zero for the channels of other groups."""
    depth = filters.shape[2]
    margins = ((group * depth, (groups - 1 - group) * depth) for group in range(groups))
    parts = zip(tf.split(filters, groups, axis=-1), margins, strict=True)
    return tf.concat([tf.pad(part, ((0, 0), (0, 0), margin, (0, 0))) for part, margin in parts], axis=-1)


def grouped_filters(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C,Cout] → [kh,kw,C/G,Cout], each group's filters for its own channels: the adjoint of `dense_filters`."""
    depth = filters.shape[2] // groups
    parts = enumerate(tf.split(filters, groups, axis=-1))
    return tf.concat([part[:, :, group * depth : (group + 1) * depth] for group, part in parts], axis=-1)
