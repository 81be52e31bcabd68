"""Winograd's minimal filtering against the direct sum: one tile, whole images, rounding, and what it saves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.forms.winograd import F2, F4
from tests import references

TRANSFORMS = {"winograd": F2, "winograd4": F4}
by_form = pytest.mark.parametrize("form", TRANSFORMS)
IMAGES = [
    ((1, 8, 8, 2), "SAME"),  # whole tiles
    ((2, 7, 5, 3), "SAME"),  # tiles that hang over
    ((1, 3, 3, 1), "VALID"),  # one output
    ((2, 1, 2, 4), "SAME"),  # an image smaller than a tile
    ((1, 9, 6, 2), "VALID"),
    ((1, 6, 7, 2), ((2, 0), (1, 3))),
]


def case(shape, dtype="float32", channels=5, low=None):
    return references.random(shape, 1, dtype, low), references.random((3, 3, shape[-1], channels), 2, dtype, low)


def wide(*tensors):
    return [tf.cast(t, "float64").numpy() for t in tensors]


@by_form
def test_shapes_of_the_transforms(form):
    """F(m×m, 3×3): Bᵀ [m+2,m+2], G [m+2,3], Aᵀ [m,m+2]."""
    bt, g, at = TRANSFORMS[form]
    m = {"winograd": 2, "winograd4": 4}[form]
    assert (bt.shape, g.shape, at.shape) == ((m + 2, m + 2), (m + 2, 3), (m, m + 2))


@by_form
def test_every_product_of_a_tile_is_the_direct_sums(form):
    """Both sides are bilinear in tile and filter, so agreeing on all pairs of unit arrays is agreeing everywhere."""
    m, size = TRANSFORMS[form][2].shape
    for row, column, i, j in np.ndindex(size, size, 3, 3):
        tile, filters, direct = np.zeros((size, size)), np.zeros((3, 3)), np.zeros((m, m))
        tile[row, column] = filters[i, j] = 1
        if 0 <= row - i < m and 0 <= column - j < m:
            direct[row - i, column - j] = 1
        np.testing.assert_allclose(kernels.winograd_tile_reference(tile, filters, TRANSFORMS[form]), direct, atol=1e-13)


@by_form
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("shape", "padding"), IMAGES)
def test_equals_the_reference(shape, padding, dtype, form):
    x, w = case(shape, dtype)
    y = kernels.conv2d(x, w, 1, padding, algorithm=form)
    assert y.dtype == x.dtype
    references.close(y, kernels.conv2d_reference(*wide(x, w), 1, padding))


@by_form
@pytest.mark.parametrize(("shape", "padding"), IMAGES)
def test_gradients(shape, padding, form):
    x, w = case(shape, "float64")

    def convolution(x, w):
        return kernels.conv2d(x, w, 1, padding, algorithm=form)

    dy = references.random(convolution(x, w).shape, 3, "float64")
    by_hand = (
        kernels.conv2d_input_gradient(dy, w, shape[1:3], 1, padding),
        kernels.conv2d_filter_gradient(x, dy, 3, 1, padding),
    )
    for tape, expected in zip(references.tape_gradient(convolution, [x, w], dy), by_hand, strict=True):
        references.close(tape, expected, kind="gradient")
    references.central_difference(lambda x, w: tf.reduce_sum(dy * convolution(x, w)), by_hand, x, w)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_everywhere(dtype):
    x, w = case((2, 7, 5, 3), dtype)
    references.same_everywhere(
        lambda x, w: [kernels.conv2d(x, w, algorithm=form) for form in TRANSFORMS], x, w, kind="gradient"
    )


@by_form
def test_rounding_over_many_channels(form):
    """As the module says: about 2e-6 of the largest output for F(2×2), 1e-5 for F(4×4), in float32."""
    x, w = case((1, 16, 16, 128), channels=16)
    exact = kernels.conv2d(*(tf.cast(t, "float64") for t in (x, w)))
    y = kernels.conv2d(x, w, algorithm=form)
    error = np.max(np.abs(wide(y)[0] - exact)) / np.max(np.abs(exact))
    assert 1e-8 < error < {"winograd": 2e-6, "winograd4": 1e-5}[form]


@by_form
def test_bfloat16_is_transformed_in_float32(form):
    """The result is the exact one of the rounded inputs, rounded once."""
    x, w = case((1, 8, 8, 16), "bfloat16")
    exact = tf.cast(kernels.conv2d(*(tf.cast(t, "float64") for t in (x, w))), "bfloat16")
    y = kernels.conv2d(x, w, algorithm=form)
    assert np.mean(np.equal(*wide(y, exact))) > 0.99


@by_form
@pytest.mark.parametrize(
    ("filters", "options"),
    [
        ((5, 5, 4, 2), {}),
        ((3, 1, 4, 2), {}),
        ((3, 3, 4, 2), {"stride": 2}),
        ((3, 3, 4, 2), {"stride": (1, 2)}),
        ((3, 3, 4, 2), {"dilation": 2}),
        ((3, 3, 2, 2), {"groups": 2}),
    ],
)
def test_bad_input_says_what_was_wrong(filters, options, form):
    with pytest.raises(ValueError, match="needs 3×3 filters, stride 1, no dilation and one group; got filters"):
        kernels.conv2d(tf.ones((1, 8, 8, 4)), tf.ones(filters), **options, algorithm=form)


def test_multiplications():
    """Per tile: the input's transform, the products (Lavin & Gray: 16 for 36, or 36 for 144) and the output's."""
    assert (
        kernels.winograd_multiplications((1, 3, 3, 1), 1) == 4 * (16 * 16 + 16 + 4 * 16) + 9 * 16
    )  # edges: whole tiles
    f4 = 36 * 36 * 7 + 36 * 7 * 5 + 16 * 36 * 5
    assert kernels.winograd_multiplications((1, 5, 4, 5), 7, F4) == 2 * f4 + 9 * 36 * 7 * 5
    many = (64, 56, 56, 64)  # so many tiles that the transform of the filters does not count
    saved = kernels.conv2d_cost((3, 3, 64, 64), many).macs / kernels.winograd_multiplications(many, 64, F4)
    assert saved == pytest.approx(144 * 64 * 64 / (1296 * 64 + 36 * 64 * 64 + 576 * 64), rel=1e-3)
    assert saved == pytest.approx(2.2, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    margins=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_any_size(size, channels, margins):
    top, bottom, left, right = margins
    height, width = max(size[0], 3 - top - bottom), max(size[1], 3 - left - right)
    padding = (top, bottom), (left, right)
    x, w = case((1, height, width, channels[0]), "float64", channels[1], low=0.1)  # no output cancels to nearly 0
    expected = kernels.conv2d_reference(*wide(x, w), 1, padding)
    for form in TRANSFORMS:
        references.close(kernels.conv2d(x, w, 1, padding, algorithm=form), expected)


@by_form
@pytest.mark.parametrize("shape, padding", IMAGES)
def test_gradients_by_winograd(form, shape, padding):
    """To image and filter, against the sums over taps; and each with gradients of its own."""
    x, w = case(shape)
    dy = references.random(kernels.conv2d(x, w, 1, padding).shape, 3)
    for function, tensors in (
        (kernels.conv2d_input_gradient, (dy, w, shape[1:3])),
        (kernels.conv2d_filter_gradient, (x, dy, 3)),
    ):
        actual, expected = (function(*tensors, 1, padding, algorithm=name) for name in (form, "shifted"))
        references.close(actual, expected, "gradient", wobble=4e-5)
    again = references.tape_gradient(
        lambda x, dy: kernels.conv2d_filter_gradient(x, dy, 3, 1, padding, algorithm=form), [x, dy], w
    )
    wanted = references.tape_gradient(lambda x, dy: kernels.conv2d_filter_gradient(x, dy, 3, 1, padding), [x, dy], w)
    for actual, expected in zip(again, wanted, strict=True):
        references.close(actual, expected, "gradient", wobble=4e-5)


@by_form
def test_gradients_need_what_the_form_needs(form):
    x, w = case((1, 8, 8, 2))
    with pytest.raises(ValueError, match="needs 3×3 filters, stride 1"):
        kernels.conv2d_filter_gradient(x, references.random((1, 4, 4, 5)), 3, 2, algorithm=form)
    with pytest.raises(ValueError, match="needs 3×3 filters, stride 1"):
        kernels.conv2d_input_gradient(references.random((1, 8, 8, 5)), w[:2], (8, 8), algorithm=form)


@by_form
def test_constant_filters_are_transformed_once(form):
    """Outside of the graph: it multiplies once less than where the filters may change."""
    x, w = case((1, 8, 8, 2))

    def products(filters):
        convolution = tf.function(lambda x: kernels.conv2d(x, filters, algorithm=form), autograph=False)
        references.close(convolution(x), kernels.conv2d(x, w, algorithm=form))
        return [
            op.type.startswith(("MatMul", "BatchMatMul"))
            for op in convolution.get_concrete_function(x).graph.get_operations()
        ].count(True)

    assert products(w.numpy()) == products(tf.Variable(w)) - 1
