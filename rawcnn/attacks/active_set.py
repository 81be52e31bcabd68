"""A step for those images of a batch that are not finished; the others stay as they are, bit for bit.

Attacks finish image by image, most in a few steps, some in many. In a graph the step is taken by the unfinished alone,
so a batch costs what its images need. XLA knows no such shapes: there all take it, and the finished forget it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

QUANTUM = 8  # the unfinished are filled up to a multiple, for oneDNN prepares a convolution anew for each batch size


def advance(
    step: Callable[..., Sequence[tf.Tensor]],
    finished: tf.Tensor,
    state: Sequence[tf.Tensor],
    given: Sequence[tf.Tensor] = (),
    *,
    gather: bool,
) -> tuple[tf.Tensor, ...]:
    """`step(*state, *given)` → the new state, of the rows that are not `finished` [B]; all tensors are [B,…].

    `gather` takes them out of the batch; otherwise the step is computed for all. A row's result must not depend on
    the other rows.
    """
    if not gather:
        new = step(*state, *given)
        return tuple(tf.where(each(finished, n), old, n) for old, n in zip(state, new, strict=True))
    rows = tf.where(~finished)  # [n,1]
    count = tf.shape(rows)[0]
    filled = tf.concat([rows, tf.repeat(rows[:1], -count % QUANTUM, axis=0)], axis=0)
    new = step(*(tf.gather_nd(tensor, filled) for tensor in (*state, *given)))
    return tuple(tf.tensor_scatter_nd_update(old, rows, n[:count]) for old, n in zip(state, new, strict=True))


def each(flags: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[B] → [B,1,…,1] of the rank of `like`."""
    return tf.reshape(flags, (-1, *(1,) * (like.shape.rank - 1)))
