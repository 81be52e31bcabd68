"""The state of a run: its variables, how far it is, and the checkpoints from which it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.network import Network
from rawcnn.optim.schedules import Plateau
from rawcnn.training.checkpoints import Groups
from rawcnn.training.distributed import Devices
from rawcnn.training.recipes import Recipe
from rawcnn.training.recovery import Position, Progress, Recovery
from rawcnn.training.resume import check_epochs, check_same, completed, data_identity, former, run_settings
from rawcnn.training.step import Adversary, State
from rawcnn.training.validation import Best, BestVariables, watched_split


class RunState:
    """What a run changes and what its checkpoints hold. `rawcnn.training.trainer.Training` changes it.

    Attributes:
        network: The network.
        recipe: The recipe. A resumed run keeps the one that it began with.
        devices: The devices that share the run.
        state: The variables that the run changes.
        settings: The settings that must not change when the run resumes.
        progress: How far the run is.
        recovery: The checkpoints in the run's folder.
        result: The evaluation after the last epoch; after `fit` that of the test images; None before the first.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        seed: int,
        *,
        folder: Path | None,
        adversary: Adversary | None,
        devices: Devices,
    ):
        """Begin a run. Arguments are those of `Training`."""
        self.network, self.seed, self.adversary, self.devices = network, seed, adversary, devices
        self.folder = Path(folder) if folder else None
        self.progress = Progress()
        self.recovery = Recovery(self.folder, devices.writes)
        self.result: Evaluation | None = None
        self._best = BestVariables()
        self.follow(recipe)

    def follow(self, recipe: Recipe) -> None:
        """Create what depends on the recipe: the optimizer's slots and the averages."""
        self.recipe, self.settings = recipe, self._settings(recipe)
        with self.devices.scope():
            self.state = State.begin(self.network, recipe)

    def _settings(self, recipe: Recipe) -> dict[str, str]:
        return run_settings(self.network, recipe, self.seed, self.adversary)

    @property
    def evaluation_variables(self) -> dict[str, tf.Variable]:
        """The variables to evaluate and to save: the moving averages where the recipe keeps them."""
        return {**self.network.variables, **self.state.averages}

    # Progress ---------------------------------------------------------------------------------------------------

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
    def watched(self) -> str:
        """The split that is evaluated after each epoch, "validation" or "test"."""
        return self.progress.watched or "test"

    def use(self, data: DataSet) -> None:
        """Record which data the run trains on. Raises OtherRun where it began on other data."""
        watched = self.progress.watched or watched_split(data)
        identity = data_identity(data, watched)
        if self.progress.data is not None:
            check_same(self.folder, "trained on", self.progress.data, identity)
        self.progress.data, self.progress.watched = identity, watched

    # The best epoch ---------------------------------------------------------------------------------------------

    def keep_best(self, accuracy: float) -> None:
        """Copy the evaluated variables if this epoch has the highest validation accuracy so far."""
        if self.progress.best is None or accuracy > self.progress.best.accuracy:
            self.progress.best = Best(self.epoch, accuracy)
            self._allocate_best()
            self._best.copy_from(self.evaluation_variables)

    def take_best(self) -> None:
        """Assign the variables of the best epoch. No checkpoint may be written after this."""
        self._best.copy_to(self.evaluation_variables)

    def _allocate_best(self) -> None:
        with self.devices.scope():
            self._best.allocate(self.evaluation_variables)

    # Checkpoints ------------------------------------------------------------------------------------------------

    @property
    def damaged(self) -> Mapping[Path, str]:
        """The checkpoints that `restore` left out, and why."""
        return self.recovery.damaged

    def save(self) -> None:
        """Write a checkpoint, numbered by the steps since the run began. Raises TrainingFailed."""
        steps = self.progress.steps_done(self.recipe.batch)
        self.recovery.save(steps, self.progress, self.settings, self._variables(self.progress))

    def restore(self) -> bool:
        """Resume from the newest complete checkpoint in the folder.

        Returns:
            Whether there is one.

        Raises:
            ValueError: The checkpoint is another run's, or all are damaged. Nothing was changed.
        """
        progress = self.recovery.restore(self._adopt)
        if progress is None:
            return False
        self.progress = progress
        return True

    def _adopt(self, progress: Progress, settings: Mapping[str, str]) -> Groups:
        """Check that a checkpoint is of this run, and return the variables that it holds. Raises OtherRun."""
        began = completed(settings)
        candidates = [(recipe, self._settings(recipe)) for recipe in (self.recipe, former(self.recipe))]
        recipe, now = min(candidates, key=lambda candidate: len({*candidate[1].items()} - {*began.items()}))
        check_same(self.folder, "started with", began, now)
        check_epochs(self.folder, progress.at.epoch + (progress.at.steps > 0), self.recipe.epochs)
        if recipe != self.recipe:
            self.follow(recipe)
        if progress.best:
            self._allocate_best()
        return self._variables(progress)

    def _variables(self, progress: Progress) -> Groups:
        """The variables of a checkpoint."""
        state, best = self.state, {"best": self._best.copies} if progress.best else {}
        return {"variables": state.variables, "slots": state.slots, "averages": state.averages, **best}
