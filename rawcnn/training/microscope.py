"""Training under the microscope: what a step does to each layer, measured on one batch after each epoch.

For a batch of training images, which stays the same during the run, one forward pass and one backward pass by hand
(`rawcnn.nn.backpropagation`) give all activations and all gradients. They are reduced to a few values per layer:

    dead ReLUs        share of units that are zero for every image of the batch
    activation norm   ‖y‖, y the output of a layer for the batch
    gradient norm     ‖∂L/∂y‖, and ‖∂L/∂w‖ for filters and weights w
    update ratio      ‖Δw‖ / ‖w‖, Δw the change by a step on this batch: weight decay, clipping and momentum included

A unit is one value of a layer's output for one image: a channel at a position. A channel is dead if all its units are.
The measurement reads the variables of the run and assigns none, so a run is the same with and without it.

Sources: Glorot & Bengio 2010, sections 3 and 4 (activations and gradients by layer); Zeiler & Fergus 2014, figure 4
(the filters of the first layer over time). For the update ratio a rule of thumb says that 10⁻³ is usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import augment
from rawcnn.nn.backpropagation import Applied, applied_operations, backward_pass, loss_and_gradient, of_all_variables
from rawcnn.nn.execution import Choice, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.weight_decay import decays, with_weight_decay
from rawcnn.optim.optimizers import clip_by_global_norm
from rawcnn.training.observations import FILE, Layers, Observations, read_observations
from rawcnn.training.plain_vs_residual import counterpart
from rawcnn.training.recipes import Recipe, learning_rate
from rawcnn.training.step import Adversary, State, Tensors, TrainStep
from rawcnn.training.trainer import Training

OBSERVED = ("conv", "dense", "relu")  # kinds of operations whose outputs are measured
SAMPLE = 128  # images that are measured, at most: one device holds their activations


def layers_of(network: Network) -> Layers:
    """Return the names of what is measured, in the order of the forward pass in training."""
    operations = [op for op in network.training_operations if op.kind in OBSERVED]
    first = next((op for op in operations if op.kind == "conv" and op.inputs == ("images",)), None)
    return Layers(
        outputs=tuple(op.name for op in operations),
        relus=tuple(op.name for op in operations if op.kind == "relu"),
        weights=tuple(path for path in network.trained_variables if decays(path)),
        first=f"{first.name}/filters" if first else "",
    )


def observe(
    network: Network,
    recipe: Recipe,
    state: State,
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    rate: tf.Tensor,
    *,
    adversary: Adversary | None = None,
) -> Tensors:
    """Measure a network on a batch.

    Args:
        network: The network.
        recipe: The recipe: augmentation, loss, weight decay, clipping and update rule.
        state: The variables and slots. They are read only.
        images: [B,H,W,3], float RGB in [0,1], before augmentation.
        labels: [B], int.
        seed: [2], int: what augmentation and dropout draw from.
        rate: The learning rate of the step whose update is measured, a float32 scalar.
        adversary: Replaces the images by those that a step of adversarial training takes.

    Returns:
        "loss", a scalar, with auxiliary heads and without weight decay; vectors in the order of `layers_of`:
        "activation_norm" and "gradient_norm" of outputs; "dead_units" and "dead_channels" of ReLUs, shares;
        "weight_norm", "weight_gradient_norm" (without weight decay) and "update_ratio" of filters and weights; and
        "filters" [kh,kw,3,C], the first layer's, if it reads the images.
    """
    before, layers = state.tensors(), layers_of(network)
    images = augment(images, seed, recipe.augmentation)
    if adversary:
        images = adversary(lambda x: network.trace(before.variables, x).logits, images, labels, seed)
    operations, _ = applied_operations(network, before.variables, images, train=True, seed=seed)
    loss, logit_gradients = loss_and_gradient(network, operations, labels, recipe)
    parameters, activations = backward_pass(operations, logit_gradients)
    trained = {path: before.variables[path] for path in network.trained_variables}
    gradients = of_all_variables(trained, parameters)
    applied = {op.name: op for op in operations}
    found = {"loss": loss, **_of_outputs(applied, activations, layers, network.wide)}
    weights = [trained[path] for path in layers.weights]
    change = _updates(network, recipe, before, gradients, seed, rate)
    found["weight_norm"] = tf.stack([norm(w) for w in weights])
    found["weight_gradient_norm"] = tf.stack([norm(gradients[path]) for path in layers.weights])
    found["update_ratio"] = tf.stack([norm(change[path]) for path in layers.weights]) / found["weight_norm"]
    return found | ({"filters": trained[layers.first]} if layers.first else {})


def _of_outputs(applied: Mapping[str, Applied], gradients: Tensors, layers: Layers, wide: tf.DType) -> Tensors:
    """The values of layers' outputs; an output that the loss does not depend on has the gradient 0."""
    none = tf.zeros((), wide)
    units, channels = (
        zip(*(dead(applied[name].output) for name in layers.relus), strict=True) if layers.relus else ((), ())
    )
    return {
        "activation_norm": tf.stack([norm(applied[name].output) for name in layers.outputs]),
        "gradient_norm": tf.stack([norm(gradients.get(name, none)) for name in layers.outputs]),
        "dead_units": tf.stack(units) if units else tf.zeros(0),
        "dead_channels": tf.stack(channels) if channels else tf.zeros(0),
    }


