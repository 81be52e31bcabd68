"""A batch that several devices share: which part of it this device has, and sums over the whole batch.

Data-parallel training computes the step of the whole batch. Random numbers are drawn for all images, and each device
keeps those of its images; batch norm uses the moments of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import tensorflow as tf

from kernels import random


@dataclass(frozen=True)
class Replica:
    """One of several devices that share a batch equally.

    Attributes:
        index: The number of this device's part of the batch.
        count: The number of parts.
        total: Sums tensors over all parts.
    """

    index: tf.Tensor | int
    count: int
    total: Callable[[list[tf.Tensor]], list[tf.Tensor]]

    def mean(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """The mean of each tensor over all parts."""
        return [t / self.count for t in self.total(list(tensors))]


_replica: ContextVar[Replica | None] = ContextVar("replica", default=None)


@contextmanager
def running_on(replica: Replica) -> Iterator[None]:
    """Within this context, a batch is this replica's part of a shared batch."""
    token = _replica.set(replica)
    try:
        yield
    finally:
        _replica.reset(token)


def current_replica() -> Replica | None:
    """The replica that `running_on` set; None if the batch is not shared."""
    return _replica.get()


def first_image(batch: tf.Tensor | int) -> tf.Tensor | int:
    """The number, in the shared batch, of the first of this replica's `batch` images."""
    replica = _replica.get()
    return 0 if replica is None else replica.index * batch


def random_words(shape: Sequence[int] | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """`kernels.random.random_words`, uint32 [B,…], for this replica's part of the batch."""
    replica = _replica.get()
    return random.random_words(shape, seed, (replica.index, replica.count) if replica else None)
