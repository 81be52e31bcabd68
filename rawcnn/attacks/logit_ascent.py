"""Logit-space projected gradient ascent, for networks that read their images as levels.

Buckman, Roy, Raffel, Goodfellow, "Thermometer Encoding: One Hot Way To Resist Adversarial Examples", ICLR 2018. Such a
network's answer has no gradient to a pixel. So each pixel is relaxed to a probability of every level that lies within ε
of it, the softmax of numbers u, and these are climbed, ever harder:

    p = softmax(u / T) over the levels in reach        u ← u + ξ·sign(∇ᵤJ)        T ← T / 1.2

The likeliest levels are the attacked image; it is the point nearest to the original that has them. J is the loss of the
true label. The authors' released code steps by the gradient itself; here it is the paper's sign.
"""

from __future__ import annotations

from functools import partial
from math import prod

import tensorflow as tf

import kernels
from rawcnn.attacks.active_set import each
from rawcnn.attacks.common import distance, gain, prepare, real, whole
from rawcnn.attacks.per_image_random import normal, numbers
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.folding import Fold, Folded, fold
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Operation

FAR = 1e9  # taken off the numbers of levels out of reach: their probability is 0
COOLING = 1.2
MARGIN = 1e-3  # of a level: how far within it the attacked pixel lies, so that rounding does not lose it


class Coded(Folded):
    """A walk over codes that are given, whatever the images are."""

    def __init__(self, variables, images, *, codes: tf.Tensor, fold: Fold, **options):
        super().__init__(variables, images, fold=fold, **options)
        self.codes = codes

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if kind == "discretize":
            kernel = lambda x: tf.cast(self.codes, x.dtype)  # noqa: E731
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


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
    compile: str = "auto",
) -> AttackResult:
    """`steps` of ξ in the space of the levels' logits, within ε of the images; all take all steps.

    The network reads its images as levels: `rawcnn.create("cifar_resnet20", discretize="thermometer", levels=16)`;
    ValueError for another. u begins standard normal, by (seed, first + the image's number), or zero. The size of ξ
    matters more than anything: sweep it. The rest as `pgd`; the defaults are the paper's for CIFAR-10.
    """
    operation = discretization(network)
    counts = whole("steps", steps, 1), whole("seed", seed, 0), whole("first", first, 0)
    task = prepare(network, images, labels, target, compile)
    lengths = distance("epsilon", epsilon, task.count), real("xi", xi)
    settings = {"levels": operation.settings["levels"], "code": operation.settings["code"]}
    attacked = task.run(_logit_pga, *lengths, *counts, random_start=random_start, **settings)
    return task.result(attacked, steps)


def discretization(network: Network) -> Operation:
    """The layer that turns pixels into levels. ValueError where the network has none."""
    found = [operation for operation in getattr(network, "operations", ()) if operation.kind == "discretize"]
    if not found:
        name = getattr(network, "name", "the network")
        raise ValueError(f'{name} reads pixels, not levels; use pgd, or create it with discretize="thermometer"')
    return found[0]


def _logit_pga(
    network, images, goals, epsilon, xi, steps, seed, first, *, levels, code, random_start, targeted
):  # fmt: skip
    products = fold(network)
    within = reachable(images, each(epsilon, images), levels)  # [B,H,W,3,L] bool

    def probabilities(u, sharpness):
        return tf.nn.softmax(sharpness * tf.where(within, u, -FAR))

    def climb(k, u, sharpness):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(u)
            codes = kernels.join_codes(probabilities(u, sharpness), code)
            kind = partial(Coded, codes=codes, fold=products)
            logits = network.trace(network.variables, images, trace_type=kind).logits
            total = tf.reduce_sum(gain(logits, goals, targeted))
        return k + 1, u + xi * tf.sign(tape.gradient(total, u)), COOLING * sharpness

    shape = (*images.shape[1:], levels)
    u = tf.zeros_like(within, tf.float32)
    if random_start:
        u = tf.reshape(normal(prod(shape), numbers(images, first), seed, 0), (-1, *shape))
    _, u, sharpness = tf.while_loop(lambda k, *rest: k < steps, climb, (0, u, tf.constant(1.0)))
    chosen = tf.argmax(probabilities(u, sharpness), axis=-1, output_type=tf.int32)  # [B,H,W,3]
    return nearest_pixels(images, chosen, levels)


def reachable(images: tf.Tensor, epsilon: tf.Tensor, levels: int) -> tf.Tensor:
    """Which levels some pixel within ε [B,1,1,1] of each has: bool [B,H,W,3,levels], always the pixel's own."""
    reach = tf.maximum(epsilon - MARGIN / levels, 0.0)
    low, high = (kernels.level_of(images + way, levels)[..., None] for way in (-reach, reach))
    every = tf.range(levels)
    return (low <= every) & (every <= high)


def nearest_pixels(images: tf.Tensor, chosen: tf.Tensor, levels: int) -> tf.Tensor:
    """The pixels of the levels `chosen` [B,H,W,3] that are nearest to those of the images [B,H,W,3]."""
    level = tf.cast(chosen, tf.float32)
    inside = tf.clip_by_value(images, (level + MARGIN) / levels, (level + 1 - MARGIN) / levels)
    return tf.where(chosen == kernels.level_of(images, levels), images, inside)
