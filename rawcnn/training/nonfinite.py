"""Find where values stopped being finite: the step, the layer, and the largest activation before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import augment
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe

if TYPE_CHECKING:
    from rawcnn.training.trainer import Training


def nonfinite_variable(network: Network) -> str | None:
    """Return the first variable that has values that are not finite, or None.

    The loss does not always show this: a fused ReLU may turn NaN into 0.
    """
    found = (path for path, v in network.variables.items() if not tf.reduce_all(tf.math.is_finite(v)))
    return next(found, None)


def nonfinite_layer(network: Network, recipe: Recipe, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> str:
    """Repeat the forward pass of a step eagerly and say where the first values are that are not finite.

    Args:
        network: The network, as it was before the step.
        recipe: The recipe that augments the images.
        images: [B,H,W,3], float RGB in [0,1], as the data set returns them.
        labels: [B], int.
        seed: [2], int, the step's.

    Returns:
        A sentence that names the first variable or layer with such values, and the layer with the largest activation
        before it.
    """
    if path := nonfinite_variable(network):
        return f"{path} already has values that are not finite"
    forward = network.forward(augment(images, seed, recipe.augmentation), train=True, seed=seed)
    largest, layer = 0.0, "images"
    for name, activation in forward.activations.items():  # in the order of the forward pass
        values = np.abs(tf.cast(activation, tf.float32).numpy())
        if not np.isfinite(values).all():
            before = f"the largest before it is {largest:.3g}, of {layer}"
            return f"{name} gives the first values that are not finite; {before}"
        if values.max() > largest:
            largest, layer = float(values.max()), name
    low, high = float(tf.reduce_min(forward.logits)), float(tf.reduce_max(forward.logits))
    return (
        f"all activations are finite, the largest is {largest:.3g}, of {layer}: the loss or the gradients overflow, of "
        f"logits from {low:.3g} to {high:.3g}"
    )


def explain_step(training: Training, data: DataSet, failed: int) -> str:
    """Repeat the steps since the last checkpoint and explain step `failed` of the epoch, for a message.

    The run is afterward where the checkpoint was; without a checkpoint nothing is repeated.
    """
    if not training.restore():
        return ""
    for index, images, labels in training.batches(data):
        if index < failed:
            training.take_step(data, index, images, labels)
            continue
        explanation = nonfinite_layer(training.network, training.recipe, images, labels, training.seed_of(data, index))
        _, metrics = training.take_step(data, index, images, labels)
        finite = math.isfinite(float(metrics["loss"]) + float(metrics["gradient_norm"]))
        finite = finite and nonfinite_variable(training.network) is None
        training.restore()
        return ", but is finite when the step is repeated from the last checkpoint" if finite else f": {explanation}"
    return ""


def explain_variable(training: Training, data: DataSet) -> str:
    """Repeat the steps since the last checkpoint up to the first that leaves a variable not finite, for a message."""
    if not training.restore():
        return ""
    for index, images, labels in training.batches(data):
        training.take_step(data, index, images, labels)
        if nonfinite_variable(training.network):
            step = int(training.seed_of(data, index)[1])
            return f", first after step {step}{explain_step(training, data, index)}"
    training.restore()
    return ", but not when the steps are repeated from the last checkpoint"
