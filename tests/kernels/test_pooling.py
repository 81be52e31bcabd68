"""Pools, switches and unpooling against NumPy loops, each other, the tape and central differences."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kernels
from kernels import pooling
from kernels.cost import Cost
from kernels.geometry import pair, window_padding
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
FORMS = ["nn", "lines"]
# image [B,H,W,C], window, stride, padding
CASES = [
    ((2, 7, 9, 3), 3, 2, "VALID"),  # overlapping
    ((2, 8, 7, 3), 2, 2, "SAME"),
    ((1, 11, 10, 2), 3, 3, "SAME"),
    ((2, 7, 6, 3), (2, 3), (1, 2), "SAME"),
    ((2, 5, 8, 2), 2, 3, "VALID"),  # pixels that no window sees
    ((1, 6, 6, 2), 4, 1, ((2, 1), (1, 2))),
    ((2, 9, 8, 3), 3, 2, ((1, 1), (0, 1))),
    ((2, 4, 5, 1), (4, 5), 1, "VALID"),  # the whole image
]
everywhere = pytest.mark.parametrize(("shape", "size", "stride", "padding"), CASES)


def wide(x):
    return tf.cast(x, "float64").numpy()


def image_with_ties(shape, dtype="float32"):
    """Values −3, −2, −1, each many times: windows have ties, and padding must not win with a zero."""
    return tf.cast(tf.constant(np.random.default_rng(3).integers(-3, 0, shape)), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@everywhere
def test_max_pool_equals_reference(shape, size, stride, padding, form, dtype):
    x = references.random(shape, 1, dtype) - 4  # negative, so that zero padding would win
    y = kernels.max_pool(x, size, stride, padding, algorithm=form)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(wide(y), kernels.max_pool_reference(wide(x), size, stride, padding))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("form", FORMS)
@everywhere
def test_average_pool_equals_reference(shape, size, stride, padding, form, count_padding, dtype):
    x = references.random(shape, 2, dtype)
    y = kernels.average_pool(x, size, stride, padding, count_padding, algorithm=form)
    assert y.dtype == x.dtype
    references.close(y, kernels.average_pool_reference(wide(x), size, stride, padding, count_padding))


@pytest.mark.parametrize("dtype", DTYPES)
@everywhere
def test_switches_and_unpooling_equal_references(shape, size, stride, padding, dtype):
    x = image_with_ties(shape, dtype)
    switches = kernels.max_pool_switches(x, size, stride, padding)
    expected = kernels.max_pool_switches_reference(wide(x), size, stride, padding)
    assert switches.dtype == tf.int32
    np.testing.assert_array_equal(switches, expected)

    pooled = references.random(expected.shape, 4, dtype)
    image = kernels.max_unpool(pooled, switches, size, stride, padding, input_size=shape[1:3])
    assert image.dtype == pooled.dtype
    references.close(
        image,
        kernels.max_unpool_reference(wide(pooled), expected, size, stride, padding, input_size=shape[1:3]),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@everywhere
def test_max_pool_gradient(shape, size, stride, padding, form, dtype):
    x = references.random(shape, 5, dtype) if form == "nn" else image_with_ties(shape, dtype)
    switches = kernels.max_pool_switches_reference(wide(x), size, stride, padding)
    gradient = references.random(switches.shape, 6, dtype)
    by_hand = kernels.max_pool_input_gradient(x, gradient, size, stride, padding)
    assert by_hand.dtype == x.dtype
    expected = kernels.max_unpool_reference(wide(gradient), switches, size, stride, padding, input_size=shape[1:3])
    references.close(by_hand, expected, kind="gradient")
    (tape,) = references.tape_gradient(
        lambda x: kernels.max_pool(x, size, stride, padding, algorithm=form), [x], gradient
    )
    references.close(tape, expected, kind="gradient")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("count_padding", [False, True])
@everywhere
def test_average_pool_gradient(shape, size, stride, padding, count_padding, dtype):
    x = references.random(shape, 7, dtype)
    gradient = references.random(kernels.average_pool(x, size, stride, padding).shape, 8, dtype)
    by_hand = kernels.average_pool_input_gradient(gradient, shape[1:3], size, stride, padding, count_padding)
    assert by_hand.dtype == x.dtype
    for form in FORMS:
        (tape,) = references.tape_gradient(
            lambda x, form=form: kernels.average_pool(x, size, stride, padding, count_padding, form),
            [x],
            gradient,
        )
        references.close(tape, by_hand, kind="gradient")


@pytest.mark.parametrize("pool", [kernels.max_pool, kernels.average_pool])
@everywhere
def test_second_derivatives_agree(shape, size, stride, padding, pool):
    x = references.random(shape, 17)

    def second(form):
        with tf.GradientTape() as tape:
            tape.watch(x)
            (inner,) = references.tape_gradient(
                lambda x: tf.reduce_sum(pool(x, size, stride, padding, algorithm=form) ** 3), [x], 1.0
            )
            total = tf.reduce_sum(inner**2)
        return tape.gradient(total, x)

    references.close(second("lines"), second("nn"), kind="gradient")


@everywhere
def test_gradients_against_central_differences(shape, size, stride, padding):
    x = references.random(shape, 9, "float64")
    g = references.random(kernels.max_pool(x, size, stride, padding).shape, 10, "float64")
    references.central_difference(
        lambda x: tf.reduce_sum(g * kernels.max_pool(x, size, stride, padding)),
        [kernels.max_pool_input_gradient(x, g, size, stride, padding)],
        x,
    )
    for count in (False, True):
        references.central_difference(
            lambda x, count=count: tf.reduce_sum(g * kernels.average_pool(x, size, stride, padding, count)),
            [kernels.average_pool_input_gradient(g, shape[1:3], size, stride, padding, count)],
            x,
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_global_average_pool_and_its_gradient(dtype):
    x, gradient = references.random((2, 17, 19, 3), 11, dtype, low=1.0), references.random((2, 3), 12, dtype)
    y = kernels.global_average_pool(x)
    assert y.dtype == x.dtype
    references.close(y, kernels.global_average_pool_reference(wide(x)))
    by_hand = kernels.global_average_pool_input_gradient(gradient, (17, 19))
    references.close(by_hand, references.tape_gradient(kernels.global_average_pool, [x], gradient)[0], kind="gradient")
    if dtype == "float64":
        references.central_difference(lambda x: tf.reduce_sum(gradient * kernels.global_average_pool(x)), [by_hand], x)


def test_large_bfloat16_windows_do_not_saturate():
    """Adding ones in bfloat16 stops at 256; the window has 400."""
    ones = tf.ones((1, 20, 20, 1), "bfloat16")
    assert kernels.average_pool(ones, 20, 1, ((1, 1), (1, 1)), algorithm="lines").numpy().min() == 1
    assert kernels.average_pool_input_gradient(ones[:, :1, :1] * 400, (20, 20), 20, 1).numpy().min() == 1


def test_a_worked_example():
    """Two overlapping windows share the 9; of two equal 4s the first counts."""
    x = tf.reshape(tf.constant([1.0, 4, 9, 2, 3, 4, 0, 1, 5, 6]), (1, 2, 5, 1))
    switches = kernels.max_pool_switches(x, 2, (1, 1))
    np.testing.assert_array_equal(tf.squeeze(switches), [1, 1, 0, 3])
    pooled = tf.reshape(tf.constant([10.0, 20, 30, 40]), (1, 1, 4, 1))
    unpooled = kernels.max_unpool(pooled, switches, 2, 1, input_size=(2, 5))
    np.testing.assert_array_equal(tf.squeeze(unpooled), [[0, 10, 50, 0, 0], [0, 0, 0, 0, 40]])


@pytest.mark.sample(2)
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), [CASES[0], CASES[3], CASES[6]])
def test_eager_graph_and_xla_agree(shape, size, stride, padding):
    x = references.random(shape, 13)
    gradient = references.random(kernels.max_pool(x, size, stride, padding).shape, 14)

    def everything(x, gradient):
        results = []
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            for form in FORMS:
                results.append(kernels.max_pool(x, size, stride, padding, form))
                results.append(kernels.average_pool(x, size, stride, padding, False, form))
                results.append(kernels.average_pool(x, size, stride, padding, True, form))
        results += [tape.gradient(y, x, output_gradients=gradient) for y in tuple(results)]
        switches = kernels.max_pool_switches(x, size, stride, padding)
        unpooled = kernels.max_unpool(gradient, switches, size, stride, padding, input_size=shape[1:3])
        return [*results, tf.cast(switches, tf.float32), unpooled, kernels.global_average_pool(x)]

    references.same_everywhere(everything, x, gradient, kind="gradient")


def test_unpooling_compiles_without_scatter():
    x = references.random((2, 8, 8, 3), 15)
    compiled = tf.function(lambda x, g: kernels.max_pool_input_gradient(x, g, 3, 2), jit_compile=True, autograph=False)
    program = compiled.experimental_get_compiler_ir(x, x[:, :3, :3])(stage="optimized_hlo")
    assert "fusion" in program
    assert not any(word in program for word in ("scatter", "while", "reduce-window"))


@pytest.mark.sample(5)
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(3, 1, "SAME"), (2, 2, "VALID"), (3, (2, 3), ((1, 1), (0, 2)))]
)
def test_unknown_sizes(size, stride, padding, form, jit):
    def forward_and_gradient(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            largest = kernels.max_pool(x, size, stride, padding, form)
            average = kernels.average_pool(x, size, stride, padding, algorithm=form)
        return largest, average, tape.gradient(largest, x), tape.gradient(average, x)

    unknown = tf.TensorSpec([None, None, None, 2], tf.float32)
    compiled = tf.function(forward_and_gradient, jit_compile=jit, autograph=False, input_signature=[unknown])
    for shape in ((2, 7, 6, 2), (1, 5, 8, 2)):
        x = references.random(shape, 16)
        for actual, expected in zip(compiled(x), forward_and_gradient(x), strict=True):
            references.close(actual, expected, kind="gradient")


@pytest.mark.parametrize("form", FORMS)
def test_same_padding_by_a_stride_of_an_unknown_size(form):
    """The padding depends on the size, and is computed with it."""

    def forward_and_gradient(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            largest = kernels.max_pool(x, (5, 3), 2, "SAME", form)
            average = kernels.average_pool(x, (5, 3), 2, "SAME", algorithm=form)
        return largest, average, tape.gradient(largest, x), tape.gradient(average, x)

    unknown = tf.TensorSpec([None, None, None, 2], tf.float32)
    compiled = tf.function(forward_and_gradient, autograph=False, input_signature=[unknown])
    for shape in ((2, 7, 6, 2), (1, 4, 8, 2)):  # 4 rows are fewer than the window has
        x = references.random(shape, 16)
        for actual, expected in zip(compiled(x), forward_and_gradient(x), strict=True):
            references.close(actual, expected, kind="gradient")


MODES = ["eager", "graph", "xla"]


def in_mode(function, mode: str):
    """The function as it is, in a graph, or compiled by XLA."""
    return function if mode == "eager" else tf.function(function, jit_compile=mode == "xla", autograph=False)


def gradient_of_the_sum(pool, x):
    """∂Σ pool(x)/∂x: how much each pixel counts in all windows together."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = pool(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_average_gradient_of_a_window_larger_than_the_image(form, mode):
    """By hand: a pixel gets 1/count of each of the four windows that contain it."""

    def pool(x):
        return kernels.average_pool(x, (5, 1), 1, "SAME", algorithm=form)

    gradient = in_mode(lambda x: gradient_of_the_sum(pool, x), mode)(tf.ones((1, 4, 4, 1)))
    column = np.array([1 / 3 + 1 / 4 + 1 / 4, 1 / 3 + 1 / 4 + 1 / 4 + 1 / 3] * 2)[[0, 1, 3, 2]]
    references.close(gradient, np.tile(column[None, :, None, None], (1, 1, 4, 1)), kind="gradient", dtype="float32")


