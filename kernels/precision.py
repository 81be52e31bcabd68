"""The precision of sums: float32 for bfloat16, because bfloat16 keeps 8 significant bits, where 256 + 1 is 256."""

from __future__ import annotations

import tensorflow as tf


def wide_type(x: tf.Tensor) -> tf.DType:
    """float64 for float64, else float32."""
    return tf.float64 if tf.as_dtype(x.dtype) == tf.float64 else tf.float32


def wide(x: tf.Tensor) -> tf.Tensor:
    """x in its `wide_type`, in which a kernel accumulates."""
    return tf.cast(x, wide_type(x))
