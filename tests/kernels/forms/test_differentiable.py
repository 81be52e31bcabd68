"""An operation with a gradient by hand: the gradient is used in every mode, and memory is freed with the graph."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from kernels.forms.differentiable import with_gradient


# Not the square's true gradient, so that a gradient by TensorFlow would be seen.
def threefold(x):
    return with_gradient(lambda x: x * x, lambda inputs, y, g: 3 * g * inputs[0])(x)


def gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


def traced_names():
    return [name for name in gradient_registry.list() if name.startswith("CustomGradient-")]


MODES = {
    "eager": lambda x: gradient(threefold, x),
    "graph": tf.function(lambda x: gradient(threefold, x), autograph=False),
    "XLA": tf.function(lambda x: gradient(threefold, x), autograph=False, jit_compile=True),
    "eager tape around a graph": lambda x: gradient(tf.function(threefold), x),
    "graph within a graph": tf.function(lambda x: gradient(tf.function(threefold), x)),
    "branch": tf.function(lambda x: gradient(lambda x: tf.cond(x[0] > 0, lambda: threefold(x), lambda: x), x)),
    "loop": tf.function(
        lambda x: gradient(
            lambda x: tf.while_loop(lambda i, y: i < 1, lambda i, y: (i + 1, threefold(y)), [0, x])[1], x
        )
    ),
    "tf.gradients": tf.function(lambda x: tf.gradients(threefold(x), x)[0]),
    "recomputed": tf.function(lambda x: gradient(tf.recompute_grad(threefold), x)),
}


@pytest.mark.parametrize("mode", MODES)
def test_gradient_by_hand_in_every_mode(mode):
    x = tf.constant([1.0, 2.0])
    gc.collect()
    np.testing.assert_array_equal(MODES[mode](x), [3, 6])


def test_second_derivative():
    with tf.GradientTape() as tape:
        x = tf.constant([1.0, 2.0])
        tape.watch(x)
        slope = tf.function(lambda x: gradient(threefold, x))(x)
    np.testing.assert_array_equal(tape.gradient(slope, x), [3, 3])


def test_a_function_frees_its_graph_and_its_gradients():
    gc.collect()
    before = traced_names()
    function = tf.function(lambda x: gradient(threefold, x))
    concrete = function.get_concrete_function(tf.TensorSpec([2]))
    graph = weakref.ref(concrete.graph)
    assert len(traced_names()) > len(before)
    del function, concrete
    gc.collect()
    assert graph() is None
    assert traced_names() == before


def test_tuple_of_outputs():
    two = lambda x: with_gradient(lambda x: (x, 2 * x), lambda inputs, y, a, b: a + 5 * b)(x)  # noqa: E731
    function = tf.function(lambda x: gradient(lambda x: tf.add(*two(x)), x))
    np.testing.assert_array_equal(function(tf.constant([1.0])), [6])
