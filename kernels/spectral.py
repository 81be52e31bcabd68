"""Images by their spatial frequencies: drawn from Fourier coefficients, and measured for noise.

    fourier_image          the image of a half spectrum whose frequencies are scaled to the energy they have in natural
                           images (Olah et al., "Feature Visualization", Distill 2017, "Preconditioning and
                           Parameterization"; the formula is lucid's)
    high_frequency_energy  the energy above a frequency

`spectrum_shape` and `fourier_frequencies` describe the half spectrum.
"""

from __future__ import annotations

from cmath import exp
from collections.abc import Sequence
from math import log2, sqrt

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

from kernels.cost import Cost
from kernels.geometry import Pair, Sides, pair
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   Coefficient (u, v) of an h × w image is a wave of u cycles down and v cycles across, u counted up to ±h/2:
#
#       f[u,v] = √((u/h)² + (v/w)²) cycles per pixel        θ = 2π·(u·y/h + v·x/w) at pixel (y, x)
#
#   A real image has z[−u,−v] = z̄[u,v], so columns v = 0 … ⌊w/2⌋ determine the image, and column v counts m[v] = 2
#   times, for itself and for w − v. Columns 0 and, if w is even, w/2 mirror into themselves: there m[v] = 1, and rows u
#   and −u are both given. If they contradict each other, only (z[u] + z̄[−u])/2 is visible; the rest would be the
#   imaginary part of the image. Taking real parts does all of this:
#
#       fourier_image(z)[y,x] = 1/(4·h·w) · Σᵤ Σᵥ m[v] · s[u,v] · (Re z[u,v] · cos θ − Im z[u,v] · sin θ)
#       s[u,v] = √(w·h) / max(f[u,v], 1/max(w,h))^decay          the 4 is lucid's constant
#
#   high_frequency_energy(x) = Σ_{f > radius} |X[u,v]|² / (h·w)², mean over channels; X = Σ x[y,x]·e^(−iθ). By Parseval
#   it is the mean square of the waves above the radius; that of all waves is the mean square of x.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def fourier_image_reference(spectrum: np.ndarray, size: tuple[int, int], decay: float = 1.0) -> np.ndarray:
    """One wave at a time, in float64. Args and Returns as `fourier_image`."""
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


def high_frequency_energy_reference(images: np.ndarray, radius: float = 0.25) -> np.ndarray:
    """By the full Fourier transform, one coefficient at a time. Args and Returns as `high_frequency_energy`."""
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
    """Compute the frequency of each coefficient of a half spectrum.

    Args:
        size: The size of the image, an int or (h, w).
        dtype: The type of the result.

    Returns:
        [h,w//2+1] in cycles per pixel.
    """
    height, width = pair(size, "size")
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)).astype(dtype)


def spectrum_shape(batch: int, size: Pair, channels: int = 3) -> tuple[int, int, int, int, int]:
    """Compute the shape of the coefficients from which `fourier_image` draws images.

    Args:
        batch: B.
        size: The size of the images, an int or (h, w).
        channels: C.

    Returns:
        (2, B, h, w//2+1, C).
    """
    height, width = pair(size, "size")
    return 2, batch, height, width // 2 + 1, channels


def _frequency_scale(size: Sides, decay: float, dtype: tf.DType) -> np.ndarray:
    """s/4 of the equation, [h,w//2+1]."""
    height, width = size
    floored = np.maximum(fourier_frequencies(size, np.float64), 1 / max(size))
    return (sqrt(width * height) / floored**decay / 4).astype(dtype.as_numpy_dtype)


