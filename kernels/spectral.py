"""Images by their spatial frequencies: made of Fourier coefficients, blurred, and measured for noise.

fourier_image          the image of a half spectrum whose frequencies are scaled to the energy they have in natural
                       images (Olah et al., "Feature Visualization", Distill 2017, "Preconditioning and
                       Parameterization"; the formula is lucid's)
gaussian_blur          takes high frequencies away
total_variation        counts them as slopes (Mahendran & Vedaldi 2015, section 2.2, here with exponent 1 of |slope|)
high_frequency_energy  counts them as energy above a frequency
"""

from __future__ import annotations

from cmath import exp
from collections.abc import Sequence
from math import ceil, inf, log2, sqrt
from numbers import Real

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from kernels.activation import widened
from kernels.cost import Cost
from kernels.geometry import Pair, pair

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   Coefficient (u, v) of an h × w image is a wave of u cycles down and v cycles across, u counted up to ±h/2:
#
#       f[u,v] = √((u/h)² + (v/w)²) cycles per pixel        θ = 2π·(u·y/h + v·x/w) at pixel (y, x)
#
#   A real image has z[−u,−v] = z̄[u,v], so columns v = 0 … ⌊w/2⌋ say all, and column v counts m[v] = 2 times, for
#   itself and for w − v. Columns 0 and, if w is even, w/2 mirror into themselves: there m[v] = 1, and rows u and −u
#   are both given. They may contradict each other; only (z[u] + z̄[−u])/2 of them is seen, the rest would be the
#   image's imaginary part. Taking real parts does all of this:
#
#       fourier_image(z)[y,x] = 1/(4·h·w) · Σᵤ Σᵥ m[v] · s[u,v] · (Re z[u,v] · cos θ − Im z[u,v] · sin θ)
#       s[u,v] = √(w·h) / max(f[u,v], 1/max(w,h))^decay
#
#   gaussian_blur(x) = A_H · x · A_Wᵀ for each channel;   A[i,j] = Σ of exp(−t²/2σ²)/Z over the taps |t| ≤ ⌈4σ⌉ that
#   read pixel j from pixel i, where pixels −1, −2, … are pixels 0, 1, … again, and so on at each edge.
#
#   total_variation(x) = Σ |x[i+1,j] − x[i,j]| + Σ |x[i,j+1] − x[i,j]|
#
#   high_frequency_energy(x) = Σ_{f > radius} |X[u,v]|² / (h·w)², mean over channels; X = Σ x[y,x]·e^(−iθ). By Parseval
#   it is the mean square of the waves above the radius; that of all of them is the mean square of x.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def fourier_image_reference(spectrum: np.ndarray, size: tuple[int, int], decay: float = 1.0) -> np.ndarray:
    """[2,B,h,w//2+1,C] → [B,h,w,C], a wave at a time."""
    (height, width), (_, batch, rows, columns, channels) = size, np.shape(spectrum)
    image = np.zeros((batch, height, width, channels))
    for b, y, x, k, u, v in np.ndindex(*image.shape, rows, columns):
        frequency = sqrt((min(u, height - u) / height) ** 2 + (v / width) ** 2)
        scale = sqrt(width * height) / max(frequency, 1 / max(width, height)) ** decay
        angle = 2 * np.pi * (u * y / height + v * x / width)
        wave = spectrum[0, b, u, v, k] * np.cos(angle) - spectrum[1, b, u, v, k] * np.sin(angle)
        times = 1 if v == 0 or 2 * v == width else 2
        image[b, y, x, k] += times * scale * wave / (4 * height * width)
    return image


def gaussian_blur_reference(images: np.ndarray, sigma: float) -> np.ndarray:
    """[B,H,W,C], one tap at a time; taps outside walk back in at the edge they meet."""
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
    """[B,H,W,C] → [B], one pair of neighbours at a time."""
    images = np.asarray(images, np.float64)
    total = np.zeros(len(images))
    for b, i, j, k in np.ndindex(images.shape):
        total[b] += abs(images[b, i, j, k] - images[b, i - 1, j, k]) if i else 0.0
        total[b] += abs(images[b, i, j, k] - images[b, i, j - 1, k]) if j else 0.0
    return total