def _updates(
    network: Network, recipe: Recipe, before: State, gradients: Tensors, seed: tf.Tensor, rate: tf.Tensor
) -> Tensors:
    """The change of each trained variable by a step with these gradients, as `TrainStep.update` computes it."""
    step = TrainStep(network, recipe)
    decayed = with_weight_decay(gradients, {path: before.variables[path] for path in gradients}, recipe)
    clipped, _ = clip_by_global_norm(decayed, recipe.clip)
    after = step.apply(replace(before, averages={}), clipped, {}, rate, seed[1])
    return {path: after.variables[path] - before.variables[path] for path in clipped}


def dead(outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the shares of units and of channels of a ReLU that are zero for every image: [B,…,C] → scalars."""
    silent = tf.reduce_all(tf.equal(outputs, 0), axis=0)  # […,C]
    everywhere = tf.reduce_all(silent, axis=list(range(len(silent.shape) - 1)))  # [C]
    return tf.reduce_mean(tf.cast(silent, tf.float32)), tf.reduce_mean(tf.cast(everywhere, tf.float32))


def norm(values: tf.Tensor) -> tf.Tensor:
    """Return √Σv² of a tensor as a scalar, float32 or wider."""
    wide = tf.float64 if values.dtype == tf.float64 else tf.float32
    return tf.sqrt(tf.reduce_sum(tf.square(tf.cast(values, wide))))


class Microscope:
    """The measurements of a run. They are kept in its folder, one row per epoch, and survive a kill.

    The batch is the first of the run, or its first `SAMPLE` images. It depends neither on the number of devices nor on
    the point from which a run resumes, so all rows can be compared. With several devices, the process that writes the
    run's files measures on one of them: all devices hold the same variables, so the others would measure the same.

    Attributes:
        path: The file, `microscope.npz` in the run's folder.
        observations: The rows so far.
    """

    def __init__(self, training: Training, data: DataSet):
        """Prepare to measure, before the run's first step.

        Args:
            training: The run, restored from its checkpoint if there is one. It has a folder.
            data: The data set, as `Training.prepare` returns it.

        Raises:
            ValueError: The file in the folder is damaged, or its rows could not be compared with those of this run.
        """
        assert training.folder
        self.training, self.path = training, training.folder / FILE
        layers = layers_of(training.network)
        begun = training.epoch > 0 or training.at.steps > 0
        self._count = min(training.recipe.batch, SAMPLE)
        new = Observations(layers, (), measured={"images": self._count, "adversarial": int(bool(training.adversary))})
        found = read_observations(self.path) if begun and self.path.exists() else new
        if found.layers != layers:
            raise ValueError(f"{self.path} holds values of another network; delete it, and the run begins a new one")
        if found.measured != new.measured:
            origin = "other images" if found.measured else "an earlier version, which measured other images"
            raise ValueError(
                f"{self.path} holds values of {origin}, so new rows could not be compared with it; delete it, and the "
                "run measures from its present epoch on"
            )
        self.observations = found.until(training.epoch)  # later rows are of epochs that the run repeats
        self._batch: tuple[tf.Tensor, tf.Tensor] | None = None
        self._data, self._measure = data, self._compiled(training.network, training.state, training.choice)

    def look(self) -> None:
        """Measure the run at the end of an epoch or before the first. A second call does nothing.

        Raises:
            OSError: The file could not be written.
        """
        epoch = self.training.epoch
        if self.training.at.steps or epoch in self.observations.epochs:
            return
        values = {name: value.numpy() for name, value in self._measure(*self._sample(), self._rate()).items()}
        if epoch == 0:
            self.observations = replace(self.observations, counterpart=self._counterpart())
        self.observations = self.observations.adding(epoch, float(self._rate()), values)
        self.observations.write(self.path)

    def _compiled(self, network: Network, state: State, choice: Choice) -> Callable[..., Tensors]:
        recipe, adversary = self.training.recipe, self.training.adversary
        return compiled(lambda *batch: observe(network, recipe, state, *batch, adversary=adversary), choice)

    def _sample(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """(images [B,H,W,3], labels [B], seed [2]): the first images of the run's first epoch, as a batch."""
        training = self.training
        if self._batch is None:
            self._batch = next(iter(self._data.batches("train", self._count, seed=training.seed, epoch=0)))
        return *self._batch, tf.constant([training.seed, 0])

    def _rate(self) -> tf.Tensor:
        """The learning rate of the epoch's last step; before the first epoch, that of the first step."""
        history = self.training.history
        return tf.constant(history[-1]["rate"] if history else learning_rate(self.training.recipe, 0), tf.float32)

    def _counterpart(self) -> dict[str, float]:
        """Path → ‖∂L/∂w‖ of the plain network next to a residual one, or the reverse, with new variables."""
        other = counterpart(self.training.network, self.training.seed)
        if other is None:
            return {}
        state = State.begin(other, self.training.recipe)
        values = self._compiled(other, state, self.training.choice)(*self._sample(), self._rate())
        return dict(zip(layers_of(other).weights, values["weight_gradient_norm"].numpy().tolist(), strict=True))
