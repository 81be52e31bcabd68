"""A matrix product in the type of x with weights of a wider type, whose gradient has the type of the weights."""

from __future__ import annotations

import tensorflow as tf

from kernels.forms.differentiable import with_gradient

FEW = 32  # up to so many examples, a product in float32 is faster than one in bfloat16 that is widened afterward


def rounded_product(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """x [B,I] times weights [I,O], rounded to the type of x → [B,O].

    For few examples the gradient to the weights is computed in their type at once. To round 100 million values (as a
    VGG has) and to widen them again would take longer than the product.
    """
    weights = tf.convert_to_tensor(weights)  # a variable would be read twice
    rounded = tf.cast(weights, x.dtype)

    def forward(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, rounded)

    def backward(inputs, y: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, weights = inputs
        dtype = weights.dtype if x.shape[0] is not None and x.shape[0] <= FEW else x.dtype
        to_weights = tf.matmul(tf.cast(x, dtype), tf.cast(gradient, dtype), transpose_a=True)
        return tf.matmul(gradient, rounded, transpose_b=True), tf.cast(to_weights, weights.dtype)

    return with_gradient(forward, backward)(x, weights)
