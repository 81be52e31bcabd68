"""Training: the loop over epochs and steps, around the step of `rawcnn.training.step`.

`Training` owns the variables of a run and resumes it exactly, also from the middle of an epoch: the order of images,
the crops and the dropout masks are functions of (seed, epoch, step) alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import BATCH, Evaluation, check_classes, counting_step, evaluate
from rawcnn.files.locks import exclusive_folder
from rawcnn.nn.network import Network
from rawcnn.optim.schedules import Plateau
from rawcnn.training.distributed import Cluster, Devices, SingleDevice
from rawcnn.training.nonfinite import explain_step, explain_variable, nonfinite_variable
from rawcnn.training.recipes import Recipe, learning_rate
from rawcnn.training.recovery import Position, Progress, Recovery, TrainingFailed
from rawcnn.training.resume import check_same, data_identity, run_settings
from rawcnn.training.step import Adversary, State, Tensors

CHECK_EVERY = 20  # steps between two looks at the metrics; each look waits for the device
LOWER = "A lower --rate may help, in another --output or with --fresh"
SAVE_EVERY = 600.0  # seconds between two checkpoints within an epoch


class Stopped(Exception):
    """The run was stopped by `Training.stop`. It has saved a checkpoint and resumes from there."""


class Training:
    """A run: the network, the optimizer's slots and the progress. `fit` trains; checkpoints make it resumable.

    Attributes:
        state: The variables that the run changes.
        choice: How the step runs.
        devices: The devices that share the run.
        settings: The settings that must not change when the run resumes.
        progress: How far the run is.
        result: The evaluation after the last epoch, or None.
    """

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
        """Begin a run.

        Args:
            network: The network to train. With a cluster it must have been created in the cluster's scope.
            recipe: The recipe.
            seed: The seed of the order of images, of augmentation and of dropout.
            folder: Where checkpoints are written and read; None writes none.
            compile: How the step runs: one of `rawcnn.nn.execution.MODES`.
            adversary: Replaces the images of each step by attacked ones.
            save_every: Seconds between two checkpoints within an epoch.
            cluster: The devices that share the run; None for one device.

        Raises:
            ValueError: `compile` is unknown or not possible here, or the folder cannot hold checkpoints.
        """
        self.network, self.recipe, self.seed, self.adversary = network, recipe, seed, adversary
        self.folder, self.save_every = Path(folder) if folder else None, save_every
        self.cluster = cluster
        self.devices: Devices = cluster or SingleDevice()
        self.choice = self.devices.choose(compile, network)
        with self.devices.scope():
            self.state = State.begin(network, recipe)
        self.settings = run_settings(network, recipe, seed, adversary)
        self.progress = Progress()
        self.recovery = Recovery(self.folder, self.state, self.settings, recipe.epochs, self.writes)
        self.result: Evaluation | None = None
        self._stopping = False
        self._step = self.devices.make_step(network, recipe, self.state, self.choice, adversary)
        self._count = counting_step(self._evaluated_logits, network.input_size, self.choice)

    # Progress and checkpoints -----------------------------------------------------------------------------------

    @property
    def at(self) -> Position:
        """The position in epochs and steps."""
        return self.progress.at

    @property
    def epoch(self) -> int:
        """The number of epochs that are done."""
        return self.at.epoch

    @property
    def plateau(self) -> Plateau:
        """The learning-rate drops so far."""
        return self.progress.plateau

    @property
    def history(self) -> list[dict[str, float]]:
        """A summary for each epoch that is done."""
        return self.progress.history

    @property
    def steps_done(self) -> int:
        """The number of steps since the run began."""
        data = self.progress.data
        return self.at.epoch * (int(data["training images"]) // self.recipe.batch if data else 0) + self.at.steps

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files; of several workers, one does."""
        return self.devices.writes

    @property
    def damaged(self) -> Mapping[Path, str]:
        """The checkpoints that `restore` left out, and why."""
        return self.recovery.damaged

    def restore(self) -> bool:
        """Resume from the newest complete checkpoint in the folder.

        Returns:
            Whether there is one.

        Raises:
            ValueError: The checkpoint is another run's, or all are damaged. Nothing was changed.
        """
        progress = self.recovery.restore()
        if progress is None:
            return False
        self.progress = progress
        return True

    def save(self) -> None:
        """Write a checkpoint, numbered by the steps since the run began. Raises TrainingFailed."""
        self.recovery.save(self.steps_done, self.progress)

    def stop(self) -> None:
        """Ask the run to save after the present step and to end. Signal handlers and other threads may call this."""
        self._stopping = True

    # Data -------------------------------------------------------------------------------------------------------

    def steps(self, data: DataSet) -> int:
        """Return the number of steps per epoch: complete batches only. Raises ValueError without a single one."""
        steps = data.count("train") // self.recipe.batch
        if steps == 0:
            raise ValueError(
                f"{data.name} has {data.count('train')} training images, fewer than a batch of {self.recipe.batch}; "
                "give a smaller --batch"
            )
        return steps

    def check(self, data: DataSet) -> None:
        """Check that the run can be trained on a data set. Raises ValueError."""
        self.steps(data)
        check_classes(self.network, data)
        self.devices.check(self.recipe)

    def use(self, data: DataSet) -> None:
        """Record which data the run trains on. Raises OtherRun where it began on other data."""
        identity = data_identity(data)
        if self.progress.data is not None:
            check_same(self.folder, "trained on", self.progress.data, identity)
        self.progress.data = identity

    def batches(self, data: DataSet) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """Yield the rest of the epoch: (step of the epoch, images [B,H,W,3], labels [B])."""
        first = self.at.steps
        batches = data.batches(
            "train", self.recipe.batch, seed=self.seed, epoch=self.epoch, drop_remainder=True, first=first,
            part=self.devices.part,
        )  # fmt: skip
        try:
            for index, (images, labels) in enumerate(batches, first):
                yield index, images, labels
        except ValueError as error:
            resumes = ", from which the same command resumes" if self.folder else ""
            raise TrainingFailed(f"{error}; {self.recovery.last_good()}{resumes}") from error

    # The loop ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: DataSet,
        *,
        on_step: Callable[[int, int, dict[str, float]], None] | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
    ) -> Evaluation:
        """Train to the recipe's last epoch; evaluate and save after each epoch.

        Within an epoch a checkpoint is written every `save_every` seconds, and after `stop` was called.

        Args:
            data: The data set.
            on_step: Called as on_step(step of the epoch from 1, steps per epoch, metrics), some steps at a time.
            on_epoch: Called with the summary of each epoch.

        Returns:
            The last evaluation.

        Raises:
            ValueError: The run cannot be trained on this data, or another process uses the folder.
            TrainingFailed: Values are not finite, or a checkpoint could not be written.
            Stopped: `stop` was called; a checkpoint was saved.
            WorkerLost: Another worker has ended.
        """
        self.check(data)
        lock = exclusive_folder(self.folder) if self.folder and self.writes else nullcontext()
        with lock, self.devices.collectives.lost_workers():
            return self._fit(data, on_step, on_epoch)

    def _fit(self, data: DataSet, on_step, on_epoch) -> Evaluation:
        self.use(data)
        steps = self.steps(data)
        self.recovery.begin(self.progress)
        while self.epoch < self.recipe.epochs:
            for metrics in self.run_epoch(data):
                if on_step:
                    on_step(int(metrics["step"]) % steps + 1, steps, metrics)
            self._check_variables(data)
            self.result = self.evaluate(data)
            if not math.isfinite(self.result.loss):
                raise TrainingFailed(
                    f"the loss of the test images is {self.result.loss} after epoch {self.epoch + 1}, though all "
                    f"variables are finite: activations overflow; {self.recovery.last_good()}. {LOWER}"
                )
            summary = self._end_epoch(steps, self.result)
            self.save()
            if on_epoch:
                on_epoch(summary)
        self.result = self.result or self.evaluate(data)
        return self.result

    def run_epoch(self, data: DataSet) -> Iterator[dict[str, float]]:
        """Train the rest of an epoch and yield the metrics of each step. Raises as `fit` does."""
        steps, saved = self.steps(data), time.monotonic()
        pending: list[tuple[int, float, Tensors]] = []
        start = time.perf_counter()
        for index, images, labels in self.batches(data):
            pending.append((index, *self.take_step(data, index, images, labels)))
            save, stop = self._vote(time.monotonic() - saved > self.save_every)
            if save or len(pending) == CHECK_EVERY or index == steps - 1:
                metrics = [self._finite_metrics(data, *step) for step in pending]
                pending.clear()
                for values in metrics:  # one by one, so that a resumed run adds in the same order, to the same bits
                    self.at.loss += values["loss"]
                    self.at.accuracy += values["accuracy"]
                self.at.steps = index + 1
                self.at.seconds += time.perf_counter() - start
                yield from metrics
                if save:
                    self._save(data, stop)
                    saved = time.monotonic()
                start = time.perf_counter()

    def take_step(self, data: DataSet, index: int, images: tf.Tensor, labels: tf.Tensor) -> tuple[float, Tensors]:
        """Take step `index` of the epoch; return its learning rate and its metrics."""
        rate = learning_rate(self.recipe, self.epoch + index / self.steps(data), self.plateau.drops)
        return rate, self._step(images, labels, self.seed_of(data, index), tf.constant(rate, tf.float32))

    def seed_of(self, data: DataSet, index: int) -> tf.Tensor:
        """Return the seed of step `index` of the epoch: int [2], the run's seed and the number of the step."""
        return tf.constant([self.seed, self.epoch * self.steps(data) + index])

    def _vote(self, due: bool = False) -> tuple[bool, bool]:
        """(save, stop): whether to save, and whether to stop after that. Workers decide both together."""
        stop, due = self.devices.votes.vote(self._stopping, due) or (False, False)
        return stop or due, stop

    def _save(self, data: DataSet, stop: bool) -> None:
        self._check_variables(data)
        self.save()
        if stop:
            raise Stopped

    def _end_epoch(self, steps: int, result: Evaluation) -> dict[str, float]:
        """Count the epoch as done and return its summary."""
        rate = learning_rate(self.recipe, self.epoch + (steps - 1) / steps, self.plateau.drops)
        self.progress.plateau = self.plateau.observe(1 - result.accuracy)
        summary = {
            "epoch": self.epoch + 1,
            "rate": rate,
            "train_loss": self.at.loss / steps,
            "train_accuracy": self.at.accuracy / steps,
            "test_loss": result.loss,
            "test_accuracy": result.accuracy,
            "images_per_second": steps * self.recipe.batch / self.at.seconds,
        }
        self.progress.at = Position(epoch=self.epoch + 1)
        self.history.append(summary)
        return summary

    # Checks -----------------------------------------------------------------------------------------------------

    def _finite_metrics(self, data: DataSet, index: int, rate: float, tensors: Tensors) -> dict[str, float]:
        """The metrics of a step; this waits for the device. Raises TrainingFailed if they are not finite."""
        values = {name: float(value) for name, value in tensors.items()}
        step = self.epoch * self.steps(data) + index
        for name, label in (("loss", "the loss"), ("gradient_norm", "the gradient norm")):
            if not math.isfinite(values[name]):
                raise TrainingFailed(
                    f"{label} is {values[name]} at step {step} (epoch {self.epoch + 1}, learning rate {rate:.4g})"
                    f"{explain_step(self, data, index)}; {self.recovery.last_good()}. {LOWER}"
                )
        return {"step": step, "rate": rate, **values}

    def _check_variables(self, data: DataSet) -> None:
        """Raise TrainingFailed where a variable is not finite, so that no checkpoint of it is written."""
        if path := nonfinite_variable(self.network):
            where = f"in epoch {self.epoch + 1}{explain_variable(self, data)}"
            raise TrainingFailed(f"{path} has values that are not finite {where}; {self.recovery.last_good()}. {LOWER}")

    # Evaluation -------------------------------------------------------------------------------------------------

    @property
    def evaluation_variables(self) -> dict[str, tf.Variable]:
        """The variables to evaluate and to save: the moving averages where the recipe keeps them."""
        return {**self.network.variables, **self.state.averages}

    def _evaluated_logits(self, images: tf.Tensor) -> tf.Tensor:
        """The logits by the variables that are evaluated, with their present values."""
        return self.network.trace(self.evaluation_variables, images).logits

    def evaluate(self, data: DataSet) -> Evaluation:
        """Evaluate the test images, with the moving averages where the recipe keeps them. Raises Stopped."""
        self.devices.votes.vote_next()
        common = self.devices.common_batches(data.count("test"), BATCH)

        def vote(done: int, total: int) -> None:
            nonlocal common
            common -= 1
            if common >= 0:  # after the last common batch some workers are done, and do not vote
                save, stop = self._vote()
                if save:
                    self._save(data, stop)

        try:
            result = evaluate(self.network, data, step=self._count, part=self.devices.part, progress=vote)
        except ValueError:  # an image that cannot be decoded: keep the epoch's training
            self.save()
            raise
        return self.devices.merge(result)
