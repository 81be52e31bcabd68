"""Codes of levels: the reference's loops, the relaxed code's gradient, and the ends of the range."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.discretization import CODES
from tests import references

LEVELS = (2, 10, 16)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("code", CODES)
def test_the_reference_agrees(code, levels):
    x = np.concatenate([np.random.default_rng(0).uniform(0, 1, 40), [0.0, 1.0], np.arange(6) / 8]).reshape(2, 3, 4, 2)
    x = tf.constant(x, tf.float32)
    y = kernels.encode_levels(x, levels, code)
    np.testing.assert_array_equal(y, kernels.encode_levels_reference(x.numpy(), levels, code))
    assert y.shape == (2, 3, 4, 2 * levels) and y.dtype == tf.float32
    references.same_everywhere(lambda x: kernels.encode_levels(x, levels, code), x)


def test_a_thermometer_rises_with_the_level():
    x = tf.reshape(tf.constant([0.0, 0.3, 0.99]), (1, 1, 3, 1))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(kernels.encode_levels(x, 4, "thermometer")[0, 0], expected)
    np.testing.assert_array_equal(kernels.encode_levels(x, 4, "onehot")[0, 0], np.eye(4)[[0, 1, 3]])
    np.testing.assert_array_equal(kernels.level_of(tf.constant([-0.1, 1.0, 1.2]), 4), [0, 3, 3])


@pytest.mark.parametrize("code", CODES)
def test_the_gradient_by_hand(code):
    p, upstream = references.random((2, 3, 2, 3, 5), 1, "float64"), references.random((2, 3, 2, 15), 2, "float64")
    (taped,) = references.tape_gradient(lambda p: kernels.join_codes(p, code), [p], upstream)
    by_hand = kernels.join_codes_gradient(upstream, 5, code)
    references.close(by_hand, taped, "gradient")
    references.central_difference(lambda p: tf.reduce_sum(kernels.join_codes(p, code) * upstream), [by_hand], p)


def test_no_gradient_flows_back_through_levels():
    x = references.random((1, 2, 2, 3), low=0.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = kernels.encode_levels(x, 8, "onehot")
    assert tape.gradient(y, x) is None


def test_an_unknown_code_and_the_cost():
    with pytest.raises(ValueError, match="code is 'binary'; expected one of onehot, thermometer"):
        kernels.encode_levels(tf.zeros((1, 1, 1, 3)), 4, "binary")
    assert kernels.encode_levels_cost((2, 4, 4, 48)).flops == 2 * 4 * 4 * 48


@pytest.mark.parametrize("code", ["onehot", "thermometer"])
def test_the_code_of_nan_is_nan(code):
    """Not that of level 0; −0.1 and ∞ get the nearest level."""
    x = tf.reshape(tf.constant([0.3, float("nan"), -0.1, float("inf")]), (1, 1, 4, 1))
    for jit in (False, True):
        encode = tf.function(lambda x: kernels.encode_levels(x, 4, code), autograph=False, jit_compile=jit)
        y = encode(x)
        assert np.isnan(y[0, 0, 1]).all()
        np.testing.assert_array_equal(y[0, 0, ::2], kernels.encode_levels_reference(x, 4, code)[0, 0, ::2])
        np.testing.assert_array_equal(y[0, 0, 3], kernels.encode_levels(tf.ones((1, 1, 1, 1)), 4, code)[0, 0, 0])
