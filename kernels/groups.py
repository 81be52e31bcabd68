"""Channels in groups: a convolution in G groups is G convolutions of a share of the channels each; or one whose filters
are zero for the channels of other groups, G times the arithmetic in one piece."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


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
