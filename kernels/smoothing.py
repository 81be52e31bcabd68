"""Smooth images: a blur that removes high frequencies, and a measure of the differences between neighbors.

    gaussian_blur    two matrix products, whose cost does not depend on sigma
    total_variation  Mahendran & Vedaldi 2015, section 2.2, here with the absolute values of the differences

The blur acts on each channel. The total variation of an image adds up its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from numbers import Real

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from kernels.cost import Cost
from kernels.geometry import shown
from kernels.precision import wide

WIDEST = 10**4  # pixels of σ; all larger ones average the whole image

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   gaussian_blur(x) = A_H · x · A_Wᵀ for each channel;   A[i,j] = Σ of exp(−t²/2σ²)/Z over the taps |t| ≤ ⌈4σ⌉ that
#   read pixel j from pixel i, where pixels −1, −2, … are pixels 0, 1, … again, and likewise at each edge.
#
#   total_variation(x) = Σ |x[i+1,j] − x[i,j]| + Σ |x[i,j+1] − x[i,j]|


# 2. NumPy reference -----------------------------------------------------------------------------------------


def gaussian_blur_reference(images: np.ndarray, sigma: float) -> np.ndarray:
    """One tap at a time, in float64; taps outside are mirrored at the edge. Args and Returns as `gaussian_blur`."""
    images = np.asarray(images, np.float64)
    taps = range(-ceil(4 * sigma), ceil(4 * sigma) + 1)
    weights = [float(np.exp(-(t**2) / (2 * sigma**2))) if t else 1.0 for t in taps]
    blurred = np.zeros(images.shape)
    for b, i, j, k in np.ndindex(images.shape):
        for down, weight_down in zip(taps, weights, strict=True):
            for across, weight_across in zip(taps, weights, strict=True):
                place = [i + down, j + across]
                for axis, length in enumerate(images.shape[1:3]):
                    while not 0 <= place[axis] < length:
                        place[axis] = -1 - place[axis] if place[axis] < 0 else 2 * length - 1 - place[axis]
                blurred[b, i, j, k] += weight_down * weight_across * images[b, place[0], place[1], k]
    return blurred / sum(weights) ** 2


def total_variation_reference(images: np.ndarray) -> np.ndarray:
    """One pair of neighbors at a time, in float64. Args and Returns as `total_variation`."""
    images = np.asarray(images, np.float64)
    total = np.zeros(len(images))
    for b, i, j, k in np.ndindex(images.shape):
        total[b] += abs(images[b, i, j, k] - images[b, i - 1, j, k]) if i else 0.0
        total[b] += abs(images[b, i, j, k] - images[b, i, j - 1, k]) if j else 0.0
    return total


# 3. Tensor forms --------------------------------------------------------------------------------------------


def blur_matrix(length: int, sigma: float, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Compute A of the equation.

    Args:
        length: The length of a line of pixels.
        sigma: In pixels; the Gaussian is cut at 4σ, and the line is mirrored beyond its edges.
        dtype: The type of the result.

    Returns:
        [length,length]: row i holds the weights for pixel i, and sums to 1.

    Raises:
        ValueError: Unless sigma is a number, 0 to `WIDEST`.
    """
    if not isinstance(sigma, Real) or isinstance(sigma, bool) or not 0 <= sigma <= WIDEST:
        raise ValueError(
            f"sigma is {shown(sigma)}; expected the width of a blur in pixels, 0 or more, up to {WIDEST:,}"
        )
    taps = np.arange(-ceil(4 * sigma), ceil(4 * sigma) + 1)
    weights = np.exp(-((taps / max(sigma, 0.01)) ** 2) / 2)  # below 0.01 the neighbors' weights are 0 anyway
    period = 2 * length  # of the line and its mirror image, over and over
    folded = np.bincount(taps % period, weights / weights.sum(), period)  # by distance, modulo the period
    i, j = np.indices((length, length))
    return (folded[(j - i) % period] + folded[(-1 - j - i) % period]).astype(dtype)  # j, and its mirror image −1 − j


