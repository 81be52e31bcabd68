"""Rotations and translations that fool a network, without any noise.

Engstrom, Tran, Tsipras, Schmidt, Madry, "Exploring the Landscape of Spatial Robustness", ICML 2019 (arXiv 1712.02779).
An image is rotated about its center by up to 30°, then translated by up to 3 pixels (CIFAR-10; 24 of ImageNet's 224).
It is sampled bilinearly, with zeros around it. The searches are:

    grid          all of 5 × 5 translations and 31 angles: 775
    worst         the worst of k = 10 random transformations of each image
    first-order   projected gradient ascent on angle and translation, through the bilinear sampling

Each image keeps a transformation that fools the network rather than one that does not, and among equals the one with
the highest loss. Zero rotation and translation returns the image bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_amounts, check_choice, check_integer, check_number
from rawcnn.attacks.common import Classifier, attack_loss, fooled, gradient_of, logits_of, per_image
from rawcnn.attacks.per_image_random import image_numbers, uniform
from rawcnn.attacks.problem import Problem, make_problem
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import folded_network
from rawcnn.nn.trace import PRECISIONS

AT_A_TIME = 128  # images of a forward pass: as many transformations of the batch as that allows
LARGEST_GRID = 10**7  # places, which take 120 MB
FOOLS = 1e6  # added to the loss, in float64, of a transformation that fools the network, so that it wins


@dataclass(frozen=True)
class SpatialResult(AttackResult):
    """An `AttackResult` with the transformations that were found.

    Attributes:
        transformations: float32 [B,3]: degrees counter-clockwise, then pixels to the right and down.
        images, originals, labels, target, predictions_before, predictions: As in `AttackResult`.
        confidences_before, confidences, iterations, queries: As in `AttackResult`.
    """

    transformations: np.ndarray


class Draw(NamedTuple):
    """What random transformations depend on."""

    seed: tf.Tensor | int
    first: tf.Tensor | int  # the number of the batch's first image


class Lengths(NamedTuple):
    """How far gradient ascent goes."""

    steps: tf.Tensor | int
    step: tf.Tensor | float  # the step size, as a share of the range


@dataclass(frozen=True)
class Search:
    """The settings of the three searches; each uses some of them."""

    angles: int
    shifts: int
    trials: int
    steps: int
    step: float
    draw: Draw
    precision: str

    def __post_init__(self) -> None:
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("angles", "shifts", "trials", "steps"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), 1))  # a frozen dataclass
        object.__setattr__(self, "step", check_number("step", self.step, 1.0))
        if self.angles * self.shifts**2 > LARGEST_GRID:
            raise ValueError(
                f"a grid of {self.angles} angles and {self.shifts}×{self.shifts} translations has "
                f"{self.angles * self.shifts**2:,} places; expected {LARGEST_GRID:,} at most: use fewer, or the "
                'method "worst"'
            )


class SearchResult(NamedTuple):
    """What a search returns."""

    images: tf.Tensor | np.ndarray  # [B,H,W,3]
    transformations: tf.Tensor | np.ndarray  # [B,3]: radians, right, down
    iterations: int  # gradient steps
    queries: int | np.ndarray  # transformations that the network saw, one number or [B]


def spatial(
    network: Classifier,
    images,
    labels,
    *,
    epsilon=1.0,
    method: str = "grid",
    rotation: float = 30.0,
    translation: float = 3.0,
    angles: int = 31,
    shifts: int = 5,
    trials: int = 10,
    steps: int = 20,
    step: float = 0.1,
    target=None,
    seed: int = 0,
    first: int = 0,
    precision: str = "float32",
    compile: str = "auto",
) -> SpatialResult:
    """Find the worst of the rotations and translations within a range.

    Args:
        network: A `Network`, or any function images → logits; differentiable for "first-order".
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        epsilon: The share of both ranges that is allowed, 0 to 1; one number or [B].
        method: "grid", "worst" or "first-order".
        rotation: The largest rotation, in degrees.
        translation: The largest translation in each direction, in pixels.
        angles: Grid: how many angles, both ends among them.
        shifts: Grid: how many translations in each direction, both ends among them.
        trials: Worst: how many random transformations. More trials only add to fewer ones.
        steps: First-order: how many steps, from a random transformation.
        step: First-order: the step size, as a share of the range.
        target: A class or int [B] to reach, instead of leaving the label.
        seed: With `first`, fixes random transformations: they depend only on (seed, trial, first + the image's number).
        first: How many images earlier batches had.
        precision: "float32", or "bfloat16" for the grid of a `Network`. Images that the bfloat16 grid does not fool get
            the grid in float32, so the success rate is not lower.
        compile: One of `rawcnn.nn.execution.MODES`.

    Returns:
        The transformed images, their transformations, and the network's predictions. `queries` counts the
        transformations that the network saw.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    draw = Draw(check_integer("seed", seed, 0), check_integer("first", first, 0))
    search = Search(angles, shifts, trials, steps, step, draw, precision)
    check_choice("method", method, METHODS)
    rotation, translation = check_number("rotation", rotation, 180.0), check_number("translation", translation)
    problem = make_problem(network, images, labels, target, compile)
    share = check_amounts("epsilon", epsilon, problem.count, 1.0, "0 to 1, a share of the range")
    reach = np.stack([share * rotation * pi / 180, share * translation, share * translation], axis=1)  # [B,3]
    reach = tf.constant(reach, tf.float32)
    found = METHODS[method](problem, reach, search)
    degrees = np.asarray(found.transformations) * np.array([180 / pi, 1, 1], np.float32)
    return problem.result(found.images, found.iterations, found.queries, SpatialResult, transformations=degrees)


def moved(images: tf.Tensor, transformations: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3], transformations [B,3] (radians, right, down) → images [B,H,W,3], with zeros outside."""
    size = images.shape[1], images.shape[2]
    places = kernels.rotation_translation(transformations[:, 0], transformations[:, 1:], size)
    return kernels.affine_resample(images, places)


# The grid ---------------------------------------------------------------------------------------------------


def grid_search(problem: Problem, reach: tf.Tensor, search: Search) -> SearchResult:
    """The worst transformation of a grid within `reach` [B,3]."""
    grid = grid_of(search.angles, search.shifts)
    attacked, chosen = _try_grid(problem, reach, grid, search.precision)
    queries = np.full(problem.count, len(grid))
    if search.precision != "float32" and (left := ~problem.fooled_by(attacked)).any():
        attacked[left], chosen[left] = _try_grid(problem.only(left), reach[left], grid, "float32")
        queries[left] *= 2
    return SearchResult(attacked, chosen, 0, queries)


def grid_of(angles: int, shifts: int) -> np.ndarray:
    """All places [angles·shifts²,3] (angle, right, down), each in −1 … 1; a single one is the middle."""
    axes = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (angles, shifts, shifts))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


def _try_grid(problem: Problem, reach: tf.Tensor, grid: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray]:
    attacked, chosen = problem.run(_worst_of_grid, reach, tf.constant(grid), precision=precision)
    return attacked.numpy(), chosen.numpy()


def _worst_of_grid(network, images, goals, reach, grid, *, precision, targeted):
    """Try every place of the grid [T,3] on every image → (moved images [B,H,W,3], their transformations [B,3])."""
    model, batch, count = folded_network(network, precision), tf.shape(images)[0], tf.shape(grid)[0]
    at_a_time = tf.maximum(AT_A_TIME // batch, 1)  # n

    def step(start, worst, worst_score):
        places = tf.minimum(start + tf.range(at_a_time), count - 1)  # the last pass repeats the last place
        tried = tf.repeat(tf.gather(grid, places), batch, axis=0) * tf.tile(reach, [at_a_time, 1])  # [n·B,3]
        seen = moved(tf.tile(images, [at_a_time, 1, 1, 1]), tried)  # [n·B,H,W,3]
        scores = _score(logits_of(model, seen), tf.tile(goals, [at_a_time]), targeted)
        scores, tried = tf.reshape(scores, (at_a_time, batch)), tf.reshape(tried, (at_a_time, batch, 3))
        which = tf.argmax(scores, axis=0)  # [B]
        score = tf.gather(tf.transpose(scores), which, batch_dims=1)
        choice = tf.gather(tf.transpose(tried, (1, 0, 2)), which, batch_dims=1)
        return start + at_a_time, *_worse(choice, score, worst, worst_score)

    _, worst, _ = tf.while_loop(lambda start, *_: start < count, step, (0, *_nothing_tried(images)))
    return moved(images, worst), worst


# Random transformations -------------------------------------------------------------------------------------


def random_search(problem: Problem, reach: tf.Tensor, search: Search) -> SearchResult:
    """The worst of `trials` random transformations within `reach` [B,3]."""
    attacked, chosen = problem.run(_worst_of_random, reach, search.trials, search.draw)
    return SearchResult(attacked, chosen, 0, search.trials)


def _worst_of_random(network, images, goals, reach, trials, draw: Draw, *, targeted):
    """(moved images [B,H,W,3], their transformations [B,3])."""
    model = folded_network(network)

    def step(trial, worst, worst_score):
        choice = _random(images, reach, draw, trial)
        score = _score(logits_of(model, moved(images, choice)), goals, targeted)
        return trial + 1, *_worse(choice, score, worst, worst_score)

    _, worst, _ = tf.while_loop(lambda trial, *_: trial < trials, step, (0, *_nothing_tried(images)))
    return moved(images, worst), worst


def _random(images: tf.Tensor, reach: tf.Tensor, draw: Draw, trial: tf.Tensor) -> tf.Tensor:
    """A transformation for each image [B,3], uniform in ±reach."""
    return (2 * uniform(3, image_numbers(images, draw.first), draw.seed, trial) - 1) * reach


# Gradient ascent --------------------------------------------------------------------------------------------


def first_order_search(problem: Problem, reach: tf.Tensor, search: Search) -> SearchResult:
    """The worst transformation that projected gradient ascent meets within `reach` [B,3]."""
    lengths = Lengths(search.steps, search.step)
    attacked, chosen = problem.run(_first_order, reach, lengths, search.draw)
    return SearchResult(attacked, chosen, search.steps, search.steps + 1)


def _first_order(network, images, goals, reach, lengths: Lengths, draw: Draw, *, targeted):
    """(moved images [B,H,W,3], their transformations [B,3])."""
    model = folded_network(network)

    def step(k, place, worst, worst_score):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(place)  # [B,3]
            logits = logits_of(model, moved(images, place))
            total = tf.reduce_sum(attack_loss(logits, goals, targeted))
        gradient = gradient_of(tape, total, place)
        worst, worst_score = _worse(place, _score(logits, goals, targeted), worst, worst_score)
        place = tf.clip_by_value(place + lengths.step * reach * tf.sign(gradient), -reach, reach)
        return k + 1, place, worst, worst_score

    start = _random(images, reach, draw, tf.constant(0))
    _, _, worst, _ = tf.while_loop(
        lambda k, *_: k <= lengths.steps,  # the last pass only scores the place that the steps reached
        step,
        (0, start, *_nothing_tried(images)),
    )
    return moved(images, worst), worst


METHODS: dict[str, Callable[[Problem, tf.Tensor, Search], SearchResult]] = {
    "grid": grid_search,
    "worst": random_search,
    "first-order": first_order_search,
}


# The worst transformation so far ----------------------------------------------------------------------------


def _score(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """float64 [B]: the loss, plus `FOOLS` if the network is fooled; −∞, so that it never wins, if neither is known."""
    loss = tf.cast(attack_loss(logits, goals, targeted), tf.float64)
    success = tf.cast(fooled(logits, goals, targeted), tf.float64)
    known = tf.math.is_finite(loss) | (success > 0)
    loss = tf.where(tf.math.is_finite(loss), loss, tf.zeros_like(loss))
    return tf.where(known, loss + FOOLS * success, tf.constant(-np.inf, tf.float64))


def _nothing_tried(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """No transformation yet [B,3], and its score [B]."""
    batch = tf.shape(images)[0]
    return tf.zeros((batch, 3)), tf.fill((batch,), tf.constant(-np.inf, tf.float64))


def _worse(choice, score, worst, worst_score) -> tuple[tf.Tensor, tf.Tensor]:
    """The worse of two transformations [B,3] of each image and its score [B]; of equal ones the older."""
    better = score > worst_score
    return tf.where(per_image(better, choice), choice, worst), tf.where(better, score, worst_score)
