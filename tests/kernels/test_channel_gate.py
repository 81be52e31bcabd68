"""The gate and the channel scales of squeeze-and-excitation against NumPy loops, the tape and differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]


def wide(*tensors):
    return [tf.cast(t, "float64").numpy() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4, 5)])
def test_sigmoid_and_its_gradient(shape, dtype):
    x, gradient = references.random(shape, 1, dtype), references.random(shape, 2, dtype)
    y = kernels.sigmoid(x)
    assert y.dtype == x.dtype
    references.close(y, kernels.sigmoid_reference(*wide(x)))
    (tape,) = references.tape_gradient(kernels.sigmoid, [x], gradient)
    references.close(kernels.sigmoid_gradient(y, gradient), tape, "gradient")


def test_sigmoid_does_not_overflow():
    x = tf.constant([-1e4, -100.0, 0.0, 100.0, 1e4], tf.float64)
    expected = kernels.sigmoid_reference(x.numpy())
    np.testing.assert_allclose(kernels.sigmoid(x), expected, rtol=1e-12)
    assert expected[0] == 0 and expected[2] == 0.5 and expected[-1] == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 4), (3, 4, 2, 7)])
def test_scale_channels_and_its_gradient(shape, dtype):
    x, scales = references.random(shape, 1, dtype), references.random((shape[0], shape[3]), 2, dtype)
    gradient = references.random(shape, 3, dtype)
    y = kernels.scale_channels(x, scales)
    assert y.dtype == x.dtype
    references.close(y, kernels.scale_channels_reference(*wide(x, scales)))
    tape = references.tape_gradient(kernels.scale_channels, [x, scales], gradient)
    for by_hand, theirs in zip(kernels.scale_channels_gradient(x, scales, gradient), tape, strict=True):
        references.close(by_hand, theirs, "gradient")


def test_gradients_are_the_differences():
    x, scales = references.random((2, 3, 3, 4), 1, "float64"), references.random((2, 4), 2, "float64")
    weights = references.random(x.shape, 3, "float64")

    def loss(x, scales):
        return tf.reduce_sum(weights * kernels.scale_channels(x, kernels.sigmoid(scales)))

    gate = kernels.sigmoid(scales)
    to_x, to_gate = kernels.scale_channels_gradient(x, gate, weights)
    references.central_difference(loss, [to_x, kernels.sigmoid_gradient(gate, to_gate)], x, scales)


@settings(max_examples=15, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 4)] * 4))
def test_scale_channels_over_shapes(shape):
    x, scales = references.random(shape, 1), references.random((shape[0], shape[3]), 2)
    references.close(kernels.scale_channels(x, scales), kernels.scale_channels_reference(*wide(x, scales)))


def test_same_everywhere():
    x, scales = references.random((2, 3, 3, 4), 1), references.random((2, 4), 2)
    references.same_everywhere(lambda x, s: kernels.scale_channels(x, kernels.sigmoid(s)), x, scales)


@pytest.mark.parametrize("shapes", [((2, 3, 3, 4), (2, 3)), ((2, 3, 3, 4), (2, 1, 1, 4)), ((2, 4), (2, 4))])
def test_scales_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match=r"expected \[B,C\] and \[B,H,W,C\]"):
        kernels.scale_channels(*(tf.zeros(shape) for shape in shapes))


def test_costs():
    assert kernels.sigmoid_cost((2, 3)) == Cost(flops=24, backward_flops=18)
    assert kernels.scale_channels_cost((2, 3, 3, 4)) == Cost(flops=72, backward_flops=216)
