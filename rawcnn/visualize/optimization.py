"""Visualization by optimization: the image that excites a unit, found by climbing the gradient from grey noise.

Erhan et al. 2009; Simonyan et al. 2014, section 2; Olah et al., "Feature Visualization", Distill 2017. It works as
training does, but the weights are fixed and the image is what changes. One compiled step:

    image   = sigmoid(colours(fourier(z)))             z: the numbers that are optimised
    seen    = image, moved, scaled and turned at random
    value   = objective(activations(seen))
    g       = ∂value/∂image, its length made one, less the penalties' gradient
    z       = blur(adam(z, −(∂image/∂z)ᵀ·g))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.folding import Folded, fold
from rawcnn.nn.network import Network
from rawcnn.optim.optimizers import adam
from rawcnn.visualize import objectives
from rawcnn.visualize.objectives import Objective
from rawcnn.visualize.regularization import (
    GREY,
    ROBUST,
    Regularization,
    blurred,
    draw_moves,
    first_values,
    image_of,
    penalty_gradient,
)

RESCUE = 16  # steps in which the last rectifiers of an image that excites nothing let through what would wake them
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Optimized:
    """Images that excite what they were made for."""

    images: np.ndarray = field(repr=False)  # float32 [N,H,W,3] in [0,1]
    values: np.ndarray = field(repr=False)  # [N] objective of the finished images, not moved
    history: np.ndarray = field(repr=False)  # [steps,N] objective in each step, of the moved images
    frames: tuple[tuple[int, np.ndarray], ...] = field(repr=False)  # (step, images [N,H,W,3]) on the way
    settings: dict[str, object]

    @property
    def high_frequency(self) -> np.ndarray:
        """[N]: mean square of what varies faster than a quarter cycle a pixel."""
        return kernels.high_frequency_energy(tf.constant(self.images)).numpy()


def optimize(
    network: Network,
    target: str | Objective,
    channel: int | Sequence[int] | None = None,
    *,
    position: tuple[int, int] | None = None,
    count: int = 1,
    size: int | None = None,
    steps: int = 512,
    rate: float = 0.05,
    regularization: Regularization = ROBUST,
    diversity: float = 0.0,
    frames: int = 0,
    seed: int = 0,
    batch: int = 32,
    compile: str = "auto",
    progress: Progress | None = None,
) -> Optimized:
    """Images of `size` pixels (the network's own) that excite `target` most: an Objective, or the name of a layer.

    Of a layer: a `channel`, or one for each image; at a `position` of the map, or in its mean; all channels without
    one. `count` images are made of each, from different noise; a `diversity` of about 1 makes them differ. `batch`
    images are optimised at a time, by one compiled step; an image does not depend on the others of its batch unless
    they must differ. `frames` images of the way are kept. The same seed gives the same images.
    ValueError for what the network has not, or a number out of range.
    """
    objective = _objective(network, target, channel, position)
    size = network.input_size if size is None else size
    if min(count, size, steps, batch) < 1 or not 0 < rate < float("inf") or frames < 0 or diversity < 0:
        raise ValueError(
            f"count is {count}, size {size}, steps {steps}, batch {batch}, rate {rate}, frames {frames}, diversity "
            f"{diversity}; expected positive numbers, no frames and no diversity at the least"
        )
    number = objective.images * count
    given = tuple(np.repeat(np.broadcast_to(g, (objective.images, *g.shape[1:])), count, 0) for g in objective.given)
    if diversity and count > 1:
        objective = _diverse(network, objective, diversity, count)
        batch = max(batch // count, 1) * count
    batch = min(batch, number)
    choice = choose(compile, network.devices, network.precision)
    climb = Climb(network, objective, regularization, size, rate, choice)
    kept = sorted({int(s) for s in np.geomspace(1, steps, frames).round()}) if frames else []
    results = []
    for first in range(0, number, batch):
        places = np.arange(first, first + batch) % number  # the last batch is filled up: one trace fits all

        def told(step: int, first=first) -> None:
            if progress:
                progress(first // batch * steps + step, -(-number // batch) * steps)

        seeds = [[seed, int(place)] for place in places]
        results.append(climb.run([g[places] for g in given], seeds, steps, kept, told))
    images, values, history, films = (
        np.concatenate(parts, axis)[_first(axis, number)]
        for axis, parts in zip((0, 0, 1, 1), zip(*results, strict=True), strict=True)
    )
    settings: dict[str, object] = {
        "network": network.name,
        "objective": objective.name,
        "count": count,
        "size": size,
        "steps": steps,
        "rate": rate,
        "diversity": diversity,
        "seed": seed,
        "batch": batch,
        "compile": choice.mode,
        **asdict(regularization),
    }
    return Optimized(images, values, history, tuple(zip(kept, films, strict=True)), settings)


def _first(axis: int, number: int) -> tuple[slice, ...]:
    """The first `number` along an axis."""
    return (*(slice(None),) * axis, slice(number))


def _objective(network: Network, target: str | Objective, channel, position) -> Objective:
    if isinstance(channel, str):
        raise ValueError(f"channel is {channel!r}; expected a whole number, or some")
    if isinstance(target, Objective):
        if channel is not None or position is not None:
            raise ValueError("an objective says itself what it excites; give no channel or position beside it")
        return target
    if channel is None:
        if position is not None:
            raise ValueError("a position is that of a channel; give a channel too")
        return objectives.layer(network, target)
    if position is None:
        return objectives.channel(network, target, channel)
    return objectives.neuron(network, target, channel, position)


def _diverse(network: Network, objective: Objective, weight: float, group: int) -> Objective:
    """The objective plus how unlike a group's images are, in units of what the objective is worth at the time."""
    unlike = objectives.diversity(network, objective.layers[0], group)

    def value(activations, *given):
        excited = objective.value(activations, *given)
        return excited + weight * tf.stop_gradient(tf.abs(excited)) * unlike.value(activations)

    return Objective(f"{objective.name}, diverse", objective.layers, value, objective.given)


def _waking(network: Network, layers: Sequence[str], asleep: tf.Tensor) -> type[Folded]:
    """A walk in which the last rectifiers are redirected for the images [B] that are asleep.

    Only the last: a redirected rectifier says nothing of what the ones before it should do, and they pass enough.
    """
    last = {*layers, *(name for layer in layers for name in network.operation(layer).inputs)}

    class Waking(Folded):
        def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
            if kind == "relu" and name in last:
                (x,) = inputs
                images = tf.reshape(asleep, (-1, *(1,) * (len(x.shape) - 1)))
                kernel = lambda x: tf.where(images, kernels.redirected_relu(x), kernels.relu(x))  # noqa: E731
            return super().apply(name, kind, kernel, inputs, parameters, **metadata)

    return Waking


class Climb:
    """The compiled functions of one optimization: its step, the image of some numbers, the objective of an image."""

    def __init__(self, network: Network, objective: Objective, settings: Regularization, size: int, rate, choice):
        self.network, self.objective, self.settings, self.size, self.rate = network, objective, settings, size, rate
        self.fold = fold(network, spare=objective.layers)  # the weights are fixed
        self.variables = network.variables
        self.step = compiled(lambda *state: self.move(Folded, *state), choice)
        self.rescue = compiled(
            lambda asleep, *state: self.move(_waking(network, objective.layers, asleep), *state), choice
        )
        self.render = compiled(lambda z: image_of(z, settings, size), choice)
        self.value = compiled(lambda images, given: self._value(images, given, Folded), choice)

    def run(self, given, seeds, steps, kept, told) -> tuple[np.ndarray, ...]:
        """(images [B,…], values [B], history [steps,B], frames [kept,B,…]) from the noise of these seeds."""
        z = tf.constant(first_values(self.settings, self.size, seeds))
        moves = tf.constant(draw_moves(self.settings, self.size, steps, seeds))  # [steps,B,2,3]
        given = [tf.constant(rows) for rows in given]
        state = z, tf.zeros_like(z), tf.zeros_like(z)
        history, frames, rescued = [], [], np.zeros(len(seeds), int)  # steps that an image is still rescued for
        for number in range(1, steps + 1):
            asleep = tf.constant(rescued > 0)
            step = partial(self.rescue, asleep) if rescued.any() else self.step
            *state, values, awake = step(*state, tf.constant(number, tf.float32), moves[number - 1], given)
            rescued = np.where(awake.numpy(), np.maximum(rescued - 1, 0), RESCUE)
            history.append(values)
            if number in kept:
                frames.append(self.render(state[0]).numpy())
            told(number)
        images = self.render(state[0])
        films = np.array(frames) if frames else np.empty((0, *images.shape), np.float32)
        return images.numpy(), self.value(images, given).numpy(), tf.stack(history).numpy(), films

    def move(self, walk, z, mean, mean_square, number, moves, given):
        """Adam's step up the hill → (z, its two averages, values [B], whether the unit told a direction [B])."""
        with tf.GradientTape(watch_accessed_variables=False) as drawing:
            drawing.watch(z)
            images = image_of(z, self.settings, self.size)  # [B,H,W,3]
        with tf.GradientTape(watch_accessed_variables=False) as seeing:
            seeing.watch(images)
            seen = kernels.affine_resample(images, moves, GREY) if self.settings.moves else images
            values = self._value(seen, given, walk)
        gradient = seeing.gradient(values, images)
        length = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True))
        ascent = tf.math.divide_no_nan(gradient, length) - penalty_gradient(images, self.settings)
        slope = drawing.gradient(images, z, output_gradients=ascent)
        z, mean, mean_square = adam(z, -slope, mean, mean_square, self.rate, number)
        return blurred(z, self.settings, self.size), mean, mean_square, values, length[:, 0, 0, 0] > 0

    def _value(self, images: tf.Tensor, given: Sequence[tf.Tensor], walk: type[Folded]) -> tf.Tensor:
        kind, layers = partial(walk, fold=self.fold), self.objective.layers
        activations = self.network.activations(images, layers, trace_type=kind, variables=self.variables)
        return self.objective.value(activations, *given)
