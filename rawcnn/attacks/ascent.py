"""Fooling images by gradient ascent: meaningless to people, and classified with high confidence.

Nguyen, Yosinski, Clune, CVPR 2015, section 3.7, after Simonyan et al. 2014. From near gray, ascend the log-probability
of a class with an L2 penalty that draws pixels back to gray,

    x ← clip(gray + (1 − decay)·(x + rate·g/rms(g) − gray))        g = ∇ₓ log P(class | x)

for the images of all classes at once. As in the authors' code the start is gray with noise of one level of 255, the
decay is .01, and each image's best state is kept. Steps of constant length are ours: theirs depend on the last gain.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import Pair
from rawcnn.attacks.checks import check_integer, check_network, check_number
from rawcnn.attacks.common import Classifier, gradient_of, logits_of, per_image
from rawcnn.attacks.evolution import FoolingImages, log_probabilities, size_of
from rawcnn.attacks.runtime import folded_network, run_compiled
from rawcnn.files.progress import Progress

GRAY, NOISE = 0.5, 1 / 255


def ascend(
    network: Classifier,
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
    """Make an image for each class by gradient ascent.

    Args:
        network: A `Network`, or any differentiable function images → logits.
        size: Height and width of the images in pixels; the network's own by default.
        steps: How many steps.
        rate: The root mean square of a step, in pixel values of [0,1].
        decay: The share by which each step then draws pixels to gray.
        batch: How many classes are computed at a time.
        seed: Fixes the noise of the start.
        compile: One of `rawcnn.nn.execution.MODES`.
        progress: Called with (steps done, steps in all), summed over the classes.

    Returns:
        The images. `history` has the probabilities before each step.

    Raises:
        ValueError: An argument is out of range.
    """
    steps, batch = check_integer("steps", steps, 1), check_integer("batch", batch, 1)
    seed = check_integer("seed", seed, 0)
    rate, decay = check_number("rate", rate, 1.0), check_number("decay", decay, 1.0)
    if rate == 0 or decay == 1:
        raise ValueError(f"rate is {rate!r}, decay {decay!r}; expected a rate above 0, up to 1, and a decay in [0,1)")
    check_network(network)
    shape = (*size_of(network, size), 3)
    classes = log_probabilities(network, np.full((1, *shape), GRAY, np.float32), 1, compile).shape[1]
    generator = np.random.Generator(np.random.PCG64(seed))
    start = np.clip(GRAY + NOISE * generator.standard_normal((classes, *shape), np.float32), 0, 1, dtype=np.float32)
    images, history = np.empty_like(start), np.empty((steps, classes), np.float32)
    for first in range(0, classes, batch):
        goals = tf.range(first, min(first + batch, classes))
        x = best = tf.constant(start[first : first + batch])
        highest = tf.fill(goals.shape, -np.inf)
        for k in range(steps):
            x, best, highest, value = run_compiled(
                network, _step, x, best, highest, goals, rate, decay, compile=compile
            )
            history[k, first : first + batch] = value
            if progress:
                progress(first * steps + (k + 1) * len(goals), classes * steps)
        # One more step, because the last x may be the best.
        _, best, *_ = run_compiled(network, _step, x, best, highest, goals, rate, decay, compile=compile)
        images[first : first + batch] = best
    confidences = np.exp(np.diagonal(log_probabilities(network, images, classes, compile)))
    settings: dict[str, object] = {
        "encoding": "gradient",
        "size": list(shape[:2]),
        "steps": steps,
        "rate": rate,
        "decay": decay,
        "seed": seed,
    }
    return FoolingImages(images, confidences, np.exp(history), "gradient", settings)


def _step(network, x, best, highest, goals, rate, decay):
    """One step of images [B,H,W,3] → (x; the best so far and its value [B]; the value of x before the step [B])."""
    model = folded_network(network)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = tf.gather(kernels.log_softmax(logits_of(model, x)), goals, batch_dims=1)  # log P(class | x)
    better = value > highest
    best, highest = tf.where(per_image(better, x), x, best), tf.where(better, value, highest)
    moved = x + rate * unit_rms(gradient_of(tape, value, x)) - GRAY
    return tf.clip_by_value(GRAY + (1 - decay) * moved, 0.0, 1.0), best, highest, value


def unit_rms(gradient: tf.Tensor) -> tf.Tensor:
    """g/rms(g) of each image [B,H,W,3]; zero if g is zero. Scaled first, so that squares do not underflow."""
    axes = (1, 2, 3)
    scaled = tf.math.divide_no_nan(gradient, tf.reduce_max(tf.abs(gradient), axes, keepdims=True))
    return tf.math.divide_no_nan(scaled, tf.sqrt(tf.reduce_mean(tf.square(scaled), axes, keepdims=True)))
