"""One training step: `TrainStep.update` is the algorithm, from the batch to the new values of the variables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

import kernels
from kernels.dispatch.replica import current_replica
from rawcnn.data.augmentation import augment
from rawcnn.nn.backpropagation import applied_operations, backward_pass, loss_and_gradient, of_all_variables
from rawcnn.nn.execution import Choice, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Forward
from rawcnn.nn.weight_decay import with_weight_decay
from rawcnn.optim.optimizers import Optimizer, clip_by_global_norm, make_optimizer, moving_average
from rawcnn.training.recipes import Recipe

Tensors = dict[str, tf.Tensor]
Values = Mapping[str, tf.Tensor | tf.Variable]
# (model, images [B,H,W,3], labels [B], seed [2]) → the images that the step trains on, as in adversarial training.
Adversary = Callable[[Callable, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True)
class State:
    """What a step changes, by path: `tf.Variable`s, or their values as tensors.

    Attributes:
        variables: The network's variables.
        slots: The optimizer's slots, by `path/slot`.
        averages: The moving averages of the variables; empty where the recipe keeps none.
    """

    variables: Values
    slots: Values
    averages: Values

    @staticmethod
    def begin(network: Network, recipe: Recipe) -> State:
        """Create the slots and averages of a new run."""
        trained = network.trained_variables
        slots = {
            f"{path}/{slot}": tf.Variable(tf.fill(v.shape, tf.constant(first, v.dtype)), trainable=False)
            for path, v in trained.items()
            for slot, first in _optimizer(recipe).slots.items()
        }
        averaged = network.variables if recipe.average_statistics else trained
        averages = {path: tf.Variable(v, trainable=False) for path, v in averaged.items()} if recipe.average else {}
        return State(network.variables, slots, averages)

    def tensors(self) -> State:
        """Return the present values."""
        return State(*({path: tf.convert_to_tensor(v) for path, v in group.items()} for group in self.groups))

    def assign(self, values: State) -> None:
        """Assign new values. A fused rule returns the variable itself, already changed in place; that is skipped."""
        for group, new in zip(self.groups, values.groups, strict=True):
            for path, value in new.items():
                if value is not group[path]:
                    # `Variable.assign` would refuse a variable of which each device has a copy
                    tf.raw_ops.AssignVariableOp(resource=group[path].handle, value=value)

    @property
    def groups(self) -> tuple[Values, Values, Values]:
        """Variables, slots and averages."""
        return self.variables, self.slots, self.averages


@dataclass(frozen=True)
class TrainStep:
    """A training step of a network by a recipe.

    Attributes:
        network: The network that is trained.
        recipe: The recipe: loss, how it is differentiated, weight decay, clipping, update rule, averages.
        fused: Update the variables in place by TensorFlow's kernel of the update rule. XLA has no use for that: it
            compiles the rule as `rawcnn.optim.optimizers` writes it out.
        adversary: Replaces the images by those that the step trains on.
    """

    network: Network
    recipe: Recipe
    fused: bool = False
    adversary: Adversary | None = None

    def __call__(self, state: State, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, rate: tf.Tensor) -> Tensors:
        """Take a step: change the variables of `state` and return the metrics that `update` describes."""
        values, metrics = self.update(state if self.fused else state.tensors(), images, labels, seed, rate)
        state.assign(values)
        return metrics

    def update(
        self, state: State, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, rate: tf.Tensor
    ) -> tuple[State, Tensors]:
        """Compute the new values of all variables from a batch.

        Args:
            state: The values before the step, as tensors; with `fused`, the variables themselves.
            images: [B,H,W,3], float RGB in [0,1], before augmentation.
            labels: [B], int.
            seed: [2], int: the run's seed and the number of the step.
            rate: The learning rate, a float32 scalar.

        Returns:
            The values after the step, and the metrics, scalars: "loss" without auxiliary heads and weight decay,
            "accuracy", and "gradient_norm" with weight decay, before clipping.
        """
        network, recipe = self.network, self.recipe
        # Read the variables now: a fused rule changes them in place
        variables = {path: tf.convert_to_tensor(v) for path, v in state.variables.items()}
        images = augment(images, seed, recipe.augmentation)  # [B,H,W,3] → [B,H',W',3]
        if self.adversary:
            images = self.adversary(lambda x: network.trace(variables, x).logits, images, labels, seed)

        # Forward pass, loss and backward pass
        trained = {path: variables[path] for path in network.trained_variables}
        differentiate = by_hand if recipe.gradients == "hand" else by_tape
        forward, loss, gradients = differentiate(network, recipe, variables, images, labels, seed)

        # Devices that share a batch average their gradients
        gradients = with_weight_decay(gradients, trained, recipe)
        metrics = {"loss": loss, "accuracy": _accuracy(forward.logits, labels)}
        gradients, statistics, metrics = map(_mean_over_devices, (gradients, forward.statistics, metrics))
        gradients, metrics["gradient_norm"] = clip_by_global_norm(gradients, recipe.clip)
        return self.apply(state, gradients, statistics, rate, seed[1]), metrics

    def apply(self, state: State, gradients: Tensors, statistics: Tensors, rate: tf.Tensor, number: tf.Tensor) -> State:
        """Apply the update rule: the new variables, slots and averages.

        Args:
            state: The values before the step, as in `update`.
            gradients: The gradients after weight decay and clipping, by path.
            statistics: The batch-norm averages that the forward pass computed, by path.
            rate: The learning rate, a float32 scalar.
            number: The number of the step, an int scalar.

        Returns:
            The values after the step.
        """
        optimizer = _optimizer(self.recipe, self.fused)
        new_variables, new_slots, new_averages = dict(statistics), Tensors(), Tensors()
        for path, gradient in gradients.items():
            slots = {slot: state.slots[f"{path}/{slot}"] for slot in optimizer.slots}
            new_variables[path], updated = optimizer.update(state.variables[path], gradient, slots, rate)
            new_slots |= {f"{path}/{slot}": value for slot, value in updated.items()}
        for path, average in state.averages.items():
            before, value = tf.convert_to_tensor(average), tf.convert_to_tensor(new_variables[path])
            new_averages[path] = moving_average(before, value, self.recipe.average or 0.0, step=number)
        return State(new_variables, new_slots, new_averages)


def by_tape(
    network: Network, recipe: Recipe, variables: Tensors, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[Forward, tf.Tensor, Tensors]:
    """Run the network and differentiate its loss automatically.

    The loss is the mean cross-entropy of the batch, and that of each auxiliary head times its weight.

    Args:
        network: The network.
        recipe: The recipe: label smoothing and auxiliary heads.
        variables: The values of all variables, by path.
        images: [B,H,W,3], float RGB in [0,1].
        labels: [B], int.
        seed: [2], int: what dropout draws its masks from.

    Returns:
        What the network computed, the loss without auxiliary heads, and the gradients to the trained variables by path.
    """
    trained = {path: variables[path] for path in network.trained_variables}
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trained)
        forward = network.trace(variables, images, train=True, seed=seed)
        objective = loss = _mean_loss(forward.logits, labels, recipe.label_smoothing)
        for name in network.auxiliary:
            smoothing = recipe.label_smoothing if recipe.auxiliary_smoothing else 0.0
            objective += recipe.auxiliary_weight * _mean_loss(forward.activations[name], labels, smoothing)
    return forward, loss, tape.gradient(objective, trained)


def by_hand(
    network: Network, recipe: Recipe, variables: Tensors, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor
) -> tuple[Forward, tf.Tensor, Tensors]:
    """Do the same by the gradients that the kernels write out (`rawcnn.nn.backpropagation`).

    Args and Returns as `by_tape`.
    """
    operations, forward = applied_operations(network, variables, images, train=True, seed=seed)
    _, logit_gradients = loss_and_gradient(network, operations, labels, recipe)
    gradients, _ = backward_pass(operations, logit_gradients)
    trained = {path: variables[path] for path in network.trained_variables}
    loss = _mean_loss(forward.logits, labels, recipe.label_smoothing)
    return forward, loss, of_all_variables(trained, gradients)


def make_step(
    network: Network, recipe: Recipe, state: State, choice: Choice, adversary: Adversary | None = None
) -> Callable[..., Tensors]:
    """Return the compiled step (images, labels, seed [2], rate) → metrics, which changes `state`."""
    step = TrainStep(network, recipe, fused=choice.mode != "xla", adversary=adversary)
    return compiled(partial(step, state), choice)


def _mean_loss(logits: tf.Tensor, labels: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Mean cross-entropy: [B,classes], [B] → scalar."""
    return tf.reduce_mean(kernels.cross_entropy(logits, labels, smoothing))


def _accuracy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Fraction of the images whose largest logit is the label's: [B,classes], [B] → scalar."""
    right = tf.argmax(logits, axis=1, output_type=tf.int32) == tf.cast(labels, tf.int32)
    return tf.reduce_mean(tf.cast(right, logits.dtype))


def _mean_over_devices(values: Mapping[str, tf.Tensor]) -> Tensors:
    """Average over the devices that share the batch; the values themselves where one device has all of it."""
    replica = current_replica()
    return dict(zip(values, replica.mean(list(values.values())), strict=True)) if replica else dict(values)


def _optimizer(recipe: Recipe, fused: bool = False) -> Optimizer:
    return make_optimizer(recipe.optimizer, recipe.momentum, recipe.decay, recipe.epsilon, fused=fused)
