"""The public Fourier image: checks, and the gradient by hand."""

from __future__ import annotations

import tensorflow as tf

from kernels import spectral as textbook
from kernels.forms.differentiable import with_gradient
from kernels.geometry import Pair, pair


def fourier_image(spectrum: tf.Tensor, size: Pair, decay: float = 1.0) -> tf.Tensor:
    """Draw images from half spectra whose high frequencies are scaled down.

    The gradient is the one by hand: TensorFlow's gradient of irfft2d takes five times as long in a graph.

    Args:
        spectrum: [2,B,h,w//2+1,C], real and imaginary part; see `spectrum_shape`.
        size: An int or (h, w).
        decay: With 1 the amplitude falls as 1/frequency, as in natural images; with 0 all frequencies are equal.

    Returns:
        Images [B,h,w,C].

    Raises:
        ValueError: For a spectrum of another shape.
    """
    spectrum, (height, width) = tf.convert_to_tensor(spectrum), pair(size, "size")
    half = width // 2 + 1
    if not spectrum.shape.is_compatible_with((2, None, height, half, None)):
        raise ValueError(
            f"cannot draw images of {height}×{width} pixels from a spectrum {spectrum.shape}; expected its real and "
            f"imaginary part, [2,B,{height},{half},C]"
        )
    return with_gradient(
        lambda spectrum: textbook.fourier_image(spectrum, (height, width), decay),
        lambda inputs, images, gradient: textbook.fourier_image_gradient(gradient, decay),
    )(spectrum)
