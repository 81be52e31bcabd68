"""Find where values stopped being finite: the step, the layer, and the largest activation before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from rawcnn.data.augmentation import augment
from rawcnn.nn.network import Network
from rawcnn.training.batches import TrainingBatches
from rawcnn.training.recipes import Recipe
from rawcnn.training.recovery import TrainingFailed

if TYPE_CHECKING:
    from rawcnn.training.trainer import Training

LOWER = "A lower learning rate may help, in another --output (`rawcnn train` has --rate and --fresh, too)"


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


def check_metrics(training: Training, batches: TrainingBatches, metrics: dict[str, float]) -> None:
    """Raise TrainingFailed where the loss or the gradient norm of a step is not finite."""
    for name, label in (("loss", "the loss"), ("gradient_norm", "the gradient norm")):
        if not math.isfinite(metrics[name]):
            step, rate = int(metrics["step"]), metrics["rate"]
            raise TrainingFailed(
                f"{label} is {metrics[name]} at step {step} (epoch {training.epoch + 1}, learning rate {rate:.4g})"
                f"{_explain_step(training, batches, step % batches.steps)}; {training.recovery.last_good()}. {LOWER}"
            )


def check_variables(training: Training, batches: TrainingBatches) -> None:
    """Raise TrainingFailed where a variable is not finite, so that no checkpoint of it is written."""
    if path := nonfinite_variable(training.network):
        where = f"in epoch {training.epoch + 1}{_explain_variable(training, batches)}"
        last_good = training.recovery.last_good()
        raise TrainingFailed(f"{path} has values that are not finite {where}; {last_good}. {LOWER}")


def check_evaluation(training: Training, split: str, loss: float) -> None:
    """Raise TrainingFailed where the loss of the evaluated images is not finite."""
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the loss of the {split} images is {loss} after epoch {training.epoch + 1}, though all variables are "
            f"finite: activations overflow; {training.recovery.last_good()}. {LOWER}"
        )


def _explain_step(training: Training, batches: TrainingBatches, failed: int) -> str:
    """Repeat the steps since the last checkpoint and explain step `failed` of the epoch, for a message.

    The run is afterward where the checkpoint was; without a checkpoint nothing is repeated.
    """
    if not training.restore():
        return ""
    for index, images, labels in batches.rest_of_epoch(training.at):
        if index < failed:
            training.take_step(batches, index, images, labels)
            continue
        seed = batches.step_seed(training.epoch, index)
        explanation = nonfinite_layer(training.network, training.recipe, images, labels, seed)
        _, metrics = training.take_step(batches, index, images, labels)
        finite = math.isfinite(float(metrics["loss"]) + float(metrics["gradient_norm"]))
        finite = finite and nonfinite_variable(training.network) is None
        training.restore()
        return ", but is finite when the step is repeated from the last checkpoint" if finite else f": {explanation}"
    return ""


def _explain_variable(training: Training, batches: TrainingBatches) -> str:
    """Repeat the steps since the last checkpoint up to the first that leaves a variable not finite, for a message."""
    if not training.restore():
        return ""
    for index, images, labels in batches.rest_of_epoch(training.at):
        training.take_step(batches, index, images, labels)
        if nonfinite_variable(training.network):
            step = int(batches.step_seed(training.epoch, index)[1])
            return f", first after step {step}{_explain_step(training, batches, index)}"
    training.restore()
    return ", but not when the steps are repeated from the last checkpoint"
