"""The ball of images within ε of an image, in L∞ or L2: its steepest step, its projection and its random points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import tensorflow as tf

from rawcnn.attacks.per_image_random import normal, uniform

NORMS = ("linf", "l2")


@dataclass(frozen=True)
class Ball:
    """A ball in the norm "linf" or "l2". Each image of a batch has a ball of its own."""

    norm: str

    def steepest(self, gradient: tf.Tensor) -> tf.Tensor:
        """The step of length 1 along which a linear function rises most: [B,H,W,3] → [B,H,W,3].

        It is sign(g) in L∞ and g/‖g‖₂ in L2, and zero if the gradient is zero.
        """
        return tf.sign(gradient) if self.norm == "linf" else tf.math.divide_no_nan(gradient, length(gradient))

    def project(self, x: tf.Tensor, center: tf.Tensor, epsilon: tf.Tensor | float) -> tf.Tensor:
        """The point nearest to x [B,H,W,3] within ε [B,1,1,1] of `center` [B,H,W,3]."""
        if self.norm == "linf":
            return tf.clip_by_value(x, center - epsilon, center + epsilon)
        noise = x - center
        return center + noise * tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length(noise)))

    def sample(self, shape: Sequence[int], images: tf.Tensor, seed: tf.Tensor, stream: tf.Tensor) -> tf.Tensor:
        """Points [B,*shape], uniform in the ball of radius 1 around 0, one for each image number in `images` [B].

        In L2 a point is the first n of the n + 2 coordinates of a random point on the sphere (Voelker, Gosmann, Stewart
        2017).
        """
        size = prod(shape)
        if self.norm == "linf":
            return tf.reshape(2 * uniform(size, images, seed, stream) - 1, (-1, *shape))
        on_sphere = tf.math.l2_normalize(normal(size + 2, images, seed, stream), axis=1)
        return tf.reshape(on_sphere[:, :size], (-1, *shape))


def length(x: tf.Tensor) -> tf.Tensor:
    """L2 norm of each image: [B,H,W,3] → [B,1,1,1]. Scaled first, so that small entries do not underflow."""
    largest = tf.reduce_max(tf.abs(x), axis=(1, 2, 3), keepdims=True)
    return largest * tf.sqrt(tf.reduce_sum(tf.math.divide_no_nan(x, largest) ** 2, axis=(1, 2, 3), keepdims=True))


def unit_mean(x: tf.Tensor) -> tf.Tensor:
    """x/‖x‖₁ of each image [B,H,W,3], times its number of pixel values; zero if x is zero.

    The factor does not change the direction. The entries are scaled first, so that small ones do not underflow.
    """
    x = tf.math.divide_no_nan(x, tf.reduce_max(tf.abs(x), axis=(1, 2, 3), keepdims=True))
    return tf.math.divide_no_nan(x, tf.reduce_mean(tf.abs(x), axis=(1, 2, 3), keepdims=True))
