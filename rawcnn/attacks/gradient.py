"""Attacks that follow the sign or the direction of the gradient: FGSM in one step, the others in many.

    fgsm      x + ε·sign(∇ₓJ)                            Goodfellow, Shlens, Szegedy 2015, section 4
    bim       x ← project(x + α·sign(∇ₓJ))               Kurakin, Goodfellow, Bengio 2017, section 2.2
    mi_fgsm   g ← μ·g + ∇ₓJ/‖∇ₓJ‖₁; x ← x + α·sign(g)    Dong et al. 2018, algorithm 1
    pgd       x ← project(x + α·steepest(∇ₓJ))           Madry et al. 2018, section 2.1: bim from a random start

J is the loss of the true label or, targeted, minus the loss of the target. A step is the steepest in its norm: sign(g)
in L∞, g/‖g‖ in L2. `projected_ascent` is the loop of the last three; `runtime` has the wrappers around it: early exit,
restarts, the second try in float32. Each attack runs as one compiled function, including all steps and restarts. ε, the
step size and the counts are tensors, so changing them does not retrace.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil, log10
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from rawcnn.attacks.ball import NORMS, Ball, unit_mean
from rawcnn.attacks.checks import check_choice, check_distance, check_distances, check_flag, check_integer, check_number
from rawcnn.attacks.common import Classifier, fooled, loss_gradient, per_image
from rawcnn.attacks.per_image_random import image_numbers
from rawcnn.attacks.problem import make_problem
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import (
    Tensors,
    best_of_restarts,
    folded_network,
    stop_when_fooled,
    take_all_steps,
)
from rawcnn.nn.trace import PRECISIONS

# One step ---------------------------------------------------------------------------------------------------


def fgsm(network: Classifier, images, labels, *, epsilon=8 / 255, target=None, compile: str = "auto") -> AttackResult:
    """The fast gradient sign method: one step of ε along the gradient's sign, clipped to [0,1].

    Args:
        network: A `Network`, or any differentiable function images → logits.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        epsilon: The change of each pixel, in pixel values of [0,1]; one number or [B].
        target: A class or int [B] to step toward, instead of away from the label.
        compile: One of `rawcnn.nn.execution.MODES`.

    Returns:
        The attacked images and the network's predictions of them.

    Raises:
        ValueError: An argument is out of range or does not fit the network.

    Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial Examples", ICLR 2015, section 4.
    """
    problem = make_problem(network, images, labels, target, compile)
    attacked = problem.run(_fgsm, check_distance("epsilon", epsilon, problem.count))
    return problem.result(attacked, iterations=1)


def _fgsm(network, images, goals, epsilon, *, targeted):
    gradient, _ = loss_gradient(folded_network(network), images, goals, targeted)
    return tf.clip_by_value(images + per_image(epsilon, images) * tf.sign(gradient), 0.0, 1.0)  # sign(0) = 0


# Many steps -------------------------------------------------------------------------------------------------


class Amounts(NamedTuple):
    """The numbers of an attack, which its compiled program takes as tensors."""

    epsilon: tf.Tensor  # float32 [B]
    step: tf.Tensor  # α, float32 [B]
    momentum: tf.Tensor | float  # μ
    steps: tf.Tensor | int
    restarts: tf.Tensor | int
    seed: tf.Tensor | int
    first: tf.Tensor | int  # the number of the batch's first image


@dataclass(frozen=True)
class PGDChoices:
    """The choices of an attack, for each of which there is a compiled program."""

    norm: str
    random_start: bool
    early_stop: bool
    precision: str


def projected_ascent(
    model: Classifier,
    steps: tf.Tensor | int,
    state: Tensors,
    inputs: Tensors,
    *,
    momentum: tf.Tensor,
    ball: Ball,
    targeted: bool,
) -> tuple[Tensors, tf.Tensor]:
    """PGD (Madry et al. 2018, section 2.1). Without a random start it is BIM, and with momentum MI-FGSM.

    Args:
        model: Images → logits.
        steps: How many.
        state: x, the images at the start [B,H,W,3], and g, zero at the start [B,H,W,3].
        inputs: The original images [B,H,W,3], the goals [B], ε [B] and α [B].
        momentum: μ; 0 for PGD and BIM.
        ball: Its norm.
        targeted: Whether the goals are targets.

    Returns:
        (x and g after the steps; which images fooled the network before the last step, bool [B]).
    """
    images, goals, epsilon, alpha = inputs

    def step(k, x, g, _):
        gradient, logits = loss_gradient(model, x, goals, targeted)  # ∇ₓJ(x)
        g = momentum * g + unit_mean(gradient)  # g ← μ·g + ∇ₓJ/‖∇ₓJ‖₁, times a constant
        x = x + per_image(alpha, x) * ball.steepest(g)  # x ← x + α·steepest(g)
        x = ball.project(x, images, per_image(epsilon, x))  # within ε of the image
        x = tf.clip_by_value(x, 0.0, 1.0)
        return k + 1, x, g, fooled(logits, goals, targeted)

    _, *state, fooled_before = tf.while_loop(lambda k, *_: k < steps, step, (0, *state, tf.zeros_like(goals, tf.bool)))
    return state, fooled_before


def random_start(images: tf.Tensor, epsilon: tf.Tensor, numbers: tf.Tensor, seed, restart, ball: Ball) -> tf.Tensor:
    """A random point within ε [B] of each image [B,H,W,3], clipped to [0,1]; see `Ball.sample`."""
    point = ball.sample(images.shape[1:], numbers, seed, restart)
    return tf.clip_by_value(images + per_image(epsilon, images) * point, 0.0, 1.0)


def bim(
    network: Classifier,
    images,
    labels,
    *,
    epsilon=8 / 255,
    step=1 / 255,
    steps: int | None = None,
    target=None,
    early_stop: bool = True,
    compile: str = "auto",
) -> AttackResult:
    """The basic iterative method: steps of FGSM, projected onto the ball of radius ε.

    Args:
        network: As `fgsm`.
        images: As `fgsm`.
        labels: As `fgsm`.
        epsilon: The largest change of a pixel, in pixel values of [0,1]; one number or [B].
        step: The step size α, in the same unit; one number or [B]. As in the paper, it is one level of 255 for every ε.
        steps: How many; min(255ε + 4, 1.25·255ε) of the largest ε by default, which reach ε with steps of one level.
        target: As `fgsm`.
        early_stop: As `pgd`.
        compile: As `fgsm`.

    Returns:
        The attacked images and the network's predictions of them.

    Raises:
        ValueError: An argument is out of range or does not fit the network.

    Kurakin, Goodfellow, Bengio, "Adversarial Examples in the Physical World", ICLR workshop 2017, section 2.2.
    """
    levels = 255 * float(np.float32(np.max(check_distances("epsilon", epsilon, None), initial=0.0)))
    steps = max(1, ceil(min(levels + 4, 1.25 * levels) - 1e-6)) if steps is None else steps
    return pgd(
        network, images, labels, epsilon=epsilon, step=check_distances("step", step, None), steps=steps,
        random_start=False, target=target, early_stop=early_stop, compile=compile,
    )  # fmt: skip


def mi_fgsm(
    network: Classifier,
    images,
    labels,
    *,
    epsilon=8 / 255,
    steps: int = 10,
    momentum: float = 1.0,
    target=None,
    early_stop: bool = True,
    compile: str = "auto",
) -> AttackResult:
    """The momentum iterative method: steps of ε/steps along the sign of the gradients' decaying sum.

    Args:
        network: As `fgsm`.
        images: As `fgsm`.
        labels: As `fgsm`.
        epsilon: The largest change of a pixel, in pixel values of [0,1]; one number or [B].
        steps: How many.
        momentum: The decay μ of the sum.
        target: As `fgsm`.
        early_stop: As `pgd`.
        compile: As `fgsm`.

    Returns:
        The attacked images and the network's predictions of them.

    Raises:
        ValueError: An argument is out of range or does not fit the network.

    Dong et al., "Boosting Adversarial Attacks with Momentum", CVPR 2018, algorithm 1.
    """
    steps = check_integer("steps", steps, 1)
    length = check_distances("epsilon", epsilon, None) / steps
    return pgd(
        network, images, labels, epsilon=epsilon, step=length, steps=steps, momentum=momentum,
        random_start=False, target=target, early_stop=early_stop, compile=compile,
    )  # fmt: skip


def pgd(
    network: Classifier,
    images,
    labels,
    *,
    epsilon=8 / 255,
    step=None,
    steps: int = 10,
    norm: str = "linf",
    momentum: float = 0.0,
    random_start: bool = True,
    restarts: int = 1,
    target=None,
    seed: int = 0,
    first: int = 0,
    early_stop: bool = True,
    precision: str = "float32",
    compile: str = "auto",
) -> AttackResult:
    """Projected gradient descent: steps that raise the loss, within ε of the images and within [0,1].

    Args:
        network: As `fgsm`.
        images: As `fgsm`.
        labels: As `fgsm`.
        epsilon: The radius of the ball, in pixel values of [0,1]; one number or [B].
        step: The step size α, in the same unit; one number or [B]. It is ε/4 by default: 2/255 for ε = 8/255, as in the
            paper.
        steps: How many.
        norm: "linf" or "l2".
        momentum: The decay μ of earlier gradients; 0 for none.
        random_start: Start at a random point of the ball instead of the image.
        restarts: How many random starts. Each image keeps the first run that fools the network, otherwise the run with
            the highest loss.
        target: As `fgsm`.
        seed: With `first`, fixes the random starts: that of image i depends only on (seed, restart, first + i).
        first: How many images earlier batches had.
        early_stop: Leave an image as it is after the step that fools the network. False takes all steps and restarts
            for all images, as the paper does. Use False for images that are to fool other networks too, and to compare
            with libraries that do not stop.
        precision: "float32", or "bfloat16" to compute a `Network`'s gradients so. A bfloat16 attack repeats in float32
            the images that it did not fool, so its success rate is never lower.
        compile: As `fgsm`.

    Returns:
        The attacked images and the network's predictions of them. `iterations` counts the steps that an image kept.

    Raises:
        ValueError: An argument is out of range or does not fit the network.

    Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, section 2.1.
    """
    check_choice("norm", norm, NORMS), check_flag("random_start", random_start)
    check_choice("precision", precision, PRECISIONS)
    momentum, steps = check_number("momentum", momentum), check_integer("steps", steps, 1)
    restarts, seed = check_integer("restarts", restarts, 1), check_integer("seed", seed, 0)
    first = check_integer("first", first, 0)
    if momentum > 1 and steps * log10(momentum) > 30:
        raise ValueError(
            f"momentum is {momentum}, and its sum overflows in {steps} steps; expected 0 to 1, or fewer steps"
        )
    if not random_start and restarts != 1:
        raise ValueError(f"{restarts} restarts from one point are one run {restarts} times; set random_start=True")
    if step is not None:
        check_distances("step", step, None, norm)
    choices = PGDChoices(norm, bool(random_start), check_flag("early_stop", early_stop), precision)
    problem = make_problem(network, images, labels, target, compile)
    radius = check_distances("epsilon", epsilon, problem.count, norm)
    length = radius / 4 if step is None else check_distances("step", step, problem.count, norm)
    distances = tf.constant(radius, tf.float32), tf.constant(length, tf.float32)
    amounts = Amounts(*distances, momentum, steps, restarts, seed, first)
    attacked, taken, queries = problem.run(_pgd, amounts, choices=choices, gather=problem.gather)
    return problem.result(attacked, taken.numpy(), queries.numpy())


def _pgd(network, images, goals, amounts: Amounts, *, choices: PGDChoices, targeted, gather):
    """PGD's restarts → (attacked images [B,H,W,3]; gradient steps and forward passes of each, [B])."""
    ball, numbers = Ball(choices.norm), image_numbers(images, amounts.first)
    inputs = images, goals, amounts.epsilon, amounts.step
    repeat = partial(stop_when_fooled, gather=gather) if choices.early_stop else take_all_steps

    def run(model, restart, active):
        x = images
        if choices.random_start:
            x = random_start(images, amounts.epsilon, numbers, amounts.seed, restart, ball)
        loop = partial(projected_ascent, model, momentum=amounts.momentum, ball=ball, targeted=targeted)
        (x, _), active = repeat(loop, amounts.steps, (x, tf.zeros_like(images)), inputs, active)
        return x, active

    return best_of_restarts(
        network, run, images, goals, amounts.restarts, targeted=targeted, precision=choices.precision,
        early_stop=choices.early_stop,
    )  # fmt: skip
