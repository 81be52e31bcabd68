"""Random distortions of training images, inside the compiled step.

Each function takes a batch [B,H,W,3] in [0,1] and a seed (two ints) and draws values for each image. No state is kept.
The random generator is always Philox, so that eager mode, graphs and XLA draw the same values.

    flip, random_crop, lighting   Krizhevsky et al. 2012, section 4.1
    pad_crop                      He et al. 2016, section 4.2 (Lee et al. 2015)
    area_crop                     Szegedy et al. 2015, section 6
    scale_jitter_crop             Simonyan & Zisserman 2015, section 3.1
    color_jitter                  facebookarchive/fb.resnet.torch, datasets/transforms.lua
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import tensorflow as tf

from kernels import affine_resample, crop_resize_transforms
from kernels.dispatch.replica import random_words
from kernels.geometry import Pair, pad_image, pair
from kernels.random import uniform_floats
from rawcnn.nn.preprocessing import crop_margins

# Principal components of the RGB values of ImageNet's training images in [0,1]: the figures of
# facebookarchive/fb.resnet.torch, datasets/imagenet.lua. Components are columns, red, green, blue are rows.
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Augmentation:
    """The distortions of a recipe; none by default."""

    flip: bool = False
    pad: int = 0  # pixels of zeros around the image, which is then cropped to its old size
    shift: int = 0  # the image moves by at most so many pixels along each axis
    crop: int | None = None  # side of a random, area or jitter crop in pixels; None: the side of the images
    area: tuple[float, float] | None = None  # smallest and largest fraction of the image's area that a crop takes
    jitter: tuple[int, int] | None = None  # smallest and largest shorter side after scaling, in pixels
    lighting: float = 0.0  # standard deviation of the noise along the principal components of color
    color_jitter: float = 0.0  # brightness, contrast and saturation are multiplied by factors in 1 ± color_jitter


def augment(images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    """Apply the distortions of `augmentation` in a fixed order, each with its own seed: [B,H,W,3] → [B,H',W',3]."""
    a = augmentation
    seeds = [tf.random.experimental.stateless_fold_in(seed, i, alg="philox") for i in range(6)]
    size = a.crop or (images.shape[1], images.shape[2])
    if a.area:
        images = area_crop(images, size, seeds[0], a.area)
    elif a.jitter:
        images = scale_jitter_crop(images, size, seeds[0], a.jitter)
    elif a.crop:
        images = random_crop(images, size, seeds[0])
    if a.pad:
        images = pad_crop(images, a.pad, seeds[1])
    if a.shift:
        images = shift(images, a.shift, seeds[2])
    if a.flip:
        images = flip(images, seeds[3])
    if a.color_jitter:
        images = color_jitter(images, seeds[5], a.color_jitter)
    if a.lighting:
        images = lighting(images, seeds[4], a.lighting)
    return images


def flip(images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror each image left to right with probability 1/2: [B,H,W,3] → [B,H,W,3]."""
    mirrored = _uniform(images, seed, 1) < 0.5  # [B,1]
    return tf.where(mirrored[:, :, None, None], images[:, :, ::-1], images)


def random_crop(images: tf.Tensor, size: Pair, seed: tf.Tensor) -> tf.Tensor:
    """Cut a window of `size` at a random position: [B,H,W,3] → [B,*size,3]. Raises ValueError if it is too large."""
    (height, width), (below, right) = pair(size, "size"), crop_margins(images, size)
    corner = tf.cast(_uniform(images, seed, 2) * (below + 1, right + 1), tf.int32)  # [B,2]
    rows = corner[:, :1] + tf.range(height)  # [B,H']
    columns = corner[:, 1:] + tf.range(width)  # [B,W']
    return tf.gather(tf.gather(images, rows, batch_dims=1), columns, axis=2, batch_dims=1)


def pad_crop(images: tf.Tensor, padding: int, seed: tf.Tensor) -> tf.Tensor:
    """Pad with zeros on each side, then take a random crop of the old size: [B,H,W,3] → [B,H,W,3]."""
    pads = ((padding, padding), (padding, padding))
    return random_crop(pad_image(images, pads), (images.shape[1], images.shape[2]), seed)


def shift(images: tf.Tensor, pixels: int, seed: tf.Tensor) -> tf.Tensor:
    """Move each image by up to `pixels` along each axis and fill with zeros; this is the padded crop."""
    return pad_crop(images, pixels, seed)


