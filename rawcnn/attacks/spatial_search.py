"""Rotations and translations that fool: no noise, the same photograph held a little askew.

Engstrom, Tran, Tsipras, Schmidt, Madry, "Exploring the Landscape of Spatial Robustness", ICML 2019 (arXiv 1712.02779).
An image is turned about its middle by up to 30°, then moved by up to 3 pixels (CIFAR-10; 24 of ImageNet's 224), sampled
bilinearly, with zeros around it. Three ways to search:

    grid          all of 5 × 5 translations and 31 angles: 775
    worst         the worst of k = 10 drawn at random for each image; k = 1 is a random transformation
    first-order   projected gradient ascent on angle and translation, through the bilinear sampling

Of the transformations tried, an image keeps one that fools before one that does not, and of those the one of highest
loss. Zero rotation and translation leaves it bit for bit what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.active_set import each
from rawcnn.attacks.common import Model, Task, fooled, gain, logits_of, prepare, prepared, real, slope, whole
from rawcnn.attacks.per_image_random import numbers, uniform
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.trace import PRECISIONS

METHODS = ("grid", "worst", "first-order")
AT_A_TIME = 128  # images of a forward pass: as many transformations of the batch as that makes
FOOLS = 1e6  # in float64 beside a loss: whatever fools is worse than what does not


@dataclass(frozen=True)
class SpatialResult(AttackResult):
    """`transformations` float32 [B,3]: degrees counter-clockwise, then pixels to the right and down."""

    transformations: np.ndarray


def spatial(
    network: Model,
    images,
    labels,
    *,
    epsilon: float = 1.0,
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
    """The worst of the rotations up to ±`rotation` degrees and translations up to ±`translation` pixels.

    `epsilon`, 0 to 1, is the share of both that is allowed. The grid takes `angles` × `shifts` × `shifts` places, both
    ends among them; "worst" draws `trials` for each image, by (seed, trial, first + number of the image) alone, so that
    more trials only add; "first-order" starts from one draw and takes `steps` of `step` times the range. The rest as
    `pgd`. `queries` counts the transformations that the network saw. With the `precision` "bfloat16" a Network looks
    through the grid so, and whom what it finds does not fool gets the grid in float32: so no fewer are fooled.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    for what, count in {"angles": angles, "shifts": shifts, "trials": trials, "steps": steps}.items():
        whole(what, count, 1)
    real("rotation", rotation, 180.0), real("translation", translation), real("epsilon", epsilon, 1.0)
    draw = whole("seed", seed, 0), whole("first", first, 0)
    reach = tf.constant([epsilon * rotation * pi / 180, epsilon * translation, epsilon * translation], tf.float32)
    task = prepare(network, images, labels, target, compile)
    queries: int | np.ndarray
    if method == "first-order":
        attacked, chosen = task.run(_ascend, reach, whole("steps", steps, 1), real("step", step, 1.0), *draw)
        iterations, queries = steps, steps + 1
    elif method == "grid":
        attacked, chosen, queries = _look_through(task, reach, tf.constant(_grid(angles, shifts)), precision)
        iterations = 0
    else:
        attacked, chosen = task.run(_worst_of_draws, reach, whole("trials", trials, 1), *draw)
        iterations, queries = 0, trials
    degrees = np.asarray(chosen) * np.array([180 / pi, 1, 1], np.float32)
    return task.result(attacked, iterations, queries, SpatialResult, transformations=degrees)


def moved(images: tf.Tensor, transformations: tf.Tensor) -> tf.Tensor:
    """[B,H,W,3], [B,3] (radians, right, down) → [B,H,W,3], zeros where there was no image."""
    size = images.shape[1], images.shape[2]
    places = kernels.rotation_translation(transformations[:, 0], transformations[:, 1:], size)
    return kernels.affine_resample(images, places)


def _grid(angles: int, shifts: int) -> np.ndarray:
    """All places [angles·shifts²,3], (angle, right, down) each in −1 … 1; of one, the middle."""
    axes = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (angles, shifts, shifts))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


