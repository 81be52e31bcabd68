"""The only place that wraps `tf.custom_gradient`: a function and its gradient by hand become one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def with_gradient(forward: Callable, backward: Callable) -> Callable:
    """`forward`, differentiated by `backward`.

    Args:
        forward: (*tensors) → output, or a tuple of outputs.
        backward: (tensors, output, *output gradients) → the gradient to each of the tensors.

    Returns:
        The function (*tensors) → what `forward` returns.
    """

    def function(*tensors: tf.Tensor) -> tuple[Any, Callable]:
        output = forward(*tensors)
        # A lambda, because TensorFlow inspects the signature at each eager call, which is slow for a partial.
        return output, lambda *gradients: backward(tensors, output, *gradients)

    return tf.custom_gradient(function)
