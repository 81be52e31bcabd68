"""Attacks that follow the sign or the direction of the gradient: FGSM in one step, PGD in many.

    fgsm    x + ε·sign(∇ₓJ)                          Goodfellow, Shlens, Szegedy 2015, section 4
    pgd     x ← project(x + α·direction(∇ₓJ))        Madry et al. 2018, section 2.1; without a random start it is
                                                     the basic iterative method of Kurakin et al. 2017, section 2.2

J is the loss of the true label, in the untargeted attack: at a label that the network predicts wrongly too. Steps are
steepest in their norm: sign(g) in L∞, g/‖g‖ in L2. A whole attack, all steps and restarts, is one compiled function;
ε, step size and counts are tensors in it, so other values do not trace it again.
"""

from __future__ import annotations

from math import inf, pi, prod

import numpy as np
import tensorflow as tf

from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.task import Model, ascent, distance, fooled, gain, logits_of, prepare, whole

NORMS = ("linf", "l2")


def fgsm(
    network: Model, images, labels, *, epsilon: float = 8 / 255, target=None, compile: str = "auto"
) -> AttackResult:
    """The fast gradient sign method: one step of ε along the gradient's sign, clipped to [0,1].

    `network` is any function images → logits; images [B,H,W,3] in [0,1], labels int [B]; epsilon in the same unit,
    pixel values. `target`, a class or int [B], makes it step towards that class instead of away from the label.
    """
    task = prepare(network, images, labels, target, compile)
    attacked = task.run(_fgsm, distance("epsilon", epsilon))
    return task.result(attacked, np.ones(len(task.labels)))


def _fgsm(network, images, goals, epsilon, *, targeted):
    gradient, _ = ascent(network, images, goals, targeted)
    return tf.clip_by_value(images + epsilon * tf.sign(gradient), 0.0, 1.0)  # sign(0) = 0: the pixel stays


