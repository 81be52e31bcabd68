"""What an optimized image is made of, and what keeps it free of high-frequency noise.

Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017, "The Enemy of Feature Visualization".

An image is a function of the parameters that are optimized. The parameters are its pixels, or its Fourier coefficients
with all frequencies scaled to the same energy. They are colors in RGB, or in a basis whose components do not vary
together in natural images. A sigmoid keeps the image in [0,1].

Without regularization the optimization finds noise that activates the unit. The remedies are:

    blur                  the parameters are blurred after each step
    penalties             total variation, distance to the blurred image and distance to gray lower the objective
    robustness            the image is shifted, rotated and scaled at random in each step
    Fourier, decorrelate  the parameters change, not the objective: low frequencies no longer converge last
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.nn.arguments import Size, image_size, real

# Columns: how red, green and blue vary together in natural images, the strongest direction first (lucid, color.py).
COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
COLORS /= np.linalg.norm(COLORS, axis=0).max()
INITIAL_DEVIATION = 0.01  # standard deviation of the initial parameters, which give an almost gray image
GRAY = 0.5
STEEPEST = 10.0  # exponent of the frequency; a steeper decay overflows float32
PENALTY_BLUR = 1.0  # σ in pixels of the blur that `blur_penalty` compares an image with


@dataclass(frozen=True)
class Regularization:
    """How an image is parameterized, and which remedies against noise are used.

    The defaults are those of lucid for images of 128 pixels. Its `jitter(8)` crops 8 pixels at random places, which
    moves the image by up to 4 pixels from its middle, and its `jitter(4)` by up to 2. Lucid draws scales and angles
    from lists; here they are drawn from the same ranges. The weight of a penalty is relative to the gradient of
    the objective, which is normalized to length one, so one weight fits units of any scale. For comparison, the
    gradient of the total variation of a noise image has a length of about two.

    Attributes:
        image: The parameters: "fourier" coefficients or "pixel" values.
        decorrelate: Parameterize colors in the basis COLORS instead of RGB.
        grey: One color channel, for networks that were trained on gray images.
        decay: Exponent of the frequency by which Fourier coefficients are scaled.
        blur: σ in pixels of the blur after each step.
        total_variation: Weight of the penalty.
        blur_penalty: Weight of the penalty on the distance to the blurred image.
        l1: Weight of the penalty on the distance to gray.
        jitter: Largest shift before scaling, as a share of the image's side. lucid's jitter(8) is a random crop to
            side − 8, which shifts by at most 4 pixels of 128.
        scale: Scale factors are in 1 ± scale.
        rotation: Largest rotation in degrees.
        last_jitter: Largest shift after rotation, as a share of the image's side.
    """

    image: str = "fourier"
    decorrelate: bool = True
    grey: bool = False
    decay: float = 1.0
    blur: float = 0.0
    total_variation: float = 0.0
    blur_penalty: float = 0.0
    l1: float = 0.0
    jitter: float = 1 / 32
    scale: float = 0.1
    rotation: float = 10.0
    last_jitter: float = 1 / 64

    def __post_init__(self) -> None:
        if not isinstance(self.image, str) or self.image not in ("fourier", "pixel"):
            raise ValueError(f'image is {self.image!r}; expected "fourier" or "pixel"')
        sizes = ("blur", "total_variation", "blur_penalty", "l1", "jitter", "scale", "rotation", "last_jitter")
        numbers = {name: real(name, getattr(self, name)) for name in sizes}
        numbers["decay"] = real("decay", self.decay, f"−{STEEPEST:g} to {STEEPEST:g}", least=-STEEPEST)
        if numbers["decay"] > STEEPEST:
            raise ValueError(f"decay is {self.decay!r}; expected a number, −{STEEPEST:g} to {STEEPEST:g}")
        for name in ("scale", "jitter", "last_jitter"):
            if numbers[name] > 1 or numbers["scale"] == 1:
                raise ValueError(f"{name} is {numbers[name]:g}; expected a share of the image below 1")
        for name, number in numbers.items():
            object.__setattr__(self, name, number)  # the way to convert a field of a frozen dataclass

    @property
    def moves(self) -> bool:
        """Whether the image is transformed at random before the network reads it."""
        return any((self.jitter, self.scale, self.rotation, self.last_jitter))


ROBUST = Regularization()
STILL = replace(ROBUST, jitter=0.0, scale=0.0, rotation=0.0, last_jitter=0.0)  # only Fourier and decorrelated colors
NOTHING = replace(STILL, image="pixel", decorrelate=False)
# The lecture's comparison: no remedy, each remedy by itself, and all that lucid uses.
COMPARED = {
    "none": NOTHING,
    "blur": replace(NOTHING, blur=0.35),
    "penalty": replace(NOTHING, total_variation=0.15),
    "robustness": replace(ROBUST, image="pixel", decorrelate=False),
    "Fourier": STILL,
    "Fourier + robustness": ROBUST,
}


# The image -----------------------------------------------------------------------------------------------------


def initial_parameters(regularization: Regularization, size: Size, seeds: list[list[int]]) -> np.ndarray:
    """Draw the parameters that an optimization starts from.

    Args:
        regularization: Decides between pixels and Fourier coefficients, and between one and three color channels.
        size: Side of the images in pixels, or (height, width).
        seeds: The random seed of each image.

    Returns:
        float32 pixels [B,h,w,c], or the real and imaginary parts of Fourier coefficients [B,2,h,w//2+1,c]; c is 1 for
        gray images and 3 otherwise.
    """
    colors, (height, width) = 1 if regularization.grey else 3, image_size(size)
    shape = (height, width, colors) if regularization.image == "pixel" else (2, height, width // 2 + 1, colors)
    generators = (np.random.Generator(np.random.PCG64(seed)) for seed in seeds)
    return np.stack([INITIAL_DEVIATION * generator.standard_normal(shape, np.float32) for generator in generators])


def images_from(parameters: tf.Tensor, regularization: Regularization, size: Size) -> tf.Tensor:
    """Compute the images [B,h,w,3] in (0,1) from their parameters, as `initial_parameters` shapes them."""
    pixels = parameters
    if regularization.image == "fourier":
        coefficients = tf.transpose(parameters, (1, 0, 2, 3, 4))  # [2,B,h,w//2+1,c]
        pixels = kernels.fourier_image(coefficients, size, regularization.decay)  # [B,h,w,c]
    if regularization.grey:
        pixels = tf.repeat(pixels, 3, axis=-1)  # [B,h,w,3]
    elif regularization.decorrelate:
        pixels = tf.einsum("bhwd,cd->bhwc", pixels, COLORS)
    return tf.sigmoid(pixels)


def blur_parameters(parameters: tf.Tensor, regularization: Regularization, size: Size) -> tf.Tensor:
    """Apply the Gaussian blur of a step; for Fourier coefficients it is a product with a Gaussian."""
    if not regularization.blur:
        return parameters
    if regularization.image == "pixel":
        return kernels.gaussian_blur(parameters, regularization.blur)
    frequencies = kernels.fourier_frequencies(size)[..., None]  # [h,w//2+1,1] cycles per pixel
    return parameters * np.exp(-2 * (np.pi * regularization.blur * frequencies) ** 2).astype(np.float32)


def penalty_gradient(images: tf.Tensor, regularization: Regularization) -> tf.Tensor:
    """Gradient of the weighted penalties of images [B,H,W,3] in [0,1], divided by √(H·W·3): [B,H,W,3]."""
    total = tf.zeros_like(images)
    if regularization.total_variation:
        total += regularization.total_variation * kernels.total_variation_gradient(images)
    if regularization.blur_penalty:  # gradient of ½·Σ(x − blur(x))² with the blurred image held fixed
        total += regularization.blur_penalty * (images - kernels.gaussian_blur(images, PENALTY_BLUR))
    if regularization.l1:
        total += regularization.l1 * tf.sign(images - GRAY)
    return total / sqrt(np.prod(images.shape[1:]))


# Robustness ----------------------------------------------------------------------------------------------------


def draw_transforms(regularization: Regularization, size: Size, steps: int, seeds: list[list[int]]) -> np.ndarray:
    """Draw the random transform of each image in each step: jitter, scale and rotation about the center, jitter.

    The transforms of an image depend on its own seed, not on the other images of the batch.

    Args:
        regularization: The largest shift, scale and rotation.
        size: Side of the images in pixels, or (height, width).
        steps: How many steps.
        seeds: The random seed of each image.

    Returns:
        float32 [steps,B,2,3], for `kernels.affine_resample`.
    """
    return np.stack([_transforms_of_image(regularization, size, steps, seed) for seed in seeds], axis=1)


def _transforms_of_image(regularization: Regularization, size: Size, steps: int, seed: list[int]) -> np.ndarray:
    """The transforms [steps,2,3] of one image."""
    generator = np.random.Generator(np.random.PCG64([*seed, 1]))
    sides = np.array(image_size(size))
    first, last = (np.rint(share * sides).astype(int) for share in (regularization.jitter, regularization.last_jitter))
    shift_before = generator.integers(-first, first, (steps, 2), endpoint=True).astype(float)
    shift_after = generator.integers(-last, last, (steps, 2), endpoint=True)
    angle = np.radians(regularization.rotation) * generator.uniform(-1, 1, steps)
    scale = 1 + regularization.scale * generator.uniform(-1, 1, steps)
    rotation = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale  # [2,2,steps]
    rotation = np.moveaxis(rotation, -1, 0)  # [steps,2,2]
    center = (sides - 1) / 2
    # The input pixel of an output pixel: rotation·(output − center − shift_after) + center + shift_before
    offset = center + shift_before - np.einsum("sij,sj->si", rotation, center + shift_after)
    return np.concatenate([rotation, offset[..., None]], axis=-1).astype(np.float32)  # [steps,2,3]
