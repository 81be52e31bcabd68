"""Channels in groups: a convolution in G groups is G convolutions of a share of the channels each; or one whose filters
are zero for the channels of other groups, G times the arithmetic in one piece."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

import onednn
from kernels.choice import compiler


def unfused(y: tf.Tensor) -> tf.Tensor:
    """Keep TensorFlow from fusing the grouped convolution that computes y with the bias, norm or ReLU that follows.

    Eigen's fused convolution takes no groups; its plain one does. EnsureShape copies nothing, but ends the pattern that
    the graph optimizer looks for. A graph for another machine ("nobody") gets it too: oneDNN may be off there.
    """
    if tf.executing_eagerly() or (onednn.in_use() and compiler() != "nobody"):
        return y
    return tf.ensure_shape(y, y.shape)


def of_each_group(function: Callable[..., tf.Tensor], groups: int, *tensors: tf.Tensor) -> tf.Tensor:
    """The function of each group's share of the channels of these tensors; the results' channels side by side."""
    shares = zip(*(tf.split(tensor, groups, axis=-1) for tensor in tensors), strict=True)
    return tf.concat([function(*share) for share in shares], axis=-1)


def dense_filters(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """Filters [kh,kw,C/G,Cout] of G groups → [kh,kw,C,Cout] of one: zero for the channels of other groups."""
    depth = filters.shape[2]
    places = ((group * depth, (groups - 1 - group) * depth) for group in range(groups))
    own = zip(tf.split(filters, groups, axis=-1), places, strict=True)
    return tf.concat([tf.pad(part, ((0, 0), (0, 0), place, (0, 0))) for part, place in own], axis=-1)


def own_filters(filters: tf.Tensor, groups: int) -> tf.Tensor:
    """[kh,kw,C,Cout] → [kh,kw,C/G,Cout]: those of each group for its own channels, the adjoint of `dense_filters`."""
    depth = filters.shape[2] // groups
    parts = enumerate(tf.split(filters, groups, axis=-1))
    return tf.concat([part[:, :, group * depth : (group + 1) * depth] for group, part in parts], axis=-1)
