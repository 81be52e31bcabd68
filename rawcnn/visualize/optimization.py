"""Visualization by optimization: find the image that maximizes an objective, by gradient ascent from gray noise.

Erhan, Bengio, Courville, Vincent 2009, section 3; Simonyan, Vedaldi, Zisserman 2014, section 2; Olah, Mordvintsev,
Schubert, "Feature Visualization", Distill 2017. It is training with fixed weights, in which the image changes:

    x = sigmoid(colors(fourier(z)))         the image; z are the parameters that are optimized
    v = objective(activations(T(x)))        T shifts, scales and rotates the image at random
    d = ∂v/∂x / ‖∂v/∂x‖ − ∂penalties/∂x     the direction of ascent
    z ← blur(adam(z, −(∂x/∂z)ᵀ·d))

`ascent_step` is one step and `ascend` the loop. What runs them is in `ascent_runtime.py`: it compiles the step, folds
batch norms, and wakes images that do not activate their unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import Size, image_size, real, short_size, whole_number
from rawcnn.nn.network import Network
from rawcnn.optim.optimizers import adam
from rawcnn.visualize.ascent_runtime import AscentRuntime, Recorder, WakingStep, full_batches
from rawcnn.visualize.layer_maps import operation_at_size
from rawcnn.visualize.objectives import Objective, diverse, objective_of
from rawcnn.visualize.progress import equal_part
from rawcnn.visualize.regularization import (
    GRAY,
    ROBUST,
    Regularization,
    blur_parameters,
    draw_transforms,
    images_from,
    initial_parameters,
    penalty_gradient,
)


@dataclass(frozen=True)
class AscentSettings:
    """How images are optimized: the keywords of `optimize`."""

    size: Size  # side of the images in pixels, or (height, width)
    steps: int = 512
    rate: float = 0.05  # Adam's learning rate
    regularization: Regularization = ROBUST
    count: int = 1  # images of each problem
    diversity: float = 0.0  # weight of `objectives.diversity` within the images of one problem
    frames: int = 0  # intermediate images that are kept
    seed: int = 0
    batch: int = 32  # images that are optimized at a time
    compile: str = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.regularization, Regularization):
            raise ValueError(f"regularization is {self.regularization!r}; expected a Regularization")
        checked: dict[str, Any] = {
            name: whole_number(name, getattr(self, name)) for name in ("count", "steps", "batch")
        }
        checked |= {
            "frames": whole_number("frames", self.frames, least=0),
            "seed": whole_number("seed", self.seed, 0, None),
        }
        checked |= {"size": short_size(image_size(self.size))}
        checked |= {
            "rate": real("rate", self.rate, "above 0", above=True),
            "diversity": real("diversity", self.diversity),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        return image_size(self.size)

    @property
    def frame_steps(self) -> list[int]:
        """The steps whose images are kept, at geometric distances from the first step to the last."""
        if not self.frames:
            return []
        return sorted({int(step) for step in np.geomspace(1, self.steps, self.frames).round()})


@dataclass(frozen=True)
class Optimized:
    """Optimized images, and the values of the objective that they reach.

    Attributes:
        images: float32 [N,H,W,3] in [0,1].
        values: [N], objective of the finished images, without random transforms.
        history: [steps,N], objective in each step, with random transforms.
        frames: Pairs of a step and the intermediate images [N,H,W,3].
        settings: The arguments, by name.
    """

    images: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)
    history: np.ndarray = field(repr=False)
    frames: tuple[tuple[int, np.ndarray], ...] = field(repr=False)
    settings: dict[str, object]

    @property
    def high_frequency(self) -> np.ndarray:
        """[N]: mean square of the frequencies above a quarter cycle per pixel."""
        return kernels.high_frequency_energy(tf.constant(self.images)).numpy()


# The algorithm ---------------------------------------------------------------------------------------------------


def ascent_step(
    score: Callable[[tf.Tensor], tf.Tensor],
    settings: AscentSettings,
    z: tf.Tensor,
    mean: tf.Tensor,
    mean_square: tf.Tensor,
    number: tf.Tensor,
    transforms: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Take one step of gradient ascent on the parameters of a batch of images.

    Args:
        score: Images [B,H,W,3] → values [B] of the objective.
        settings: Size, learning rate and regularization.
        z: Parameters of the images, [B,…].
        mean: Adam's running average of the gradient, shaped like z.
        mean_square: Adam's running average of its square, shaped like z.
        number: The number of the step, from 1.
        transforms: [B,2,3] random transforms of this step.

    Returns:
        z, mean and mean_square after the step, the values [B] before it, and whether each image has a gradient [B].
    """
    size, rate, regularization = settings.image_size, settings.rate, settings.regularization
    with tf.GradientTape(watch_accessed_variables=False) as image_tape:
        image_tape.watch(z)
        images = images_from(z, regularization, size)  # [B,H,W,3]
    with tf.GradientTape(watch_accessed_variables=False) as score_tape:
        score_tape.watch(images)
        moved = kernels.affine_resample(images, transforms, GRAY) if regularization.moves else images
        values = score(moved)  # [B]
    gradient = score_tape.gradient(values, images)  # [B,H,W,3]
    length = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3), keepdims=True))  # [B,1,1,1]
    ascent = tf.math.divide_no_nan(gradient, length) - penalty_gradient(images, regularization)
    z_gradient = image_tape.gradient(images, z, output_gradients=ascent)
    z, mean, mean_square = adam(z, -z_gradient, mean, mean_square, rate, number)
    return blur_parameters(z, regularization, size), mean, mean_square, values, length[:, 0, 0, 0] > 0


