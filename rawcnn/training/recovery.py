"""What a run needs to resume: its progress, in checkpoints that only the same run may read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rawcnn.optim.schedules import Plateau
from rawcnn.training.checkpoints import Checkpoints, Note, NotWritten
from rawcnn.training.resume import check_epochs, check_same
from rawcnn.training.step import State

LARGEST = 1e30  # stands for infinity in a note: JSON has no infinity


class TrainingFailed(RuntimeError):
    """Training cannot continue. The message says why, and which checkpoint is the last good one."""


@dataclass
class Position:
    """Where a run is: `steps` of the epoch are done, with the sums of their metrics and their time in seconds."""

    epoch: int = 0
    steps: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    seconds: float = 0.0


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        at: The position in epochs and steps.
        plateau: The learning-rate drops so far.
        history: A summary for each epoch that is done.
        data: The identity of the data that the run trains on; None before it has begun.
    """

    at: Position = field(default_factory=Position)
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)
    data: dict[str, str] | None = None

    def steps_done(self, batch: int) -> int:
        """Return the number of steps since the run began, with this many images in a batch."""
        return self.at.epoch * (int(self.data["training images"]) // batch if self.data else 0) + self.at.steps


class Recovery:
    """The checkpoints of a run in its folder; without a folder, nothing is written or read.

    Attributes:
        checkpoints: The checkpoints; None without a folder.
    """

    def __init__(self, folder: Path | None, state: State, settings: Mapping[str, str], epochs: int, writes: bool):
        """Look at a folder.

        Args:
            folder: The folder of the run, or None.
            state: The variables that checkpoints hold.
            settings: The settings that must be the same when a run resumes.
            epochs: The number of epochs that the run is to do.
            writes: Whether this process writes checkpoints.
        """
        self.folder, self.settings, self.epochs, self.writes = folder, settings, epochs, writes
        groups = {"variables": state.variables, "slots": state.slots, "averages": state.averages}
        self.checkpoints = Checkpoints(folder / "checkpoints", **groups) if folder else None
        self._known: Path | None = None  # the newest checkpoint when this process last read or wrote one

    @property
    def damaged(self) -> Mapping[Path, str]:
        """The checkpoints that `restore` left out, and why."""
        return self.checkpoints.damaged if self.checkpoints else {}

    def restore(self) -> Progress | None:
        """Assign the variables of the newest complete checkpoint, and return its progress; None without one.

        Raises:
            ValueError: The checkpoint is another run's, or all are damaged. Nothing was assigned.
        """
        if self.checkpoints is None:
            return None
        progress, self._known = self.checkpoints.restore(self._read), self.checkpoints.newest
        return progress

    def _read(self, note: Note) -> Progress:
        """The progress in a note. Raises OtherRun."""
        check_same(self.folder, "started with", note["settings"], self.settings)
        check_epochs(self.folder, note["at"]["epoch"] + (note["at"]["steps"] > 0), self.epochs)
        return Progress(Position(**note["at"]), Plateau(**note["plateau"]), note["history"], note["data"])

    def save(self, steps: int, progress: Progress) -> None:
        """Write a checkpoint after `steps` steps of the run.

        Raises:
            TrainingFailed: It could not be written.
        """
        if self.checkpoints is None or not self.writes:
            return
        plateau = replace(progress.plateau, best=min(progress.plateau.best, LARGEST))
        note: Note = {
            "at": asdict(progress.at),
            "settings": dict(self.settings),
            "data": progress.data,
            "history": progress.history,
            "plateau": asdict(plateau),
        }
        try:
            self._known = self.checkpoints.save(steps, note)
        except NotWritten as error:
            remedy = f"{error.remedy[0].upper()}{error.remedy[1:]}"
            raise TrainingFailed(
                f"the checkpoint {error}; {self.last_good()}. {remedy} and run the same command again"
            ) from error

    def begin(self, progress: Progress) -> None:
        """Write a first checkpoint if the folder has none, so that errors of the disk show before any training.

        Raises:
            ValueError: Another process wrote a checkpoint after this one had read the newest.
        """
        if self.checkpoints and self.writes and self._known not in (None, self.checkpoints.newest):
            raise ValueError(f"another process has trained in {self.folder} meanwhile; run the same command again")
        if self.checkpoints and not self.checkpoints.all:
            self.save(0, progress)

    def last_good(self) -> str:
        """Name the last good checkpoint, for a message."""
        newest = self.checkpoints.newest if self.checkpoints else None
        return f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
