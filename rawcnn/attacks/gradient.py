"""Attacks that follow the sign or the direction of the gradient: FGSM in one step, the others in many.

    fgsm      x + ε·sign(∇ₓJ)                            Goodfellow, Shlens, Szegedy 2015, section 4
    bim       x ← project(x + α·sign(∇ₓJ))               Kurakin, Goodfellow, Bengio 2017, section 2.2
    mi_fgsm   g ← μ·g + ∇ₓJ/‖∇ₓJ‖₁; x ← x + α·sign(g)    Dong et al. 2018, algorithm 1
    pgd       x ← project(x + α·direction(∇ₓJ))          Madry et al. 2018, section 2.1: bim from a random start

J is the loss of the true label, in the untargeted attack: at a label that the network predicts wrongly too. Steps are
steepest in their norm: sign(g) in L∞, g/‖g‖ in L2. A whole attack, all steps and restarts, is one compiled function;
ε, step size and counts are tensors in it, so other values do not trace it again.
"""

from __future__ import annotations

from math import ceil, inf, prod

import tensorflow as tf

from rawcnn.attacks.active_set import advance, each
from rawcnn.attacks.common import Model, ascent, distance, fooled, gain, logits_of, prepare, prepared, real, whole
from rawcnn.attacks.per_image_random import normal, numbers, uniform
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.trace import PRECISIONS

NORMS = ("linf", "l2")


def fgsm(network: Model, images, labels, *, epsilon=8 / 255, target=None, compile: str = "auto") -> AttackResult:
    """The fast gradient sign method: one step of ε along the gradient's sign, clipped to [0,1].

    `network` is any function images → logits; images [B,H,W,3] in [0,1], labels int [B]; epsilon in the same unit,
    pixel values, one or [B]. `target`, a class or int [B], makes it step towards that class, not away from the label.
    """
    task = prepare(network, images, labels, target, compile)
    attacked = task.run(_fgsm, distance("epsilon", epsilon, task.count))
    return task.result(attacked, iterations=1)


def _fgsm(network, images, goals, epsilon, *, targeted):
    gradient, _ = ascent(prepared(network), images, goals, targeted)
    return tf.clip_by_value(images + each(epsilon, images) * tf.sign(gradient), 0.0, 1.0)  # sign(0) = 0: it stays


def bim(
    network: Model,
    images,
    labels,
    *,
    epsilon: float = 8 / 255,
    step: float = 1 / 255,
    steps: int | None = None,
    target=None,
    compile: str = "auto",
) -> AttackResult:
    """The basic iterative method: `steps` of FGSM of one level of 255 each, by default min(255ε + 4, 1.25·255ε)."""
    largest = distance("epsilon", epsilon, len(labels))
    levels = 255 * float(tf.reduce_max(largest)) if len(labels) else 0.0
    steps = max(1, ceil(min(levels + 4, 1.25 * levels) - 1e-6)) if steps is None else steps
    return pgd(
        network, images, labels, epsilon=epsilon, step=step, steps=steps, random_start=False, target=target,
        compile=compile,
    )  # fmt: skip


def mi_fgsm(
    network: Model,
    images,
    labels,
    *,
    epsilon: float = 8 / 255,
    steps: int = 10,
    momentum: float = 1.0,
    target=None,
    compile: str = "auto",
) -> AttackResult:
    """The momentum iterative method: steps of ε/steps along the sign of the gradients' decaying sum."""
    whole("steps", steps, 1)
    return pgd(
        network, images, labels, epsilon=epsilon, step=epsilon / steps, steps=steps, momentum=momentum,
        random_start=False, target=target, compile=compile,
    )  # fmt: skip


