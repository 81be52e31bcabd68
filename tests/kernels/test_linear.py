"""The fully connected layer against NumPy loops, Keras, GradientTape and central differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from kernels.forms.rounded import FEW
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
SHAPES = [(1, 1, 1), (3, 5, 2), (2, 17, 10)]  # batch, inputs, outputs


def case(shape, dtype="float32"):
    batch, inputs, outputs = shape
    return (
        references.random((batch, inputs), 1, dtype),
        references.random((inputs, outputs), 2, dtype),
        references.random((outputs,), 3, dtype),
        references.random((batch, outputs), 4, dtype),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_bias", [True, False])
def test_dense(shape, dtype, with_bias):
    x, weights, bias, _ = case(shape, dtype)
    y = kernels.dense(x, weights, bias if with_bias else None)
    assert y.dtype == x.dtype
    x64, weights64, bias64 = (tf.cast(t, "float64").numpy() for t in (x, weights, bias))
    references.close(y, kernels.dense_reference(x64, weights64, bias64 if with_bias else None))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_tapes(shape, dtype):
    x, weights, bias, gradient = case(shape, dtype)
    by_hand = kernels.dense_gradient(x, weights, gradient)
    tape = references.tape_gradient(kernels.dense, [x, weights, bias], gradient)
    for ours, theirs in zip(by_hand, tape, strict=True):
        assert ours.dtype == x.dtype
        references.close(ours, theirs, kind="gradient")


def test_gradient_is_the_difference():
    x, weights, bias, gradient = case((3, 5, 2), "float64")
    references.central_difference(
        lambda *tensors: tf.reduce_sum(gradient * kernels.dense(*tensors)),
        kernels.dense_gradient(x, weights, gradient),
        *(x, weights, bias),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_everywhere(dtype):
    x, weights, bias, gradient = case((3, 5, 2), dtype)
    references.same_everywhere(kernels.dense, x, weights, bias)
    references.same_everywhere(kernels.dense_gradient, x, weights, gradient, kind="gradient")


def test_keras_dense_with_the_same_weights():
    x, weights, bias, _ = case((3, 5, 2))
    layer = keras.layers.Dense(2)
    layer.build((None, 5))
    layer.set_weights([weights.numpy(), bias.numpy()])
    references.close(kernels.dense(x, weights, bias), layer(x))


def test_unknown_batch_and_variables():
    x, weights, bias, _ = case((3, 5, 2))
    variables = tf.Variable(weights), tf.Variable(bias)
    compiled = tf.function(lambda x: kernels.dense(x, *variables), input_signature=[tf.TensorSpec([None, 5])])
    assert compiled.get_concrete_function().output_shapes.as_list() == [None, 2]
    references.close(compiled(x), kernels.dense(x, weights, bias))


@settings(max_examples=15, deadline=None)
@given(*[st.integers(1, 8)] * 3)
def test_every_shape(batch, inputs, outputs):
    x, weights, bias, gradient = case((batch, inputs, outputs), "float64")
    expected = kernels.dense_reference(x.numpy(), weights.numpy(), bias.numpy())
    references.close(kernels.dense(x, weights, bias), expected)
    shapes = [tuple(g.shape) for g in kernels.dense_gradient(x, weights, gradient)]
    assert shapes == [(batch, inputs), (inputs, outputs), (outputs,)]


@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2, 5), (5,)])
def test_bad_input_says_what_was_wrong(shape):
    with pytest.raises(ValueError, match=r"does not fit dense weights \(5, 3\)"):
        kernels.dense(tf.ones(shape), tf.ones((5, 3)))


def test_cost():
    assert kernels.dense_cost((2, 5), (2, 3)) == Cost(macs=30, flops=66, backward_flops=126)
    assert kernels.dense_cost((2, 5), (2, 3), bias=False) == Cost(macs=30, flops=60, backward_flops=120)
    assert kernels.dense_cost((1, 9216), (1, 4096)).macs == 37_748_736  # AlexNet's fc6


@pytest.mark.parametrize("batch", [FEW, FEW + 1, None], ids=["few", "many", "unknown"])
def test_wide_weights_have_a_wide_gradient(batch):
    """As if they had been rounded before, but for the rounding of the gradient."""
    x, weights, bias, gradient = case((batch or 3, 5, 2), "float32")
    narrow = tf.cast(x, "bfloat16"), tf.cast(gradient, "bfloat16")

    def both(x, gradient, weights):
        with tf.GradientTape() as tape:
            tape.watch((x, weights))
            y = kernels.dense(x, weights, tf.cast(bias, "bfloat16"))
        return y, *tape.gradient(y, (x, weights), output_gradients=gradient)

    signature = [tf.TensorSpec([batch, t.shape[1]], "bfloat16") for t in narrow] + [tf.TensorSpec([5, 2], "float32")]
    y, to_x, to_weights = tf.function(both, input_signature=signature, autograph=False)(*narrow, weights)
    assert (y.dtype, to_x.dtype, to_weights.dtype) == ("bfloat16", "bfloat16", "float32")
    rounded = tf.cast(weights, "bfloat16")
    references.close(y, kernels.dense(narrow[0], rounded, tf.cast(bias, "bfloat16")))
    exact = kernels.dense_gradient(*(tf.cast(t, "float64") for t in (narrow[0], rounded, narrow[1])))
    references.close(to_x, exact[0], kind="gradient")
    few = batch == FEW
    references.close(to_weights, exact[1], kind="gradient", dtype="float32" if few else "bfloat16")
    assert few or not np.array_equal(to_weights, tf.cast(exact[1], "float32"))
