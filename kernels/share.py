"""A batch that several devices share: which part of it is here, and how sums over all of it are taken.

A training step that is shared is the step of the whole batch: what is drawn for each image is drawn for all, of which
each device keeps its own; batch norm's moments are those of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Share:
    """Part `index` of `count` equal ones; `total` sums tensors over all parts."""

    index: tf.Tensor | int
    count: int
    total: Callable[[list[tf.Tensor]], list[tf.Tensor]]

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Over all parts."""
        return [t / self.count for t in self.total(list(tensors))]


_share: ContextVar[Share | None] = ContextVar("share", default=None)


@contextmanager
def shared(share: Share) -> Iterator[None]:
    """Within, a batch is this part of one."""
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def current() -> Share | None:
    """The part that is here; None where the batch is whole."""
    return _share.get()


def first_image(batch: tf.Tensor | int) -> tf.Tensor | int:
    """The number, in the whole batch, of the first of these `batch` images."""
    share = _share.get()
    return 0 if share is None else share.index * batch


def random_words(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """32-bit words of Philox, uint32 [B,…] for this `shape`, from a `seed` of two ints: of a shared batch its own part.

    Words, not floats: of a word's 32 bits XLA keeps the first 23 in a float, TensorFlow's kernels the last.
    """
    share = _share.get()
    if share is None:
        return _draw(shape, seed)
    batch, rest = tf.convert_to_tensor(shape)[:1], tf.convert_to_tensor(shape)[1:]
    words = _draw(tf.concat([batch * share.count, rest], 0), seed)
    first = first_image(batch[0])
    return words[first : first + batch[0]]


def _draw(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
