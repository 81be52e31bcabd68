"""Checkpoints of a run: variables and a note, written to a temporary directory that is then renamed.

checkpoints/ckpt-1200/     after 1,200 steps
    state.index, …         the variables (`tf.train.Checkpoint`, which keeps a checksum of each)
    note.json              the rest of a run's state: plain values, and their checksum

Each checkpoint is complete or does not exist: a directory is renamed in one step, after its files were forced to disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf

from rawcnn.files.errors import remedy

KEPT = 2  # newest checkpoints
NAME = re.compile(r"ckpt-(\d+)")
Note = dict[str, Any]
Groups = Mapping[str, Mapping[str, tf.Variable]]  # group → path → variable
T = TypeVar("T")


class OtherRun(ValueError):
    """A checkpoint is from a run with other settings or other data."""


class NotWritten(RuntimeError):
    """A checkpoint could not be written; earlier ones are unchanged. `remedy` says what to do."""

    def __init__(self, message: str, remedy: str):
        super().__init__(message)
        self.remedy = remedy


class Checkpoints:
    """The newest checkpoints of a run, in a folder of their own.

    Attributes:
        folder: The folder.
        damaged: The checkpoints that the last `restore` left out, and why.
    """

    def __init__(self, folder: Path):
        """Look at a folder, which need not exist yet.

        Raises:
            ValueError: Something else than a folder has this name.
        """
        if os.path.lexists(folder) and not folder.is_dir():
            raise ValueError(
                f"{folder} is not a folder, expected one of checkpoints; move it away, or name another output folder"
            )
        self.folder = folder
        self.damaged: dict[Path, str] = {}

    @property
    def all(self) -> list[Path]:
        """All checkpoints, oldest first."""
        found = [(int(m[1]), path) for path in self.folder.glob("ckpt-*") if (m := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    @property
    def newest(self) -> Path | None:
        """The newest checkpoint that is not known to be damaged, or None."""
        sound = [path for path in self.all if path not in self.damaged]
        return sound[-1] if sound else None

    def save(self, number: int, note: Note, groups: Groups) -> Path:
        """Write the variables and a note; then delete damaged checkpoints, and older ones beyond the newest KEPT.

        Args:
            number: The number of the checkpoint: steps since the run began.
            note: The rest of the run's state, as plain values.
            groups: The variables.

        Returns:
            The directory of the checkpoint.

        Raises:
            NotWritten: It could not be written, for instance because the disk is full.
        """
        target = self.folder / f"ckpt-{number}"
        temporary = self.folder / f".{target.name}.part"
        try:
            for unfinished in self.folder.glob(".ckpt-*.part"):  # of runs that were killed
                _remove(unfinished)
            temporary.mkdir(parents=True)
            _checkpoint(groups).write(str(temporary / "state"))
            (temporary / "note.json").write_bytes(_with_checksum(note))
            for path in (*temporary.iterdir(), temporary):
                _force(path)
            _remove(target)  # of the same step, before its epoch was evaluated
            temporary.rename(target)
            _force(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise NotWritten(f"{target} could not be written ({_reason(error)})", remedy(error)) from error
        damaged = [path for path in self.damaged if path != target]  # `target` was just replaced
        sound = [path for path in self.all if path not in damaged]
        for path in (*damaged, *sound[:-KEPT]):
            _remove(path)
        self.damaged = {}
        return target

    def restore(self, read: Callable[[Note], tuple[T, Groups]]) -> T | None:
        """Assign the variables of the newest checkpoint that is not damaged.

        Args:
            read: Returns, for the note of a checkpoint, the result and the variables that the checkpoint holds. It is
                called before anything is assigned, and may raise OtherRun.

        Returns:
            The result of `read`; None without a checkpoint.

        Raises:
            OtherRun: As `read`.
            ValueError: All checkpoints are damaged.
            OSError, MemoryError: The system could not read a file. As in the other cases, nothing was assigned.
        """
        self.damaged = {}
        for path in reversed(self.all):
            try:
                _check_files(path)
                result, groups = read(_checked((path / "note.json").read_bytes()))
                self._assign(path / "state", groups)
            except (OtherRun, MemoryError):
                raise
            except Exception as error:  # TensorFlow raises many kinds for a damaged file
                if _is_systems(error):
                    raise OSError(
                        f"{path} cannot be read ({_reason(error)}); nothing was changed, try again"
                    ) from error
                self.damaged[path] = _reason(error)
                continue
            return result
        if self.damaged:
            found = ", ".join(f"{path} ({why})" for path, why in self.damaged.items())
            raise ValueError(
                f"the checkpoints are damaged: {found}; name another output folder, or start a new run with "
                "`rawcnn train --fresh`"
            )
        return None

    def _assign(self, path: Path, groups: Groups) -> None:
        """Assign all variables, or none after an error."""
        variables = [v for group in groups.values() for v in group.values()]
        before = [v.numpy() for v in variables]  # TensorFlow assigns first, and then checks whether all variables match
        try:
            _checkpoint(groups).read(str(path)).expect_partial().assert_consumed()
        except Exception:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise


def _checkpoint(groups: Groups) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(**{name: dict(group) for name, group in groups.items()})


def _remove(path: Path) -> None:
    """Delete a checkpoint, or something else with such a name: `rmtree` would wait for a pipe."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_files(path: Path) -> None:
    """Raise ValueError for a checkpoint with a pipe or a device in it: reading from one may never return."""
    for file in (path / "note.json", *path.glob("state.*")):
        if file.exists() and not file.is_file():
            raise ValueError(f"{file.name} is not a regular file")


def _with_checksum(note: Note) -> bytes:
    return json.dumps({"sha256": _digest(note), "note": note}, indent=1).encode()


def _checked(content: bytes) -> Note:
    """The note in a file. Raises ValueError for one that is not as it was written."""
    loaded = json.loads(content)
    if loaded["sha256"] != _digest(loaded["note"]):
        raise ValueError("the note was changed")
    return loaded["note"]


def _digest(note: Note) -> str:
    return hashlib.sha256(json.dumps(note, allow_nan=False).encode()).hexdigest()


def _force(path: Path) -> None:
    """Force what was written to a file or directory to the disk, on systems that support it."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_systems(error: Exception) -> bool:
    """Whether the system could not read a file that may be undamaged. A missing file is damage."""
    gone = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    refused = (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)
    return isinstance(error, refused) or (isinstance(error, OSError) and not isinstance(error, gone))


def _reason(error: Exception) -> str:
    """The first line of the system's or TensorFlow's message, without the TensorFlow function's name in front."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    text = str(error.message).split("}} ")[-1].split("; ")[-1] if isinstance(error, tf.errors.OpError) else str(error)
    return (text.splitlines() or [type(error).__name__])[0]