def high_frequency_energy_reference(images: np.ndarray, radius: float = 0.25) -> np.ndarray:
    """[B,H,W,C] → [B] by the whole Fourier transform, one coefficient at a time."""
    batch, height, width, channels = np.shape(images)
    energy = np.zeros(batch)
    for b, u, v, k in np.ndindex(batch, height, width, channels):
        if sqrt((min(u, height - u) / height) ** 2 + (min(v, width - v) / width) ** 2) > radius:
            coefficient = 0j
            for y, x in np.ndindex(height, width):
                coefficient += float(images[b, y, x, k]) * exp(-2j * np.pi * (u * y / height + v * x / width))
            energy[b] += abs(coefficient) ** 2 / (height * width) ** 2 / channels
    return energy


# 3. Tensor forms --------------------------------------------------------------------------------------------


def fourier_frequencies(size: Pair, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Cycles per pixel of each coefficient of an image's half spectrum, [h,w//2+1]. `size` is an int or (h, w)."""
    height, width = pair(size, "size")
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).astype(dtype)


def spectrum_shape(batch: int, size: Pair, channels: int = 3) -> tuple[int, int, int, int, int]:
    """Of the coefficients that `fourier_image` draws images of `size` from: [2,B,h,w//2+1,C]."""
    height, width = pair(size, "size")
    return 2, batch, height, width // 2 + 1, channels


def _frequency_scale(size: tuple[int, int], decay: float, dtype: tf.DType) -> np.ndarray:
    """s/4 of the equation, [h,w//2+1]."""
    height, width = size
    floored = np.maximum(fourier_frequencies(size, np.float64), 1 / max(size))
    return (sqrt(width * height) / floored**decay / 4).astype(dtype.as_numpy_dtype)


