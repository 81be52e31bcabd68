"""Batch normalization by TensorFlow's fused kernel, which reads x fewer times and has no float64."""

from __future__ import annotations

import tensorflow as tf

from kernels.forms.differentiable import with_gradient
from kernels.normalization import batch_normalization_inference_gradient, count


def fused_batch_normalization(
    x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """[B,H,W,C] → [B,H,W,C] with statistics and parameters [C].

    Its gradient is the one by hand: TensorFlow's always computes the sums that only the parameters need, and is slower.
    """

    def forward(x, mean, variance, scale, offset):
        return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)[0]

    def backward(inputs, y, gradient):
        x, mean, variance, scale, _ = inputs
        return batch_normalization_inference_gradient(x, gradient, scale, mean, variance, epsilon)

    return with_gradient(forward, backward)(x, mean, variance, scale, offset)


def fused_batch_normalization_training(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """[B,H,W,C] → (y, mean [C], unbiased variance [C]), with TensorFlow's gradient; statistics have none.

    Not for XLA, which expands the kernel with the variance as E[x²] − E[x]².
    """
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon)
    return y, _zero_if_empty(mean, x), _zero_if_empty(variance, x)


def fused_moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance [C] of [B,H,W,C] in float32. Not for XLA, as above."""
    ones, m = tf.ones(x.shape[-1:]), count(x)
    _, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, ones, ones)
    return _zero_if_empty(mean, x), _zero_if_empty(variance * (m - 1) / m, x)


def _zero_if_empty(moment: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """TensorFlow's moments of an empty batch are NaN."""
    values = x.shape.num_elements()
    return moment if values else tf.where(tf.size(x) > 0, moment, 0)
