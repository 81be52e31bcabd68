"""Training: the loop over epochs and steps, around the step of `rawcnn.training.step`.

`Training` owns the variables of a run and resumes it exactly, also from the middle of an epoch: the order of images,
the crops and the dropout masks are functions of (seed, epoch, step) alone. `Training._train` is the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import BATCH, Evaluation, check_classes, counting_step, evaluate
from rawcnn.files.locks import exclusive_folder
from rawcnn.nn.network import Network
from rawcnn.training.batches import ImageUnreadable, TrainingBatches
from rawcnn.training.distributed import Cluster, Devices, SingleDevice
from rawcnn.training.metrics import EpochMetrics
from rawcnn.training.nonfinite import check_evaluation, check_metrics, check_variables
from rawcnn.training.recipes import Recipe, check_recipe, learning_rate
from rawcnn.training.recovery import Position, TrainingFailed
from rawcnn.training.run_state import RunState
from rawcnn.training.step import Adversary, Tensors
from rawcnn.training.suitable import check_sizes, check_splits
from rawcnn.training.validation import follows_plateaus, with_validation

LOGGER = logging.getLogger(__name__)
SAVE_EVERY = 600.0  # seconds between two checkpoints within an epoch
OnStep = Callable[[int, int, dict[str, float]], None]
OnEpoch = Callable[[dict[str, float]], None]


def _ignore(*_: object) -> None:
    """The callback of a caller that gave none."""


class Stopped(Exception):
    """The run was stopped by `Training.stop`. It has saved a checkpoint and resumes from there."""


class Training(RunState):
    """A run and its loop: `fit` trains; `restore` resumes from a checkpoint.

    `rawcnn.training.validation` says which images each epoch evaluates, and which choose.

    Attributes, besides those of `RunState`:
        cluster: The devices that share the run; None for one device.
        choice: How the step runs.
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
            ValueError: `recipe` is no recipe, `compile` is unknown or not possible here, or the folder cannot hold
                checkpoints.
        """
        check_recipe(recipe)
        self.cluster, self.save_every = cluster, save_every
        devices: Devices = cluster or SingleDevice()
        self.choice = devices.choose(compile, network)
        self._stopping = False
        super().__init__(network, recipe, seed, folder=folder, adversary=adversary, devices=devices)

    def follow(self, recipe: Recipe) -> None:
        """Create what depends on the recipe: slots, averages, and the compiled steps of training and evaluation."""
        super().follow(recipe)
        self._step = self.devices.make_step(self.network, recipe, self.state, self.choice, self.adversary)

        def logits(images: tf.Tensor) -> tf.Tensor:  # by the present values of the variables
            return self.network.trace(self.evaluation_variables, images).logits

        self._count = counting_step(logits, self.network.input_size, self.choice)

    def stop(self) -> None:
        """Ask the run to save after the present step and to end. Signal handlers and other threads may call this."""
        self._stopping = True

    # The loop ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: DataSet,
        *,
        on_start: Callable[[], object] | None = None,
        on_step: OnStep | None = None,
        on_epoch: OnEpoch | None = None,
        report: Callable[[str], object] = LOGGER.warning,
    ) -> Evaluation:
        """Train to the recipe's last epoch; evaluate and save after each epoch.

        Within an epoch a checkpoint is written every `save_every` seconds, and after `stop` was called. With a
        validation split, the variables are those of the best epoch at the end.

        Args:
            data: The data set.
            on_start: Called before the first step, when the run holds its folder.
            on_step: Called as on_step(step of the epoch from 1, steps per epoch, metrics), some steps at a time.
            on_epoch: Called with the summary of each epoch.
            report: Called with a message if a validation split is cut from the training images.

        Returns:
            The evaluation of the test images.

        Raises:
            ValueError: The run cannot be trained on this data, or another process uses the folder.
            TrainingFailed: Values are not finite, or a checkpoint could not be written.
            Stopped: `stop` was called; a checkpoint was saved.
            WorkerLost: Another worker has ended.
        """
        data = self.prepare(data, report)
        self.check(data)
        lock = exclusive_folder(self.folder) if self.folder and self.devices.writes else nullcontext()
        with lock, self.devices.collectives.lost_workers():
            self.use(data)
            self.recovery.check_newest()
            if self.recovery.empty:  # so that errors of the disk show before any training
                self.save()
            (on_start or _ignore)()
            try:
                self._train(self.batches(data), on_step or _ignore, on_epoch or _ignore)
            except ImageUnreadable as error:
                resumes = ", from which the same command resumes" if self.folder else ""
                raise TrainingFailed(f"{error}; {self.recovery.last_good()}{resumes}") from error
            if self.progress.best:
                self.take_best()
                self.result = self.evaluate(data, save=False)
                self.history[-1] |= {"test_loss": self.result.loss, "test_accuracy": self.result.accuracy}
            self.result = self.result or self.evaluate(data)
        return self.result

    def prepare(self, data: DataSet, report: Callable[[str], object] = _ignore) -> DataSet:
        """Return a data set as the run uses it: with a validation split where the learning rate follows plateaus.

        Args:
            data: The data set.
            report: Called with a message if a validation split is cut from the training images.

        Raises:
            ValueError: There are no training or no test images, or no validation split can be cut.
        """
        check_splits(data)
        if self.progress.watched == "test" or not follows_plateaus(self.recipe):
            return data
        return with_validation(data, f"the recipe {self.recipe.name} lowers its learning rate where", report)

    def check(self, data: DataSet) -> None:
        """Check that the run can be trained on a data set. Raises ValueError."""
        self.batches(data)
        check_classes(self.network, data)
        check_sizes(self.network, self.recipe, data)
        self.devices.check(self.recipe)

    def batches(self, data: DataSet) -> TrainingBatches:
        """Return the batches of the run. Raises ValueError for fewer images than a batch."""
        return TrainingBatches(self.prepare(data), self.recipe.batch, self.seed, self.devices.part)

    def _train(self, batches: TrainingBatches, on_step: OnStep, on_epoch: OnEpoch) -> None:
        """Train from the present position to the end: the loop over epochs and steps."""
        while self.epoch < self.recipe.epochs:
            metrics, saved = EpochMetrics(self.at, batches.steps), time.monotonic()
            for index, images, labels in batches.rest_of_epoch(self.at):
                metrics.add(index, *self.take_step(batches, index, images, labels))
                save, stop = self._vote(time.monotonic() - saved > self.save_every)
                if save or metrics.due:
                    for values in metrics.read(partial(check_metrics, self, batches)):
                        on_step(int(values["step"]) % batches.steps + 1, batches.steps, values)
                    if save:
                        self._save(batches, stop)
                        saved = time.monotonic()
                    metrics.start_clock()
            check_variables(self, batches)
            self.result = self.evaluate(batches.data, self.watched)
            self._end_epoch(batches.steps, self.result)
            self.save()
            on_epoch(self.history[-1])

    def take_step(
        self, batches: TrainingBatches, index: int, images: tf.Tensor, labels: tf.Tensor
    ) -> tuple[float, Tensors]:
        """Take step `index` of the epoch; return its learning rate and its metrics."""
        rate = learning_rate(self.recipe, self.epoch + index / batches.steps, self.plateau.drops)
        seed = batches.step_seed(self.epoch, index)
        return rate, self._step(images, labels, seed, tf.constant(rate, tf.float32))

    def _end_epoch(self, steps: int, result: Evaluation) -> None:
        """Count the epoch as done, with a summary in the history."""
        summary = {
            "epoch": self.epoch + 1,
            "rate": learning_rate(self.recipe, self.epoch + (steps - 1) / steps, self.plateau.drops),
            "train_loss": self.at.loss / steps,
            "train_accuracy": self.at.accuracy / steps,
            f"{self.watched}_loss": result.loss,
            f"{self.watched}_accuracy": result.accuracy,
            "images_per_second": steps * self.recipe.batch / self.at.seconds,
        }
        self.progress.plateau = self.plateau.observe(1 - result.accuracy)
        self.progress.at = Position(epoch=self.epoch + 1)
        self.history.append(summary)
        if self.watched == "validation":
            self.keep_best(result.accuracy)

    def _vote(self, due: bool = False) -> tuple[bool, bool]:
        """(save, stop): whether to save, and whether to stop after that. Workers decide both together."""
        stop, due = self.devices.votes.vote(self._stopping, due) or (False, False)
        return stop or due, stop

    def _save(self, batches: TrainingBatches, stop: bool) -> None:
        """Save within an epoch, and raise Stopped if the run is to stop."""
        check_variables(self, batches)
        self.save()
        if stop:
            raise Stopped

    def evaluate(self, data: DataSet, split: str = "test", *, save: bool = True) -> Evaluation:
        """Evaluate a split, with the moving averages where the recipe keeps them.

        Args:
            data: The data set.
            split: The split.
            save: Write a checkpoint if the run is stopped meanwhile, or if an image cannot be decoded.

        Raises:
            TrainingFailed: The loss is not finite.
            Stopped: `stop` was called.
        """
        self.devices.votes.vote_next()
        common = self.devices.common_batches(data.count(split), BATCH)

        def vote(done: int, total: int) -> None:
            nonlocal common
            common -= 1
            if common >= 0:  # after the last common batch some workers are done, and do not vote
                _, stop = self._vote()
                if stop and save:
                    self._save(self.batches(data), stop)
                elif stop:
                    raise Stopped

        try:
            result = evaluate(self.network, data, split, step=self._count, part=self.devices.part, progress=vote)
        except ValueError:  # an image that cannot be decoded: keep the epoch's training
            if save:
                self.save()
            raise
        result = self.devices.merge(result)
        check_evaluation(self, split, result.loss)
        return result