def _column_counts(width: int) -> np.ndarray:
    """[w//2+1]: 2 for a column whose mirror image is not in the half spectrum, else 1."""
    return np.array([1 if v in (0, width - v) else 2 for v in range(width // 2 + 1)])


def _planes(images: tf.Tensor, verb: str) -> tf.Tensor:
    """[B,H,W,C] → [B,C,H,W], at least float32. ValueError unless the images are that, all but B known."""
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise ValueError(f"cannot {verb} images {images.shape}; expected [B,H,W,C] with all but the batch known")
    return tf.transpose(widened(images), (0, 3, 1, 2))


def _pixels(planes: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """[B,C,H,W] → [B,H,W,C] of `dtype`."""
    return tf.cast(tf.transpose(planes, (0, 2, 3, 1)), dtype)


def fourier_image(spectrum: tf.Tensor, size: Pair, decay: float = 1.0) -> tf.Tensor:
    """Images [B,h,w,C] of half spectra [2,B,h,w//2+1,C] (real, imaginary part), high frequencies scaled down.

    With `decay` 1 the amplitude falls as 1/frequency, as in natural images; with 0 all frequencies are alike. `size`
    is an int or (h, w). Raises ValueError unless the shape of the spectrum is that of `spectrum_shape`.
    """
    spectrum, (height, width) = tf.convert_to_tensor(spectrum), pair(size, "size")
    half = width // 2 + 1
    if not spectrum.shape.is_compatible_with((2, None, height, half, None)):
        raise ValueError(
            f"cannot draw images of {height}×{width} pixels from a spectrum {spectrum.shape}; expected its real and "
            f"imaginary part, [2,B,{height},{half},C]"
        )

    @tf.custom_gradient
    def drawn(spectrum):  # TensorFlow's own gradient of irfft2d takes five times as long in a graph
        z = tf.transpose(widened(spectrum), (0, 1, 4, 2, 3))  # [2,B,C,h,w//2+1]
        z *= _frequency_scale((height, width), decay, z.dtype)
        images = _pixels(tf.signal.irfft2d(tf.complex(z[0], z[1]), (height, width)), spectrum.dtype)
        return images, lambda gradient: fourier_image_gradient(gradient, decay)

    return drawn(spectrum)


def blur_matrix(length: int, sigma: float, dtype: DTypeLike = np.float32) -> np.ndarray:
    """[length,length]: row i holds the weights by which a Gaussian blur reads a line of pixels at pixel i.

    Rows sum to 1. `sigma` in pixels; the kernel is cut at 4σ, and the line goes on mirrored beyond its edges.
    Raises ValueError unless sigma is a finite number, 0 or more.
    """
    if not isinstance(sigma, Real) or not 0 <= sigma < inf:
        raise ValueError(f"sigma is {sigma!r}; expected the width of a blur in pixels, 0 or more")
    taps = np.arange(-ceil(4 * sigma), ceil(4 * sigma) + 1)
    weights = np.exp(-((taps / max(sigma, 0.01)) ** 2) / 2)  # below 0.01 the neighbours' weights are 0 anyway
    period = 2 * length  # of the line and its mirror image, over and over
    folded = np.bincount(taps % period, weights / weights.sum(), period)  # by distance, modulo the period
    i, j = np.indices((length, length))
    return (folded[(j - i) % period] + folded[(-1 - j - i) % period]).astype(dtype)  # j, and its mirror image −1 − j


def gaussian_blur(images: tf.Tensor, sigma: float) -> tf.Tensor:
    """[B,H,W,C] blurred by a Gaussian of `sigma` pixels; the border mirrors the image, so its mean stays.

    Two matrix products, whose cost does not depend on sigma. Raises ValueError for a negative sigma or another shape.
    """
    planes = _planes(images, "blur")  # [B,C,H,W]
    down, across = (blur_matrix(length, sigma, planes.dtype.as_numpy_dtype) for length in planes.shape[2:])
    return _pixels(_along_both(planes, down, across), images.dtype)


def _along_both(planes: tf.Tensor, down: np.ndarray, across: np.ndarray) -> tf.Tensor:
    """down · X · acrossᵀ for each X [H,W] of planes [B,C,H,W].

    As products of two matrices: batched ones, of one channel, made oneDNN write beyond its memory (TensorFlow 2.21).
    """
    height, width = planes.shape[2:]
    channels = planes.shape[1]
    rows = tf.matmul(tf.reshape(planes, (-1, width)), across, transpose_b=True)  # [B·C·H,W]
    columns = tf.transpose(tf.reshape(rows, (-1, channels, height, width)), (0, 1, 3, 2))  # [B,C,W,H]
    both = tf.matmul(tf.reshape(columns, (-1, height)), down, transpose_b=True)
    return tf.transpose(tf.reshape(both, (-1, channels, width, height)), (0, 1, 3, 2))


def _slopes(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Differences of neighbours, down [B,H−1,W,C] and across [B,H,W−1,C]."""
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4:
        raise ValueError(f"cannot take the variation of images {images.shape}; expected [B,H,W,C]")
    x = widened(images)
    return x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C] → [B]: the sum of all absolute differences of neighbours, down and across. ValueError otherwise."""
    down, across = (tf.reduce_sum(tf.abs(slopes), axis=(1, 2, 3)) for slopes in _slopes(images))
    return tf.cast(down + across, images.dtype)


def high_frequency_energy(images: tf.Tensor, radius: float = 0.25) -> tf.Tensor:
    """[B,H,W,C] → [B]: mean square of what varies faster than `radius` cycles per pixel (a negative one: of all).

    The fastest wave along an axis has 0.5, along a diagonal 0.71. Raises ValueError for another shape.
    """
    planes = _planes(images, "measure")  # [B,C,H,W]
    _, channels, height, width = planes.shape
    above = fourier_frequencies((height, width), np.float64) > radius
    shares = above * _column_counts(width) / ((height * width) ** 2 * channels)  # [H,W//2+1]
    spectrum = tf.signal.rfft2d(planes)  # [B,C,H,W//2+1]
    power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
    return tf.cast(tf.reduce_sum(shares.astype(power.dtype.as_numpy_dtype) * power, axis=(1, 2, 3)), images.dtype)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
#   fourier_image is linear in z. With g = ∂L/∂image and its transform G[u,v] = Σ g[y,x]·e^(−iθ), which has the real
#   part Σ g·cos θ and the imaginary part −Σ g·sin θ:
#
#       ∂L/∂Re z[u,v] = m[v]·s[u,v]/(4·h·w) · Σ  g·cos θ = m[v]·s[u,v]/(4·h·w) · Re G[u,v]
#       ∂L/∂Im z[u,v] = m[v]·s[u,v]/(4·h·w) · Σ −g·sin θ = m[v]·s[u,v]/(4·h·w) · Im G[u,v]
#
#   gaussian_blur sends back A_Hᵀ · g · A_W. Distances count the same both ways, so A is symmetric: A_Hᵀ = A_H, and
#   the gradient of a blur is the blurred gradient.
#
#   total_variation rises with slope x[i+1] − x[i] if it is positive: its sign goes to x[i+1], and its negative to x[i].
#
#   high_frequency_energy is |P·x|²/n for the projection P = Pᵀ = P² on the waves above the radius: ∂/∂x = 2·P·x/n.


def fourier_image_gradient(gradient: tf.Tensor, decay: float = 1.0) -> tf.Tensor:
    """To the spectrum [2,B,h,w//2+1,C], from the gradient [B,h,w,C] to the images."""
    planes = _planes(gradient, "send back")  # [B,C,h,w]
    _, _, height, width = planes.shape
    counts = (_column_counts(width) / (height * width)).astype(planes.dtype.as_numpy_dtype)
    transform = tf.signal.rfft2d(planes)  # [B,C,h,w//2+1]
    parts = tf.stack([tf.math.real(transform), tf.math.imag(transform)])
    parts *= counts * _frequency_scale((height, width), decay, planes.dtype)
    return tf.cast(tf.transpose(parts, (0, 1, 3, 4, 2)), gradient.dtype)


def gaussian_blur_gradient(gradient: tf.Tensor, sigma: float) -> tf.Tensor:
    """To the images, from the gradient [B,H,W,C] to the blurred ones: it is blurred too."""
    return gaussian_blur(gradient, sigma)


def total_variation_gradient(images: tf.Tensor) -> tf.Tensor:
    """Of the batch's sum to the images [B,H,W,C]: −4 to 4 a pixel, and 0 from neighbours that are equal."""
    down, across = (tf.sign(slopes) for slopes in _slopes(images))
    rows = tf.pad(down, ((0, 0), (1, 0), (0, 0), (0, 0))) - tf.pad(down, ((0, 0), (0, 1), (0, 0), (0, 0)))
    columns = tf.pad(across, ((0, 0), (0, 0), (1, 0), (0, 0))) - tf.pad(across, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return tf.cast(rows + columns, images.dtype)


def high_frequency_energy_gradient(images: tf.Tensor, radius: float = 0.25) -> tf.Tensor:
    """Of the batch's sum to the images [B,H,W,C]: their high frequencies, times 2 over the pixels and channels."""
    planes = _planes(images, "measure")  # [B,C,H,W]
    _, channels, height, width = planes.shape
    above = fourier_frequencies((height, width), np.float64) > radius
    spectrum = tf.signal.rfft2d(planes)
    kept = (above * 2 / (height * width * channels)).astype(spectrum.dtype.as_numpy_dtype)
    return _pixels(tf.signal.irfft2d(spectrum * kept, (height, width)), images.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def _transform_cost(shape: Sequence[int]) -> tuple[int, int]:
    """(operations of the Fourier transforms of [B,H,W,C], coefficients of their half spectra).

    By convention a transform of n = H·W real numbers takes 2.5·n·log₂ n operations, half of a complex one's
    5·n·log₂ n, the radix-2 algorithm's; libraries take fewer, and more for sizes with large prime factors.
    """
    batch, height, width, channels = shape
    pixels = height * width
    return round(2.5 * batch * channels * pixels * log2(pixels)), batch * channels * height * (width // 2 + 1)


def fourier_image_cost(output_shape: Sequence[int]) -> Cost:
    """Of [B,h,w,C]: a product for each number of the spectrum and a transform, forward and backward."""
    transform, coefficients = _transform_cost(output_shape)
    return Cost(flops=transform + 2 * coefficients, backward_flops=transform + 2 * coefficients)


def gaussian_blur_cost(input_shape: Sequence[int]) -> Cost:
    """Of [B,H,W,C]: H products and sums a pixel down, W across, whatever sigma is; backward the same."""
    batch, height, width, channels = input_shape
    flops = 2 * batch * height * width * channels * (height + width)
    return Cost(flops=flops, backward_flops=flops)


def total_variation_cost(input_shape: Sequence[int]) -> Cost:
    """Of [B,H,W,C]: a difference, its size and a sum for each pair of neighbours; backward a sign and two sums more."""
    batch, height, width, channels = input_shape
    pairs = batch * channels * ((height - 1) * width + height * (width - 1))
    return Cost(flops=3 * pairs, backward_flops=4 * pairs)


def high_frequency_energy_cost(input_shape: Sequence[int]) -> Cost:
    """Of [B,H,W,C]: a transform, then two squares, a product and two sums a coefficient.

    Backward a transform, a product for each number of the spectrum, and a transform back.
    """
    transform, coefficients = _transform_cost(input_shape)
    return Cost(flops=transform + 5 * coefficients, backward_flops=2 * transform + 2 * coefficients)
