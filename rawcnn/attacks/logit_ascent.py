"""Logit-space projected gradient ascent (LS-PGA), for networks that read their images as levels.

Buckman, Roy, Raffel, Goodfellow, "Thermometer Encoding: One Hot Way To Resist Adversarial Examples", ICLR 2018. The
answer of such a network has no gradient to a pixel. Each pixel is therefore relaxed to a probability of every level
that lies within ε of it, the softmax of variables u. The attack ascends these with a falling temperature T:

    p = softmax(u / T) over the levels in reach        u ← u + ξ·sign(∇ᵤJ)        T ← T / 1.2

The attacked image has the likeliest levels, and is the point nearest to the original that has them. J is the loss of
the true label or, targeted, minus the loss of the target. The authors' released code steps by the gradient itself; here
it is the paper's sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple

import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_distance, check_flag, check_integer, check_number
from rawcnn.attacks.common import Classifier, attack_loss, fooled, gradient_of, logits_of, per_image
from rawcnn.attacks.per_image_random import image_numbers, normal
from rawcnn.attacks.problem import make_problem
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import ActiveSet, Tensors, folded_network, stop_when_fooled, take_all_steps
from rawcnn.nn.folding import Fold, Folded, fold
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Operation

FAR = 1e9  # −FAR stands in for the logit of a level out of reach, so that its probability is 0
COOLING = 1.2
MARGIN = 1e-3  # of a level: how far within it the attacked pixel lies, so that rounding does not change the level


class Coded(Folded):
    """A trace in which the discretization layer returns given codes, whatever the images are."""

    def __init__(self, variables, images, *, codes: tf.Tensor, fold: Fold, **options):
        super().__init__(variables, images, fold=fold, **options)
        self.codes = codes

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if kind == "discretize":
            kernel = lambda x: tf.cast(self.codes, x.dtype)  # noqa: E731
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


class LogitAmounts(NamedTuple):
    """The numbers of an attack, which its compiled program takes as tensors."""

    epsilon: tf.Tensor  # float32 [B]
    xi: tf.Tensor | float  # ξ
    steps: tf.Tensor | int
    seed: tf.Tensor | int
    first: tf.Tensor | int  # the number of the batch's first image


@dataclass(frozen=True)
class LogitChoices:
    """The choices of an attack, for each of which there is a compiled program."""

    levels: int
    code: str
    random_start: bool
    early_stop: bool


def logit_pga(
    network: Network,
    images,
    labels,
    *,
    epsilon=0.031,
    xi: float = 0.01,
    steps: int = 7,
    random_start: bool = True,
    target=None,
    seed: int = 0,
    first: int = 0,
    early_stop: bool = False,
    compile: str = "auto",
) -> AttackResult:
    """Attack a network that reads its images as levels, by ascent in the space of the levels' logits.

    The defaults are the paper's for CIFAR-10. Success depends strongly on ξ: try several.

    Args:
        network: A network with a discretization layer, such as
            `rawcnn.create("cifar_resnet20", discretize="thermometer", levels=16)`.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        epsilon: The largest change of a pixel, in pixel values of [0,1]; one number or [B].
        xi: The step size ξ of the logits u.
        steps: How many.
        random_start: Start from standard normal u instead of zero.
        target: A class or int [B] to reach, instead of leaving the label.
        seed: With `first`, fixes the random start: that of image i depends only on (seed, first + i).
        first: How many images earlier batches had.
        early_stop: Leave an image as it is after the step whose levels fool the network. This takes one more forward
            pass per step. False, the default, takes all steps for all images, as the paper does.
        compile: One of `rawcnn.nn.execution.MODES`.

    Returns:
        The attacked images and the network's predictions of them.

    Raises:
        ValueError: An argument is out of range, or the network reads pixels.
    """
    numbers = check_integer("steps", steps, 1), check_integer("seed", seed, 0), check_integer("first", first, 0)
    xi = check_number("xi", xi)
    flags = check_flag("random_start", random_start), check_flag("early_stop", early_stop)
    settings: Mapping[str, Any] = discretization(network).settings
    choices = LogitChoices(settings["levels"], settings["code"], *flags)
    problem = make_problem(network, images, labels, target, compile)
    amounts = LogitAmounts(check_distance("epsilon", epsilon, problem.count), xi, *numbers)
    attacked, taken, queries = problem.run(_logit_pga, amounts, choices=choices, gather=problem.gather)
    return problem.result(attacked, taken.numpy(), queries.numpy())


def discretization(network: Network) -> Operation:
    """The layer that turns pixels into levels. ValueError if the network has none."""
    found = [operation for operation in getattr(network, "operations", ()) if operation.kind == "discretize"]
    if not found:
        name = getattr(network, "name", "the network")
        raise ValueError(f'{name} reads pixels, not levels; use pgd, or create it with discretize="thermometer"')
    return found[0]


def _logit_pga(network, images, goals, amounts: LogitAmounts, *, choices: LogitChoices, targeted, gather):
    """(attacked images [B,H,W,3]; gradient steps and forward passes of each, [B])."""
    within = reachable(images, per_image(amounts.epsilon, images), choices.levels)  # [B,H,W,3,L] bool
    start = images, first_logits(images, amounts, choices), tf.ones_like(goals, tf.float32)
    active = ActiveSet(tf.zeros_like(goals, tf.bool), tf.zeros_like(goals), tf.zeros_like(goals))
    relaxed, judge = partial(logits_of_codes, network, fold(network)), folded_network(network)
    loop = partial(annealed_ascent, relaxed, judge, xi=amounts.xi, choices=choices, targeted=targeted)
    repeat = partial(stop_when_fooled, gather=gather) if choices.early_stop else take_all_steps
    (x, *_), active = repeat(loop, amounts.steps, start, (images, goals, within), active)
    return x, active.steps, active.queries * (2 if choices.early_stop else 1)


def annealed_ascent(
    relaxed: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    judge: Classifier,
    steps: tf.Tensor | int,
    state: Tensors,
    inputs: Tensors,
    *,
    xi: tf.Tensor,
    choices: LogitChoices,
    targeted: bool,
) -> tuple[Tensors, tf.Tensor]:
    """LS-PGA: ascend the logits u of the levels, with a falling temperature.

    Args:
        relaxed: Images, for their shape, and codes of their pixels → logits.
        judge: Images → logits, which shows whether an image fools the network.
        steps: How many.
        state: The attacked images [B,H,W,3]; u [B,H,W,3,L]; 1/T [B].
        inputs: The original images [B,H,W,3], the goals [B], and the levels in reach, bool [B,H,W,3,L].
        xi: ξ.
        choices: The levels, their code, and whether a fooled image stops.
        targeted: Whether the goals are targets.

    Returns:
        (the new state; which images fooled the network before the last step, bool [B], if fooled images stop).
    """
    images, goals, within = inputs

    def step(k, x, u, sharpness, _):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            codes = kernels.join_codes(probabilities(u, sharpness, within), choices.code)  # of softmax(u / T)
            total = tf.reduce_sum(attack_loss(relaxed(images, codes), goals, targeted))
        u = u + xi * tf.sign(gradient_of(tape, total, u))  # u ← u + ξ·sign(∇ᵤJ)
        sharpness = COOLING * sharpness  # T ← T / 1.2
        chosen = tf.argmax(probabilities(u, sharpness, within), axis=-1, output_type=tf.int32)  # [n,H,W,3]
        done = fooled(logits_of(judge, x), goals, targeted) if choices.early_stop else tf.zeros_like(goals, tf.bool)
        return k + 1, nearest_pixels(images, chosen, choices.levels), u, sharpness, done

    _, *state, fooled_before = tf.while_loop(lambda k, *_: k < steps, step, (0, *state, tf.zeros_like(goals, tf.bool)))
    return state, fooled_before


def logits_of_codes(network: Network, products: Fold, images: tf.Tensor, codes: tf.Tensor) -> tf.Tensor:
    """The logits [B,classes] if the discretization layer returns `codes`; the images [B,H,W,3] only give the shape."""
    trace_type = partial(Coded, codes=codes, fold=products)
    return network.trace(network.variables, images, trace_type=trace_type).logits


def first_logits(images: tf.Tensor, amounts: LogitAmounts, choices: LogitChoices) -> tf.Tensor:
    """u [B,H,W,3,L] at the start: standard normal for each image, or zero."""
    shape = (*images.shape[1:], choices.levels)
    if not choices.random_start:
        return tf.zeros((tf.shape(images)[0], *shape))
    return tf.reshape(normal(prod(shape), image_numbers(images, amounts.first), amounts.seed, 0), (-1, *shape))


def probabilities(u: tf.Tensor, sharpness: tf.Tensor, within: tf.Tensor) -> tf.Tensor:
    """softmax(u / T) over the levels in reach: u [n,H,W,3,L], 1/T [n], bool [n,H,W,3,L] → [n,H,W,3,L]."""
    return tf.nn.softmax(per_image(sharpness, u) * tf.where(within, u, -FAR))


def reachable(images: tf.Tensor, epsilon: tf.Tensor, levels: int) -> tf.Tensor:
    """bool [B,H,W,3,levels]: the levels of pixels within ε [B,1,1,1] of each pixel, its own always among them."""
    reach = tf.maximum(epsilon - MARGIN / levels, 0.0)
    low, high = (kernels.level_of(images + way, levels)[..., None] for way in (-reach, reach))
    every = tf.range(levels)
    return (low <= every) & (every <= high)


def nearest_pixels(images: tf.Tensor, chosen: tf.Tensor, levels: int) -> tf.Tensor:
    """The pixels that have the levels `chosen` [B,H,W,3] and are nearest to those of the images [B,H,W,3]."""
    level = tf.cast(chosen, tf.float32)
    inside = tf.clip_by_value(images, (level + MARGIN) / levels, (level + 1 - MARGIN) / levels)
    return tf.where(chosen == kernels.level_of(images, levels), images, inside)
