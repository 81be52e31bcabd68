"""NaN and infinities: a kernel never turns them into numbers, and spreads them no further than its equation does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.compiler import compiled_by
from tests import references

NAN, INF = float("nan"), float("inf")
MODES = ["eager", "graph", "xla", "context"]
DTYPES = ["float32", "float64", "bfloat16", "float16"]
in_every_mode = pytest.mark.parametrize("mode", MODES)


def run(function, *tensors, mode: str):
    """Eagerly, in a graph, compiled by XLA at the caller's wish, or within the context that announces it."""
    if mode == "eager":
        return function(*tensors)
    compiled = tf.function(function, jit_compile=mode != "graph", autograph=False)
    if mode != "context":
        return compiled(*tensors)
    with compiled_by("xla"):
        return compiled(*tensors)


def gradient(function, x, upstream=None):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, output_gradients=upstream)


def same(actual, expected):
    """Equal, NaN at the same places included."""
    np.testing.assert_array_equal(tf.cast(actual, "float64"), expected)


def spoiled(shape, dtype="float32", seed=1):
    """Random numbers with NaN, +∞, −∞, and a corner of −∞ alone."""
    x = np.array(references.random(shape, seed, "float64"))
    x = np.asarray(tf.cast(tf.cast(x, dtype), "float64")).copy()  # as `dtype` rounds them
    x[0, 3, 3, 0], x[0, 0, 4, 0], x[0, 5, 0, 0], x[0, :3, :3, 0], x[0, 5, 5, 1] = NAN, NAN, INF, -INF, -NAN
    return tf.cast(tf.constant(x), dtype)


# Max-pooling ---------------------------------------------------------------------------------------------------------


@pytest.mark.sample(5)
@in_every_mode
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["auto", "nn", "lines"])
def test_a_worked_example(form, dtype, mode):
    """Max of (3, NaN) and of (NaN, 3) is NaN, of −∞ alone −∞; padding is no number."""
    x = tf.reshape(tf.constant([3, NAN, NAN, 3, -INF, -INF, 1, 2], dtype), (1, 1, 8, 1))
    y = run(lambda x: kernels.max_pool(x, (1, 2), 2, algorithm=form), x, mode=mode)
    same(tf.squeeze(y), [NAN, NAN, -INF, 2])
    low = tf.fill((1, 2, 2, 1), tf.constant(-INF, dtype))
    for padding in ("SAME", ((1, 1), (1, 1))):
        y = run(lambda x, padding=padding: kernels.max_pool(x, 3, 1, padding, form), low, mode=mode)
        same(tf.squeeze(y), [[-INF, -INF], [-INF, -INF]])
    assert y.dtype == dtype


@pytest.mark.sample(7)
@in_every_mode
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 2, "SAME"), (2, 2, "VALID"), (3, 1, ((1, 1), (0, 2))), (3, 2, ((0, 1), (0, 1)))]
)
def test_max_pools_and_their_gradients(size, stride, padding, dtype, mode):
    x = spoiled((2, 7, 6, 2), dtype)
    wide = np.asarray(tf.cast(x, "float64"))
    expected = kernels.max_pool_reference(wide, size, stride, padding)
    switches = kernels.max_pool_switches_reference(wide, size, stride, padding)
    dy = tf.cast(tf.constant(np.random.default_rng(2).integers(1, 5, switches.shape)), dtype)
    dx = kernels.max_unpool_reference(dy.numpy(), switches, size, stride, padding, input_size=(7, 6))
    assert dx.sum() == tf.cast(dy, "float64").numpy().sum()  # none is lost in the padding

    def all_of_it(x, dy):
        found = []
        for form in ("nn", "lines"):
            pool = lambda x, form=form: kernels.max_pool(x, size, stride, padding, form)  # noqa: E731
            found += [pool(x), gradient(pool, x, dy)]
        switches = kernels.max_pool_switches(x, size, stride, padding)
        return [*found, kernels.max_pool_input_gradient(x, dy, size, stride, padding), switches]

    nn, nn_gradient, lines, lines_gradient, by_hand, found = run(all_of_it, x, dy, mode=mode)
    same(nn, expected)
    same(lines, expected)
    same(found, switches)
    for result in (nn_gradient, lines_gradient, by_hand):
        same(result, dx)
