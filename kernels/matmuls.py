"""Convolution as products of matrices: of patches written out, or of the image shifted under each tap of the filter."""

from __future__ import annotations

from itertools import product

import tensorflow as tf

from kernels.geometry import crop_image, output_size, pad_image, place_view, window_padding, window_views


def im2col(x, filters, stride, padding, dilation, groups):
    """Write every window out as a row, then multiply once: a convolution is a matmul of a larger matrix."""
    views, (height, width) = _views(x, tuple(filters.shape[:2]), stride, padding, dilation)
    patches = tf.stack(views, axis=3)  # [B,H',W',kh·kw,C]
    patches = tf.reshape(patches, (-1, len(views), x.shape[-1]))  # [N,kh·kw,C], N = B·H'·W'
    y = tf.matmul(_grouped(patches, groups), _grouped_filters(filters, groups))  # [G,N,Cout/G]
    return tf.reshape(_ungrouped(y), (-1, height, width, filters.shape[-1]))


def shifted(x, filters, stride, padding, dilation, groups):
    """One matmul a tap: shift the image under the filter and add what each tap contributes. No patches in memory."""
    kh, kw, _, out_channels = filters.shape
    views, (height, width) = _views(x, (kh, kw), stride, padding, dilation)
    total = None
    for tap, view in enumerate(views):
        rows = _grouped(tf.reshape(view, (-1, 1, x.shape[-1])), groups)  # [G,N,C/G]
        weights = filters[tap // kw : tap // kw + 1, tap % kw : tap % kw + 1]
        term = tf.matmul(rows, _grouped_filters(weights, groups))  # [G,N,Cout/G]
        total = term if total is None else total + term
    return tf.reshape(_ungrouped(total), (-1, height, width, out_channels))


def shifted_input_gradient(gradient, filters, input_size, stride, pads, dilation, groups):
    """The adjoint of `shifted`: what each tap gave goes where it was. `pads` in pixels."""
    kh, kw, depth, _ = filters.shape
    size = [length + sum(pad) for length, pad in zip(input_size, pads, strict=True)]
    rows = _grouped(tf.reshape(gradient, (-1, 1, gradient.shape[-1])), groups)  # [G,N,Cout/G]
    total = None
    for tap in product(range(kh), range(kw)):
        weights = _grouped_filters(filters[tap[0] : tap[0] + 1, tap[1] : tap[1] + 1], groups)
        view = _ungrouped(tf.matmul(rows, weights, transpose_b=True))
        view = tf.reshape(view, (-1, *gradient.shape[1:3], depth * groups))
        placed = place_view(view, tap, stride, dilation, size)
        total = placed if total is None else total + placed
    return crop_image(total, pads)


def shifted_filter_gradient(x, gradient, kernel, stride, padding, dilation, groups):
    """One matmul a tap: what it saw times the gradient."""
    views, _ = _views(x, kernel, stride, padding, dilation)
    dy = _grouped(tf.reshape(gradient, (-1, 1, gradient.shape[-1])), groups)  # [G,N,Cout/G]
    taps = []
    for view in views:
        rows = _grouped(tf.reshape(view, (-1, 1, x.shape[-1])), groups)  # [G,N,C/G]
        taps.append(_ungrouped(tf.matmul(rows, dy, transpose_a=True)))  # [C/G,G,Cout/G]
    return tf.reshape(tf.stack(taps), (*kernel, x.shape[-1] // groups, gradient.shape[-1]))


def _views(x, kernel, stride, padding, dilation):
    """The kh·kw strided views [B,H',W',C] of the padded image, and the output size."""
    out = output_size(padding, x.shape[1:3], kernel, stride, dilation)
    padded = pad_image(x, window_padding(padding, x.shape[1:3], kernel, stride, dilation))
    return window_views(padded, kernel, stride, dilation, out), out


def _grouped(matrix: tf.Tensor, groups: int) -> tf.Tensor:
    """[N,K,G·D] → [G,N,K·D]: one matrix a group, its columns ordered (tap, channel). A single group is [N,K·D]."""
    _, taps, channels = matrix.shape
    if groups == 1:
        return tf.reshape(matrix, (-1, taps * channels))
    matrix = tf.reshape(matrix, (-1, taps, groups, channels // groups))
    return tf.reshape(tf.transpose(matrix, (2, 0, 1, 3)), (groups, -1, taps * channels // groups))


def _grouped_filters(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C/G,Cout] → [G,kh·kw·C/G,Cout/G], of a single group [kh·kw·C,Cout]."""
    kh, kw, depth, out = filters.shape
    if groups == 1:
        return tf.reshape(filters, (-1, out))
    filters = tf.reshape(filters, (kh * kw * depth, groups, out // groups))
    return tf.transpose(filters, (1, 0, 2))


def _ungrouped(y: tf.Tensor) -> tf.Tensor:
    """[G,N,Cout/G] → [N,G,Cout/G]; [N,Cout] stays."""
    return y if y.shape.rank == 2 else tf.transpose(y, (1, 0, 2))
