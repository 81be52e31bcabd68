"""Rectifiers and softmax against NumPy loops, TensorFlow, GradientTape and central differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from tests import references

RECTIFIERS = {
    "relu": (kernels.relu, kernels.relu_gradient),
    "deconvnet": (kernels.deconvnet_relu, kernels.deconvnet_relu_gradient),
    "guided": (kernels.guided_relu, kernels.guided_relu_gradient),
    "redirected": (kernels.redirected_relu, kernels.redirected_relu_gradient),
}
SOFTMAXES = [
    (kernels.softmax, kernels.softmax_gradient, kernels.softmax_reference, tf.nn.softmax),
    (
        kernels.log_softmax,
        kernels.log_softmax_gradient,
        kernels.log_softmax_reference,
        tf.nn.log_softmax,
    ),
]
DTYPES = ["float64", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RECTIFIERS)
def test_rectifier_is_its_reference_exactly(rule, dtype):
    relu, relu_gradient = RECTIFIERS[rule]
    x, g = references.random((2, 3, 3, 4), 1, dtype), references.random((2, 3, 3, 4), 2, dtype)
    y, (sent_back,) = relu(x), references.tape_gradient(relu, [x], g)
    assert y.dtype == x.dtype and sent_back.dtype == x.dtype
    x64, g64 = (tf.cast(t, "float64").numpy() for t in (x, g))
    np.testing.assert_array_equal(tf.cast(y, "float64"), kernels.relu_reference(x64))
    expected = kernels.relu_gradient_reference(x64, g64, rule)
    np.testing.assert_array_equal(tf.cast(sent_back, "float64"), expected)
    np.testing.assert_array_equal(tf.cast(relu_gradient(x, g), "float64"), expected)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("relu", [0, 0, 0, 0, 5, -5]),
        ("deconvnet", [5, 0, 5, 0, 5, 0]),
        ("guided", [0, 0, 0, 0, 5, 0]),
        ("redirected", [5, 0, 5, 0, 5, -5]),
    ],
)
def test_what_each_rectifier_sends_back_for_negative_zero_and_positive_input(rule, expected):
    x, g = tf.constant([-1.0, -1, 0, 0, 1, 1]), tf.constant([5.0, -5, 5, -5, 5, -5])
    relu, relu_gradient = RECTIFIERS[rule]
    assert references.tape_gradient(relu, [x], g)[0].numpy().tolist() == expected
    assert relu_gradient(x, g).numpy().tolist() == expected


@pytest.mark.parametrize("rule", RECTIFIERS)
def test_rectifier_is_the_same_everywhere(rule):
    relu, _ = RECTIFIERS[rule]
    x, g = references.random((2, 5, 3), 3), references.random((2, 5, 3), 4)
    references.same_everywhere(lambda x, g: [relu(x), *references.tape_gradient(relu, [x], g)], x, g)


def test_relu_gradient_is_the_difference():
    x = references.random((3, 7), 5, "float64")
    gradient = kernels.relu_gradient(x, tf.ones_like(x))
    references.central_difference(lambda x: tf.reduce_sum(kernels.relu(x)), [gradient], x)


@pytest.mark.parametrize("shape", [(7,), (3, 10), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("form", "gradient_by_hand", "reference", "nn"), SOFTMAXES)
def test_softmax(form, gradient_by_hand, reference, nn, dtype, shape):
    z, g = references.random(shape, 6, dtype) * 3, references.random(shape, 7, dtype)
    y = form(z)
    assert y.dtype == z.dtype
    references.close(y, reference(tf.cast(z, "float64").numpy()))
    references.close(y, nn(z))
    by_hand = gradient_by_hand(y, g)
    assert by_hand.dtype == z.dtype
    for oracle in (form, nn):
        references.close(by_hand, references.tape_gradient(oracle, [z], g)[0], kind="gradient")


@pytest.mark.parametrize(("form", "gradient_by_hand", "reference", "nn"), SOFTMAXES)
def test_softmax_gradient_is_the_difference(form, gradient_by_hand, reference, nn):
    z, g = references.random((3, 5), 8, "float64"), references.random((3, 5), 9, "float64")
    references.central_difference(lambda z: tf.reduce_sum(g * form(z)), [gradient_by_hand(form(z), g)], z)


@pytest.mark.parametrize(("form", "gradient_by_hand", "reference", "nn"), SOFTMAXES)
def test_softmax_is_the_same_everywhere(form, gradient_by_hand, reference, nn):
    references.same_everywhere(form, references.random((4, 11), 10))


def test_softmax_survives_logits_whose_exponential_overflows():
    z = tf.constant([[1000.0, 999.0, -1000.0]])
    references.close(kernels.softmax(z), [[1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0]])
    references.close(kernels.log_softmax(z), kernels.log_softmax_reference(z.numpy()))


def test_bfloat16_softmax_over_a_thousand_classes_still_sums_to_one():
    # A running sum kept in bfloat16 would stop growing at 256.
    p = kernels.softmax(tf.zeros((1, 1024), tf.bfloat16))
    assert p.numpy().astype("float64").tolist() == [[1 / 1024] * 1024]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.floats(-50, 50), st.integers(0, 99))
def test_softmax_sums_to_one_and_ignores_a_shift(shape, shift, seed):
    z = references.random(shape, seed, "float64")
    references.close(tf.reduce_sum(kernels.softmax(z), -1), np.ones(shape[:-1]))
    references.close(kernels.softmax(z + shift), kernels.softmax_reference(z.numpy()))


def test_cost():
    assert kernels.relu_cost((2, 3, 3, 4)) == Cost(0, 72, 72)
    assert kernels.softmax_cost((2, 10)) == Cost(0, 100, 80)
