"""Preprocessing: a network's first step, from RGB in [0,1] to the values that it was trained on."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from kernels.geometry import Pair, pair

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, in 0..255


def _none(images: tf.Tensor) -> tf.Tensor:
    """[0,1], unchanged."""
    return images


def _centered(images: tf.Tensor) -> tf.Tensor:
    """[−1,1]: Inception and NASNet."""
    return images * 2 - 1


def _torch(images: tf.Tensor) -> tf.Tensor:
    """Minus ImageNet's mean, over its standard deviation, for each channel: torchvision."""
    return (images - tf.constant(IMAGENET_MEAN, images.dtype)) / tf.constant(IMAGENET_DEVIATION, images.dtype)


def _caffe(images: tf.Tensor) -> tf.Tensor:
    """BGR in 0..255 minus ImageNet's mean: VGG and ResNet as published."""
    return tf.reverse(images, [-1]) * 255 - tf.constant(CAFFE_MEAN, images.dtype)


PREPROCESSING = {"none": _none, "centered": _centered, "torch": _torch, "caffe": _caffe}

# Each one's gradient by hand: ∂L/∂(its output) [B,H,W,3] → ∂L/∂images
PREPROCESSING_GRADIENT = {
    "none": lambda g: g,
    "centered": lambda g: 2 * g,
    "torch": lambda g: g / tf.constant(IMAGENET_DEVIATION, g.dtype),
    "caffe": lambda g: tf.reverse(255 * g, [-1]),
}


class Coefficients(NamedTuple):
    """A rule in numbers: channel c of its output is (scale[c] · x[channels[c]] − mean[c]) / deviation[c]."""

    channels: tuple[int, int, int] = (0, 1, 2)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)


COEFFICIENTS = {
    "none": Coefficients(),
    "centered": Coefficients(scale=(2.0, 2.0, 2.0), mean=(1.0, 1.0, 1.0)),
    "torch": Coefficients(mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION),
    "caffe": Coefficients(channels=(2, 1, 0), scale=(255.0, 255.0, 255.0), mean=CAFFE_MEAN),
}


def center_crop(images: tf.Tensor, size: Pair) -> tf.Tensor:
    """Crop the window in the middle: [B,H,W,C] → [B,*size,C]. Raises ValueError if it does not fit."""
    (height, width), (below, right) = pair(size, "size"), crop_margins(images, size)
    return images[:, below // 2 : below // 2 + height, right // 2 : right // 2 + width]


def crop_margins(images: tf.Tensor, size: Pair) -> tuple[int, int]:
    """Return by how many pixels images are higher and wider than `size`. Raises ValueError if they are smaller."""
    height, width = pair(size, "size")
    below, right = images.shape[1] - height, images.shape[2] - width
    if below < 0 or right < 0:
        raise ValueError(
            f"a crop of {(height, width)} does not fit into images of {tuple(images.shape[1:3])}; "
            "load larger images or take a smaller crop"
        )
    return below, right
