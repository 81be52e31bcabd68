"""The adversarial patch: a round sticker that turns an image into a chosen class, wherever it lies.

Brown, Mané, Roy, Abadi, Gilmer, "Adversarial Patch", NIPS 2017 workshop (arXiv 1712.09665), section 2. The patch
maximizes the target's log-probability in expectation over images, places, scales and rotations,

    p̂ = argmax_p E[log P(target | A(p, x, l, t))]

for one network or for several at once. As in the authors' notebook it starts gray, its diameter is U(.1, 1) of the
image's side, it is rotated by up to 22.5°, and it lies inside the image. The optimizer, Adam, and its rate are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import pi

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_amounts, check_integer, check_number, shown
from rawcnn.attacks.common import Classifier, gradient_of, logits_of, per_image
from rawcnn.attacks.per_image_random import image_numbers, uniform
from rawcnn.attacks.problem import make_problem
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import folded_network
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import check_images
from rawcnn.optim.optimizers import adam

LARGEST_DISC = pi / 4  # the share of a square that a disc can cover


@dataclass(frozen=True)
class Patch:
    """A patch and how it was made.

    Attributes:
        pixels: float32 [S,S,3] in [0,1]; only the disc counts.
        target: The class that the patch stands for.
        history: [steps], the mean log-probability of the target, in nats.
        settings: The arguments, by name.
    """

    pixels: np.ndarray = field(repr=False)
    target: int
    history: np.ndarray = field(repr=False)
    settings: dict[str, object]

    @property
    def printable(self) -> np.ndarray:
        """uint8 [S,S,4]: the disc, transparent around it."""
        return np.uint8(255 * np.concatenate([self.pixels, disc(len(self.pixels))], axis=-1) + 0.5)


@dataclass(frozen=True)
class Placement:
    """The range of a patch's random transformations."""

    scale: tuple[float, float] | tuple[tf.Tensor, tf.Tensor]  # of the diameter, in shorter sides; each may be [B]
    angle: float | tf.Tensor  # radians, to both sides


@dataclass(frozen=True)
class Aim:
    """What a patch is optimized for."""

    models: Sequence[Classifier]
    target: int
    placement: Placement


# Making a patch ---------------------------------------------------------------------------------------------


