"""Training: the loop around the step of `rawcnn.step`.

`Training` owns the variables and writes checkpoints from which a run goes on exactly: order of images, crops and
dropout are functions of (seed, epoch, step) alone.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from textwrap import shorten

import tensorflow as tf

from rawcnn.compile import choose
from rawcnn.data import DataSet
from rawcnn.evaluate import Evaluation, counting_step, evaluate
from rawcnn.network import Network
from rawcnn.recipes import Plateau, Recipe, learning_rate
from rawcnn.step import Adversary, State, Tensors, step_of

CHECK_EVERY = 20  # steps between two looks at the loss: each look waits for the device


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says why and what is left."""


class OtherRun(ValueError):
    """A checkpoint was made with other settings."""


def _reason(error: tf.errors.OpError) -> str:
    """The first line of TensorFlow's message, without its own function's name in front."""
    return error.message.splitlines()[0].split("}} ")[-1]


class Training:
    """A run: the network, its optimiser's slots, and where it stands. `fit` trains; checkpoints make it resumable."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        *,
        seed: int = 0,
        folder: Path | None = None,
        compile: str = "auto",
        adversary: Adversary | None = None,
    ):
        self.network, self.recipe, self.seed, self.adversary = network, recipe, seed, adversary
        self.folder = Path(folder) if folder else None
        self.choice = choose(compile, network.devices, network.precision)
        self.state = State.begin(network, recipe)
        self.slots, self.averages = self.state.slots, self.state.averages
        self.epoch, self.plateau = 0, Plateau()
        self.history: list[dict[str, float]] = []
        self.damaged: list[str] = []  # checkpoints that `restore` had to leave out
        self._data: dict[str, str] | None = None  # what the run has trained on
        self._note = tf.Variable("", dtype=tf.string)  # the numbers above as JSON, so that one file holds all
        self._step = step_of(network, recipe, self.state, self.choice, adversary)
        self._count = counting_step(self._evaluated, network.input_size, self.choice)
        self._manager = None
        if self.folder:
            state = tf.train.Checkpoint(
                variables=dict(network.variables), slots=self.slots, averages=self.averages, note=self._note
            )
            self._manager = tf.train.CheckpointManager(state, str(self.folder / "checkpoints"), max_to_keep=2)

    @property
    def evaluation_variables(self) -> dict[str, tf.Variable]:
        """What to evaluate and to save: the moving averages where the recipe keeps them."""
        return {**self.network.variables, **self.averages}

    def _evaluated(self, images: tf.Tensor) -> tf.Tensor:
        """Logits by the variables that are evaluated, as they are at each call."""
        return self.network.walk(self.evaluation_variables, images).logits

    def restore(self) -> bool:
        """Go on from the newest checkpoint in the folder that is whole; False where there is none.

        ValueError if it is another run's, or all are damaged; everything then stays as it was.
        """
        checkpoints = list(self._manager.checkpoints) if self._manager else []
        self.damaged = []
        for path in reversed(checkpoints):
            try:
                note = self._read(path)
            except OtherRun:
                raise
            except Exception:  # over a damaged file TensorFlow's readers raise many kinds
                self.damaged.append(path)
                continue
            self.epoch, self.history, self.plateau = note["epoch"], note["history"], Plateau(**note["plateau"])
            self._data = note["data"]
            return True
        if self.damaged:
            raise ValueError(
                f"the checkpoints {', '.join(self.damaged)} are damaged; name another output folder, or start anew "
                "with --fresh"
            )
        return False

    def _read(self, path: str) -> dict:
        """Assign what the checkpoint holds and return its note; where anything is wrong with it, assign nothing."""
        assert self._manager
        note = json.loads(tf.train.load_checkpoint(path).get_tensor("note/.ATTRIBUTES/VARIABLE_VALUE").decode())
        self._check("started with", note["settings"], self._settings)
        owned = [v for group in (self.network.variables, self.slots, self.averages) for v in group.values()]
        before = [v.numpy() for v in owned]  # TensorFlow assigns first and looks whether all fits then
        try:
            self._manager.checkpoint.restore(path).expect_partial().assert_consumed()
        except Exception:
            for variable, value in zip(owned, before, strict=True):
                variable.assign(value)
            raise
        return note

    @property
    def _settings(self) -> dict[str, str]:
        """What must not change when a run goes on. It may become longer."""
        network, free = self.network, ("name", "source", "epochs")
        recipe = {f.name: getattr(self.recipe, f.name) for f in fields(self.recipe) if f.name not in free}
        about = {"model": network.name, "parameters": network.parameter_count, "classes": network.classes}
        about |= {"size": network.input_size, "precision": network.precision, "seed": self.seed}
        about |= {"adversary": self.adversary} if self.adversary else {}
        return {name: repr(value) for name, value in {**about, **network.settings, **recipe}.items()}

    def _check(self, verb: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
        """OtherRun where the run in the folder was made with something else."""
        both = {name: (then.get(name, "unset"), now.get(name, "unset")) for name in {**then, **now}}
        differences = [f"{name} {shorten(a, 60)}, not {shorten(b, 60)}" for name, (a, b) in both.items() if a != b]
        if differences:
            raise OtherRun(
                f"the run in {self.folder} was {verb} {', '.join(differences)}; go on with its settings, or start anew "
                "in another folder"
            )

    def _take(self, data: DataSet) -> None:
        """Remember what the run trains on. OtherRun if it began on other images."""
        about = {
            "classes": ", ".join(data.labels),
            "training images": str(data.count("train")),
            "test images": str(data.count("test")),
            "size": str(data.size),
        }
        if self._data is not None:
            self._check("trained on", self._data, about)
        self._data = about

    def save(self) -> None:
        """Write a checkpoint: beside the old one, then renamed."""
        if self._manager is None:
            return
        best = self.plateau.best if math.isfinite(self.plateau.best) else 1e30  # JSON has no infinity
        note = {
            "epoch": self.epoch,
            "settings": self._settings,
            "data": self._data,
            "history": self.history,
            "plateau": asdict(replace(self.plateau, best=best)),
        }
        self._note.assign(json.dumps(note))
        try:
            self._manager.save(checkpoint_number=self.epoch)
        except tf.errors.OpError as error:
            raise TrainingFailed(
                f"the checkpoint of epoch {self.epoch} could not be written ({_reason(error)}); "
                f"{self._last_good()}. Free some space and run the same command again"
            ) from error

    def _last_good(self) -> str:
        newest = self._manager.latest_checkpoint if self._manager else None
        return f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"

    def steps(self, data: DataSet) -> int:
        """Steps an epoch: whole batches only."""
        steps = data.count("train") // self.recipe.batch
        if steps == 0:
            raise ValueError(
                f"{data.name} has {data.count('train')} training images, fewer than a batch of {self.recipe.batch}; "
                "give a smaller --batch"
            )
        return steps

    def run_epoch(self, data: DataSet) -> Iterator[dict[str, float]]:
        """Train one epoch; gives each step's metrics. Raises TrainingFailed where the loss is no number."""
        steps = self.steps(data)
        waiting: list[tuple[int, float, Tensors]] = []
        batches = data.batches("train", self.recipe.batch, seed=self.seed, epoch=self.epoch, drop_remainder=True)
        for index, (images, labels) in enumerate(batches):
            rate = learning_rate(self.recipe, self.epoch + index / steps, self.plateau.drops)
            number = self.epoch * steps + index
            metrics = self._step(images, labels, tf.constant([self.seed, number]), tf.constant(rate, tf.float32))
            waiting.append((number, rate, metrics))
            if len(waiting) == CHECK_EVERY or index == steps - 1:
                for step, its_rate, tensors in waiting:
                    values = {name: float(value) for name, value in tensors.items()}
                    if not math.isfinite(values["loss"]):
                        raise TrainingFailed(
                            f"the loss is {values['loss']} at step {step} (epoch {self.epoch + 1}, learning rate "
                            f"{its_rate:.4g}); {self._last_good()}. A lower --rate may help"
                        )
                    yield {"step": step, "rate": its_rate, **values}
                waiting.clear()

    def fit(
        self,
        data: DataSet,
        *,
        on_step: Callable[[int, int, dict[str, float]], None] | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> Evaluation:
        """Train to the recipe's last epoch, evaluating and saving after each → the last evaluation.

        `on_step(step of the epoch, steps, metrics)` and `on_epoch(summary)` are told how it goes.
        """
        self._take(data)
        steps = self.steps(data)
        result = None
        while self.epoch < self.recipe.epochs:
            start, losses, right = time.perf_counter(), 0.0, 0.0
            for index, metrics in enumerate(self.run_epoch(data)):
                losses, right = losses + metrics["loss"], right + metrics["accuracy"]
                if on_step:
                    on_step(index + 1, steps, metrics)
            seconds = time.perf_counter() - start
            self._check_finite()
            result = self.evaluate(data)
            self.epoch += 1
            self.plateau = self.plateau.observe(1 - result.accuracy)
            summary = {
                "epoch": self.epoch,
                "rate": metrics["rate"],
                "train_loss": losses / steps,
                "train_accuracy": right / steps,
                "test_loss": result.loss,
                "test_accuracy": result.accuracy,
                "images_per_second": steps * self.recipe.batch / seconds,
            }
            self.history.append(summary)
            self.save()
            if on_epoch:
                on_epoch(summary)
        return result or self.evaluate(data)

    def _check_finite(self) -> None:
        """No checkpoint of a broken network. Its loss does not always tell: a fused ReLU may turn NaN into 0."""
        for path, variable in self.network.variables.items():
            if not tf.reduce_all(tf.math.is_finite(variable)):
                raise TrainingFailed(
                    f"{path} holds numbers that are not finite after epoch {self.epoch + 1}; {self._last_good()}. "
                    "A lower --rate may help"
                )

    def evaluate(self, data: DataSet) -> Evaluation:
        """Evaluate on the test images, with the averaged variables where the recipe keeps them."""
        return evaluate(self.network, data, step=self._count)
