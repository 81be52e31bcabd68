"""The fully connected layer: one matrix product, and two more for its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost

FEW = 32  # examples: up to here a product in float32 is faster than one in bfloat16 that is widened afterwards

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y = x·W + b          x [B,I]   W [I,O]   b [O]   y [B,O]
#
#   ∂L/∂x = g·Wᵀ   ∂L/∂W = xᵀ·g   ∂L/∂b = Σ_batch g          for g = ∂L/∂y [B,O]


# 2. NumPy reference -----------------------------------------------------------------------------------------


def dense_reference(x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """[B,I], [I,O], [O] → [B,O], one multiply-accumulate at a time."""
    (examples, inputs), outputs = np.shape(x), np.shape(weights)[1]
    y = np.zeros((examples, outputs))
    for b in range(examples):
        for o in range(outputs):
            y[b, o] = 0.0 if bias is None else bias[o]
            for i in range(inputs):
                y[b, o] += float(x[b, i]) * float(weights[i, o])
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def dense(x: tf.Tensor, weights: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
    """[B,I], [I,O], [O] → [B,O], in the type of x, to which wider weights are rounded.

    Raises ValueError unless x is [B,I] with the I of the weights.
    """
    if x.shape.rank != 2 or not x.shape[1:].is_compatible_with(weights.shape[:1]):
        raise ValueError(
            f"input {x.shape} does not fit dense weights {weights.shape}; "
            "expected [B,I] and [I,O]: flatten or pool images first"
        )
    y = tf.matmul(x, weights) if weights.dtype == x.dtype else _rounded_product(x, weights)  # [B,O]
    return y if bias is None else tf.nn.bias_add(y, bias)


def _rounded_product(x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """x · weights, rounded to the type of x; the weights' gradient is in their own type.

    That of few examples is made in that type at once: rounding 100 million numbers (a VGG has so many) and widening
    them again would take longer than the product.
    """

    @tf.custom_gradient
    def product(x, weights):
        rounded = tf.cast(weights, x.dtype)

        def backward(gradient):
            wide = weights.dtype if x.shape[0] is not None and x.shape[0] <= FEW else x.dtype
            to_weights = tf.matmul(tf.cast(x, wide), tf.cast(gradient, wide), transpose_a=True)
            return tf.matmul(gradient, rounded, transpose_b=True), tf.cast(to_weights, weights.dtype)

        return tf.matmul(x, rounded), backward

    return product(x, weights)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def dense_gradient(x: tf.Tensor, weights: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """To input [B,I], weights [I,O] and bias [O], from the gradient [B,O] to the output."""
    return (
        tf.matmul(gradient, weights, transpose_b=True),
        tf.matmul(x, gradient, transpose_a=True),
        tf.reduce_sum(gradient, axis=0),
    )


# 5. Cost ----------------------------------------------------------------------------------------------------


def dense_cost(input_shape: Sequence[int], output_shape: Sequence[int], bias: bool = True) -> Cost:
    """[B,I], [B,O]: B·I·O multiply-accumulates forward, twice that backward; the bias adds B·O to each."""
    (examples, inputs), outputs = input_shape, output_shape[1]
    macs, additions = examples * inputs * outputs, examples * outputs if bias else 0
    return Cost(macs, 2 * macs + additions, 4 * macs + additions)
