"""Training: the loop around the step of `rawcnn.training.step`.

`Training` owns the variables and writes checkpoints from which a run goes on exactly, from the middle of an epoch too:
order of images, crops and dropout are functions of (seed, epoch, step) alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import BATCH, Evaluation, check_classes, counting_step, evaluate
from rawcnn.files.locks import exclusive_folder
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.optim.schedules import Plateau
from rawcnn.training.checkpoints import Checkpoints, Note, NotWritten
from rawcnn.training.distributed import Cluster
from rawcnn.training.nonfinite import broken_at, broken_variable
from rawcnn.training.recipes import Recipe, learning_rate
from rawcnn.training.resume import check_epochs, check_same, images_of, settings_of
from rawcnn.training.step import Adversary, State, Tensors, step_of

CHECK_EVERY = 20  # steps between two looks at the loss: each look waits for the device
LOWER = "A lower --rate may help, in another --output or with --fresh"
SAVE_EVERY = 600.0  # seconds between two checkpoints within an epoch


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says why and what is left."""


class Stopped(Exception):
    """The run was asked to stop: it has saved, and goes on from there when it is started again."""


@dataclass
class Position:
    """Where a run stands: `steps` of the epoch are done, with these sums of their metrics and this time."""

    epoch: int = 0
    steps: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    seconds: float = 0.0


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
        save_every: float = SAVE_EVERY,
        cluster: Cluster | None = None,
    ):
        """`cluster` are the devices that share the run; the network must have been made in its scope."""
        self.network, self.recipe, self.seed, self.adversary = network, recipe, seed, adversary
        self.folder = Path(folder) if folder else None
        self.save_every, self.cluster = save_every, cluster
        precision = network.precision
        self.choice = cluster.choose(compile, precision) if cluster else choose(compile, network.devices, precision)
        with cluster.scope() if cluster else nullcontext():
            self.state = State.begin(network, recipe)
        self.slots, self.averages = self.state.slots, self.state.averages
        self.settings = settings_of(network, recipe, seed, adversary)
        self.at, self.plateau = Position(), Plateau()
        self.history: list[dict[str, float]] = []
        self.stopping = False
        self.result: Evaluation | None = None  # of the last epoch
        self._data: dict[str, str] | None = None  # what the run has trained on
        self._seen: Path | None = None  # the newest checkpoint, when it was read or written here
        make = cluster.step_of if cluster else step_of
        self._step = make(network, recipe, self.state, self.choice, adversary)
        self._count = counting_step(self._evaluated, network.input_size, self.choice)
        self._checkpoints = None
        if self.folder:
            groups = {"variables": network.variables, "slots": self.slots, "averages": self.averages}
            self._checkpoints = Checkpoints(self.folder / "checkpoints", **groups)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return self.at.epoch

    @property
    def damaged(self) -> Mapping[Path, str]:
        """Checkpoints that `restore` had to leave out, and why."""
        return self._checkpoints.damaged if self._checkpoints else {}

    @property
    def writes(self) -> bool:
        """Is it this process that writes the run's files? Of several workers one does."""
        return self.cluster is None or self.cluster.writes

    @property
    def evaluation_variables(self) -> dict[str, tf.Variable]:
        """What to evaluate and to save: the moving averages where the recipe keeps them."""
        return {**self.network.variables, **self.averages}

    def _evaluated(self, images: tf.Tensor) -> tf.Tensor:
        """Logits by the variables that are evaluated, as they are at each call."""
        return self.network.trace(self.evaluation_variables, images).logits

    # Checkpoints -----------------------------------------------------------------------------------------------

    def restore(self) -> bool:
        """Go on from the newest checkpoint in the folder that is whole; False where there is none.

        ValueError if it is another run's, or all are damaged; everything then stays as it was.
        """
        if self._checkpoints is None:
            return False
        found, self._seen = self._checkpoints.restore(self._read), self._checkpoints.newest
        if found is None:
            return False
        self.at, self.plateau, self.history, self._data = found
        return True

    def save(self) -> None:
        """Write a checkpoint; its number counts the steps of the run. TrainingFailed, which names the last, if not."""
        if self._checkpoints is None or not self.writes:
            return
        best = self.plateau.best if math.isfinite(self.plateau.best) else 1e30  # JSON has no infinity
        note: Note = {
            "at": asdict(self.at),
            "settings": self.settings,
            "data": self._data,
            "history": self.history,
            "plateau": asdict(replace(self.plateau, best=best)),
        }
        try:
            self._seen = self._checkpoints.save(self.number, note)
        except NotWritten as error:
            remedy = f"{error.remedy[0].upper()}{error.remedy[1:]}"
            raise TrainingFailed(
                f"the checkpoint {error}; {self._last_good()}. {remedy} and run the same command again"
            ) from error

    @property
    def number(self) -> int:
        """Steps of the run so far."""
        an_epoch = int(self._data["training images"]) // self.recipe.batch if self._data else 0
        return self.at.epoch * an_epoch + self.at.steps

    def _last_good(self) -> str:
        newest = self._checkpoints.newest if self._checkpoints else None
        return f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"

    def _read(self, note: Note) -> tuple[Position, Plateau, list[dict[str, float]], dict[str, str] | None]:
        """Of a note, where its run stood. OtherRun if that is not this one."""
        check_same(self.folder, "started with", note["settings"], self.settings)
        check_epochs(self.folder, note["at"]["epoch"] + (note["at"]["steps"] > 0), self.recipe.epochs)
        return Position(**note["at"]), Plateau(**note["plateau"]), note["history"], note["data"]

    def _take(self, data: DataSet) -> None:
        """Remember what the run trains on. OtherRun if it began on other images."""
        about = images_of(data)
        if self._data is not None:
            check_same(self.folder, "trained on", self._data, about)
        self._data = about

    def steps(self, data: DataSet) -> int:
        """Steps an epoch: whole batches only."""
        steps = data.count("train") // self.recipe.batch
        if steps == 0:
            raise ValueError(
                f"{data.name} has {data.count('train')} training images, fewer than a batch of {self.recipe.batch}; "
                "give a smaller --batch"
            )
        return steps

    def check(self, data: DataSet) -> None:
        """ValueError for data that the run cannot be trained on."""
        self.steps(data)
        check_classes(self.network, data)
        if self.cluster:
            self.cluster.check(self.recipe)

    def stop(self) -> None:
        """Ask the run, from a signal's handler or another thread, to save after the step at work, and to end."""
        self.stopping = True

    # The loop --------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: DataSet,
        *,
        on_step: Callable[[int, int, dict[str, float]], None] | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> Evaluation:
        """Train to the recipe's last epoch, evaluating and saving after each → the last evaluation.

        `on_step(step of the epoch, steps, metrics)` and `on_epoch(summary)` are told how it goes. Within an epoch a
        checkpoint is written every `save_every` seconds, and when `stop` was called; Stopped is raised after that.
        TrainingFailed where numbers are no longer finite, or the disk is full.
        """
        self.check(data)
        alone = exclusive_folder(self.folder) if self.folder and self.writes else nullcontext()
        with alone, self.cluster.lost_told() if self.cluster else nullcontext():
            return self._fit(data, on_step, on_epoch)

    def _fit(self, data: DataSet, on_step, on_epoch) -> Evaluation:
        if self._checkpoints and self.writes and self._seen not in (None, self._checkpoints.newest):
            raise ValueError(f"another process trained in {self.folder} meanwhile; run the same command again")
        self._take(data)
        steps = self.steps(data)
        if self._checkpoints and not self._checkpoints.all:
            self.save()  # a disk that takes nothing is told now, and a step that fails can be walked through again
        while self.epoch < self.recipe.epochs:
            for metrics in self.run_epoch(data):
                if on_step:
                    on_step(int(metrics["step"]) % steps + 1, steps, metrics)
            self._check_finite(data)
            self.result = self.evaluate(data)
            if not math.isfinite(self.result.loss):
                raise TrainingFailed(
                    f"the loss of the test images is {self.result.loss} after epoch {self.epoch + 1}, though all "
                    f"variables are finite: activations overflow; {self._last_good()}. {LOWER}"
                )
            summary = self._end_epoch(steps, self.result)
            self.save()
            if on_epoch:
                on_epoch(summary)
        self.result = self.result or self.evaluate(data)
        return self.result

    def run_epoch(self, data: DataSet) -> Iterator[dict[str, float]]:
        """Train the rest of an epoch; gives each step's metrics. Raises TrainingFailed where the loss is no number."""
        steps, saved = self.steps(data), time.monotonic()
        waiting: list[tuple[int, float, Tensors]] = []
        start = time.perf_counter()
        for index, images, labels in self._batches(data):
            waiting.append((index, *self._take_step(index, steps, images, labels)))
            due = self._is_due(saved)
            if due or len(waiting) == CHECK_EVERY or index == steps - 1:
                looked = [self._looked(data, *taken) for taken in waiting]
                waiting.clear()
                for metrics in looked:  # one by one, so that a run that stopped between them adds up to the same
                    self.at.loss += metrics["loss"]
                    self.at.accuracy += metrics["accuracy"]
                self.at.steps = index + 1
                self.at.seconds += time.perf_counter() - start
                yield from looked
                if due:
                    self._save_and_stop_if_asked(data)
                    saved = time.monotonic()
                start = time.perf_counter()

    def _is_due(self, saved: float) -> bool:
        """Is it time to save, or to stop?"""
        return self._asked_to_stop(time.monotonic() - saved > self.save_every)

    def _asked_to_stop(self, due: bool = False) -> bool:
        """Is the run to stop, or is a save `due`? Workers ask each other after the same steps, and do both together."""
        if self.cluster and self.cluster.workers > 1:
            asked = self.cluster.ask(self.stopping, due)
            if asked is None:
                return False
            self.stopping, due = asked
        return self.stopping or due

    def _batches(self, data: DataSet) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """The rest of the epoch: (step of the epoch, images, labels)."""
        first, batch = self.at.steps, self.recipe.batch
        about: dict[str, Any] = {"seed": self.seed, "epoch": self.epoch, "part": self._part}
        rest = data.batches("train", batch, drop_remainder=True, first=first, **about)
        try:
            for index, (images, labels) in enumerate(rest, first):
                yield index, images, labels
        except ValueError as error:
            goes_on = ", from which the same command goes on" if self._checkpoints else ""
            raise TrainingFailed(f"{error}; {self._last_good()}{goes_on}") from error

    def _take_step(self, index: int, steps: int, images: tf.Tensor, labels: tf.Tensor) -> tuple[float, Tensors]:
        """(the rate, the metrics) of a step of the epoch."""
        rate = learning_rate(self.recipe, self.epoch + index / steps, self.plateau.drops)
        seed = tf.constant([self.seed, self.epoch * steps + index])
        return rate, self._step(images, labels, seed, tf.constant(rate, tf.float32))

    def _looked(self, data: DataSet, index: int, rate: float, tensors: Tensors) -> dict[str, float]:
        """The metrics of a step, which are waited for. TrainingFailed where they are not finite."""
        values = {name: float(value) for name, value in tensors.items()}
        step = self.epoch * self.steps(data) + index
        for name, what in (("loss", "the loss"), ("gradient_norm", "the length of the gradient")):
            if not math.isfinite(values[name]):
                raise TrainingFailed(
                    f"{what} is {values[name]} at step {step} (epoch {self.epoch + 1}, learning rate {rate:.4g})"
                    f"{self._diagnosis(data, index)}; {self._last_good()}. {LOWER}"
                )
        return {"step": step, "rate": rate, **values}

    def _diagnosis(self, data: DataSet, broken: int) -> str:
        """Go back to the last checkpoint, take its steps again up to the broken one, and look into that."""
        if not self._checkpoints or not self.restore():
            return ""
        steps = self.steps(data)
        for index, images, labels in self._batches(data):
            if index == broken:
                seed = tf.constant([self.seed, self.epoch * steps + index])
                found = broken_at(self.network, self.recipe, images, labels, seed)
                _, metrics = self._take_step(index, steps, images, labels)
                again = not math.isfinite(float(metrics["loss"]) + float(metrics["gradient_norm"]))
                again = again or broken_variable(self.network) is not None
                self.restore()
                return (
                    f": {found}" if again else ", but is finite when the step is taken again from the last checkpoint"
                )
            self._take_step(index, steps, images, labels)
        return ""

    def _first_broken(self, data: DataSet) -> str:
        """Go back to the last checkpoint, and take its steps again up to the first that breaks a variable."""
        if not self._checkpoints or not self.restore():
            return ""
        steps = self.steps(data)
        for index, images, labels in self._batches(data):
            self._take_step(index, steps, images, labels)
            if broken_variable(self.network):
                return f", first after step {self.epoch * steps + index}{self._diagnosis(data, index)}"
        self.restore()
        return ", but not when the steps are taken again from the last checkpoint"

    def _end_epoch(self, steps: int, result: Evaluation) -> dict[str, float]:
        """Count the epoch as done → its summary, the newest of the history."""
        rate = learning_rate(self.recipe, self.epoch + (steps - 1) / steps, self.plateau.drops)
        self.plateau = self.plateau.observe(1 - result.accuracy)
        summary = {
            "epoch": self.epoch + 1,
            "rate": rate,
            "train_loss": self.at.loss / steps,
            "train_accuracy": self.at.accuracy / steps,
            "test_loss": result.loss,
            "test_accuracy": result.accuracy,
            "images_per_second": steps * self.recipe.batch / self.at.seconds,
        }
        self.at = Position(epoch=self.epoch + 1)
        self.history.append(summary)
        return summary

    def _save_and_stop_if_asked(self, data: DataSet) -> None:
        self._check_finite(data)
        self.save()
        if self.stopping:
            raise Stopped

    def _check_finite(self, data: DataSet) -> None:
        """No checkpoint of a broken network."""
        if path := broken_variable(self.network):
            where = f"in epoch {self.epoch + 1}{self._first_broken(data)}"
            raise TrainingFailed(f"{path} holds numbers that are not finite {where}; {self._last_good()}. {LOWER}")

    def evaluate(self, data: DataSet) -> Evaluation:
        """Evaluate on the test images, with the averaged variables where the recipe keeps them."""
        if self.cluster:
            self.cluster.ask_soon()
        common = data.count("test") // BATCH  # batches that all workers have a part of

        def told(done: int, total: int) -> None:
            nonlocal common
            common -= 1
            if (common >= 0 or not self.cluster) and self._asked_to_stop():
                self._save_and_stop_if_asked(data)

        try:
            result = evaluate(self.network, data, step=self._count, part=self._part, progress=told)
        except ValueError:  # an image that cannot be decoded: the epoch is not lost
            self.save()
            raise
        return self.cluster.merged(result) if self.cluster else result

    @property
    def _part(self) -> tuple[int, int]:
        """Of each batch, what this process takes."""
        return (self.cluster.worker, self.cluster.workers) if self.cluster else (0, 1)
