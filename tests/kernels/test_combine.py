"""Concatenation and residual sums against NumPy loops, the tape and differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.cost import Cost
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


def wide(*tensors):
    return [tf.cast(t, "float64").numpy() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(3,), (2, 1, 4), (1, 1)])
def test_concatenate_and_its_gradient(channels, dtype):
    branches = [references.random((2, 3, 4, c), c, dtype) for c in channels]
    y = kernels.concatenate(branches)
    assert y.dtype == branches[0].dtype
    np.testing.assert_array_equal(tf.cast(y, "float64"), kernels.concatenate_reference(wide(*branches)))
    gradient = references.random(y.shape, 9, dtype)
    tape = references.tape_gradient(lambda *b: kernels.concatenate(b), branches, gradient)
    for by_hand, theirs in zip(kernels.concatenate_gradient(gradient, channels), tape, strict=True):
        np.testing.assert_array_equal(by_hand, theirs)


def test_concatenate_gradient_is_the_difference():
    a, b = references.random((2, 2, 2, 3), 1, "float64"), references.random((2, 2, 2, 1), 2, "float64")
    weights = references.random((2, 2, 2, 4), 3, "float64")
    references.central_difference(
        lambda a, b: tf.reduce_sum(weights * kernels.concatenate([a, b])),
        kernels.concatenate_gradient(weights, [3, 1]),
        *(a, b),
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_residual_sum_and_its_gradient(dtype):
    x, shortcut, gradient = (references.random((2, 3, 4, 5), seed, dtype) for seed in range(3))
    y = kernels.residual_sum(x, shortcut)
    assert y.dtype == x.dtype
    references.close(y, kernels.residual_sum_reference(*wide(x, shortcut)))
    tape = references.tape_gradient(kernels.residual_sum, [x, shortcut], gradient)
    for by_hand, theirs in zip(kernels.residual_sum_gradient(gradient), tape, strict=True):
        np.testing.assert_array_equal(by_hand, theirs)


def test_residual_sum_gradient_is_the_difference():
    x, shortcut, weights = (references.random((2, 3, 3, 2), seed, "float64") for seed in range(3))
    references.central_difference(
        lambda x, shortcut: tf.reduce_sum(weights * kernels.residual_sum(x, shortcut)),
        kernels.residual_sum_gradient(weights),
        *(x, shortcut),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.17, 1.0, -2.0])
def test_scaled_residual_sum_and_its_gradient(scale, dtype):
    x, residual, gradient = (references.random((2, 3, 4, 5), seed, dtype) for seed in range(3))
    y = kernels.scaled_residual_sum(x, residual, scale)
    assert y.dtype == x.dtype
    references.close(y, kernels.scaled_residual_sum_reference(*wide(x, residual), scale))
    tape = references.tape_gradient(lambda x, r: kernels.scaled_residual_sum(x, r, scale), [x, residual], gradient)
    for by_hand, theirs in zip(kernels.scaled_residual_sum_gradient(gradient, scale), tape, strict=True):
        references.close(by_hand, theirs, "gradient")


def test_scaled_residual_sum_gradient_is_the_difference():
    x, residual, weights = (references.random((2, 3, 3, 2), seed, "float64") for seed in range(3))
    references.central_difference(
        lambda x, residual: tf.reduce_sum(weights * kernels.scaled_residual_sum(x, residual, 0.17)),
        kernels.scaled_residual_sum_gradient(weights, 0.17),
        *(x, residual),
    )
    assert kernels.scaled_residual_sum_cost((2, 3)) == Cost(flops=12, backward_flops=6)


@pytest.mark.parametrize("zeros", ["end", "both"])
def test_same_everywhere(zeros):
    x, gradient = references.random((2, 5, 5, 2), 1), references.random((2, 3, 3, 4), 2)
    references.same_everywhere(lambda x: kernels.concatenate([x, 2 * x]), x)
    references.same_everywhere(lambda x: kernels.residual_sum(x, 2 * x), x)
    references.same_everywhere(lambda x: kernels.zero_padded_shortcut(x, 4, 2, zeros), x)
    references.same_everywhere(lambda g: kernels.concatenate_gradient(g, [1, 3]), gradient)
    references.same_everywhere(lambda g: kernels.zero_padded_shortcut_gradient(g, x.shape, 2, zeros), gradient)


def test_unknown_batch():
    spec = [tf.TensorSpec([None, 5, 5, 2])]

    def block(x):
        y = kernels.zero_padded_shortcut(x, 4, 2)
        back = kernels.zero_padded_shortcut_gradient(y, x.shape, 2)
        return kernels.concatenate([kernels.residual_sum(x, back), x])

    compiled = tf.function(block, input_signature=spec)
    assert compiled.get_concrete_function().output_shapes.as_list() == [None, 5, 5, 4]
    x = references.random((3, 5, 5, 2))
    np.testing.assert_array_equal(compiled(x), block(x))


def test_bad_input_says_what_was_wrong():
    x = tf.ones((2, 4, 4, 6))
    with pytest.raises(ValueError, match=r"shape \(2, 4, 4, 6\) and its shortcut \(2, 4, 4, 1\)"):
        kernels.residual_sum(x, x[..., :1])
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 6\), \(2, 3, 4, 6\); expected one batch"):
        kernels.concatenate([x, x[:, :3]])
    with pytest.raises(ValueError, match="shapes none"):
        kernels.concatenate([])
    with pytest.raises(ValueError, match="from 6 channels to 5"):
        kernels.zero_padded_shortcut(x, 5, 2)
    with pytest.raises(ValueError, match="3 extra channels"):
        kernels.zero_padded_shortcut(x, 9, 2, zeros="both")
    with pytest.raises(ValueError, match="zeros is 'front'"):
        kernels.zero_padded_shortcut(x, 8, 2, zeros="front")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stride is 0"):
        kernels.zero_padded_shortcut(x, 8, 0)


def test_cost():
    assert kernels.residual_sum_cost((2, 3, 3, 4)) == Cost(0, 72, 0)
    assert kernels.concatenate_cost((2, 3, 3, 4)) == Cost()
    assert kernels.zero_padded_shortcut_cost((2, 4, 4, 2), (2, 2, 2, 4)) == Cost()
