"""What a network does first: RGB in [0,1] into the numbers that it was trained on."""

from __future__ import annotations

import tensorflow as tf

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # blue, green, red, in 0..255


def _none(images: tf.Tensor) -> tf.Tensor:
    """As they are, [0,1]."""
    return images


def _centered(images: tf.Tensor) -> tf.Tensor:
    """[−1,1]: Inception and NASNet."""
    return images * 2 - 1


def _torch(images: tf.Tensor) -> tf.Tensor:
    """ImageNet's mean and standard deviation a channel: torchvision."""
    return (images - tf.constant(IMAGENET_MEAN)) / tf.constant(IMAGENET_DEVIATION)


def _caffe(images: tf.Tensor) -> tf.Tensor:
    """BGR in 0..255 minus ImageNet's mean: VGG and ResNet as published."""
    return tf.reverse(images, [-1]) * 255 - tf.constant(CAFFE_MEAN)


PREPROCESSING = {"none": _none, "centered": _centered, "torch": _torch, "caffe": _caffe}