def pgd(
    network: Model,
    images,
    labels,
    *,
    epsilon: float = 8 / 255,
    step: float = 2 / 255,
    steps: int = 10,
    norm: str = "linf",
    random_start: bool = True,
    restarts: int = 1,
    target=None,
    seed: int = 0,
    first: int = 0,
    compile: str = "auto",
) -> AttackResult:
    """Projected gradient descent on minus the loss, within ε of the images in L∞ or L2 and within [0,1].

    An image that is fooled after a step stays as it is from then on. Of its `restarts` each image keeps the first
    that fools, else the one of highest loss (targeted: lowest loss of the target). The random start of image i is a
    function of (seed, restart, first + i) alone: let `first` count the images of earlier batches. The rest as `fgsm`.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    if not random_start and restarts != 1:
        raise ValueError(f"{restarts} restarts from one point are one run {restarts} times; set random_start=True")
    lengths = distance("epsilon", epsilon, norm), distance("step", step, norm)
    counts = whole("steps", steps, 1), whole("restarts", restarts, 1), whole("seed", seed, 0), whole("first", first, 0)
    task = prepare(network, images, labels, target, compile)
    attacked, taken = task.run(_pgd, *lengths, *counts, norm=norm, random_start=random_start)
    return task.result(attacked, taken.numpy())


def _pgd(network, images, goals, epsilon, step, steps, restarts, seed, first, *, norm, random_start, targeted):
    """(attacked images [B,H,W,3], gradient steps that each took [B])."""

    def climb(k, x, finished, taken):
        """A step of every image that is not finished. Its own forward pass tells which the step before fooled."""
        gradient, logits = ascent(network, x, goals, targeted)
        finished |= (k > 0) & fooled(logits, goals, targeted)
        moved = tf.clip_by_value(project(x + step * direction(gradient, norm), images, epsilon, norm), 0.0, 1.0)
        return k + 1, tf.where(_each(finished), x, moved), finished, taken + tf.cast(~finished, tf.int32)

    def restart(r, best, best_gain, taken):
        """A run of `steps`, and what is better of it and the best so far. A gain of ∞ is a fooled network."""
        start = images
        if random_start:
            start = tf.clip_by_value(images + epsilon * random_point(images, seed, r, first, norm), 0.0, 1.0)
        _, x, _, taken = tf.while_loop(
            lambda k, x, finished, taken: (k < steps) & ~tf.reduce_all(finished),
            climb,
            (0, start, best_gain == inf, taken),
        )
        logits = logits_of(network, x)
        new_gain = tf.where(fooled(logits, goals, targeted), inf, gain(logits, goals, targeted))
        better = new_gain > best_gain
        return r + 1, tf.where(_each(better), x, best), tf.where(better, new_gain, best_gain), taken

    none = tf.zeros_like(goals)
    _, best, _, taken = tf.while_loop(
        lambda r, best, best_gain, taken: (r < restarts) & tf.reduce_any(best_gain < inf),
        restart,
        (0, images, tf.fill(tf.shape(goals), -inf), none),
    )
    return best, taken


def direction(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """The step of length one that climbs most: [B,H,W,3] → [B,H,W,3]; zero where the gradient is."""
    return tf.sign(gradient) if norm == "linf" else tf.math.divide_no_nan(gradient, length_of(gradient))


def project(x: tf.Tensor, center: tf.Tensor, epsilon: tf.Tensor, norm: str) -> tf.Tensor:
    """The point nearest to x within ε of `center`, image by image."""
    if norm == "linf":
        return tf.clip_by_value(x, center - epsilon, center + epsilon)
    noise = x - center
    return center + noise * tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length_of(noise)))


def length_of(x: tf.Tensor) -> tf.Tensor:
    """L2 norm of each image: [B,H,W,3] → [B,1,1,1]. Scaled by the largest entry: small gradients do not underflow."""
    largest = tf.reduce_max(tf.abs(x), axis=(1, 2, 3), keepdims=True)
    return largest * tf.sqrt(tf.reduce_sum(tf.math.divide_no_nan(x, largest) ** 2, axis=(1, 2, 3), keepdims=True))


def random_point(images: tf.Tensor, seed: tf.Tensor, restart: tf.Tensor, first: tf.Tensor, norm: str) -> tf.Tensor:
    """A point for each image, uniform in the ball of radius 1: [B,H,W,3].

    In L2 it is the first n of n + 2 coordinates of a point on the sphere (Voelker, Gosmann, Stewart 2017).
    """
    shape, size = images.shape[1:], prod(images.shape[1:])
    if norm == "linf":
        return tf.reshape(2 * _uniform(images, size, seed, restart, first) - 1, (-1, *shape))
    u, v = tf.split(_uniform(images, 2 * (size + 2), seed, restart, first), 2, axis=1)  # [B,n+2] each
    normal = tf.sqrt(-2 * tf.math.log(1 - u)) * tf.cos(2 * pi * v)  # Box & Muller 1958
    return tf.reshape(tf.math.l2_normalize(normal, axis=1)[:, :size], (-1, *shape))


def _uniform(images, count, seed, restart, first):
    """[B,count] in [0, 1 − 2⁻²⁴], image by image, so that the batch it comes in does not matter.

    Made from 32-bit words: of a word XLA keeps the first 23 bits in a float, TensorFlow's kernels the last.
    """

    def draw(shape, seed, dtype):
        return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=dtype, alg="philox")

    key = draw((), tf.stack([seed, restart]), tf.int32)
    words = tf.map_fn(
        lambda number: draw((count,), tf.stack([key, number]), tf.uint32),
        first + tf.range(tf.shape(images)[0]),
        fn_output_signature=tf.TensorSpec((count,), tf.uint32),
    )
    return tf.cast(tf.bitwise.right_shift(words, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def _each(flags: tf.Tensor) -> tf.Tensor:
    """[B] → [B,1,1,1]."""
    return flags[:, None, None, None]
