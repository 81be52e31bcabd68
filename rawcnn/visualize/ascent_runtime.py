"""What runs gradient ascent on images: compiled steps, folded batch norms, waking, batches of one size, recording.

None of this is part of the algorithm, which is `ascent_step` and `ascend` in `optimization.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.folding import Folded, fold
from rawcnn.nn.network import Network
from rawcnn.visualize.objectives import Objective
from rawcnn.visualize.regularization import images_from

if TYPE_CHECKING:
    from rawcnn.visualize.optimization import AscentSettings

WAKING_STEPS = 16  # steps with redirected rectifiers after the last one in which an image had no gradient


class FoldedScore:
    """The objective of images, computed by the network with its batch norms folded into the convolutions."""

    def __init__(self, network: Network, objective: Objective):
        self.network, self.objective = network, objective
        self.fold = fold(network, spare=objective.layers)  # once, because the weights are fixed
        self.variables = network.variables

    def __call__(self, images: tf.Tensor, rows: Sequence[tf.Tensor], trace: type[Folded] = Folded) -> tf.Tensor:
        """Images [B,H,W,3] and the objective's rows → values [B]."""
        trace_type, layers = partial(trace, fold=self.fold), self.objective.layers
        activations = self.network.activations(images, layers, trace_type=trace_type, variables=self.variables)
        return self.objective.value(activations, *rows)


class AscentRuntime:
    """The compiled functions of one optimization, shared by all its batches.

    Attributes:
        mode: How they are compiled.
        step: (z, mean, mean_square, number, transforms, rows) → what `ascent_step` returns.
        waking_step: The same after an argument `asleep` [B]; the last rectifiers of these images are redirected.
        render: Z → images [B,H,W,3].
        values: (images, rows) → values [B].
    """

    def __init__(self, network: Network, objective: Objective, settings: AscentSettings, ascent_step: Callable):
        score = FoldedScore(network, objective)

        def step(z, mean, mean_square, number, transforms, rows):
            values = partial(score, rows=rows)
            return ascent_step(values, settings, z, mean, mean_square, number, transforms)

        def waking_step(asleep, z, mean, mean_square, number, transforms, rows):
            values = partial(score, rows=rows, trace=waking_trace(network, objective.layers, asleep))
            return ascent_step(values, settings, z, mean, mean_square, number, transforms)

        choice = choose(settings.compile, network.devices, network.precision)
        self.mode = choice.mode
        self.step = compiled(step, choice)
        self.waking_step = compiled(waking_step, choice)
        self.render = compiled(lambda z: images_from(z, settings.regularization, settings.image_size), choice)
        self.values = compiled(lambda images, rows: score(images, rows), choice)


# Waking ----------------------------------------------------------------------------------------------------------


class WakingStep:
    """The step of one batch, which also moves images that do not activate their unit.

    A rectified unit that is nowhere active has no gradient. Its image then follows the gradient of redirected
    rectifiers, until it has had a gradient in `WAKING_STEPS` steps. Lucid (redirected_relu_grad.py) redirects each
    rectifier of the network, for the images for which nothing passes it, and only in the first 16 steps.
    """

    def __init__(self, runtime: AscentRuntime, rows: Sequence[tf.Tensor], batch: int):
        self.runtime, self.rows = runtime, rows
        self.remaining = np.zeros(batch, int)  # waking steps that each image still takes

    def __call__(self, z, mean, mean_square, number: int, transforms) -> tuple[tf.Tensor, ...]:
        """The signature that `ascend` expects of a step."""
        step = self.runtime.step
        if self.remaining.any():
            step = partial(self.runtime.waking_step, tf.constant(self.remaining > 0))
        state = z, mean, mean_square, tf.constant(number, tf.float32), transforms, self.rows
        z, mean, mean_square, values, awake = step(*state)
        self.remaining = np.where(awake.numpy(), np.maximum(self.remaining - 1, 0), WAKING_STEPS)
        return z, mean, mean_square, values


def waking_trace(network: Network, layers: Sequence[str], asleep: tf.Tensor) -> type[Folded]:
    """A trace in which the last rectifiers are redirected for the images [B] that are asleep.

    The rectifiers before them stay as they are: they pass enough of the gradient.
    """
    last = {*layers, *(name for layer in layers for name in network.operation(layer).inputs)}

    class Waking(Folded):
        def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
            if kind == "relu" and name in last:
                kernel = partial(redirected_where, asleep)
            return super().apply(name, kind, kernel, inputs, parameters, **metadata)

    return Waking


def redirected_where(asleep: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """ReLU of x [B,…], with the redirected gradient for the images [B] that are asleep."""
    images = tf.reshape(asleep, (-1, *(1,) * (len(x.shape) - 1)))  # [B,1,…]
    return tf.where(images, kernels.redirected_relu(x), kernels.relu(x))


# Batches and recording -------------------------------------------------------------------------------------------


def full_batches(total: int, batch: int) -> list[np.ndarray]:
    """The indices of each batch. The last one is filled up from the first images, so one trace fits all batches."""
    return [np.arange(first, first + batch) % total for first in range(0, total, batch)]


class Recorder:
    """Keeps the values of each step and the images of some steps, and reports the progress."""

    def __init__(self, render: Callable, steps: int, frame_steps: Sequence[int], report: Progress | None):
        self.render, self.steps, self.frame_steps, self.report = render, steps, frame_steps, report
        self.history: list[tf.Tensor] = []
        self.frames: list[np.ndarray] = []

    def __call__(self, number: int, z: tf.Tensor, values: tf.Tensor) -> None:
        """Record a step: its number, the parameters after it and the values [B] before it."""
        self.history.append(values)
        if number in self.frame_steps:
            self.frames.append(self.render(z).numpy())
        if self.report:
            self.report(number, self.steps)

    def stacked_frames(self, shape: Sequence[int]) -> np.ndarray:
        """The kept images [frames,B,H,W,3]; `shape` is that of one batch."""
        return np.array(self.frames) if self.frames else np.empty((0, *shape), np.float32)
