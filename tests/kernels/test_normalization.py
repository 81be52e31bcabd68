"""Batch normalization against NumPy loops, each other, the tape and central differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from kernels.dispatch.replica import Replica, running_on
from kernels.forms.compiler import compiled_by
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
SHAPES = [(2, 5, 4, 3), (4, 3, 3, 1), (1, 4, 1, 5), (3, 7, 5, 8)]
FORMS = {
    "float64": ["explicit"],
    "float32": ["fused", "explicit"],
    "bfloat16": ["fused", "explicit"],
}
DTYPES_AND_FORMS = [(dtype, form) for dtype in DTYPES for form in FORMS[dtype]]
EPSILON = 1e-3


def wide(*tensors):
    return [None if t is None else tf.cast(t, "float64").numpy() for t in tensors]


def parameters(channels, x_dtype):
    """Scale and offset, float32 as a mixed precision network keeps them, float64 for float64."""
    dtype = "float64" if x_dtype == "float64" else "float32"
    return references.random((channels,), 21, dtype), references.random((channels,), 22, dtype)


def close_all(actual, expected, **options):
    for a, b in zip(actual, expected, strict=True):
        references.close(a, b, **options)


INFERENCE = [("float64", "explicit"), *((t, f) for t in ("float32", "bfloat16") for f in ("fused", "explicit"))]


def inference_case(dtype, shape=(2, 4, 5, 6)):
    """x, mean, variance, scale, offset and a gradient for y."""
    x, gradient = references.random(shape, 1, dtype), references.random(shape, 23, dtype)
    wide_type, channels = "float64" if dtype == "float64" else "float32", shape[-1:]
    mean, variance = references.random(channels, 2, wide_type), references.random(channels, 3, wide_type, low=0.1)
    return (x, mean, variance, *parameters(channels[0], dtype)), gradient


@pytest.mark.parametrize(("dtype", "form"), [*INFERENCE, ("float64", "auto"), ("float32", "auto")])
@pytest.mark.parametrize("present", ["scale and offset", "offset", "neither"])
def test_inference_equals_reference(present, form, dtype):
    (x, mean, variance, scale, offset), _ = inference_case(dtype)
    scale, offset = scale if "scale" in present else None, offset if "offset" in present else None
    y = kernels.batch_normalization(x, mean, variance, scale, offset, EPSILON, form)
    assert y.dtype == x.dtype
    expected = kernels.batch_normalization_reference(*wide(x, mean, variance, scale, offset), epsilon=EPSILON)
    references.close(y, expected)


@pytest.mark.parametrize(("dtype", "form"), INFERENCE)
def test_inference_gradient(form, dtype):
    """To x, mean, variance, scale and offset, and the same everywhere."""
    inputs, gradient = inference_case(dtype)

    def with_gradients(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = kernels.batch_normalization(*inputs, epsilon=EPSILON, algorithm=form)
        return y, *tape.gradient(y, inputs, output_gradients=gradient)

    x, mean, variance, scale, _ = inputs
    by_hand = kernels.batch_normalization_inference_gradient(x, gradient, scale, mean, variance, EPSILON)
    assert [g.dtype for g in by_hand] == [t.dtype for t in inputs]
    explicit = references.tape_gradient(
        lambda *t: kernels.batch_normalization(*t, epsilon=EPSILON, algorithm="explicit"), inputs, gradient
    )
    close_all(by_hand, explicit, kind="gradient", dtype=dtype)
    close_all(with_gradients(*inputs)[1:], by_hand, kind="gradient", dtype=dtype)
    references.same_everywhere(with_gradients, *inputs, kind="gradient")


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (3, 2)])
def test_inference_gradient_is_the_difference(shape):
    inputs, gradient = inference_case("float64", shape)
    x, mean, variance, scale, _ = inputs
    references.central_difference(
        lambda *t: tf.reduce_sum(gradient * kernels.batch_normalization(*t, epsilon=EPSILON)),
        kernels.batch_normalization_inference_gradient(x, gradient, scale, mean, variance, EPSILON),
        *inputs,
    )


def test_second_derivative_of_inference():
    inputs, gradient = inference_case("float32")

    def second(form):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            first = references.tape_gradient(
                lambda *t: kernels.batch_normalization(*t, epsilon=EPSILON, algorithm=form), inputs, gradient
            )
            size = tf.add_n([tf.reduce_sum(g**2) for g in first])
        return tape.gradient(size, inputs, unconnected_gradients="zero")

    close_all(second("fused"), second("explicit"), kind="gradient")


def test_inference_of_unknown_sizes():
    (x, *rest), _ = inference_case("float32")
    compiled = tf.function(lambda x: kernels.batch_normalization(x, *rest, EPSILON), autograph=False)
    y = compiled.get_concrete_function(tf.TensorSpec([None, None, None, 6]))(x)
    references.close(y, kernels.batch_normalization(x, *rest, EPSILON))


by_compiler = pytest.mark.parametrize("compiler", ["graph", "xla"])  # sums are taken otherwise


@by_compiler
@pytest.mark.parametrize(("dtype", "form"), DTYPES_AND_FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_equals_reference(shape, form, dtype, compiler):
    x = references.random(shape, 4, dtype) * 2 + 1
    scale, offset = parameters(shape[-1], dtype)
    with compiled_by(compiler):
        actual = kernels.batch_normalization_training(x, scale, offset, EPSILON, form)
    expected = kernels.batch_normalization_training_reference(*wide(x, scale, offset), epsilon=EPSILON)
    assert actual[0].dtype == x.dtype and actual[1].dtype == actual[2].dtype == scale.dtype
    close_all(actual, expected)


@by_compiler
@pytest.mark.parametrize(("dtype", "form"), DTYPES_AND_FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_training_gradient(shape, form, dtype, compiler):
    x, gradient = references.random(shape, 5, dtype) * 2 + 1, references.random(shape, 6, dtype)
    scale, offset = parameters(shape[-1], dtype)
    wide_x = tf.cast(x, scale.dtype)
    mean, variance = tf.nn.moments(wide_x, (0, 1, 2))
    with compiled_by(compiler):
        by_hand = kernels.batch_normalization_gradient(x, gradient, scale, mean, variance, EPSILON)
        tape = references.tape_gradient(
            lambda *t: kernels.batch_normalization_training(*t, epsilon=EPSILON, algorithm=form)[0],
            [x, scale, offset],
            gradient,
        )
    assert [t.dtype for t in by_hand] == [x.dtype, scale.dtype, offset.dtype]
    close_all(by_hand, tape, kind="gradient", dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_training_gradient_against_a_central_difference(shape):
    x, g = references.random(shape, 7, "float64"), references.random(shape, 8, "float64")
    scale, offset = parameters(shape[-1], "float64")
    references.central_difference(
        lambda *t: tf.reduce_sum(g * kernels.batch_normalization_training(*t, epsilon=EPSILON)[0]),
        kernels.batch_normalization_gradient(x, g, scale, *tf.nn.moments(x, (0, 1, 2)), epsilon=EPSILON),
        *(x, scale, offset),
    )


@pytest.mark.parametrize("form", ["fused", "explicit"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (1, 2, 1, 3), (1, 1, 1, 2)])
def test_biased_variance_is_that_of_the_normalization(shape, form):
    x = references.random(shape, 7)
    _, _, variance = kernels.batch_normalization_training(x, None, None, EPSILON, form)
    references.close(kernels.biased_variance(x, variance), np.var(x, axis=(0, 1, 2)), wobble=1e-5)


def test_biased_variance_of_a_part_counts_the_shared_batch():
    x = references.random((3, 4, 5, 2), 7)
    with running_on(Replica(0, 2, lambda tensors: [2 * t for t in tensors])):  # two equal parts
        _, _, variance = kernels.batch_normalization_training(x, None, None, EPSILON)
        references.close(kernels.biased_variance(x, variance), np.var(x, axis=(0, 1, 2)), wobble=1e-5)


@by_compiler
def test_sums_over_many_pixels(compiler):
    """Of 131,072 numbers around 100, in float32: the mean is right to five digits, the variance to four."""
    x = 100 + references.random((8, 128, 128, 2), 28)
    norm = tf.function(
        lambda x: kernels.batch_normalization_training(x, None, None, EPSILON, "explicit"),
        jit_compile=compiler == "xla",
        autograph=False,
    )
    with compiled_by(compiler):
        _, mean, variance = norm(x)
    expected_mean, expected_variance = tf.nn.moments(tf.cast(x, "float64"), (0, 1, 2))
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5)
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-4)


@by_compiler
def test_second_derivative_of_training(compiler):
    """The gradient by hand is differentiated in turn, through the statistics too."""
    x, scale, offset = references.random((2, 3, 3, 2), 27, "float64"), *parameters(2, "float64")

    def plain(x, scale, offset):
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        return (x - mean) / tf.sqrt(variance + EPSILON) * scale + offset

    def second(norm):
        with tf.GradientTape() as tape:
            tape.watch((x, scale))
            (inner,) = references.tape_gradient(lambda x: tf.sin(norm(x, scale, offset)), [x], tf.ones_like(x))
            size = tf.reduce_sum(inner**2)
        return tape.gradient(size, (x, scale))

    with compiled_by(compiler):
        by_hand = second(lambda *t: kernels.batch_normalization_training(*t, EPSILON)[0])
    close_all(by_hand, second(plain), dtype="float64")


@pytest.mark.parametrize(("dtype", "form"), DTYPES_AND_FORMS)
def test_training_without_parameters(form, dtype):
    x = references.random((3, 4, 4, 2), 9, dtype)
    actual = kernels.batch_normalization_training(x, None, None, EPSILON, form)
    close_all(actual, kernels.batch_normalization_training_reference(wide(x)[0], None, None, epsilon=EPSILON))


@pytest.mark.parametrize("form", FORMS["float32"])
def test_statistics(form):
    """Of 1 and 3: mean 2, biased variance 1, unbiased 2; of a single value: 0, not a division by zero."""
    x = tf.reshape(tf.constant([1.0, 3.0]), (2, 1, 1, 1))
    y, mean, variance = kernels.batch_normalization_training(x, None, None, 0.0, form)
    np.testing.assert_allclose(tf.squeeze(y), (-1, 1), rtol=1e-6)
    np.testing.assert_allclose((mean[0], variance[0]), (2, 2), rtol=1e-6)
    y, mean, variance = kernels.batch_normalization_training(x[1:], None, None, EPSILON, form)
    np.testing.assert_array_equal((y[0, 0, 0, 0], mean[0], variance[0]), (0, 3, 0))


@pytest.mark.parametrize("form", FORMS["float32"])
def test_no_gradient_through_statistics(form):
    x = references.random((2, 3, 3, 2), 10)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, variance = kernels.batch_normalization_training(x, None, None, EPSILON, form)
    gradient = tape.gradient([mean, variance], x)
    assert gradient is None or not np.any(gradient)


def test_precision_at_a_large_mean():
    """x·gain + (β − μ·gain) would be wrong in the third digit here."""
    x = 4096 + tf.reshape(tf.range(-8.0, 9.0), (1, 1, 17, 1)) / 256
    expected = wide(x - 4096)[0] / np.sqrt(1e-3)
    one, zero = tf.ones((1,)), tf.zeros((1,))
    for form in ("fused", "explicit"):
        y = kernels.batch_normalization(x, 4096 * one, 1e-3 * one, one, zero, 0.0, form)
        references.close(y, expected)
    _, bias = kernels.fold_batch_normalization(
        tf.ones((1, 1, 1, 1)), 4096.5 * one, 4096 * one, 1e-3 * one, one, zero, 0.0
    )
    references.close(bias, 0.5 / np.sqrt([1e-3]), dtype="float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bare", [False, True])
def test_folding_keeps_the_convolution(bare, dtype):
    x, filters = references.random((2, 6, 5, 4), 11, dtype), references.random((3, 3, 4, 6), 12, dtype)
    bias = None if bare else references.random((6,), 13, dtype)
    mean, variance = references.random((6,), 14, dtype), references.random((6,), 15, dtype, low=0.1)
    scale, offset = (None, None) if bare else parameters(6, dtype)
    w, b = kernels.fold_batch_normalization(filters, bias, mean, variance, scale, offset, EPSILON)
    assert w.dtype == b.dtype == filters.dtype

    exact_x, exact_filters, exact_bias = wide(x, filters, tf.zeros(6) if bias is None else bias)
    y = tf.nn.conv2d(exact_x, exact_filters, 1, "SAME") + exact_bias
    expected = kernels.batch_normalization(y, *wide(mean, variance, scale, offset), epsilon=EPSILON)
    references.close(tf.nn.conv2d(exact_x, *wide(w), 1, "SAME") + wide(b), expected, dtype=dtype)


@pytest.mark.parametrize(("dtype", "form"), [("float32", f) for f in FORMS["float32"]] + [("bfloat16", "fused")])
def test_batch_normalization_is_the_same_everywhere_and_for_unknown_sizes(dtype, form):
    x, gradient = references.random((3, 4, 5, 6), 18, dtype), references.random((3, 4, 5, 6), 19, dtype)
    scale, offset = parameters(6, dtype)

    def everything(x, scale, offset, gradient):
        with tf.GradientTape() as tape:
            tape.watch([x, scale, offset])
            y, mean, variance = kernels.batch_normalization_training(x, scale, offset, EPSILON, form)
        inference = kernels.batch_normalization(x, mean, variance, scale, offset, EPSILON)
        return y, mean, variance, inference, tape.gradient(y, [x, scale, offset], output_gradients=gradient)

    kind = {"kind": "gradient", "dtype": dtype}
    eager = tf.nest.flatten(everything(x, scale, offset, gradient))
    unknown, known = tf.TensorSpec([None, None, None, 6], dtype), tf.TensorSpec([6], scale.dtype)
    for jit in (False, True):
        for signature in (None, [unknown, known, known, unknown]):
            compiled = tf.function(everything, jit_compile=jit, autograph=False, input_signature=signature)
            close_all(tf.nest.flatten(compiled(x, scale, offset, gradient)), eager, **kind)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda x: kernels.batch_normalization_training(x, None, None, 1e-3, "moments"),
            "fused, explicit",
        ),
        (
            lambda x: kernels.batch_normalization_training(tf.cast(x, "float64"), None, None, 1e-3, "fused"),
            "float64, explicit",
        ),
        (lambda x: kernels.batch_normalization(x, 0.0, 1.0, None, None, 1e-3, "fast"), "fused, explicit"),
        (
            lambda x: kernels.batch_normalization(tf.cast(x, "float64"), 0.0, 1.0, None, None, 1e-3, "fused"),
            "float64, explicit",
        ),
        (
            lambda x: kernels.batch_normalization(x[0], 0.0, 1.0, None, None, 1e-3, "fused"),
            r"shape \(2, 2, 3\); expected \[batch, height, width, channels\] for algorithm",
        ),
        (lambda x: kernels.batch_normalization_training(x[0], None, None, 1e-3), "expected"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(tf.zeros((1, 2, 2, 3)))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    seed=st.integers(0, 99),
)
def test_any_shape(shape, seed):
    x = references.random(shape, seed)
    scale, offset = parameters(shape[-1], "float32")
    expected = kernels.batch_normalization_training_reference(*wide(x, scale, offset), epsilon=0.1)
    for form in FORMS["float32"]:
        close_all(kernels.batch_normalization_training(x, scale, offset, 0.1, form), expected)


def test_cost():
    shape = (2, 3, 3, 4)  # 72 elements
    assert kernels.batch_normalization_cost(shape) == Cost(flops=216, backward_flops=432)
    assert kernels.batch_normalization_cost(shape, training=True) == Cost(flops=504, backward_flops=648)


@pytest.mark.sample(5)
@pytest.mark.parametrize("algorithm", ["auto", "fused", "explicit"])
@pytest.mark.parametrize("mode", ["eager", "graph", "jit", "nested", "context", "gpu"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_the_variance_of_a_large_mean(dtype, mode, algorithm):
    """Mean 30, standard deviation .01: XLA expands the fused kernel as E[x²] − E[x]², which is negative here."""
    if (dtype, algorithm) == ("float64", "fused"):
        return  # TensorFlow has no such kernel
    x = tf.cast(tf.constant(np.random.default_rng(0).normal(30, 0.01, (8, 16, 16, 4))), dtype)
    dy = references.random(x.shape, 1, dtype)
    wide = np.asarray(tf.cast(x, "float64"))
    y, mean, variance = kernels.batch_normalization_training_reference(wide, None, None, 1e-3)
    dx = kernels.batch_normalization_gradient(
        tf.constant(wide), tf.cast(dy, "float64"), None, mean, wide.var((0, 1, 2)), 1e-3
    )[0]

    def step(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, mean, variance = kernels.batch_normalization_training(x, None, None, 1e-3, algorithm)
        return y, mean, variance, tape.gradient(y, x, output_gradients=dy)

    function = step
    if mode != "eager":
        inner = tf.function(step, autograph=False) if mode == "nested" else step
        function = tf.function(lambda *t: inner(*t), autograph=False, jit_compile=mode != "graph")
    with compiled_by({"context": "xla", "gpu": "gpu"}.get(mode, "graph")):
        found = function(x, dy)
    assert dtype == "float16" or variance[0] == pytest.approx(1.0066e-4, rel=1e-4)
    for actual, expected in zip(found, (y, mean, variance, dx), strict=True):
        close = {"float16": 5e-3, "float32": 1e-3, "float64": 1e-9}[dtype]  # the mean is right to 2e-5 at least
        np.testing.assert_allclose(tf.cast(actual, "float64"), expected, atol=close * np.abs(expected).max())


def test_gradient_outside_of_the_compiled_function():
    """The caller's tape may lie around a function that XLA compiles."""
    x = references.random((8, 16, 16, 4), 1) * 0.01 + 30
    norm = tf.function(
        lambda x: kernels.batch_normalization_training(x, None, None, 1e-3)[0], autograph=False, jit_compile=True
    )
    dy = references.random(x.shape, 2)
    (found,) = references.tape_gradient(norm, [x], dy)
    wide = [tf.cast(t, "float64") for t in (x, dy)]
    (expected,) = references.tape_gradient(
        lambda x: kernels.batch_normalization_training(x, None, None, 1e-3)[0], wide[:1], wide[1]
    )
    np.testing.assert_allclose(found, expected, atol=5e-4 * np.abs(expected).max())