def lighting(images: tf.Tensor, seed: tf.Tensor, std: float = 0.1) -> tf.Tensor:
    """Add Σ αₖ·λₖ·pₖ to the RGB of each pixel: pₖ and λₖ are the principal components of color and their eigenvalues.

    αₖ ~ N(0, std²) is drawn for each component and image. Values may leave [0,1], as in the paper: [B,H,W,3] →
    [B,H,W,3].

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    u, v = tf.split(_uniform(images, seed, 6), 2, axis=-1)
    alpha = std * tf.sqrt(-2 * tf.math.log(1 - u)) * tf.cos(2 * pi * v)  # [B,3]  Box & Muller 1958
    light = tf.reduce_sum(tf.constant(EIGENVECTORS) * (alpha * EIGENVALUES)[:, None, :], axis=-1)  # [B,3]
    return images + tf.cast(light, images.dtype)[:, None, None, :]


def color_jitter(images: tf.Tensor, seed: tf.Tensor, strength: float = 0.4) -> tf.Tensor:
    """Change brightness, contrast and saturation of each image, in a random order: [B,H,W,3] → [B,H,W,3].

    Each change is a·x + (1 − a)·y with a uniform in 1 ± strength. y is black for brightness, the image's mean grey for
    contrast, and the grey image for saturation. Values may leave [0,1].

    Source: facebookarchive/fb.resnet.torch, datasets/transforms.lua, ColorJitter.
    """
    u = _uniform(images, seed, 6)  # [B,6]
    factors = tf.cast(1 + strength * (2 * u[:, :3] - 1), images.dtype)  # [B,3] brightness, contrast, saturation
    order = tf.argsort(u[:, 3:], axis=1)  # [B,3], a permutation for each image
    for turn in range(3):
        change = order[:, turn]  # [B]
        grey = tf.reduce_sum(images * tf.constant(LUMINANCE, images.dtype), axis=-1, keepdims=True)  # [B,H,W,1]
        mean = tf.reduce_mean(grey, axis=(1, 2), keepdims=True)  # [B,1,1,1]
        which = change[:, None, None, None]  # [B,1,1,1]
        toward = tf.where(which == 0, tf.zeros_like(grey), tf.where(which == 1, mean, grey))
        a = tf.gather(factors, change, axis=1, batch_dims=1)[:, None, None, None]  # [B,1,1,1]
        images = a * images + (1 - a) * toward
    return images


def area_crop(
    images: tf.Tensor,
    size: Pair,
    seed: tf.Tensor,
    area: tuple[float, float] = (0.08, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> tf.Tensor:
    """Cut a patch of random area and aspect, and stretch it to `size`: [B,H,W,3] → [B,*size,3].

    Args:
        images: [B,H,W,3].
        size: Height and width of the result in pixels.
        seed: int [2].
        area: The smallest and the largest fraction of the image's area. It is drawn uniformly among those that fit.
        aspect: The smallest and the largest width/height, whose logarithm is drawn uniformly.

    Source: Szegedy et al. 2015, section 6, whose authors draw again when a patch does not fit.
    """
    height, width = images.shape[1:3]
    u, v, w, z = tf.unstack(_uniform(images, seed, 4), axis=-1)  # [B] each
    ratio = tf.exp(log(aspect[0]) + u * log(aspect[1] / aspect[0]))
    fits = tf.minimum(ratio * height / width, width / (ratio * height))  # the largest fraction of the image's area
    part = tf.minimum(area[0] + v * tf.nn.relu(tf.minimum(area[1], fits) - area[0]), fits)
    tall = tf.minimum(tf.sqrt(part * (height * width) / ratio), height)
    wide = tf.minimum(tall * ratio, width)
    return _stretch(images, w * (height - tall), z * (width - wide), tall, wide, size)


def scale_jitter_crop(
    images: tf.Tensor, size: Pair, seed: tf.Tensor, shorter: tuple[int, int] = (256, 512)
) -> tf.Tensor:
    """Scale each image to a random shorter side, then crop: [B,H,W,3] → [B,*size,3].

    Both are one resampling: the crop is a box of size/scale pixels of the image. Shrinking does not average, so images
    should be loaded at about the largest scale.

    Args:
        images: [B,H,W,3].
        size: Height and width of the crop in pixels.
        seed: int [2].
        shorter: The smallest and the largest shorter side in pixels.

    Raises:
        ValueError: The crop is larger than the smallest scale.

    Source: Simonyan & Zisserman 2015, section 3.1.
    """
    height, width = images.shape[1:3]
    out_height, out_width = pair(size, "size")
    if max(out_height, out_width) > shorter[0]:
        raise ValueError(
            f"a crop of {(out_height, out_width)} does not fit into images scaled to a shorter side of "
            f"{shorter[0]}; take a smaller crop or larger scales"
        )
    u, v, w = tf.unstack(_uniform(images, seed, 3), axis=-1)  # [B] each
    scale = (shorter[0] + u * (shorter[1] - shorter[0])) / min(height, width)
    tall, wide = out_height / scale, out_width / scale
    return _stretch(images, v * (height - tall), w * (width - wide), tall, wide, size)


def _uniform(images: tf.Tensor, seed: tf.Tensor, count: int) -> tf.Tensor:
    """`count` uniform values in [0, 1 − 2⁻²⁴] for each image: float32 [B,count]."""
    return uniform_floats(random_words((tf.shape(images)[0], count), seed))


def _stretch(
    images: tf.Tensor, top: tf.Tensor, left: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: Pair
) -> tf.Tensor:
    """Resample a box of each image to `size`: [B,H,W,3], four times [B] → [B,*size,3]."""
    # A border of copied pixels, so that interpolation at the edges does not mix in the fill value
    images = tf.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="SYMMETRIC")
    boxes = tf.stack([top + 1, left + 1, height, width], axis=-1)  # [B,4]
    return affine_resample(images, crop_resize_transforms(boxes, size), size=size)