def gaussian_blur(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """Blur images by a Gaussian. The border mirrors the image, so its mean stays.

    Args:
        images: [B,H,W,C].
        sigma: In pixels.

    Returns:
        [B,H,W,C].

    Raises:
        ValueError: For a negative sigma or another shape.
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise ValueError(f"cannot blur images {images.shape}; expected [B,H,W,C] with all but the batch known")
    planes = tf.transpose(wide(images), (0, 3, 1, 2))  # [B,C,H,W]
    down, across = (blur_matrix(length, sigma, planes.dtype.as_numpy_dtype) for length in planes.shape[2:])
    return tf.cast(tf.transpose(_along_both(planes, down, across), (0, 2, 3, 1)), images.dtype)


def _along_both(planes: tf.Tensor, down: np.ndarray, across: np.ndarray) -> tf.Tensor:
    """down · X · acrossᵀ for each X [H,W] of planes [B,C,H,W].

    As products of two matrices: batched products of one channel made oneDNN write beyond its memory (TensorFlow 2.21).
    """
    height, width = planes.shape[2:]
    channels = planes.shape[1]
    rows = tf.matmul(tf.reshape(planes, (-1, width)), across, transpose_b=True)  # [B·C·H,W]
    columns = tf.transpose(tf.reshape(rows, (-1, channels, height, width)), (0, 1, 3, 2))  # [B,C,W,H]
    both = tf.matmul(tf.reshape(columns, (-1, height)), down, transpose_b=True)  # [B·C·W,H]
    return tf.transpose(tf.reshape(both, (-1, channels, width, height)), (0, 1, 3, 2))


def _differences(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Differences of neighbors, down [B,H−1,W,C] and across [B,H,W−1,C]."""
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4:
        raise ValueError(f"cannot take the variation of images {images.shape}; expected [B,H,W,C]")
    x = wide(images)
    return x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Sum the absolute differences of neighbors, down and across.

    Args:
        images: [B,H,W,C].

    Returns:
        [B].

    Raises:
        ValueError: For another shape.
    """
    down, across = (tf.reduce_sum(tf.abs(part), axis=(1, 2, 3)) for part in _differences(images))
    return tf.cast(down + across, images.dtype)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
#   gaussian_blur has the gradient A_Hᵀ · g · A_W. Distances count equally in both directions, so A is symmetric, and
#   the gradient of a blur is the blurred gradient.
#
#   |x[i+1] − x[i]| has the gradient sign(x[i+1] − x[i]) to x[i+1] and its negative to x[i].


def gaussian_blur_gradient(gradient: tf.Tensor, sigma: float) -> tf.Tensor:
    """Compute the gradient to the images: the blurred gradient.

    Args:
        gradient: ∂L/∂y [B,H,W,C].
        sigma: In pixels.

    Returns:
        ∂L/∂images [B,H,W,C].
    """
    return gaussian_blur(gradient, sigma)


def total_variation_gradient(images: tf.Tensor) -> tf.Tensor:
    """Compute the gradient to the images of the sum over the batch.

    Args:
        images: [B,H,W,C].

    Returns:
        [B,H,W,C]: −4 to 4 per pixel; equal neighbors add 0.

    Raises:
        ValueError: For another shape.
    """
    down, across = (tf.sign(part) for part in _differences(images))
    rows = tf.pad(down, ((0, 0), (1, 0), (0, 0), (0, 0))) - tf.pad(down, ((0, 0), (0, 1), (0, 0), (0, 0)))
    columns = tf.pad(across, ((0, 0), (0, 0), (1, 0), (0, 0))) - tf.pad(across, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return tf.cast(rows + columns, images.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def gaussian_blur_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [B,H,W,C] → the cost: H products and sums per pixel down and W across, for every sigma.

    The backward pass costs the same.
    """
    batch, height, width, channels = input_shape
    flops = 2 * batch * height * width * channels * (height + width)
    return Cost(flops=flops, backward_flops=flops)


def total_variation_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [B,H,W,C] → the cost: a difference, its size and a sum per pair of neighbors.

    The backward pass takes a sign and two sums more.
    """
    batch, height, width, channels = input_shape
    pairs = batch * channels * ((height - 1) * width + height * (width - 1))
    return Cost(flops=3 * pairs, backward_flops=4 * pairs)
