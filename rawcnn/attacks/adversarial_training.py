"""Adversarial training: the training step attacks its images before it learns from them.

Madry et al., ICLR 2018, section 2.1: minimize over the weights E[max over ‖δ‖∞ ≤ ε of J(x + δ)]. PGD from a random
start approximates the inner maximum, with ε = 8/255 and 7 steps of 2/255 for CIFAR-10 (section 5). PGD sees the network
as it predicts, with the running averages of batch norm. The training step then sees the attacked images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from kernels.dispatch.replica import first_image
from rawcnn.attacks.ball import Ball
from rawcnn.attacks.checks import check_integer, check_number
from rawcnn.attacks.common import loss_gradient
from rawcnn.attacks.per_image_random import image_numbers


@dataclass(frozen=True)
class Adversary:
    """PGD as a part of the training step: all steps for all images.

    Args:
        epsilon: The largest change of a pixel, in pixel values of [0,1].
        step: The step size, in the same unit; ε/4 by default.
        steps: How many.
    """

    epsilon: float = 8 / 255
    step: float | None = None
    steps: int = 7

    def __post_init__(self) -> None:
        epsilon = check_number("epsilon", self.epsilon, 1.0)
        step = epsilon / 4 if self.step is None else check_number("step", self.step, 1.0)
        converted = {"epsilon": epsilon, "step": step, "steps": check_integer("steps", self.steps, 1)}
        for name, value in converted.items():
            object.__setattr__(self, name, value)  # the way to convert a field of a frozen dataclass

    def __call__(self, model: Callable, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Attack a batch, as a pure function of the variables that `model` reads.

        Args:
            model: Images → logits.
            images: [B,H,W,3] in [0,1].
            labels: int [B].
            seed: int32 [2], which with an image's number fixes its random start.

        Returns:
            The attacked images [B,H,W,3].
        """
        ball, labels = Ball("linf"), tf.cast(labels, tf.int32)
        numbers = image_numbers(images, first_image(tf.shape(images)[0]))
        start = images + self.epsilon * ball.sample(images.shape[1:], numbers, seed[0], seed[1])
        x = tf.ensure_shape(tf.clip_by_value(start, 0.0, 1.0), images.shape)

        def step(k, x):
            gradient, _ = loss_gradient(model, x, labels, targeted=False)
            x = ball.project(x + self.step * ball.steepest(gradient), images, self.epsilon)
            return k + 1, tf.clip_by_value(x, 0.0, 1.0)

        _, x = tf.while_loop(lambda k, x: k < self.steps, step, (0, x))
        return tf.stop_gradient(x)