def pgd(
    network: Model,
    images,
    labels,
    *,
    epsilon=8 / 255,
    step=2 / 255,
    steps: int = 10,
    norm: str = "linf",
    momentum: float = 0.0,
    random_start: bool = True,
    restarts: int = 1,
    target=None,
    seed: int = 0,
    first: int = 0,
    precision: str = "float32",
    compile: str = "auto",
) -> AttackResult:
    """Projected gradient descent on minus the loss, within ε of the images in L∞ or L2 and within [0,1].

    An image that is fooled after a step stays as it is from then on. Of its `restarts` each image keeps the first
    that fools, else the one of highest loss (targeted: lowest loss of the target). The random start of image i is a
    function of (seed, restart, first + i) alone: let `first` count the images of earlier batches. ε and step are one
    number, or [B]. With the `precision` "bfloat16" a Network's gradients are taken so, and whom that does not fool
    then gets the attack in float32: so no fewer are. The rest as `fgsm`.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if not random_start and restarts != 1:
        raise ValueError(f"{restarts} restarts from one point are one run {restarts} times; set random_start=True")
    counts = whole("steps", steps, 1), whole("restarts", restarts, 1), whole("seed", seed, 0), whole("first", first, 0)
    task = prepare(network, images, labels, target, compile)
    lengths = distance("epsilon", epsilon, task.count, norm), distance("step", step, task.count, norm)
    settings = {"norm": norm, "random_start": random_start, "precision": precision, "gather": task.gathers}
    attacked, taken, asked = task.run(_pgd, *lengths, real("momentum", momentum), *counts, **settings)
    return task.result(attacked, taken.numpy(), asked.numpy())


def _pgd(
    network, images, goals, epsilon, step, momentum, steps, restarts, seed, first,
    *, norm, random_start, precision, targeted, gather,
):  # fmt: skip
    """(attacked images [B,H,W,3]; gradient steps that each took and forward passes that it asked for, [B])."""

    def climb(model, k, finished, taken, asked, x, velocity):
        """A step of every image that is not finished. Its own forward pass tells which the step before fooled."""

        def move(x, velocity, done, images, goals, epsilon, step):
            gradient, logits = ascent(model, x, goals, targeted)
            done = (k > 0) & fooled(logits, goals, targeted)
            velocity = momentum * velocity + of_mean_one(gradient)
            moved = x + each(step, x) * direction(velocity, norm)
            moved = tf.clip_by_value(project(moved, images, each(epsilon, x), norm), 0.0, 1.0)
            return tf.where(each(done, x), x, moved), velocity, done

        given = images, goals, epsilon, step
        asked += tf.cast(~finished, tf.int32)
        x, velocity, finished = advance(move, finished, (x, velocity, finished), given, gather=gather)
        return k + 1, finished, taken + tf.cast(~finished, tf.int32), asked, x, velocity

    def restart(model, r, best, best_gain, taken, asked):
        """A run of `steps`, and what is better of it and the best so far. A gain of ∞ is a fooled network."""
        start = images
        if random_start:
            point = random_point(images.shape[1:], numbers(images, first), seed, r, norm)
            start = tf.clip_by_value(images + each(epsilon, images) * point, 0.0, 1.0)
        _, _, taken, asked, x, _ = tf.while_loop(
            lambda k, finished, *rest: (k < steps) & ~tf.reduce_all(finished),
            lambda *state: climb(model, *state),
            (0, best_gain == inf, taken, asked + tf.cast(best_gain < inf, tf.int32), start, tf.zeros_like(images)),
        )
        logits = logits_of(network, x)
        new_gain = tf.where(fooled(logits, goals, targeted), inf, gain(logits, goals, targeted))
        better = new_gain > best_gain
        return r + 1, tf.where(each(better, x), x, best), tf.where(better, new_gain, best_gain), taken, asked

    state = images, tf.fill(tf.shape(goals), -inf), tf.zeros_like(goals), tf.zeros_like(goals)
    for each_precision in dict.fromkeys((precision, "float32")):
        model = prepared(network, each_precision)
        _, *state = tf.while_loop(
            lambda r, best, best_gain, *rest: (r < restarts) & tf.reduce_any(best_gain < inf),
            lambda *state, model=model: restart(model, *state),
            (0, *state),
        )
    best, _, taken, asked = state
    return best, taken, asked


def direction(gradient: tf.Tensor, norm: str) -> tf.Tensor:
    """The step of length one that climbs most: [B,H,W,3] → [B,H,W,3]; zero where the gradient is."""
    return tf.sign(gradient) if norm == "linf" else tf.math.divide_no_nan(gradient, length_of(gradient))


def project(x: tf.Tensor, center: tf.Tensor, epsilon: tf.Tensor, norm: str) -> tf.Tensor:
    """The point nearest to x within ε [B,1,1,1] of `center`, image by image."""
    if norm == "linf":
        return tf.clip_by_value(x, center - epsilon, center + epsilon)
    noise = x - center
    return center + noise * tf.minimum(1.0, tf.math.divide_no_nan(epsilon, length_of(noise)))


def length_of(x: tf.Tensor) -> tf.Tensor:
    """L2 norm of each image: [B,H,W,3] → [B,1,1,1]. Scaled by the largest entry: small gradients do not underflow."""
    largest = tf.reduce_max(tf.abs(x), axis=(1, 2, 3), keepdims=True)
    return largest * tf.sqrt(tf.reduce_sum(tf.math.divide_no_nan(x, largest) ** 2, axis=(1, 2, 3), keepdims=True))


def of_mean_one(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,3] over each image's mean magnitude: x/‖x‖₁ up to a factor that no direction tells; 0 stays 0."""
    x = tf.math.divide_no_nan(x, tf.reduce_max(tf.abs(x), axis=(1, 2, 3), keepdims=True))  # small ones do not underflow
    return tf.math.divide_no_nan(x, tf.reduce_mean(tf.abs(x), axis=(1, 2, 3), keepdims=True))


def random_point(shape, images: tf.Tensor, seed: tf.Tensor, restart: tf.Tensor, norm: str) -> tf.Tensor:
    """A point [B,*shape] for the numbers of `images` [B], uniform in the ball of radius 1.

    In L2 it is the first n of n + 2 coordinates of a point on the sphere (Voelker, Gosmann, Stewart 2017).
    """
    size = prod(shape)
    if norm == "linf":
        return tf.reshape(2 * uniform(size, images, seed, restart) - 1, (-1, *shape))
    on_sphere = tf.math.l2_normalize(normal(size + 2, images, seed, restart), axis=1)
    return tf.reshape(on_sphere[:, :size], (-1, *shape))
