"""A step for the images of a batch that are not finished; the other images keep their state bit for bit.

Attacks finish image by image, most in a few steps and some in many. In a TensorFlow graph the unfinished images are
gathered into a smaller batch, so that a batch costs what its images need. XLA needs fixed shapes: there the step is
computed for all images and discarded for the finished ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from rawcnn.attacks.common import per_image

QUANTUM = 8  # batch sizes are rounded up to a multiple, because oneDNN prepares a convolution for each new size


def advance(
    step: Callable[..., Sequence[tf.Tensor]],
    finished: tf.Tensor,
    state: Sequence[tf.Tensor],
    inputs: Sequence[tf.Tensor] = (),
    *,
    gather: bool,
) -> tuple[tf.Tensor, ...]:
    """Apply `step(*state, *inputs)` → the new state to the rows that are not `finished`, bool [B].

    All tensors are [B,…], and a row's result must not depend on other rows. With `gather` the unfinished rows are taken
    out of the batch; otherwise the step is computed for all rows.
    """
    if not gather:
        new = step(*state, *inputs)
        return tuple(tf.where(per_image(finished, n), old, n) for old, n in zip(state, new, strict=True))
    rows = tf.where(~finished)  # [n,1]
    count = tf.shape(rows)[0]
    filled = tf.concat([rows, tf.repeat(rows[:1], -count % QUANTUM, axis=0)], axis=0)  # [m,1], m ≥ n
    new = step(*(tf.gather_nd(tensor, filled) for tensor in (*state, *inputs)))
    return tuple(tf.tensor_scatter_nd_update(old, rows, n[:count]) for old, n in zip(state, new, strict=True))