def _score(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """How bad a transformation is, float64 [B]."""
    loss = tf.cast(gain(logits, goals, targeted), tf.float64)
    return loss + FOOLS * tf.cast(fooled(logits, goals, targeted), tf.float64)


def _look_through(task: Task, reach: tf.Tensor, grid: tf.Tensor, precision: str) -> tuple[np.ndarray, ...]:
    """The worst of the grid [T,3]: moved images [B,H,W,3], their transformations [B,3], places looked at [B]."""

    def look(some: Task, precision: str) -> tuple[np.ndarray, np.ndarray]:
        attacked, chosen = some.run(_worst_of_grid, reach, grid, precision=precision)
        return attacked.numpy(), chosen.numpy()

    attacked, chosen = look(task, precision)
    looks = np.full(task.count, len(grid))
    if precision != "float32" and (left := ~task.fooled_by(attacked)).any():
        attacked[left], chosen[left] = look(task.only(left), "float32")
        looks[left] *= 2
    return attacked, chosen, looks


def _worst_of_grid(network, images, goals, reach, grid, *, precision, targeted):
    """Every place of the grid [T,3] for every image → (moved images [B,H,W,3], their transformations [B,3])."""
    model, batch, count = prepared(network, precision), tf.shape(images)[0], tf.shape(grid)[0]
    at_a_time = tf.maximum(AT_A_TIME // batch, 1)

    def look(start, worst, worst_score):
        places = tf.minimum(start + tf.range(at_a_time), count - 1)  # the last look repeats the last place
        tried = tf.repeat(tf.gather(grid, places) * reach, batch, axis=0)  # [n·B,3]
        seen = moved(tf.tile(images, [at_a_time, 1, 1, 1]), tried)  # [n·B,H,W,3]
        scores = _score(logits_of(model, seen), tf.tile(goals, [at_a_time]), targeted)
        scores, tried = tf.reshape(scores, (at_a_time, batch)), tf.reshape(tried, (at_a_time, batch, 3))
        which = tf.argmax(scores, axis=0)  # [B]
        score = tf.gather(tf.transpose(scores), which, batch_dims=1)
        choice = tf.gather(tf.transpose(tried, (1, 0, 2)), which, batch_dims=1)
        return start + at_a_time, *_worse(choice, score, worst, worst_score)

    _, worst, _ = tf.while_loop(lambda start, *rest: start < count, look, (0, *_none(images)))
    return moved(images, worst), worst


def _worst_of_draws(network, images, goals, reach, trials, seed, first, *, targeted):
    """`trials` draws for each image → (moved images [B,H,W,3], their transformations [B,3])."""
    model = prepared(network)

    def look(trial, worst, worst_score):
        choice = _draw(images, reach, seed, trial, first)
        score = _score(logits_of(model, moved(images, choice)), goals, targeted)
        return trial + 1, *_worse(choice, score, worst, worst_score)

    _, worst, _ = tf.while_loop(lambda trial, *rest: trial < trials, look, (0, *_none(images)))
    return moved(images, worst), worst


def _ascend(network, images, goals, reach, steps, step, seed, first, *, targeted):
    """Steps of the signs of the loss's slopes, from a draw → (moved images [B,H,W,3], their transformations [B,3])."""
    model = prepared(network)

    def climb(k, place, worst, worst_score):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(place)
            logits = logits_of(model, moved(images, place))
            total = tf.reduce_sum(gain(logits, goals, targeted))
        way = slope(tape, total, place)
        worst, worst_score = _worse(place, _score(logits, goals, targeted), worst, worst_score)
        return k + 1, tf.clip_by_value(place + step * reach * tf.sign(way), -reach, reach), worst, worst_score

    start = _draw(images, reach, seed, tf.constant(0), first)
    state = tf.while_loop(lambda k, *rest: k <= steps, climb, (0, start, *_none(images)))  # the last looks where it is
    return moved(images, state[2]), state[2]


def _draw(images: tf.Tensor, reach: tf.Tensor, seed: tf.Tensor, trial: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """A transformation for each image [B,3], uniform in ±reach."""
    return (2 * uniform(3, numbers(images, first), seed, trial) - 1) * reach


def _none(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """No transformation yet [B,3], and how bad that is [B]."""
    batch = tf.shape(images)[0]
    return tf.zeros((batch, 3)), tf.fill((batch,), tf.constant(-np.inf, tf.float64))


def _worse(choice, score, worst, worst_score) -> tuple[tf.Tensor, tf.Tensor]:
    """The worse of two transformations [B,3] of each image, and its score [B]; of equal ones the second."""
    better = score > worst_score
    return tf.where(each(better, choice), choice, worst), tf.where(better, score, worst_score)