def ascend(step: Callable, z: tf.Tensor, transforms: tf.Tensor, record: Callable) -> tf.Tensor:
    """Maximize the objective by gradient ascent with Adam.

    Args:
        step: (z, mean, mean_square, number, transforms [B,2,3]) → (z, mean, mean_square, values [B]).
        z: Initial parameters of the images, [B,…].
        transforms: [steps,B,2,3] random transforms of each step.
        record: Called after each step with (number, z, values).

    Returns:
        The parameters z after the last step.
    """
    mean, mean_square = tf.zeros_like(z), tf.zeros_like(z)
    for number in range(1, len(transforms) + 1):
        z, mean, mean_square, values = step(z, mean, mean_square, number, transforms[number - 1])
        record(number, z, values)
    return z


# Many images -----------------------------------------------------------------------------------------------------


def optimize(
    network: Network,
    target: str | Objective,
    channel: int | Sequence[int] | None = None,
    *,
    position: tuple[int, int] | None = None,
    count: int = 1,
    size: Size | None = None,
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
    """Optimize images that maximize the activation of a unit, a channel, a layer or any objective.

    A problem is one thing to maximize, such as one channel. Each image depends only on its own problem and on the seed,
    unless `diversity` makes the images of one problem differ. The same seed gives the same images.

    Args:
        network: The network; its weights stay fixed.
        target: An `Objective`, or the name of a layer.
        channel: A channel of the layer, or one per image; by default all channels of the layer.
        position: (row, column) in the layer's map; by default the mean over the map.
        count: Images of each problem, from different noise.
        size: Side of the images in pixels, or (height, width); by default the network's own.
        steps: Steps of gradient ascent.
        rate: Adam's learning rate.
        regularization: How images are parameterized and kept free of noise.
        diversity: Weight by which the images of one problem must differ; about 1.
        frames: How many intermediate images to keep.
        seed: The seed of the initial noise and of the random transforms.
        batch: Images that are optimized at a time, by one compiled step.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (steps done, steps in total).

    Returns:
        The images, their values, and the values of each step.

    Raises:
        ValueError: For an unknown layer, channel or position, and for a number out of range.

    Source:
        Erhan et al. 2009, section 3; Simonyan et al. 2014, section 2; Olah et al., Distill 2017.
    """
    objective = objective_of(network, target, channel, position)
    settings = AscentSettings(
        size=network.input_size if size is None else size,
        steps=steps,
        rate=rate,
        regularization=regularization,
        count=count,
        diversity=diversity,
        frames=frames,
        seed=seed,
        batch=batch,
        compile=compile,
    )
    return maximize(network, objective, settings, progress)


def maximize(
    network: Network, objective: Objective, settings: AscentSettings, progress: Progress | None = None
) -> Optimized:
    """`optimize` for an objective and its settings, batch after batch."""
    for layer in objective.layers:
        operation_at_size(network, layer, settings.image_size)  # ValueError if it does not take this size
    count, total = settings.count, objective.images * settings.count
    rows, batch = objective.repeated_rows(count), settings.batch
    if settings.diversity and count > 1:
        objective = diverse(network, objective, settings.diversity, count)
        batch = max(batch // count, 1) * count  # the images of one problem stay together
    batch = min(batch, total)
    runtime = AscentRuntime(network, objective, settings, ascent_step)
    batches = full_batches(total, batch)
    runs = []
    for number, indices in enumerate(batches):
        report = equal_part(progress, number, len(batches))
        runs.append(_maximize_batch(runtime, settings, [array[indices] for array in rows], indices, report))
    images, values, history, frames = zip(*runs, strict=True)
    intermediate = np.concatenate(frames, axis=1)[:, :total]  # [frames,N,H,W,3]
    return Optimized(
        np.concatenate(images)[:total],
        np.concatenate(values)[:total],
        np.concatenate(history, axis=1)[:, :total],
        tuple(zip(settings.frame_steps, intermediate, strict=True)),
        _record(network, objective, settings, batch, runtime.mode),
    )


def _maximize_batch(
    runtime: AscentRuntime,
    settings: AscentSettings,
    rows: Sequence[np.ndarray],
    indices: np.ndarray,
    report: Progress | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(images [B,…], values [B], history [steps,B], frames [frames,B,…]) of the images with these indices."""
    seeds = [[settings.seed, int(index)] for index in indices]
    z = tf.constant(initial_parameters(settings.regularization, settings.image_size, seeds))
    transforms = tf.constant(draw_transforms(settings.regularization, settings.image_size, settings.steps, seeds))
    tensors = [tf.constant(array) for array in rows]
    recorder = Recorder(runtime.render, settings.steps, settings.frame_steps, report)
    z = ascend(WakingStep(runtime, tensors, len(seeds)), z, transforms, recorder)
    images = runtime.render(z)
    values = runtime.values(images, tensors)
    return images.numpy(), values.numpy(), tf.stack(recorder.history).numpy(), recorder.stacked_frames(images.shape)


def _record(
    network: Network, objective: Objective, settings: AscentSettings, batch: int, mode: str
) -> dict[str, object]:
    """The settings as plain values; `batch` and `mode` are those that were used."""
    return {
        "network": network.name,
        "objective": objective.name,
        "count": settings.count,
        "size": settings.size,
        "steps": settings.steps,
        "rate": settings.rate,
        "diversity": settings.diversity,
        "seed": settings.seed,
        "batch": batch,
        "compile": mode,
        **asdict(settings.regularization),
    }
