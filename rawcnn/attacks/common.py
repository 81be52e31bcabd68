"""What all attacks share: the network as a function, its loss and gradient, and the checks of their arguments.

An attack uses a network only as a function images → logits, so it accepts a `Network` and any other callable. It calls
`network(images)`, never in training mode, so batch normalization uses its running averages and does not update them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, isfinite
from numbers import Real

import numpy as np
import tensorflow as tf

import kernels

Classifier = Callable[[tf.Tensor], tf.Tensor]  # images [B,H,W,3] in [0,1] → logits [B,classes]


# The network, its loss and its gradient ---------------------------------------------------------------------


def logits_of(network: Classifier, images: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] → logits [B,classes], float32. ValueError if the network returns something else."""
    logits = tf.convert_to_tensor(network(images))
    if logits.shape.rank != 2:
        raise ValueError(f"the network returns {logits.dtype.name} {logits.shape}; expected logits [B,classes]")
    return tf.cast(logits, tf.float32)


def attack_loss(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """J [B], which an attack maximizes: the loss of the label or, targeted, minus the loss of the target."""
    loss = kernels.cross_entropy(logits, goals)
    return -loss if targeted else loss


def fooled(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """bool [B]: the prediction is not the label or, targeted, is the target."""
    predictions = tf.argmax(logits, axis=1, output_type=tf.int32)
    return predictions == goals if targeted else predictions != goals


def loss_gradient(
    network: Classifier, images: tf.Tensor, goals: tf.Tensor, targeted: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """(∇ₓJ, the gradient of the attack's loss to the images [B,H,W,3]; the logits [B,classes]).

    The loss is summed over the batch, so an image's gradient does not depend on the batch size. Only the images are
    watched, so no gradient to a filter is computed.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(network, images)
        total = tf.reduce_sum(attack_loss(logits, goals, targeted))
    return gradient_of(tape, total, images), logits


def gradient_of(tape: tf.GradientTape, value: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """The tape's gradient of a value that the network computed. ValueError if there is none."""
    gradient = tape.gradient(value, source)
    if gradient is None:
        raise ValueError(
            "the network's answer has no gradient to its images; expected differentiable operations "
            "(to attack a network that reads levels, created with discretize, use logit_pga)"
        )
    return gradient


def per_image(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[B] → [B,1,…,1], of the rank of `like`."""
    return tf.reshape(values, (-1, *(1,) * (like.shape.rank - 1)))


# Checks -----------------------------------------------------------------------------------------------------


def check_range(images: tf.Tensor) -> tf.Tensor:
    """The images. ValueError for an empty batch and for values outside [0,1]."""
    if images.shape[0] == 0:
        raise ValueError("images are an empty batch; expected one image or more")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images have values from {low:g} to {high:g}; expected RGB in [0,1]: the network normalizes")
    return images


def check_classes(name: str, values, count: int, classes: int) -> np.ndarray:
    """Class numbers as int32 [count]. ValueError for another shape or type and for classes that do not exist."""
    values = np.asarray(values)
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"got {name} {values.dtype} {values.shape}; expected {count} class numbers, one per image")
    if values.min() < 0 or values.max() >= classes:
        wrong = values[(values < 0) | (values >= classes)][0]
        raise ValueError(f"got the class {wrong} in {name}; expected 0 to {classes - 1}: the network has {classes}")
    return values.astype(np.int32)


def check_distance(name: str, value, count: int, norm: str = "linf") -> tf.Tensor:
    """Distances in pixel values, one or [count], as float32 [count].

    ValueError unless they are finite, not negative and, in L∞, at most 1.
    """
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}; expected a number, or one per image") from None
    if values.shape not in ((), (count,)):
        raise ValueError(f"{name} has shape {values.shape}; expected one number, or one for each of {count} images")
    valid = np.isfinite(values) & (values >= 0) & ((values <= 1) | (norm == "l2"))
    if not valid.all():
        expected = "0 to 1, the whole range of a pixel: 8 of 255 levels are 8/255 = .0314"
        wrong = float(values[~valid].flat[0])
        raise ValueError(f"{name} is {wrong:g}; expected {expected if norm == 'linf' else '0 or more'}")
    return tf.constant(np.broadcast_to(values, (count,)), tf.float32)


def check_number(name: str, value: float, most: float = inf) -> tf.Tensor:
    """A number as a float32 tensor. ValueError unless it is finite and lies in 0 … `most`."""
    if not (isinstance(value, Real) and isfinite(value) and 0 <= value <= most):
        raise ValueError(f"{name} is {value!r}; expected a number, 0 {f'to {most:g}' if most < inf else 'or more'}")
    return tf.constant(value, tf.float32)


def check_integer(name: str, value: int, least: int) -> tf.Tensor:
    """An integer as an int32 tensor. ValueError unless it lies in `least` … 2³¹ − 1."""
    if not isinstance(value, (int, np.integer)) or not least <= value < 2**31:
        raise ValueError(f"{name} is {value!r}; expected a whole number, {least} or more and below 2³¹")
    return tf.constant(value, tf.int32)


def check_flag(name: str, value: bool) -> bool:
    """A truth value. ValueError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """One of the choices. ValueError that lists them for anything else."""
    if value not in (known := tuple(choices)):
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}")
    return value
