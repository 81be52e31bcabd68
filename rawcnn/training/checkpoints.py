"""Checkpoints of a run: variables and a note, written beside and renamed, so that each is whole or not there at all.

checkpoints/ckpt-1200/     after 1,200 steps
    state.index, …         the variables (`tf.train.Checkpoint`, which keeps a checksum of each)
    note.json              all else that a run is: plain numbers and words, and their checksum

A directory is renamed in one step; before that all that is in it is forced to the disk.
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

KEPT = 2
NAME = re.compile(r"ckpt-(\d+)")
Note = dict[str, Any]
T = TypeVar("T")


class OtherRun(ValueError):
    """A checkpoint was made with other settings."""


class NotWritten(RuntimeError):
    """A checkpoint could not be written; those before it are as they were. `remedy` is what to do about it."""

    def __init__(self, message: str, remedy: str):
        super().__init__(message)
        self.remedy = remedy


class Checkpoints:
    """The newest checkpoints of groups of variables by path, in a folder of their own."""

    def __init__(self, folder: Path, **groups: Mapping[str, tf.Variable]):
        """ValueError where something else has the folder's name."""
        if os.path.lexists(folder) and not folder.is_dir():
            raise ValueError(
                f"{folder} is no folder, expected one of checkpoints; move it away, or name another output folder"
            )
        self.folder = folder
        self._groups = {name: dict(group) for name, group in groups.items()}
        self._state = tf.train.Checkpoint(**self._groups)
        self.damaged: dict[Path, str] = {}  # that `restore` had to leave out, and why

    @property
    def all(self) -> list[Path]:
        """Oldest first."""
        found = [(int(m[1]), path) for path in self.folder.glob("ckpt-*") if (m := NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    @property
    def newest(self) -> Path | None:
        """The last that is not known to be damaged."""
        sound = [path for path in self.all if path not in self.damaged]
        return sound[-1] if sound else None

    def save(self, number: int, note: Note) -> Path:
        """Write the variables as they are, and the note; older ones that are too many, or damaged, are deleted.

        NotWritten, with the system's reason and what to do, where that fails: on a full disk above all.
        """
        target = self.folder / f"ckpt-{number}"
        beside = self.folder / f".{target.name}.part"
        try:
            for unfinished in self.folder.glob(".ckpt-*.part"):  # of runs that were killed here
                _remove(unfinished)
            beside.mkdir(parents=True)
            self._state.write(str(beside / "state"))
            (beside / "note.json").write_bytes(_with_checksum(note))
            for path in (*beside.iterdir(), beside):
                _force(path)
            _remove(target)  # of the same step, before its epoch was evaluated
            beside.rename(target)
            _force(self.folder)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(beside, ignore_errors=True)
            raise NotWritten(f"{target} could not be written ({_reason(error)})", remedy(error)) from error
        damaged = [path for path in self.damaged if path != target]  # else it is whole again
        sound = [path for path in self.all if path not in damaged]
        for path in (*damaged, *sound[:-KEPT]):
            _remove(path)
        self.damaged = {}
        return target

    def restore(self, read: Callable[[Note], T]) -> T | None:
        """Assign what the newest checkpoint that is whole holds → what `read` makes of its note; None without one.

        `read` is asked before anything is assigned, and raises OtherRun. ValueError if all are damaged; OSError or
        MemoryError where the system does not give a file's content. In all these cases everything stays as it was.
        """
        self.damaged = {}
        for path in reversed(self.all):
            try:
                _check_files(path)
                told = read(_checked((path / "note.json").read_bytes()))
                self._assign(path / "state")
            except (OtherRun, MemoryError):
                raise
            except Exception as error:  # over a damaged file TensorFlow's readers raise many kinds
                if _is_systems(error):
                    raise OSError(
                        f"{path} cannot be read ({_reason(error)}); nothing was changed, try again"
                    ) from error
                self.damaged[path] = _reason(error)
                continue
            return told
        if self.damaged:
            found = ", ".join(f"{path} ({why})" for path, why in self.damaged.items())
            raise ValueError(
                f"the checkpoints are damaged: {found}; name another output folder, or start anew with --fresh"
            )
        return None

    def _assign(self, path: Path) -> None:
        owned = [v for group in self._groups.values() for v in group.values()]
        before = [v.numpy() for v in owned]  # TensorFlow assigns first and looks whether all fits then
        try:
            self._state.read(str(path)).expect_partial().assert_consumed()
        except Exception:
            for variable, value in zip(owned, before, strict=True):
                variable.assign(value)
            raise


def _remove(path: Path) -> None:
    """A checkpoint, or what else has the name of one: where that is a pipe, `rmtree` would wait for it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _check_files(path: Path) -> None:
    """ValueError for a checkpoint with a pipe or a device in it: who reads one waits for ever."""
    for file in (path / "note.json", *path.glob("state.*")):
        if file.exists() and not file.is_file():
            raise ValueError(f"{file.name} is no regular file")


def _with_checksum(note: Note) -> bytes:
    return json.dumps({"sha256": _digest(note), "note": note}, indent=1).encode()


def _checked(content: bytes) -> Note:
    """ValueError for a note that is not as it was written."""
    told = json.loads(content)
    if told["sha256"] != _digest(told["note"]):
        raise ValueError("the note was changed")
    return told["note"]


def _digest(note: Note) -> str:
    return hashlib.sha256(json.dumps(note, allow_nan=False).encode()).hexdigest()


def _force(path: Path) -> None:
    """What was written to a file or directory reaches the disk before what comes after; where a system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_systems(error: Exception) -> bool:
    """Was a file there that the system would not give, and is whole perhaps? One that is missing is damage."""
    gone = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    refused = (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError, tf.errors.UnavailableError)
    return isinstance(error, refused) or (isinstance(error, OSError) and not isinstance(error, gone))


def _reason(error: Exception) -> str:
    """The first line of the system's or TensorFlow's message, without TensorFlow's own function's name in front."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).lower()
    said = str(error.message).split("}} ")[-1].split("; ")[-1] if isinstance(error, tf.errors.OpError) else str(error)
    return (said.splitlines() or [type(error).__name__])[0]
