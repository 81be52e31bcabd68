"""Convolution as one matmul: every window is written out as a row."""

from __future__ import annotations

import tensorflow as tf

from kernels.geometry import Convolution, kernel_size, pad_image, window_views


def im2col_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """x [B,H,W,C], filters [kh,kw,C/G,Cout] → [B,H',W',Cout]: patches [N,kh·kw·C] times filters [kh·kw·C,Cout]."""
    size, kernel, groups = x.shape[1:3], kernel_size(filters), convolution.groups
    out = convolution.output_size(size, kernel)
    padded = pad_image(x, convolution.pads(size, kernel))
    views = window_views(padded, kernel, convolution.stride, convolution.dilation, out)
    patches = tf.reshape(tf.stack(views, axis=3), (-1, len(views), x.shape[-1]))  # [N,kh·kw,C], N = B·H'·W'
    y = tf.matmul(_patch_rows(patches, groups), _filter_columns(filters, groups))  # [G,N,Cout/G]
    y = y if groups == 1 else tf.transpose(y, (1, 0, 2))  # [N,G,Cout/G]
    return tf.reshape(y, (-1, *out, filters.shape[-1]))


def _patch_rows(patches: tf.Tensor, groups: int) -> tf.Tensor:
    """[N,K,C] → [G,N,K·C/G], a matrix per group whose columns are ordered (tap, channel); [N,K·C] for one group."""
    _, taps, channels = patches.shape
    if groups == 1:
        return tf.reshape(patches, (-1, taps * channels))
    patches = tf.reshape(patches, (-1, taps, groups, channels // groups))
    return tf.reshape(tf.transpose(patches, (2, 0, 1, 3)), (groups, -1, taps * channels // groups))


def _filter_columns(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C/G,Cout] → [G,kh·kw·C/G,Cout/G]; [kh·kw·C,Cout] for one group."""
    kh, kw, depth, out = filters.shape
    if groups == 1:
        return tf.reshape(filters, (-1, out))
    return tf.transpose(tf.reshape(filters, (kh * kw * depth, groups, out // groups)), (1, 0, 2))
