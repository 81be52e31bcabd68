"""The transposed convolution: the adjoint of the convolution, against NumPy loops and TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.geometry import window_padding
from tests import references
from tests.kernels.test_convolution import TYPES, by_case, tensors


@by_case
def test_transposed_convolution_is_the_adjoint(case):
    """⟨conv(u), x⟩ = ⟨u, convᵀ(x)⟩."""
    u, w, x, options = tensors(case, "float64", low=0.1)
    back = kernels.conv2d_transpose(x, w, *options, output_size=u.shape[1:3])
    references.close(tf.reduce_sum(u * back), tf.reduce_sum(kernels.conv2d(u, w, *options) * x))


@by_case
def test_transposed_convolution_is_its_reference(case):
    u, w, x, (stride, padding, dilation, groups) = tensors(case, "float64")
    (top, _), (left, _) = window_padding(padding, u.shape[1:3], w.shape[:2], stride, dilation)
    expected = kernels.conv2d_transpose_reference(
        x.numpy(), w.numpy(), u.shape[1:3], stride, (top, left), dilation, groups
    )
    references.close(
        kernels.conv2d_transpose(x, w, stride, padding, dilation, groups, output_size=u.shape[1:3]), expected
    )
    cost = kernels.conv2d_transpose_cost(w.shape, x.shape)
    assert cost.macs == kernels.conv2d_cost(w.shape, x.shape).macs == x.shape.num_elements() * np.prod(w.shape[:3])


@pytest.mark.parametrize("dtype", [*TYPES, "float64"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("window", "stride"), [((3, 3), 2), ((2, 3), (3, 2)), ((4, 4), 1)])
def test_transposed_convolution_is_tensorflows(window, stride, padding, dtype):
    x, w = references.random((2, 4, 5, 3), 4, dtype), references.random((*window, 2, 3), 5, dtype)
    y = kernels.conv2d_transpose(x, w, stride, padding)
    assert y.dtype == x.dtype
    references.close(y, tf.nn.conv2d_transpose(x, w, y.shape, stride, padding))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "size"),
    [
        (1, "SAME", 1, (4, 5)),
        (3, "SAME", 1, (12, 15)),
        ((2, 1), "SAME", 2, (8, 5)),
        (1, "VALID", 1, (6, 7)),
        (2, "VALID", 1, (9, 11)),
        (2, ((1, 0), (1, 1)), (1, 2), (8, 11)),
    ],
)
def test_default_size_of_the_transposed_convolution(stride, padding, dilation, size):
    x, w = references.random((2, 4, 5, 3), 4), references.random((3, 3, 2, 3), 5)
    y = kernels.conv2d_transpose(x, w, stride, padding, dilation)
    assert y.shape == (2, *size, 2)
    assert kernels.conv2d(y, w, stride, padding, dilation).shape == x.shape
