"""What a run needs to resume: its progress, in checkpoints that only the same run may read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rawcnn.optim.schedules import Plateau
from rawcnn.training.checkpoints import Checkpoints, Groups, Note, NotWritten
from rawcnn.training.validation import Best

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
        watched: The split that is evaluated after each epoch, "validation" or "test"; None before the run has begun.
        best: The best epoch on the validation images; None without any.
    """

    at: Position = field(default_factory=Position)
    plateau: Plateau = field(default_factory=Plateau)
    history: list[dict[str, float]] = field(default_factory=list)
    data: dict[str, str] | None = None
    watched: str | None = None
    best: Best | None = None

    def steps_done(self, batch: int) -> int:
        """Return the number of steps since the run began, with this many images in a batch."""
        return self.at.epoch * (int(self.data["training images"]) // batch if self.data else 0) + self.at.steps


class Recovery:
    """The checkpoints of a run in its folder; without a folder, nothing is written or read.

    Attributes:
        checkpoints: The checkpoints; None without a folder.
    """

    def __init__(self, folder: Path | None, writes: bool):
        """Look at a folder.

        Args:
            folder: The folder of the run, or None.
            writes: Whether this process writes checkpoints.
        """
        self.folder, self.writes = folder, writes
        self.checkpoints = Checkpoints(folder / "checkpoints") if folder else None
        self._known: Path | None = None  # the newest checkpoint when this process last read or wrote one

    @property
    def damaged(self) -> Mapping[Path, str]:
        """The checkpoints that `restore` left out, and why."""
        return self.checkpoints.damaged if self.checkpoints else {}

    def restore(self, adopt: Callable[[Progress, Mapping[str, str]], Groups]) -> Progress | None:
        """Assign the variables of the newest complete checkpoint, and return its progress; None without one.

        Args:
            adopt: Called as adopt(progress, settings): it checks that a run with these settings may resume, and returns
                the variables that its checkpoint holds. It may raise OtherRun.

        Raises:
            ValueError: The checkpoint is another run's, or all are damaged. Nothing was assigned.
        """
        if self.checkpoints is None:
            return None

        def read(note: Note) -> tuple[Progress, Groups]:
            progress = _progress(note)
            return progress, adopt(progress, note["settings"])

        progress, self._known = self.checkpoints.restore(read), self.checkpoints.newest
        return progress

    def save(self, steps: int, progress: Progress, settings: Mapping[str, str], groups: Groups) -> None:
        """Write a checkpoint after `steps` steps of the run.

        Args:
            steps: The number of steps since the run began.
            progress: How far the run is.
            settings: The settings that must not change when the run resumes.
            groups: The variables.

        Raises:
            TrainingFailed: It could not be written.
        """
        if self.checkpoints is None or not self.writes:
            return
        plateau = replace(progress.plateau, best=min(progress.plateau.best, LARGEST))
        note: Note = {
            "at": asdict(progress.at),
            "settings": dict(settings),
            "data": progress.data,
            "history": progress.history,
            "plateau": asdict(plateau),
            "watched": progress.watched,
            "best": asdict(progress.best) if progress.best else None,
        }
        try:
            self._known = self.checkpoints.save(steps, note, groups)
        except NotWritten as error:
            remedy = f"{error.remedy[0].upper()}{error.remedy[1:]}"
            raise TrainingFailed(
                f"the checkpoint {error}; {self.last_good()}. {remedy} and run the same command again"
            ) from error

    @property
    def empty(self) -> bool:
        """Whether the folder has no checkpoint yet."""
        return self.checkpoints is not None and not self.checkpoints.all

    def check_newest(self) -> None:
        """Raise ValueError if another process wrote a checkpoint after this one had read or written the newest."""
        if self.checkpoints and self.writes and self._known not in (None, self.checkpoints.newest):
            raise ValueError(f"another process has trained in {self.folder} meanwhile; run the same command again")

    def last_good(self) -> str:
        """Name the last good checkpoint, for a message."""
        newest = self.checkpoints.newest if self.checkpoints else None
        return f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"


def _progress(note: Note) -> Progress:
    """The progress in a note. Notes of runs that watched the test images without exception do not say so."""
    watched = note.get("watched", "test" if note["data"] else None)
    best = note.get("best")
    return Progress(
        Position(**note["at"]), Plateau(**note["plateau"]), note["history"], note["data"], watched,
        Best(**best) if best else None,
    )  # fmt: skip