@pytest.mark.sample("^float32-graph", "^bfloat16-eager")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
def test_average_gradients_of_large_windows(dtype, mode):
    """Windows of up to 7 pixels over columns of up to 6, with each stride, in one function."""
    cases = list(product(range(1, 7), (1, 2, 4, 5, 6, 7), (1, 2, 3)))

    def gradients():
        pools = [lambda x, k=k, s=s: kernels.average_pool(x, (k, 1), (s, 1), "SAME") for _, k, s in cases]
        columns = [tf.ones((1, length, 1, 1), dtype) for length, _, _ in cases]
        return [gradient_of_the_sum(pool, x) for pool, x in zip(pools, columns, strict=True)]

    for (length, taps, step), found in zip(cases, in_mode(gradients, mode)(), strict=True):
        expected = np.zeros((1, length, 1, 1))
        ((top, _), _) = window_padding("SAME", (length, 1), (taps, 1), (step, 1))
        for start in range(-top, length, step)[: -(-length // step)]:
            inside = slice(max(start, 0), min(start + taps, length))
            expected[0, inside] += 1 / (inside.stop - inside.start)
        references.close(found, expected, "gradient", "bfloat16" if dtype == "float16" else dtype)


X = tf.zeros((1, 5, 6, 2))
TRIPLE: Any = (1, 2, 3)
FULL: Any = "FULL"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.max_pool(X, 2, 2, algorithm="argmax"), "nn, lines"),
        (lambda: kernels.average_pool(X, 2, 2, algorithm="fast"), "nn, lines"),
        (lambda: kernels.max_pool(X, 0, 2), "size is 0"),
        (lambda: kernels.average_pool(X, 2, TRIPLE), "stride is"),
        (lambda: kernels.max_pool(X, 7, 1), "does not fit"),
        (lambda: kernels.max_pool(X, 3, 1, FULL), "padding is 'FULL'"),
        (lambda: kernels.average_pool(X, 3, 1, ((0, 0), (3, 0))), "hide a whole window"),
        (lambda: kernels.max_pool_switches(X[0], 2, 2), "expected images"),
        (lambda: kernels.max_unpool(X, tf.cast(X, tf.int32), 2, 2, input_size=(5, 6)), r"pools to \(2, 3\)"),
        (lambda: kernels.max_unpool(X, tf.cast(X, tf.int32), 2, 2, input_size=(None, 6)), "input_size is"),
        (lambda: kernels.average_pool_input_gradient(X, (20, 6), 2, 2), r"pools to \(10, 3\)"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=15, deadline=None)
@given(
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.one_of(
        st.sampled_from(["SAME", "VALID"]),
        st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    ),
)
def test_any_geometry(image, size, stride, padding):
    if padding != "SAME":
        pads = ((0, 0), (0, 0)) if padding == "VALID" else padding
        assume(all(max(pad) < k <= n + sum(pad) for n, k, pad in zip(image, size, pads, strict=True)))
    x = image_with_ties((2, *image, 2), "float64")
    window = size, stride, padding
    largest = kernels.max_pool_reference(x, *window)
    switches = kernels.max_pool_switches_reference(x, *window)
    average = kernels.average_pool_reference(x, *window)
    for form in FORMS:
        references.close(kernels.max_pool(x, *window, algorithm=form), largest)
        references.close(kernels.average_pool(x, *window, algorithm=form), average)
    np.testing.assert_array_equal(kernels.max_pool_switches(x, *window), switches)
    unpooled = kernels.max_unpool_reference(largest, switches, *window, input_size=image)
    references.close(kernels.max_pool_input_gradient(x, tf.constant(largest), *window), unpooled)
    # ⟨y, A x⟩ = ⟨Aᵀy, x⟩
    back = kernels.average_pool_input_gradient(tf.constant(largest), image, *window)
    references.close(tf.reduce_sum(back * x), tf.reduce_sum(largest * average))


def test_cost():
    assert kernels.pool_cost((2, 8, 8, 3), (2, 4, 4, 3), 2) == Cost(flops=384, backward_flops=384)
    assert kernels.pool_cost((1, 7, 7, 1), (1, 3, 3, 1), (3, 2)).flops == 54
    assert kernels.global_average_pool_cost((2, 7, 7, 5)) == Cost(flops=490, backward_flops=10)


@everywhere
def test_the_plain_adjoints_are_the_fast_ones(shape, size, stride, padding):
    """The gradients of the textbook file, tap by tap, against those that run."""
    window, step = pair(size), pair(stride)
    pads = window_padding(padding, shape[1:3], window, step)
    x = image_with_ties(shape)
    switches = kernels.max_pool_switches(x, size, stride, padding)
    gradient = references.random(switches.shape, 18)
    references.close(
        pooling.max_pool_input_gradient(x, gradient, window, step, pads),
        kernels.max_pool_input_gradient(x, gradient, size, stride, padding),
    )
    references.close(
        pooling.max_unpool(gradient, switches, shape[1:3], window, step, pads),
        kernels.max_unpool(gradient, switches, size, stride, padding, input_size=shape[1:3]),
    )
    for count in (False, True):
        references.close(
            pooling.average_pool_input_gradient(gradient, shape[1:3], window, step, pads, count),
            kernels.average_pool_input_gradient(gradient, shape[1:3], size, stride, padding, count),
        )