def make_patch(
    networks: Classifier | Sequence[Classifier],
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
    """Optimize a patch that makes one or several networks predict a class.

    Args:
        networks: One network, or several whose losses are averaged.
        images: RGB images [N,H,W,3] in [0,1] to lay the patch on.
        target: The class.
        steps: How many steps of Adam.
        batch: How many images each step uses.
        rate: Adam's learning rate.
        scale: The range of the patch's diameter, in shorter sides of the image.
        rotation: The largest rotation, in degrees.
        size: The side of the patch in pixels; the images' height by default.
        seed: Fixes the choice of images, places, scales and rotations.
        compile: One of `rawcnn.nn.execution.MODES`.
        progress: Called with (steps done, steps in all).

    Returns:
        The patch.

    Raises:
        ValueError: An argument is out of range or does not fit the networks.
    """
    models = list(networks) if isinstance(networks, Sequence) else [networks]
    images = check_images(images).numpy()
    if not models or not len(images):
        raise ValueError(f"there are {len(models)} networks and {len(images)} images; expected one or more of each")
    steps, batch = check_integer("steps", steps, 1), check_integer("batch", batch, 1)
    target, seed = check_integer("target", target, 0), check_integer("seed", seed, 0)
    rate, rotation = check_number("rate", rate), check_number("rotation", rotation, 180.0)
    scale = check_scale(scale)
    side = images.shape[1] if size is None else check_integer("size", size, 1)
    for model in models:  # raises ValueError if a network has no such class or takes no such images
        make_problem(model, images[:1], [0], target, compile)
    choice = choose(compile, [device for model in models for device in getattr(model, "devices", ())])
    aim = Aim([folded_network(model) for model in models], target, Placement(scale, rotation * pi / 180))
    step = compiled(partial(_step, aim), choice)
    pixels = tf.fill((side, side, 3), 0.5)
    state = pixels, tf.zeros_like(pixels), tf.zeros_like(pixels)  # the patch and Adam's two averages
    generator, history = np.random.Generator(np.random.PCG64(seed)), []
    for number in range(1, steps + 1):
        chosen = tf.constant(images[generator.integers(len(images), size=batch)])
        draw = tf.constant(seed), tf.constant(number)
        state, log_probability = step(state, chosen, draw, tf.constant(rate, tf.float32))
        history.append(log_probability)
        if progress:
            progress(number, steps)
    settings = {"steps": steps, "batch": batch, "rate": rate, "scale": list(scale), "rotation": rotation, "seed": seed}
    return Patch(state[0].numpy(), target, tf.stack(history).numpy(), settings)


def check_scale(scale) -> tuple[float, float]:
    """The range of shares as floats. ValueError unless it is one."""
    try:
        smallest, largest = (check_number("scale", share, 1.0) for share in scale)
    except (TypeError, ValueError):
        smallest, largest = 1.0, 0.0
    if not 0 < smallest <= largest:
        raise ValueError(
            f"scale is {shown(scale)}; expected two shares of the image's side, the smaller first, as (0.1, 1)"
        )
    return smallest, largest


def _step(aim: Aim, state, images, draw, rate):
    """One step of Adam → ((the patch, Adam's averages), the mean log-probability before the step)."""
    pixels, mean, mean_square = state
    seed, number = draw
    numbers = image_numbers(images, 0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        places = random_places(numbers, aim.placement, seed, number, images.shape)
        seen = apply_patch(pixels, images, places)  # A(p, x, l, t)
        goals = tf.fill(tf.shape(numbers), aim.target)
        losses = [tf.reduce_mean(kernels.cross_entropy(logits_of(model, seen), goals)) for model in aim.models]
        loss = tf.add_n(losses) / len(losses)  # −E[log P(target)]
    pixels, mean, mean_square = adam(pixels, gradient_of(tape, loss, pixels), mean, mean_square, rate, number)
    return (tf.clip_by_value(pixels, 0.0, 1.0), mean, mean_square), -loss


# Using it ---------------------------------------------------------------------------------------------------


def patch(
    network: Classifier,
    images,
    labels,
    *,
    patch: Patch,
    epsilon=0.1,
    rotation: float = 22.5,
    seed: int = 0,
    first: int = 0,
    compile: str = "auto",
) -> AttackResult:
    """Lay a patch on each image, at a random place and angle; the attack is targeted at the patch's class.

    Args:
        network: A `Network`, or any function images → logits.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        patch: The patch.
        epsilon: The area of the disc, as a share of the image's area; one number or [B].
        rotation: The largest rotation, in degrees.
        seed: With `first`, fixes place and angle: those of image i depend only on (seed, first + i).
        first: How many images earlier batches had.
        compile: One of `rawcnn.nn.execution.MODES`.

    Returns:
        The images with the patch and the network's predictions of them.

    Raises:
        ValueError: An argument is out of range, or the disc does not fit into the images.
    """
    if not isinstance(patch, Patch):
        raise ValueError(f"patch is {shown(patch)}; expected what make_patch returns")
    rotation = check_number("rotation", rotation, 180.0)
    draw = check_integer("seed", seed, 0), check_integer("first", first, 0)
    problem = make_problem(network, images, labels, patch.target, compile)
    share = check_amounts("epsilon", epsilon, problem.count, LARGEST_DISC, "0 to 0.785, the largest disc in a square")
    height, width = problem.images.shape[1:3]
    diameters = np.sqrt(4 * share / pi * height * width) / min(height, width)  # [B], in shorter sides
    if (diameters > 1).any():
        raise ValueError(
            f"a disc of {share.max():.0%} does not fit into {height}×{width} images; give a smaller epsilon"
        )
    if not share.any():
        return problem.result(problem.images, 0)
    diameters, angle = tf.constant(diameters, tf.float32), rotation * pi / 180
    pixels = tf.constant(patch.pixels[None])  # with an axis in front, because a program keeps all but the first length
    return problem.result(problem.run(_patched, diameters, angle, draw, pixels), 0)


def _patched(network, images, goals, diameters, angle, draw, pixels, *, targeted):
    seed, first = draw
    numbers, placement = image_numbers(images, first), Placement((diameters, diameters), angle)
    laid = apply_patch(pixels[0], images, random_places(numbers, placement, seed, tf.constant(0), images.shape))
    return tf.where(per_image(diameters, images) > 0, laid, images)


# Where it lies ----------------------------------------------------------------------------------------------


def random_places(numbers, placement: Placement, seed, stream, shape) -> tf.Tensor:
    """A place inside images of this shape for each image number [B]: [B,4], diameter, angle, center (right, down)."""
    height, width = shape[1], shape[2]
    u = uniform(4, numbers, seed, stream)
    smallest, largest = placement.scale
    diameter = (smallest + (largest - smallest) * u[:, 0]) * min(height, width)
    right, down = (diameter / 2 + u[:, k] * (length - diameter) for k, length in ((2, width), (3, height)))
    return tf.stack([diameter, (2 * u[:, 1] - 1) * placement.angle, right, down], axis=1)


def apply_patch(pixels: tf.Tensor, images: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] with the disc of the patch [S,S,3] at `places` [B,4]; around it they keep every bit."""
    side = pixels.shape[0]
    mask = tf.constant(disc(side))
    sticker = tf.concat([mask * pixels, mask], axis=-1)  # [S,S,4], premultiplied
    diameter, angle, right, down = tf.unstack(places, axis=1)
    cos, sin = tf.cos(angle) * side / diameter, tf.sin(angle) * side / diameter
    # The center of an output pixel, relative to the disc's center, rotated and scaled to the patch's pixels.
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
