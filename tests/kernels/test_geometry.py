"""Windows over images: sizes against a count of positions, padding against TensorFlow, and each move's adjoint."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels import geometry
from tests import references

POSITIVE = "expected a positive int or a pair of them, such as 2 or"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, (3, 3)), ((1, 2), (1, 2)), ([4, 5], (4, 5)), (np.int64(2), (2, 2)), (tf.TensorShape((3, 5)), (3, 5))],
)
def test_pair(value, expected):
    result = geometry.pair(value)
    assert result == expected
    assert [type(n) for n in result] == [int, int]


@pytest.mark.parametrize("value", [0, -1, (1, 0), (1, 2, 3), (1,), 1.5, (1, 2.0), None, "ab", "SAME"])
def test_what_is_no_pair(value):
    with pytest.raises(ValueError, match=f"stride is .*; {POSITIVE}"):
        geometry.pair(value, "stride")


@pytest.mark.parametrize(
    ("length", "window", "stride", "dilation", "expected"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 2, 1, 1, (0, 1)),  # the odd pixel goes last
        (224, 7, 2, 1, (2, 3)),
        (56, 3, 2, 1, (0, 1)),
        (7, 3, 1, 2, (2, 2)),
        (8, 1, 3, 1, (0, 0)),  # never negative
        (1, 5, 4, 1, (2, 2)),
    ],
)
def test_same_padding(length, window, stride, dilation, expected):
    assert geometry.same_padding(length, window, stride, dilation) == expected


def test_window_padding():
    assert geometry.window_padding("VALID", (None, None), 3, 2) == ((0, 0), (0, 0))
    assert geometry.window_padding("SAME", (5, 8), (3, 4), (1, 2), (2, 1)) == ((2, 2), (1, 1))
    assert geometry.window_padding(((1, 2), (0, 3)), (None, 4), 3, 1) == ((1, 2), (0, 3))
    assert geometry.window_padding([[1, 2], [0, 3]], (4, 4), 3, 1) == ((1, 2), (0, 3))


@pytest.mark.parametrize("size", [(None, 4), (4, None), (None, None)])
def test_same_padding_needs_a_size(size):
    with pytest.raises(ValueError, match=r'"SAME" in pixels needs a known image size; give explicit padding'):
        geometry.window_padding("SAME", size, 3, 1)


@pytest.mark.parametrize(
    "padding", ["same", "ab", "", 1, None, (1, 1), ((1, 1),), ((1, 1), (0, -1)), ((1, 1), (0.5, 1)), ((1, 1), ("a", 1))]
)
def test_what_is_no_padding(padding):
    with pytest.raises(ValueError, match=r'expected "SAME", "VALID" or \(\(top, bottom\), \(left, right\)\) in pixels'):
        geometry.window_padding(padding, (4, 4), 3, 1)


@pytest.mark.parametrize(
    ("padding", "size", "options", "message"),
    [
        ("VALID", (4, 9), {"window": (5, 3), "stride": 1}, r"window of \(5, 3\) \(dilation \(1, 1\)\) does not fit"),
        ("VALID", (4, 4), {"window": 2, "stride": 1, "dilation": 4}, r"\(dilation \(4, 4\)\) does not fit"),
        (((0, 0), (0, 1)), (9, 1), {"window": 3, "stride": 1}, r"image of \(9, 1\) padded by \(\(0, 0\), \(0, 1\)\)"),
        ("VALID", (None, 4), {"window": 3, "stride": 1}, r"size is \(None, 4\); expected a known, positive"),
        ("SAME", (0, 4), {"window": 3, "stride": 1}, r"size is \(0, 4\); expected a known, positive"),
    ],
)
def test_no_output_size(padding, size, options, message):
    with pytest.raises(ValueError, match=message):
        geometry.output_size(padding, size, **options)


def test_pad_and_crop():
    x, pads = references.random((2, 3, 4, 2), 1), ((1, 2), (0, 3))
    padded = geometry.pad_image(x, pads, -7.0)
    assert padded.shape == (2, 6, 7, 2)
    np.testing.assert_array_equal(geometry.crop_image(padded, pads), x)
    assert np.sum(padded == -7) == 2 * 2 * (6 * 7 - 3 * 4)
    assert geometry.pad_image(x, ((0, 0), (0, 0))) is x


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_padding_keeps_the_value(dtype):
    """0.1 has more digits than float32; a detour through it would show."""
    padded = geometry.pad_image(tf.zeros((1, 1, 1, 1), dtype), ((0, 1), (0, 0)), 0.1)
    assert padded.dtype == dtype
    assert padded[0, 1, 0, 0] == tf.constant(0.1, dtype)


@pytest.mark.parametrize("margins", [((1, -1), (-2, 1)), ((0, 2), (-1, -1)), ((-3, 3), (0, 0))])
def test_crop_or_pad_gradient_is_the_difference(margins):
    x = references.random((2, 3, 4, 2), 1, "float64")
    g = references.random(geometry.crop_or_pad(x, margins).shape, 2, "float64")
    gradient = geometry.crop_or_pad_gradient(g, margins)
    references.central_difference(lambda x: tf.reduce_sum(g * geometry.crop_or_pad(x, margins)), [gradient], x)


def test_crop_or_pad():
    x = tf.reshape(tf.range(1.0, 7.0), (1, 2, 3, 1))
    rows = geometry.crop_or_pad(x, ((1, -1), (-2, 1)))[0, :, :, 0]
    np.testing.assert_array_equal(rows, [[0, 0], [3, 0]])
    nothing_left = geometry.crop_or_pad(x, ((-3, 3), (0, 0)))[0, :, :, 0]
    np.testing.assert_array_equal(nothing_left, np.zeros((2, 3)))


def test_inserted_zeros():
    x = tf.reshape(tf.range(1.0, 5.0), (1, 2, 2, 1))
    spaced = geometry.insert_zeros(x, (2, 3))[0, :, :, 0]
    np.testing.assert_array_equal(spaced, [[1, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 4]])
    assert geometry.insert_zeros(x, 1) is x


def test_same_everywhere():
    x = references.random((2, 3, 4, 2), 1)
    references.same_everywhere(
        lambda x: (
            geometry.insert_zeros(x, (2, 3)),
            geometry.place_view(x, (1, 2), 2, (2, 1), (9, 10)),
            geometry.crop_or_pad(x, ((1, -2), (-3, 4))),
            geometry.window_views(x, 2, (1, 2), 1, (2, 2)),
        ),
        x,
    )


windows = st.fixed_dictionaries(
    {name: st.tuples(st.integers(1, 3), st.integers(1, 3)) for name in ("window", "stride", "dilation")}
)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
margins = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


@settings(max_examples=50, deadline=None)
@given(size=sizes, move=windows, padding=st.one_of(st.sampled_from(["SAME", "VALID"]), margins))
def test_output_size_counts_positions(size, move, padding):
    pads = geometry.window_padding(padding, size, **move)
    counts = [
        len(range(0, length + sum(pad) - (taps - 1) * gap, step))
        for length, pad, taps, gap, step in zip(
            size, pads, move["window"], move["dilation"], move["stride"], strict=True
        )
    ]
    if min(counts) < 1:
        with pytest.raises(ValueError, match="does not fit"):
            geometry.output_size(padding, size, **move)
    else:
        assert geometry.output_size(padding, size, **move) == tuple(counts)
    if padding == "SAME":
        assert counts == [-(-length // step) for length, step in zip(size, move["stride"], strict=True)]


@settings(max_examples=25, deadline=None)
@given(size=sizes, move=windows)
def test_same_is_tensorflows(size, move):
    """A filter of ones over an image of ones counts what each window sees: it must see the same in both."""
    x, w = tf.ones((1, *size, 1)), tf.ones((*move["window"], 1, 1))
    pads = geometry.window_padding("SAME", size, **move)
    options = {"strides": move["stride"], "dilations": move["dilation"]}
    ours = tf.nn.conv2d(geometry.pad_image(x, pads), w, padding="VALID", **options)
    np.testing.assert_array_equal(ours, tf.nn.conv2d(x, w, padding="SAME", **options))


@settings(max_examples=25, deadline=None)
@given(size=sizes, move=windows, pads=margins)
def test_views_and_their_adjoint(size, move, pads):
    """View (i, j) shows tap (i, j) of every window; ⟨view(x), v⟩ = ⟨x, place(v)⟩."""
    padded = [n + sum(p) for n, p in zip(size, pads, strict=True)]
    reach = [(k - 1) * d for k, d in zip(move["window"], move["dilation"], strict=True)]
    assume(all(n > r for n, r in zip(padded, reach, strict=True)))
    out = geometry.output_size(pads, size, **move)
    x = geometry.pad_image(references.random((2, *size, 1), 1, "float64", low=0.1), pads)
    views = geometry.window_views(x, **move, out=out)
    (sh, sw), (dh, dw), (kh, kw) = move["stride"], move["dilation"], move["window"]
    assert len(views) == kh * kw
    for tap, view in enumerate(views):
        i, j = divmod(tap, kw)
        for p, q in np.ndindex(*out):
            np.testing.assert_array_equal(view[:, p, q], x[:, p * sh + i * dh, q * sw + j * dw])
        v = references.random(view.shape, 2, "float64", low=0.1)  # nothing cancels in the sums
        back = geometry.place_view(v, (i, j), move["stride"], move["dilation"], padded)
        references.close(tf.reduce_sum(back * x), tf.reduce_sum(view * v))
        np.testing.assert_array_equal(np.count_nonzero(back), np.count_nonzero(v))


@settings(max_examples=25, deadline=None)
@given(size=sizes, rows=st.tuples(*[st.integers(-4, 4)] * 2), columns=st.tuples(*[st.integers(-4, 4)] * 2))
def test_crop_or_pad_moves_the_frame(size, rows, columns):
    """Pixel (r, c) of the result is pixel (r − top, c − left) of the image, or 0 outside it."""
    height, width = size[0] + sum(rows), size[1] + sum(columns)
    assume(min(height, width) >= 1)
    x = references.random((1, *size, 1), 1)
    y = geometry.crop_or_pad(x, (rows, columns))
    assert y.shape == (1, height, width, 1)
    for r, c in np.ndindex(height, width):
        row, column = r - rows[0], c - columns[0]
        inside = 0 <= row < size[0] and 0 <= column < size[1]
        assert y[0, r, c, 0] == (x[0, row, column, 0] if inside else 0)
