"""NaN and infinities: a kernel never turns them into numbers, and spreads them no further than its equation does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.dispatch import convolution as dispatch
from kernels.forms.compiler import compiled_by
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


@pytest.mark.sample(13)
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


# Convolution ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def everywhere_selected(monkeypatch):
    """Make "auto" select one form for all jobs."""

    def select(form: str) -> None:
        monkeypatch.setattr(dispatch, "measured", lambda job, dtype, shape, pixels, known: form)

    return select


@pytest.mark.sample(7)
@in_every_mode
@pytest.mark.parametrize(
    ("form", "groups", "stride"),
    [("winograd", 1, 1), ("winograd4", 1, 1), ("space_to_depth", 1, 2), ("dense", 2, 1), ("split", 2, 1)],
)
@pytest.mark.parametrize("value", [NAN, INF])
def test_auto_spreads_them_no_further_than_the_equation(form, groups, stride, value, mode, everywhere_selected):
    """One NaN in x reaches the outputs and the filters that read it, one in the gradient the pixels that it read."""
    everywhere_selected(form)
    clean = references.random((2, 16, 16, 4), 1)
    x = clean.numpy()
    x[0, 7, 9, 1] = value
    filters = references.random((3, 3, 4 // groups, 4), 2)
    y = kernels.conv2d_reference(x, filters, stride, groups=groups)
    dy = np.ones(y.shape, np.float32)
    dy[1, 3, 2, 3] = value

    def everything(x, clean, filters, dy):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((x, clean, filters))
            y, z = (kernels.conv2d(images, filters, stride, groups=groups) for images in (x, clean))
        to_filters = tape.gradient(y, filters, output_gradients=tf.ones_like(y))
        to_images, also_to_filters = tape.gradient(z, (clean, filters), output_gradients=dy)
        by_hand = kernels.conv2d_input_gradient(dy, filters, (16, 16), stride, groups=groups, algorithm="auto")
        return y, to_filters, to_images, also_to_filters, by_hand

    tensors = tf.constant(x), clean, filters, tf.constant(dy)
    y_found, *gradients = run(everything, *tensors, mode=mode)
    everywhere_selected("nn")
    expected, *wanted = run(lambda *t: reference_gradients(*t, stride, groups), *tensors, mode="eager")
    np.testing.assert_array_equal(np.isfinite(y_found), np.isfinite(y))
    for actual, correct in zip((y_found, *gradients), (expected, *wanted, wanted[1]), strict=True):
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(correct))
        numbers = np.isfinite(correct)
        references.close(actual.numpy()[numbers], correct.numpy()[numbers], "gradient")
    if stride == 1:
        assert (~np.isfinite(y_found)).sum() == 36 // groups


def reference_gradients(x, clean, filters, dy, stride, groups):
    """The same by the forms that do not spread: a matmul per tap."""
    settings = stride, "SAME", 1, groups, "shifted"
    y = kernels.conv2d(x, filters, *settings)
    return (
        y,
        kernels.conv2d_filter_gradient(x, tf.ones_like(y), 3, *settings),
        kernels.conv2d_input_gradient(dy, filters, (16, 16), *settings),
        kernels.conv2d_filter_gradient(clean, dy, 3, *settings),
    )
