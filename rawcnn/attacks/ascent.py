"""Images that mean nothing to people and that a network is sure about, by gradient ascent.

Nguyen, Yosinski, Clune, CVPR 2015, section 3.7, after Simonyan et al. 2014: from near grey, up the log-probability of a
class with an L2 penalty that draws pixels back to grey,

    x ← clip(grey + (1 − decay)·(x + rate·g/rms(g) − grey))        g = ∇ₓ log P(class | x)

the images of all classes at once. As in the authors' code the start is grey with noise of one level of 255, decay
is .01, and an image's best on the way is kept. Steps of one length are ours: theirs follow what they gained before.
"""

from __future__ import annotations

from math import isfinite

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import Pair
from rawcnn.attacks.evolve import FoolingImages, log_probabilities, size_of
from rawcnn.attacks.task import Model, logits_of, prepared, run, whole

GREY, NOISE = 0.5, 1 / 255


def ascend(
    network: Model,
    *,
    size: Pair | None = None,
    steps: int = 200,
    rate: float = 0.01,
    decay: float = 0.01,
    seed: int = 0,
    compile: str = "auto",
) -> FoolingImages:
    """An image of `size` pixels (the network's own) for each class, after `steps` by the gradient.

    `network` is any differentiable function images [B,H,W,3] in [0,1] → logits. A step changes the pixels by `rate` in
    the root of the mean square, and then draws them to grey by a share of `decay`. All steps are one compiled loop; its
    batch is an image a class. `history` has the probabilities before each step. ValueError for what is out of range.
    """
    whole("steps", steps, 1), whole("seed", seed, 0)
    if not (isfinite(rate) and 0 < rate <= 1 and 0 <= decay < 1):
        raise ValueError(f"rate is {rate!r}, decay {decay!r}; expected a rate above 0, up to 1, and a decay in [0,1)")
    shape = (*size_of(network, size), 3)
    classes = log_probabilities(network, np.full((1, *shape), GREY, np.float32), 1, compile).shape[1]
    generator = np.random.Generator(np.random.PCG64(seed))
    start = np.clip(GREY + NOISE * generator.standard_normal((classes, *shape), np.float32), 0, 1, dtype=np.float32)
    given = tf.constant(start), tf.range(classes), tf.constant(rate, tf.float32), tf.constant(decay, tf.float32)
    images, history = (tensor.numpy() for tensor in run(network, _ascend, *given, compile=compile, steps=int(steps)))
    confidences = np.exp(np.diagonal(log_probabilities(network, images, classes, compile)))
    settings: dict[str, object] = {
        "encoding": "gradient",
        "size": list(shape[:2]),
        "steps": int(steps),
        "rate": float(rate),
        "decay": float(decay),
        "seed": int(seed),
    }
    return FoolingImages(images, confidences, history, "gradient", settings)


def _ascend(network, start, goals, rate, decay, *, steps):
    """(best images [classes,H,W,3], probabilities [steps,classes]). The length of a loop's record is fixed: `steps`."""

    model = prepared(network)

    def value_of(x):
        return tf.gather(kernels.log_softmax(logits_of(model, x)), goals, batch_dims=1)

    def climb(k, x, best, highest, history):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = value_of(x)  # [classes]
        slope = tape.gradient(value, x)
        if slope is None:
            raise ValueError("the network's logits have no gradient to its images; expected differentiable operations")
        best, highest = better_of(best, highest, x, value)
        moved = x + rate * of_unit_rms(slope) - GREY
        return k + 1, tf.clip_by_value(GREY + (1 - decay) * moved, 0.0, 1.0), best, highest, history.write(k, value)

    record = tf.TensorArray(tf.float32, size=steps, element_shape=goals.shape)
    lowest = tf.fill(tf.shape(goals), -np.inf)
    state = 0, start, start, lowest, record
    _, x, best, highest, record = tf.while_loop(lambda k, *rest: k < steps, climb, state, maximum_iterations=steps)
    best, _ = better_of(best, highest, x, value_of(x))
    return best, tf.exp(record.stack())


def better_of(best, highest, x, value):
    """Image by image the one of the higher value, and that value."""
    better = value > highest
    return tf.where(better[:, None, None, None], x, best), tf.where(better, value, highest)


def of_unit_rms(slope: tf.Tensor) -> tf.Tensor:
    """Each image's gradient [B,H,W,3], of mean square one; zero where it is. Scaled first: squares underflow."""
    axes = (1, 2, 3)
    scaled = tf.math.divide_no_nan(slope, tf.reduce_max(tf.abs(slope), axes, keepdims=True))
    return tf.math.divide_no_nan(scaled, tf.sqrt(tf.reduce_mean(tf.square(scaled), axes, keepdims=True)))
