"""Images that mean nothing to people and that a network is sure about, by gradient ascent.

Nguyen, Yosinski, Clune, CVPR 2015, section 3.7, after Simonyan et al. 2014: from near grey, up the log-probability of a
class with an L2 penalty that draws pixels back to grey,

    x ← clip(grey + (1 − decay)·(x + rate·g/rms(g) − grey))        g = ∇ₓ log P(class | x)

the images of all classes at once. As in the authors' code the start is grey with noise of one level of 255, decay
is .01, and an image's best on the way is kept. Steps of one length are ours: theirs follow what they gained before.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import Pair
from rawcnn.attacks.active_set import each
from rawcnn.attacks.common import Model, logits_of, prepared, real, run, slope, whole
from rawcnn.attacks.evolution import FoolingImages, log_probabilities, size_of
from rawcnn.evaluation.accuracy import Progress

GREY, NOISE = 0.5, 1 / 255


def ascend(
    network: Model,
    *,
    size: Pair | None = None,
    steps: int = 200,
    rate: float = 0.01,
    decay: float = 0.01,
    batch: int = 100,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> FoolingImages:
    """An image of `size` pixels (the network's own) for each class, after `steps` by the gradient.

    `network` is any differentiable function images [B,H,W,3] in [0,1] → logits. A step changes the pixels by `rate` in
    the root of the mean square, and then draws them to grey by a share of `decay`; it is compiled, and takes `batch`
    classes at a time. `history` has the probabilities before each step. ValueError for what is out of range.
    """
    for what, value, least in (("steps", steps, 1), ("batch", batch, 1), ("seed", seed, 0)):
        whole(what, value, least)
    rates = real("rate", rate, 1.0), real("decay", decay, 1.0)
    if rate == 0 or decay == 1:
        raise ValueError(f"rate is {rate!r}, decay {decay!r}; expected a rate above 0, up to 1, and a decay in [0,1)")
    shape = (*size_of(network, size), 3)
    classes = log_probabilities(network, np.full((1, *shape), GREY, np.float32), 1, compile).shape[1]
    generator = np.random.Generator(np.random.PCG64(seed))
    start = np.clip(GREY + NOISE * generator.standard_normal((classes, *shape), np.float32), 0, 1, dtype=np.float32)
    images, history = np.empty_like(start), np.empty((steps, classes), np.float32)
    for first in range(0, classes, batch):
        goals = tf.range(first, min(first + batch, classes))
        x = best = tf.constant(start[first : first + batch])
        highest = tf.fill(goals.shape, -np.inf)
        for k in range(steps):
            x, best, highest, value = run(network, _climb, x, best, highest, goals, *rates, compile=compile)
            history[k, first : first + batch] = value
            if progress:
                progress(first * steps + (k + 1) * len(goals), classes * steps)
        _, best, *_ = run(network, _climb, x, best, highest, goals, *rates, compile=compile)  # the last x may be best
        images[first : first + batch] = best
    confidences = np.exp(np.diagonal(log_probabilities(network, images, classes, compile)))
    settings: dict[str, object] = {
        "encoding": "gradient",
        "size": list(shape[:2]),
        "steps": int(steps),
        "rate": float(rate),
        "decay": float(decay),
        "seed": int(seed),
    }
    return FoolingImages(images, confidences, np.exp(history), "gradient", settings)


def _climb(network, x, best, highest, goals, rate, decay):
    """One step of images [B,H,W,3]: (x; the best so far and its value [B]; the value of x before the step [B])."""
    model = prepared(network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = tf.gather(kernels.log_softmax(logits_of(model, x)), goals, batch_dims=1)
    better = value > highest
    best, highest = tf.where(each(better, x), x, best), tf.where(better, value, highest)
    moved = x + rate * of_unit_rms(slope(tape, value, x)) - GREY
    return tf.clip_by_value(GREY + (1 - decay) * moved, 0.0, 1.0), best, highest, value


def of_unit_rms(gradient: tf.Tensor) -> tf.Tensor:
    """Each image's gradient [B,H,W,3], of mean square one; zero where it is. Scaled first: squares underflow."""
    axes = (1, 2, 3)
    scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axes, keepdims=True))
    return tf.math.divide_no_nan(scaled, tf.sqrt(tf.reduce_mean(tf.square(scaled), axes, keepdims=True)))
