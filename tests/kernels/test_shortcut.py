"""The zero-padded shortcut against NumPy loops, the tape and differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
# height, width, channels in, channels out, stride, zeros
SHORTCUTS = [
    (4, 4, 3, 3, 1, "end"),
    (5, 7, 3, 6, 2, "end"),
    (4, 6, 2, 7, (1, 2), "end"),
    (7, 8, 2, 4, 3, "end"),
    (8, 8, 4, 8, 2, "both"),
    (5, 5, 3, 5, 1, "both"),
    (6, 5, 2, 2, (3, 2), "both"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SHORTCUTS, ids=str)
def test_zero_padded_shortcut_and_its_gradient(case, dtype):
    height, width, channels_in, channels, stride, zeros = case
    x = references.random((2, height, width, channels_in), 1, dtype)
    y = kernels.zero_padded_shortcut(x, channels, stride, zeros=zeros)
    assert y.dtype == x.dtype
    expected = kernels.zero_padded_shortcut_reference(tf.cast(x, "float64").numpy(), channels, stride, zeros)
    np.testing.assert_array_equal(tf.cast(y, "float64"), expected)
    gradient = references.random(y.shape, 2, dtype)
    by_hand = kernels.zero_padded_shortcut_gradient(gradient, x.shape, stride, zeros)
    (tape,) = references.tape_gradient(
        lambda x: kernels.zero_padded_shortcut(x, channels, stride, zeros), [x], gradient
    )
    np.testing.assert_array_equal(by_hand, tape)


@pytest.mark.parametrize("zeros", ["end", "both"])
def test_zero_padded_shortcut_gradient_is_the_slope(zeros):
    x, weights = references.random((2, 5, 4, 2), 1, "float64"), references.random((2, 3, 2, 4), 2, "float64")
    references.central_difference(
        lambda x: tf.reduce_sum(weights * kernels.zero_padded_shortcut(x, 4, 2, zeros)),
        [kernels.zero_padded_shortcut_gradient(weights, x.shape, 2, zeros)],
        x,
    )


def test_where_the_zeros_go():
    x = tf.ones((1, 1, 1, 2))
    assert kernels.zero_padded_shortcut(x, 4, 1)[0, 0, 0].numpy().tolist() == [1, 1, 0, 0]
    assert kernels.zero_padded_shortcut(x, 4, 1, zeros="both")[0, 0, 0].numpy().tolist() == [0, 1, 1, 0]


@settings(max_examples=15, deadline=None)
@given(*[st.integers(1, 6)] * 3, st.integers(0, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_shortcut_and_its_gradient_are_adjoint(height, width, channels, extra, stride):
    x = references.random((2, height, width, channels), 1, "float64")
    y = kernels.zero_padded_shortcut(x, channels + 2 * extra, stride, "both")
    expected = kernels.zero_padded_shortcut_reference(x.numpy(), channels + 2 * extra, stride, "both")
    np.testing.assert_array_equal(y, expected)
    g = references.random(y.shape, 2, "float64")
    back = kernels.zero_padded_shortcut_gradient(g, x.shape, stride, "both")
    np.testing.assert_allclose(tf.reduce_sum(y * g), tf.reduce_sum(x * back), rtol=1e-12, atol=1e-12)
