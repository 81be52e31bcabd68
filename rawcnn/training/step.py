"""One training step, written out.

The step is a pure function of tensors, `update`: (variables, slots, averages, batch) → their new values. XLA compiles
that whole; elsewhere `update_in_place` does the same with TensorFlow's kernels, in the variables' own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

import kernels
from kernels.dispatch.replica import current_replica
from rawcnn.data.augmentation import augment
from rawcnn.nn.execution import Choice, compiled
from rawcnn.nn.network import Network
from rawcnn.optim.optimizers import Optimizer, clip_by_global_norm, global_norm, moving_average, optimizer
from rawcnn.training.recipes import Recipe

Tensors = dict[str, tf.Tensor]
# (model, images [B,H,W,3], labels [B], seed [2]) → images that the step trains on instead: `rawcnn.attacks.Adversary`.
Adversary = Callable[[Callable, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def decays(path: str) -> bool:
    """Weight decay holds filters and weights down; biases and batch norm's scale and offset stay free."""
    return path.endswith(("/filters", "/weights"))


def gradients(
    network: Network, recipe: Recipe, variables: Mapping[str, tf.Tensor], images: tf.Tensor, labels: tf.Tensor, seed
) -> tuple[Tensors, Tensors, Tensors]:
    """(gradients by path, new batch-norm averages by path, metrics) of one batch."""
    trained = {path: variables[path] for path in network.trained_variables}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trained)
        forward = network.trace({**variables, **trained}, images, train=True, seed=seed)
        loss = tf.reduce_mean(kernels.cross_entropy(forward.logits, labels, recipe.label_smoothing))
        objective = loss
        for name in network.auxiliary:
            logits = tf.cast(forward.activations[name], tf.float32)
            objective += recipe.auxiliary_weight * tf.reduce_mean(kernels.cross_entropy(logits, labels))
    slopes = tape.gradient(objective, trained)
    if recipe.weight_decay:
        slopes = {path: g + recipe.weight_decay * trained[path] if decays(path) else g for path, g in slopes.items()}
    right = tf.argmax(forward.logits, axis=1, output_type=tf.int32) == tf.cast(labels, tf.int32)
    return slopes, forward.statistics, {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}


def direction(
    network: Network,
    recipe: Recipe,
    variables: Mapping[str, tf.Tensor],
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    adversary: Adversary | None = None,
) -> tuple[Tensors, Tensors, Tensors]:
    """What a step goes by: (gradients, clipped where the recipe says so; new batch-norm averages; metrics).

    `seed` is an int tensor [2], (seed, step); images are as the data set gives them: the step augments. Of a batch that
    devices share, what is computed of each part is averaged over all before anything goes by it.
    """
    images = augment(images, seed, recipe.augmentation)
    if adversary:
        images = adversary(lambda x: network.trace(variables, x).logits, images, labels, seed)
    slopes, statistics, metrics = gradients(network, recipe, variables, images, labels, seed)
    if replica := current_replica():
        slopes, statistics, metrics = (
            dict(zip(group, replica.mean(list(group.values())), strict=True)) for group in (slopes, statistics, metrics)
        )
    if recipe.clip is None:
        metrics["gradient_norm"] = global_norm(list(slopes.values()))
        return slopes, statistics, metrics
    clipped, metrics["gradient_norm"] = clip_by_global_norm(list(slopes.values()), recipe.clip)
    return dict(zip(slopes, clipped, strict=True)), statistics, metrics


def update(
    network: Network,
    recipe: Recipe,
    variables: Mapping[str, tf.Tensor],
    slots: Mapping[str, tf.Tensor],
    averages: Mapping[str, tf.Tensor],
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    rate: tf.Tensor,
    adversary: Adversary | None = None,
) -> tuple[Tensors, Tensors, Tensors, Tensors]:
    """One step as a pure function: (new variables, new slots, new averages, metrics)."""
    rule = _rule(recipe)
    slopes, new, metrics = direction(network, recipe, variables, images, labels, seed, adversary)
    new, new_slots = dict(new), Tensors()
    for path, slope in slopes.items():
        mine = {slot: slots[f"{path}/{slot}"] for slot in rule.slots}
        new[path], changed = rule.update(variables[path], slope, mine, rate)
        new_slots |= {f"{path}/{slot}": value for slot, value in changed.items()}
    decay = recipe.average or 0.0
    new_averages = {path: moving_average(a, new[path], decay, seed[1]) for path, a in averages.items()}
    return new, new_slots, new_averages, metrics


@dataclass(frozen=True)
class State:
    """The variables of a run, by path: the network's, the optimiser's slots (`path/slot`) and averages."""

    variables: Mapping[str, tf.Variable]
    slots: Mapping[str, tf.Variable]
    averages: Mapping[str, tf.Variable]

    @staticmethod
    def begin(network: Network, recipe: Recipe) -> State:
        """At the start of a run."""
        trained = network.trained_variables
        slots = {
            f"{path}/{slot}": tf.Variable(tf.fill(v.shape, first), trainable=False)
            for path, v in trained.items()
            for slot, first in _rule(recipe).slots.items()
        }
        averages = {path: tf.Variable(v, trainable=False) for path, v in trained.items()} if recipe.average else {}
        return State(network.variables, slots, averages)


def assign_update(
    network: Network, recipe: Recipe, state: State, images, labels, seed, rate, adversary=None
) -> Tensors:
    """`update`, assigned → metrics."""
    groups = state.variables, state.slots, state.averages
    variables, slots, averages = ({path: tf.convert_to_tensor(v) for path, v in group.items()} for group in groups)
    *after, metrics = update(network, recipe, variables, slots, averages, images, labels, seed, rate, adversary)
    for owned, values in zip(groups, after, strict=True):
        for path, value in values.items():
            owned[path].assign(value)
    return metrics


def update_in_place(
    network: Network, recipe: Recipe, state: State, images, labels, seed, rate, adversary=None
) -> Tensors:
    """The same by TensorFlow's kernels, without a second copy of the variables: faster, where XLA does not compile."""
    rule = _rule(recipe)
    variables = {path: tf.convert_to_tensor(v) for path, v in state.variables.items()}
    slopes, statistics, metrics = direction(network, recipe, variables, images, labels, seed, adversary)
    for path, value in statistics.items():
        _assign(state.variables[path], value)
    for path, slope in slopes.items():
        mine = {slot: state.slots[f"{path}/{slot}"] for slot in rule.slots}
        rule.update_in_place(state.variables[path], slope, mine, rate)
    for path, average in state.averages.items():
        value = tf.convert_to_tensor(state.variables[path])
        _assign(average, moving_average(tf.convert_to_tensor(average), value, recipe.average or 0.0, seed[1]))
    return metrics


def _assign(variable: tf.Variable, value: tf.Tensor) -> None:
    """Where devices have copies of a variable, to the copy of this one, as the optimisers' kernels do."""
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def step_of(
    network: Network, recipe: Recipe, state: State, choice: Choice, adversary: Adversary | None = None
) -> Callable[..., Tensors]:
    """The compiled step (images, labels, seed [2], rate) → metrics, which changes `state`."""
    step = assign_update if choice.mode == "xla" else update_in_place
    return compiled(partial(step, network, recipe, state, adversary=adversary), choice)


def _rule(recipe: Recipe) -> Optimizer:
    return optimizer(recipe.optimizer, recipe.momentum, recipe.decay, recipe.epsilon)
