"""The precision that sums are taken in: bfloat16 keeps 8 bits, in which 256 + 1 is 256."""

from __future__ import annotations

import tensorflow as tf


def wide_type(x: tf.Tensor) -> tf.DType:
    """float64 for float64, else float32."""
    return tf.float64 if x.dtype == tf.float64 else tf.float32


def wide(x: tf.Tensor) -> tf.Tensor:
    """x in its `wide_type`."""
    return tf.cast(x, wide_type(x))
