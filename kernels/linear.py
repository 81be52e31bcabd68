"""The fully connected layer: one matrix product, and two more for its gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y = x·W + b          x [B,I]   W [I,O]   b [O]   y [B,O]
#
#   ∂L/∂x = g·Wᵀ   ∂L/∂W = xᵀ·g   ∂L/∂b = Σ_batch g          for g = ∂L/∂y [B,O]


# 2. NumPy reference -----------------------------------------------------------------------------------------


def dense_reference(x: np.ndarray, weights: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """The product one multiply-accumulate at a time, in float64. Args and Returns as `dense`."""
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
    """[B,I], [I,O], [O] → [B,O]."""
    y = tf.matmul(x, weights)  # [B,O]
    return y if bias is None else tf.nn.bias_add(y, bias)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def dense_gradient(x: tf.Tensor, weights: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute the gradients of a fully connected layer.

    Args:
        x: [B,I].
        weights: [I,O].
        gradient: ∂L/∂y [B,O].

    Returns:
        (∂L/∂x [B,I], ∂L/∂weights [I,O], ∂L/∂bias [O]).
    """
    return (
        tf.matmul(gradient, tf.cast(weights, gradient.dtype), transpose_b=True),  # [B,O]·[O,I] = [B,I]
        tf.cast(tf.matmul(x, gradient, transpose_a=True), weights.dtype),  # [I,B]·[B,O] = [I,O]
        tf.reduce_sum(gradient, axis=0),  # [O]
    )


# 5. Cost ----------------------------------------------------------------------------------------------------


def dense_cost(input_shape: Sequence[int], output_shape: Sequence[int], bias: bool = True) -> Cost:
    """Count B·I·O multiply-accumulates forward, twice that backward; the bias adds B·O to each.

    Args:
        input_shape: [B,I].
        output_shape: [B,O].
        bias: Whether there is one.

    Returns:
        The cost of one call.
    """
    (examples, inputs), outputs = input_shape, output_shape[1]
    macs, additions = examples * inputs * outputs, examples * outputs if bias else 0
    return Cost(macs, 2 * macs + additions, 4 * macs + additions)
