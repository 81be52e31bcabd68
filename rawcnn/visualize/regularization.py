"""What an optimised image is made of, and what keeps it from high-frequency noise.

An image is a function of numbers that are optimised: its pixels, or its Fourier coefficients with all frequencies
scaled to the same energy; in RGB, or in colours that do not vary together in natural images; then a sigmoid, so that it
stays in [0,1]. Without more, optimisation finds noise that excites the unit. What is done about it (Olah et al.,
"Feature Visualization", Distill 2017, "The Enemy of Feature Visualization"):

    blur each step        the image is smoothed after each step
    penalties             total variation, distance to the blurred image, distance to grey count against it
    robustness            the unit must be excited when the image is moved, turned and scaled at random
    Fourier, colours      the same gradient, other steps: low frequencies no longer lag behind
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import tensorflow as tf

import kernels

# Columns: how red, green and blue vary together in natural images, the strongest direction first (lucid, color.py).
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLORS /= np.linalg.norm(COLORS, axis=0).max()
SPREAD = 0.01  # of the first values: an almost grey image
GREY = 0.5
PENALTY_BLUR = 1.0  # σ in pixels of what an image is compared with by `blur_penalty`


@dataclass(frozen=True)
class Regularization:
    """How an image is made of numbers, and what is done against noise. The defaults are lucid's for 128 pixels.

    A penalty's weight is relative to the unit's gradient, whose length is made one: an image of noise has a total
    variation whose gradient has a length of about two. So one weight fits units of any scale.
    """

    image: str = "fourier"  # or "pixel"
    decorrelate: bool = True  # colours
    grey: bool = False  # no colours: for networks that have seen grey images alone
    decay: float = 1.0  # exponent of the frequency that Fourier coefficients are scaled by
    blur: float = 0.0  # σ of the blur after each step, pixels
    total_variation: float = 0.0
    blur_penalty: float = 0.0
    l1: float = 0.0  # distance to grey
    jitter: float = 1 / 16  # moved by up to this share of the image's side …
    scale: float = 0.1  # … scaled by 1 ± this …
    rotation: float = 10.0  # … turned by up to these degrees …
    last_jitter: float = 1 / 32  # … and moved again

    def __post_init__(self) -> None:
        if self.image not in ("fourier", "pixel"):
            raise ValueError(f'image is {self.image!r}; expected "fourier" or "pixel"')
        sizes = ("blur", "total_variation", "blur_penalty", "l1", "jitter", "scale", "rotation", "last_jitter")
        for name in sizes:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected 0 or more")
        if self.scale >= 1 or max(self.jitter, self.last_jitter) > 1:
            raise ValueError(f"scale is {self.scale} and jitter {self.jitter}; expected shares of the image below 1")

    @property
    def moves(self) -> bool:
        """Is the image moved at all before the network sees it?"""
        return any((self.jitter, self.scale, self.rotation, self.last_jitter))


ROBUST = Regularization()
STILL = replace(ROBUST, jitter=0.0, scale=0.0, rotation=0.0, last_jitter=0.0)  # Fourier and colours alone
NOTHING = replace(STILL, image="pixel", decorrelate=False)
# The lecture's slide: each remedy alone beside none, and lucid's choice of them all.
COMPARED = {
    "none": NOTHING,
    "blur": replace(NOTHING, blur=0.35),
    "penalty": replace(NOTHING, total_variation=0.15),
    "robustness": replace(ROBUST, image="pixel", decorrelate=False),
    "Fourier": STILL,
    "Fourier + robustness": ROBUST,
}


# The image -----------------------------------------------------------------------------------------------------


def first_values(settings: Regularization, size: int, seeds: list[list[int]]) -> np.ndarray:
    """Numbers to begin with, an image for each seed: [B,size,size,3], or coefficients [B,2,size,size//2+1,3].

    Grey images have one number where others have three.
    """
    colors = 1 if settings.grey else 3
    shape = (size, size, colors) if settings.image == "pixel" else (2, size, size // 2 + 1, colors)
    generators = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
    return np.stack([SPREAD * generator.standard_normal(shape, np.float32) for generator in generators])


def image_of(values: tf.Tensor, settings: Regularization, size: int) -> tf.Tensor:
    """The images [B,size,size,3] in (0,1) that the numbers stand for."""
    if settings.image == "fourier":
        values = kernels.fourier_image(tf.transpose(values, (1, 0, 2, 3, 4)), size, settings.decay)  # [B,size,size,3]
    if settings.grey:
        values = tf.repeat(values, 3, axis=-1)
    elif settings.decorrelate:
        values = tf.einsum("bhwd,cd->bhwc", values, COLORS)
    return tf.sigmoid(values)


def blurred(values: tf.Tensor, settings: Regularization, size: int) -> tf.Tensor:
    """The numbers after the step's Gaussian blur; on Fourier coefficients it is a product with a Gaussian."""
    if not settings.blur:
        return values
    if settings.image == "pixel":
        return kernels.gaussian_blur(values, settings.blur)
    frequencies = kernels.fourier_frequencies(size)[..., None]  # [h,w//2+1,1] cycles a pixel
    return values * np.exp(-2 * (np.pi * settings.blur * frequencies) ** 2).astype(np.float32)


def penalty_gradient(images: tf.Tensor, settings: Regularization) -> tf.Tensor:
    """What the penalties ask of images [B,H,W,3] in [0,1]: the gradient of their weighted sum, over √(H·W·3)."""
    total = tf.zeros_like(images)
    if settings.total_variation:
        total += settings.total_variation * kernels.total_variation_gradient(images)
    if settings.blur_penalty:  # of ½·Σ(x − blur(x))², the blurred image held fixed
        total += settings.blur_penalty * (images - kernels.gaussian_blur(images, PENALTY_BLUR))
    if settings.l1:
        total += settings.l1 * tf.sign(images - GREY)
    return total / sqrt(np.prod(images.shape[1:]))


# Robustness ----------------------------------------------------------------------------------------------------


def draw_moves(settings: Regularization, size: int, steps: int, seeds: list[list[int]]) -> np.ndarray:
    """Transforms [steps,B,2,3] for `kernels.affine_resample`: jitter, scale, rotation about the middle, jitter.

    An image's moves depend on its seed alone, not on the others of its batch.
    """
    return np.stack([_moves_of_one(settings, size, steps, seed) for seed in seeds], axis=1)


def _moves_of_one(settings: Regularization, size: int, steps: int, seed: list[int]) -> np.ndarray:
    generator = np.random.Generator(np.random.PCG64([*seed, 1]))
    first, last = (round(share * size) for share in (settings.jitter, settings.last_jitter))
    shift = generator.integers(-first, first, (steps, 2), endpoint=True).astype(float)
    after = generator.integers(-last, last, (steps, 2), endpoint=True)
    angle = np.radians(settings.rotation) * generator.uniform(-1, 1, steps)
    scale = 1 + settings.scale * generator.uniform(-1, 1, steps)
    turn = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale  # [2,2,steps]
    turn = np.moveaxis(turn, -1, 0)  # [steps,2,2]
    middle = np.full(2, (size - 1) / 2)
    offset = middle + shift - np.einsum("sij,sj->si", turn, middle + after)  # in = turn·(out − middle − after) + …
    return np.concatenate([turn, offset[..., None]], axis=-1).astype(np.float32)  # [steps,2,3]
