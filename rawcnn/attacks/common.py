"""What all attacks share: the network as a function, its loss and its gradient.

An attack uses a network only as a function images → logits, so it accepts a `Network` and any other callable. It calls
`network(images)`, never in training mode, so batch normalization uses its running averages and does not update them.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_class_count

Classifier = Callable[[tf.Tensor], tf.Tensor]  # images [B,H,W,3] in [0,1] → logits [B,classes]
NO_CLASS = -1  # the prediction of an image for which a logit is NaN; it is neither right nor a success


# The network, its loss and its gradient ---------------------------------------------------------------------


def logits_of(network: Classifier, images: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] → logits [B,classes], float32. ValueError if the network returns something else."""
    answer = network(images)
    try:
        logits = tf.convert_to_tensor(answer)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError):
        raise ValueError(f"the network returns a {type(answer).__name__}; expected logits [B,classes]") from None
    if logits.shape.rank != 2 or logits.dtype.is_bool or not (logits.dtype.is_floating or logits.dtype.is_integer):
        raise ValueError(f"the network returns {logits.dtype.name} {logits.shape}; expected logits [B,classes]")
    if logits.shape[1] is not None:
        check_class_count(logits.shape[1])
    return tf.cast(logits, tf.float32)


def attack_loss(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """J [B], which an attack maximizes: the loss of the label or, targeted, minus the loss of the target."""
    loss = kernels.cross_entropy(logits, goals)
    return -loss if targeted else loss


def predicted(logits: tf.Tensor) -> tf.Tensor:
    """int32 [B]: the class of the largest logit, or `NO_CLASS` for an image whose logits [B,classes] have a NaN."""
    unknown = tf.reduce_any(tf.math.is_nan(logits), axis=1)
    return tf.where(unknown, NO_CLASS, tf.argmax(logits, axis=1, output_type=tf.int32))


def fooled(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """bool [B]: the network predicts a class that is not the label or, targeted, is the target."""
    predictions = predicted(logits)
    return predictions == goals if targeted else (predictions != goals) & (predictions != NO_CLASS)


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
    """The tape's gradient of a value that the network computed, made `finite`. ValueError if there is none."""
    gradient = tape.gradient(value, source)
    if gradient is None:
        raise ValueError(
            "the network's answer has no gradient to its images; expected differentiable operations "
            "(to attack a network that reads levels, created with discretize, use logit_pga)"
        )
    return finite(gradient)


def finite(gradient: tf.Tensor) -> tf.Tensor:
    """A gradient [B,…] without NaN and infinities; a finite one keeps every bit.

    A NaN becomes 0, because it shows no direction. An infinite entry counts as much as the largest finite one of its
    image, or is ±1 if all finite ones are 0: sqrt(x) at x = 0 has such a gradient, and its sign is right.
    """
    axes = list(range(1, gradient.shape.rank))
    magnitude = tf.where(tf.math.is_finite(gradient), tf.abs(gradient), 0.0)
    largest = tf.reduce_max(magnitude, axes, keepdims=True)
    largest = tf.where(largest > 0, largest, 1.0)
    return tf.where(tf.math.is_nan(gradient), 0.0, tf.clip_by_value(gradient, -largest, largest))


def per_image(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[B] → [B,1,…,1], of the rank of `like`."""
    return tf.reshape(values, (-1, *(1,) * (like.shape.rank - 1)))
