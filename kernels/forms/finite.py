"""Faster forms that are right for finite numbers only: run them where all numbers are finite, else an exact form.

Zero times NaN is NaN, so forms that multiply by zeros, or mix neighbors and take them apart again, spread a NaN or an
infinity further than the equation does. To look for them costs one sum, little next to a convolution or a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

_checked: ContextVar[bool] = ContextVar("checked", default=False)


@contextmanager
def checked_by_caller() -> Iterator[None]:
    """Within this context, convolutions do not check for NaN and infinity: a network checks its images once."""
    token = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(token)


def must_check() -> bool:
    """Whether a convolution checks by itself that its values are finite."""
    return not _checked.get()


def all_finite(*tensors: tf.Tensor) -> tf.Tensor:
    """A scalar, True if all values are finite. A sum that overflows counts as not finite, which is only slower."""
    return tf.math.is_finite(tf.add_n([tf.cast(tf.reduce_sum(tensor), tf.float32) for tensor in tensors]))


def where_finite(
    tensors: tuple[tf.Tensor, ...],
    fast: Callable[[], tf.Tensor],
    exact: Callable[[], tf.Tensor],
    count: tf.Tensor | int = 1,
) -> tf.Tensor:
    """`fast()` if all values of the tensors are finite and the count is not 0, else `exact()`."""
    return tf.cond(all_finite(*tensors) & (count > 0), fast, exact)
