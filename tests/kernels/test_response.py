"""Local response normalization against a NumPy loop, each other, the tape and a central difference."""

from __future__ import annotations

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from tests import references

SETTINGS = [
    {},  # the paper's
    {"radius": 1, "bias": 1.0, "alpha": 0.5},
    {"radius": 0, "alpha": 1.0, "beta": 0.5},  # no neighbors
    {"radius": 9, "bias": 1.5, "alpha": 0.3, "beta": 1.0},  # more neighbors than channels
]


def exact(x):
    return tf.cast(x, "float64").numpy()


@pytest.mark.parametrize("chosen", SETTINGS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_it_equals_the_reference_and_its_gradient(dtype, chosen):
    x, gradient = references.random((2, 3, 4, 7), 16, dtype) * 3, references.random((2, 3, 4, 7), 17, dtype)
    expected = kernels.local_response_normalization_reference(exact(x), **chosen)
    by_hand = kernels.local_response_normalization_input_gradient(x, gradient, **chosen)
    assert by_hand.dtype == x.dtype
    for form in ("auto", "explicit") if dtype == "float64" else ("auto", "nn", "explicit", "compiled"):
        y = kernels.local_response_normalization(x, **chosen, algorithm=form)
        assert y.dtype == x.dtype
        references.close(y, expected)
        (tape,) = references.tape_gradient(
            lambda x, form=form: kernels.local_response_normalization(x, **chosen, algorithm=form),
            [x],
            gradient,
        )
        references.close(tape, by_hand, kind="gradient")
    if dtype == "float64":
        references.central_difference(
            lambda x: tf.reduce_sum(gradient * kernels.local_response_normalization(x, **chosen)),
            [by_hand],
            x,
        )


@pytest.mark.parametrize("form", ["nn", "explicit", "compiled"])
def test_it_is_the_same_everywhere_and_for_unknown_sizes(form):
    x, gradient = references.random((2, 3, 3, 6), 20), references.random((2, 3, 3, 6), 23)

    def everything(x, gradient):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = kernels.local_response_normalization(x, alpha=0.1, algorithm=form)
        by_hand = kernels.local_response_normalization_input_gradient(x, gradient, alpha=0.1)
        return y, by_hand, tape.gradient(y, x, output_gradients=gradient)

    references.same_everywhere(everything, x, gradient, kind="gradient")
    for shape in ([None, None, None, 6], [None, 3, 3, 6]):
        unknown = tf.TensorSpec(shape, tf.float32)
        compiled = tf.function(everything, autograph=False, input_signature=[unknown, unknown])
        for actual, expected in zip(compiled(x, gradient), everything(x, gradient), strict=True):
            references.close(actual, expected, kind="gradient")
        assert [t.shape for t in compiled(x[:0], gradient[:0])] == [(0, 3, 3, 6)] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: kernels.local_response_normalization(x, algorithm="fast"), "nn, explicit, compiled"),
        (
            lambda x: kernels.local_response_normalization(tf.cast(x, "float64"), algorithm="nn"),
            "float64, explicit",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(tf.zeros((1, 2, 2, 3)))


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    radius=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_any_shape(shape, radius, seed):
    x = references.random(shape, seed)
    expected = kernels.local_response_normalization_reference(exact(x), radius, alpha=0.2)
    for form in ("nn", "explicit"):
        y = kernels.local_response_normalization(x, radius, alpha=0.2, algorithm=form)
        references.close(y, expected)


def test_cost():
    assert kernels.local_response_normalization_cost((2, 3, 3, 4)) == Cost(flops=648, backward_flops=1296)
