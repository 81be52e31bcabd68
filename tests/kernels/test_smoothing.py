"""Blur and total variation against NumPy loops, SciPy, TensorFlow and the tape."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import kernels
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
SIZES = [(1, 1), (1, 2), (2, 1), (4, 4), (5, 5), (4, 7), (7, 4), (6, 3)]
SIGMAS = [0.0, 0.3, 1.0, 2.5]  # the last reaches ten pixels out: over the whole image and back


def float64(tensor):
    return tf.cast(tensor, "float64").numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_blur_is_the_references(size, sigma, dtype):
    images = references.random((1, *size, 2), 11, dtype)
    blurred = kernels.gaussian_blur(images, sigma)
    assert blurred.dtype == images.dtype
    references.close(blurred, kernels.gaussian_blur_reference(float64(images), sigma))


@pytest.mark.parametrize("sigma", [0.25, 0.5, 1, 1.75, 6])  # quarters, so that SciPy too cuts at ⌈4σ⌉
@pytest.mark.parametrize("size", [(3, 2), (9, 16)])
def test_blur_is_scipys(size, sigma):
    images = references.random((2, *size, 3), 12, "float64")
    theirs = ndimage.gaussian_filter(images.numpy(), (0, sigma, sigma, 0), mode="reflect", truncate=4)
    references.close(kernels.gaussian_blur(images, sigma), theirs)


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_blur_of_one_channel(batch):
    """As batched matrix products this ended the process, in oneDNN."""
    images = references.random((batch, 32, 32, 1), 28)
    theirs = ndimage.gaussian_filter(images.numpy().astype("float64"), (0, 1, 1, 0), mode="reflect", truncate=4)
    for _ in range(5):
        references.close(kernels.gaussian_blur(images, 1.0), theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_blur_of_width_zero_is_the_identity_bit_for_bit(dtype):
    images = references.random((2, 5, 7, 3), 13, dtype)
    for sigma in (0, 0.0, 1e-300):
        np.testing.assert_array_equal(kernels.gaussian_blur(images, sigma), images)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.floats(0, 40))
def test_blur_matrix(length, sigma):
    """Rows and columns sum to one, and no weight is negative: constants stay, and so does the mean of any image."""
    matrix = kernels.blur_matrix(length, sigma)
    assert matrix.dtype == np.float32 and matrix.shape == (length, length) and (matrix >= 0).all()
    references.close(matrix.sum(1), np.ones(length))
    references.close(matrix.sum(0), np.ones(length))
    references.close(matrix.T, matrix)
    references.close(matrix[::-1, ::-1], matrix)


def test_blur_damps_a_cosine_by_the_gaussian_of_its_frequency():
    """A mirrored line's waves are cos(π·k·(i + ½)/n), and a Gaussian's transform is exp(−2π²σ²f²), f = k/2n."""
    for k, sigma in ((0, 1.5), (3, 1.5), (8, 1.0)):
        wave = np.cos(np.pi * k * (np.arange(32) + 0.5) / 32)
        damped = np.exp(-2 * (np.pi * sigma * k / 64) ** 2)
        # The kernel's end, 6e-5 of it, is cut off, and its integral over a pixel is its value at the center.
        np.testing.assert_allclose(kernels.blur_matrix(32, sigma) @ wave, damped * wave, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_blur_gradient_is_the_tapes(sigma, dtype):
    images, g = references.random((2, 5, 4, 2), 14, dtype), references.random((2, 5, 4, 2), 15, dtype)
    by_hand = kernels.gaussian_blur_gradient(g, sigma)
    assert by_hand.dtype == images.dtype
    (tape,) = references.tape_gradient(lambda x: kernels.gaussian_blur(x, sigma), [images], g)
    references.close(by_hand, tape, kind="gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_total_variation_is_the_references_and_tensorflows(size, dtype):
    images = references.random((3, *size, 2), 18, dtype)
    total = kernels.total_variation(images)
    assert total.dtype == images.dtype
    references.close(total, kernels.total_variation_reference(float64(images)))
    references.close(total, tf.image.total_variation(images))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_total_variation_gradient_is_the_tapes_exactly(size, dtype):
    images = tf.round(2 * references.random((2, *size, 2), 19, dtype))  # neighbors that are equal among them
    by_hand = kernels.total_variation_gradient(images)
    assert by_hand.dtype == images.dtype
    (tape,) = references.tape_gradient(kernels.total_variation, [images], None)
    np.testing.assert_array_equal(by_hand, tape)


def test_total_variation_of_a_step_a_dot_and_nothing():
    image = np.zeros((3, 4, 5, 1), "float32")
    image[1, :, 3:] = 2  # an edge of four pixels
    image[2, 1, 1] = 1  # a dot with four neighbors
    assert kernels.total_variation(image).numpy().tolist() == [0, 8, 4]
    gradient = kernels.total_variation_gradient(tf.constant(image))[..., 0].numpy()
    assert not gradient[0].any()
    assert gradient[1].tolist() == [[0, 0, -1, 1, 0]] * 4
    assert gradient[2].tolist() == [[0, -1, 0, 0, 0], [-1, 4, -1, 0, 0], [0, -1, 0, 0, 0], [0] * 5]
