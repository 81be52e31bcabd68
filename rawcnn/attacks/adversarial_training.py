"""Adversarial training: a network that learns from images that are attacked as it learns.

Madry et al., ICLR 2018, section 2.1: min over the weights of E[max over ‖δ‖∞ ≤ ε of J(x + δ)], the inner maximum by PGD
from a random start (ε 8/255, 7 steps of 2/255 for CIFAR-10, section 5). The adversary sees the network as it predicts,
with batch norm's averages; the training step then sees the attacked images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from kernels.share import first_image
from rawcnn.attacks.common import ascent, real, whole
from rawcnn.attacks.gradient import direction, project, random_point
from rawcnn.attacks.per_image_random import numbers


@dataclass(frozen=True)
class Adversary:
    """PGD as a part of the training step. Distances in pixel values of [0,1]."""

    epsilon: float = 8 / 255
    step: float = 2 / 255
    steps: int = 7

    def __post_init__(self) -> None:
        real("epsilon", self.epsilon, 1.0)
        real("step", self.step, 1.0)
        whole("steps", self.steps, 1)

    def __call__(self, model: Callable, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Attacked images [B,H,W,3], by `seed` [2]: as a pure function of the variables that `model` reads."""
        labels = tf.cast(labels, tf.int32)
        start = random_point(
            images.shape[1:], numbers(images, first_image(tf.shape(images)[0])), seed[0], seed[1], "linf"
        )
        x = tf.ensure_shape(tf.clip_by_value(images + self.epsilon * start, 0.0, 1.0), images.shape)

        def climb(k, x):
            gradient, _ = ascent(model, x, labels, targeted=False)
            x = project(x + self.step * direction(gradient, "linf"), images, self.epsilon, "linf")
            return k + 1, tf.clip_by_value(x, 0.0, 1.0)

        _, x = tf.while_loop(lambda k, x: k < self.steps, climb, (0, x))
        return tf.stop_gradient(x)
