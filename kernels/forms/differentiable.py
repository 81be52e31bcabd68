"""The only place that wraps `tf.custom_gradient`: a function and its gradient by hand become one operation."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, cast

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

    operation = tf.custom_gradient(function)

    def differentiable(*tensors: tf.Tensor) -> Any:
        output = operation(*tensors)
        if not tf.executing_eagerly():
            _forget_with_its_graph(tf.nest.flatten(output)[0].op)
        return output

    return differentiable


def _forget_with_its_graph(operation: tf.Operation) -> None:
    """Let the gradient of a traced operation live as long as its graph.

    TensorFlow registers the gradient of each traced `tf.custom_gradient` for good, and with it its tensors, hence the
    graph and the variables of the whole network: 100 MB for each trace of a ResNet-50. So the graph gets the gradient,
    and the registry a reference that does not keep it alive.
    """
    try:
        from tensorflow.python.framework.ops import gradient_registry  # TensorFlow has no public name for it

        entries = gradient_registry._registry
    except (ImportError, AttributeError):
        return
    name = operation.get_attr("_gradient_op_type").decode()
    gradient = entries[name]["type"]
    graph = operation.graph
    if not hasattr(graph, "gradients_by_hand"):
        graph.gradients_by_hand = []
    graph.gradients_by_hand.append(gradient)
    reference = weakref.ref(gradient)
    entries[name]["type"] = lambda *arguments: cast(Callable, reference())(*arguments)
    weakref.finalize(graph, entries.pop, name, None).atexit = False