def _column_counts(width: int) -> np.ndarray:
    """m of the equation, [w//2+1]."""
    return np.array([1 if v in (0, width - v) else 2 for v in range(width // 2 + 1)])


def _planes(images: tf.Tensor, verb: str) -> tf.Tensor:
    """[B,H,W,C] → [B,C,H,W], at least float32. ValueError unless all but B is known; `verb` is for its message."""
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or None in images.shape[1:]:
        raise ValueError(f"cannot {verb} images {images.shape}; expected [B,H,W,C] with all but the batch known")
    return tf.transpose(wide(images), (0, 3, 1, 2))


def _pixels(planes: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """[B,C,H,W] → [B,H,W,C] of `dtype`."""
    return tf.cast(tf.transpose(planes, (0, 2, 3, 1)), dtype)


def fourier_image(spectrum: tf.Tensor, size: Sides, decay: float) -> tf.Tensor:
    """Half spectra [2,B,h,w//2+1,C] → images [B,h,w,C] of `size` (h, w)."""
    z = tf.transpose(wide(spectrum), (0, 1, 4, 2, 3))  # [2,B,C,h,w//2+1]
    z *= _frequency_scale(size, decay, z.dtype)
    return _pixels(tf.signal.irfft2d(tf.complex(z[0], z[1]), size), spectrum.dtype)


def high_frequency_energy(images: tf.Tensor, radius: float = 0.25) -> tf.Tensor:
    """Measure the energy of high frequencies.

    Args:
        images: [B,H,W,C].
        radius: In cycles per pixel; the fastest wave along an axis has 0.5, along a diagonal 0.71. A negative radius
            measures all frequencies.

    Returns:
        [B]: the mean square of what varies faster.

    Raises:
        ValueError: For another shape.
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
#   high_frequency_energy is |P·x|²/n for the projection P = Pᵀ = P² on the waves above the radius: ∂/∂x = 2·P·x/n.


def fourier_image_gradient(gradient: tf.Tensor, decay: float = 1.0) -> tf.Tensor:
    """Args as `fourier_image`, and `gradient` ∂L/∂image [B,h,w,C] → the gradient to the spectrum [2,B,h,w//2+1,C]."""
    planes = _planes(gradient, "differentiate")  # [B,C,h,w]
    _, _, height, width = planes.shape
    counts = (_column_counts(width) / (height * width)).astype(planes.dtype.as_numpy_dtype)
    transform = tf.signal.rfft2d(planes)  # [B,C,h,w//2+1]
    parts = tf.stack([tf.math.real(transform), tf.math.imag(transform)])
    parts *= counts * _frequency_scale((height, width), decay, planes.dtype)
    return tf.cast(tf.transpose(parts, (0, 1, 3, 4, 2)), gradient.dtype)


def high_frequency_energy_gradient(images: tf.Tensor, radius: float = 0.25) -> tf.Tensor:
    """Of the sum over the batch: high frequencies times 2/(H·W·C). Args as `high_frequency_energy` → [B,H,W,C]."""
    planes = _planes(images, "measure")  # [B,C,H,W]
    _, channels, height, width = planes.shape
    above = fourier_frequencies((height, width), np.float64) > radius
    spectrum = tf.signal.rfft2d(planes)
    mask = (above * 2 / (height * width * channels)).astype(spectrum.dtype.as_numpy_dtype)
    return _pixels(tf.signal.irfft2d(spectrum * mask, (height, width)), images.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def _transform_cost(shape: Sequence[int]) -> tuple[int, int]:
    """(operations of the Fourier transforms of [B,H,W,C], coefficients of their half spectra).

    By convention a transform of n = H·W real numbers takes 2.5·n·log₂ n operations, half of a complex one's
    5·n·log₂ n in the radix-2 algorithm. Libraries need fewer, and more for sizes with large prime factors.
    """
    batch, height, width, channels = shape
    pixels = height * width
    return round(2.5 * batch * channels * pixels * log2(pixels)), batch * channels * height * (width // 2 + 1)


def fourier_image_cost(output_shape: Sequence[int]) -> Cost:
    """`output_shape` [B,h,w,C] → the cost: a product per value of the spectrum, and a transform; backward the same."""
    transform, coefficients = _transform_cost(output_shape)
    return Cost(flops=transform + 2 * coefficients, backward_flops=transform + 2 * coefficients)


def high_frequency_energy_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [B,H,W,C] → the cost: a transform, then two squares, a product and two sums per coefficient.

    Backward: a transform, a product per value of the spectrum, and a transform back.
    """
    transform, coefficients = _transform_cost(input_shape)
    return Cost(flops=transform + 5 * coefficients, backward_flops=2 * transform + 2 * coefficients)
