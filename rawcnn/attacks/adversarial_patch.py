"""The adversarial patch: a round sticker that makes any image, wherever it lies, the class that one wants.

Brown, Mané, Roy, Abadi, Gilmer, "Adversarial Patch", NIPS 2017 workshop (arXiv 1712.09665), section 2: the patch that
maximises the target's log-probability in expectation over images, places, scales and rotations,

    p̂ = argmax_p E[log P(target | A(p, x, l, t))]

for one network, or for several at once. As in the authors' notebook it begins grey, its diameter is U(.1, 1) of the
image's side, it is turned by up to 22.5°, and lies wholly within the image. Ours are Adam's steps and their rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import pi, sqrt

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.common import Model, logits_of, prepare, prepared, real, slope, whole
from rawcnn.attacks.per_image_random import numbers, uniform
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import check_images
from rawcnn.optim.optimizers import adam

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Patch:
    """A patch, and how it was made."""

    pixels: np.ndarray = field(repr=False)  # float32 [S,S,3] in [0,1], of which the disc counts
    target: int
    history: np.ndarray = field(repr=False)  # [steps] mean log-probability of the target
    settings: dict[str, object]

    @property
    def printable(self) -> np.ndarray:
        """uint8 [S,S,4]: the disc, transparent around it."""
        return np.uint8(255 * np.concatenate([self.pixels, disc(len(self.pixels))], axis=-1) + 0.5)


def make_patch(
    networks: Model | Sequence[Model],
    images,
    *,
    target: int,
    steps: int = 500,
    batch: int = 16,
    rate: float = 0.05,
    scale: tuple[float, float] = (0.1, 1.0),
    rotation: float = 22.5,
    size: int | None = None,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> Patch:
    """A patch of `size` pixels (the images' side) that makes each of the `networks` predict `target`.

    In a step it is laid on `batch` of the images [N,H,W,3], all by `seed`; the networks' losses are averaged. `scale`
    is the range of its diameter, of the image's shorter side. ValueError for what is out of range.
    """
    models = list(networks) if isinstance(networks, Sequence) else [networks]
    images = check_images(images).numpy()
    if not models or not len(images):
        raise ValueError(f"there are {len(models)} networks and {len(images)} images; expected one or more of each")
    whole("steps", steps, 1), whole("batch", batch, 1), whole("target", target, 0), whole("seed", seed, 0)
    real("rate", rate), real("rotation", rotation, 180.0)
    if np.shape(scale) != (2,) or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale is {scale}; expected two shares of the image's side, the smaller first, as (0.1, 1)")
    side = images.shape[1] if size is None else int(whole("size", size, 1))
    for model in models:
        prepare(model, images[:1], np.array([target]), None, compile)  # says if it has no such class, or images
    choice = choose(compile, [device for model in models for device in getattr(model, "devices", ())])
    step = compiled(partial(_step, [prepared(model) for model in models], target, scale, rotation), choice)
    pixels = tf.fill((side, side, 3), 0.5)
    state = [pixels, tf.zeros_like(pixels), tf.zeros_like(pixels)]
    generator, history = np.random.Generator(np.random.PCG64(seed)), []
    for number in range(1, steps + 1):
        chosen = images[generator.integers(len(images), size=batch)]
        given = tf.constant(number), tf.constant(seed), tf.constant(rate, tf.float32)
        *state, value = step(*state, tf.constant(chosen), *given)
        history.append(value)
        if progress:
            progress(number, steps)
    settings = {"steps": steps, "batch": batch, "rate": rate, "scale": list(scale), "rotation": rotation, "seed": seed}
    return Patch(state[0].numpy(), int(target), tf.stack(history).numpy(), settings)


def patch(
    network: Model,
    images,
    labels,
    *,
    patch: Patch,
    epsilon: float = 0.1,
    rotation: float = 22.5,
    seed: int = 0,
    first: int = 0,
    compile: str = "auto",
) -> AttackResult:
    """The images with the patch on each, its disc `epsilon` of their area, at a place of its own; targeted.

    Place and angle of an image depend on (seed, first + its number) alone. The rest as `pgd`.
    """
    real("epsilon", epsilon, pi / 4)
    task = prepare(network, images, labels, patch.target, compile)
    height, width = task.images.shape[1:3]
    diameter = sqrt(4 * epsilon / pi * height * width) / min(height, width)  # of the shorter side
    if diameter > 1:
        raise ValueError(f"a disc of {epsilon:.0%} does not fit into {height}×{width} images; give a smaller epsilon")
    pixels = tf.constant(patch.pixels[None])  # of an axis in front the length may change
    given = whole("seed", seed, 0), whole("first", first, 0), pixels
    form = tf.constant([diameter, rotation * pi / 180], tf.float32)
    return task.result(task.run(_patched, form, *given) if epsilon else task.images, 0)


def _patched(network, images, goals, form, seed, first, pixels, *, targeted):
    which = numbers(images, first)
    return laid(pixels[0], images, places(which, (form[0], form[0]), form[1], seed, tf.constant(0), images.shape))


def _step(models, target, scale, rotation, pixels, mean, mean_square, images, number, seed, rate):
    """Adam's step up the mean log-probability → (pixels, its two averages, the log-probability)."""
    which = numbers(images, 0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        seen = laid(pixels, images, places(which, scale, rotation * pi / 180, seed, number, images.shape))
        goals = tf.fill(tf.shape(which), target)
        losses = [tf.reduce_mean(kernels.cross_entropy(logits_of(model, seen), goals)) for model in models]
        loss = tf.add_n(losses) / len(losses)
    pixels, mean, mean_square = adam(pixels, slope(tape, loss, pixels), mean, mean_square, rate, number)
    return tf.clip_by_value(pixels, 0.0, 1.0), mean, mean_square, -loss


def places(which, scale, angle, seed, stream, shape) -> tf.Tensor:
    """A place for each number of `which` [B], wholly in the image: [B,4], diameter, angle, and centre (right, down)."""
    height, width = shape[1], shape[2]
    u = uniform(4, which, seed, stream)
    diameter = (scale[0] + (scale[1] - scale[0]) * u[:, 0]) * min(height, width)
    right, down = (diameter / 2 + u[:, k] * (length - diameter) for k, length in ((2, width), (3, height)))
    return tf.stack([diameter, (2 * u[:, 1] - 1) * angle, right, down], axis=1)


def laid(pixels: tf.Tensor, images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] with the disc of the patch [S,S,3] at `places` [B,4]; bit for bit the same around it."""
    side = pixels.shape[0]
    mask = tf.constant(disc(side))
    sticker = tf.concat([mask * pixels, mask], axis=-1)  # [S,S,4], premultiplied
    diameter, angle, right, down = tf.unstack(places, axis=1)
    cos, sin = tf.cos(angle) * side / diameter, tf.sin(angle) * side / diameter
    # An output pixel's centre, seen from the disc's, turned and scaled to the patch's pixels.
    across, below = 0.5 - right, 0.5 - down
    middle = side / 2 - 0.5
    to_x = tf.stack([cos, -sin, cos * across - sin * below + middle], axis=1)
    to_y = tf.stack([sin, cos, sin * across + cos * below + middle], axis=1)
    transforms = tf.stack([to_x, to_y], axis=1)  # [B,2,3]
    stickers = tf.repeat(sticker[None], tf.shape(images)[0], axis=0)
    laid = kernels.affine_resample(stickers, transforms, size=(images.shape[1], images.shape[2]))  # [B,H,W,4]
    return images * (1 - laid[..., 3:]) + laid[..., :3]


def disc(side: int) -> np.ndarray:
    """float32 [side,side,1]: 1 in the largest disc, 0 around it."""
    distance = np.arange(side) + 0.5 - side / 2
    return (np.hypot(*np.meshgrid(distance, distance)) <= side / 2).astype(np.float32)[..., None]
