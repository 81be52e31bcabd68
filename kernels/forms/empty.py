"""Batches without an image. oneDNN's convolution returns its input for them, its max-pool's gradient ends the process.

Where a batch may be empty, these kernels get one image of zeros instead, and the result is cut. A network does the same
once for all of its layers (`full_batches`). XLA needs no such care.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

from kernels.forms.compiler import by_xla

_full: ContextVar[bool] = ContextVar("full", default=False)


@contextmanager
def full_batches() -> Iterator[None]:
    """Within this context, a batch of unknown size has an image."""
    token = _full.set(True)
    try:
        yield
    finally:
        _full.reset(token)


def batch_size(x: tf.Tensor) -> tf.Tensor | int:
    """B of x [B,…]; a scalar tensor where it is unknown while tracing."""
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def never_empty(x: tf.Tensor) -> tf.Tensor:
    """x [B,…], or a batch of one zero in its place if it is empty. x itself if it is known not to be."""
    if x.shape[0] or (x.shape[0] is None and _full.get()) or by_xla():
        return x
    one = tf.concat([[1], tf.shape(x)[1:]], 0)
    if x.shape[0] == 0:
        return tf.ensure_shape(tf.zeros(one, x.dtype), [1, *x.shape[1:]])
    full = tf.cond(tf.shape(x)[0] > 0, lambda: x, lambda: tf.zeros(one, x.dtype))
    return tf.ensure_shape(full, x.shape)


def cut(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    """`function(x)` [B,…] for a function that needs an image."""
    full = never_empty(x)
    return function(x) if full is x else function(full)[: batch_size(x)]
