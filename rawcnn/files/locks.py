"""Locks on files and folders, so that two processes do not write to the same place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rawcnn.files.atomic import regular_file


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this `with` block, where the system supports locks.

    Raises:
        ValueError: Another process, or another block of this one, holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    message = f"another process writes in {folder}; wait for it, or name another folder"
    release = _acquire(folder / ".lock", "flock", message)
    try:
        yield
    finally:
        release()


def lock(path: Path) -> Callable[[], None]:
    """Hold `path` for this process, where the system supports locks.

    Returns:
        A function that releases the lock. The end of the process releases it, too.

    Raises:
        ValueError: Another process holds it.
    """
    message = f"another process writes {path}; wait for it, or name another output"
    return _acquire(path.with_name(f".{path.name}.lock"), "lockf", message)


def _acquire(file: Path, how: str, message: str) -> Callable[[], None]:
    """Create a lock file and lock it: "flock" belongs to the open file, "lockf" to the process. Return the release."""
    descriptor = os.open(regular_file(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        import fcntl

        getattr(fcntl, how)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise ValueError(message) from error
    except (ImportError, OSError):  # not POSIX, or a network file system without locks
        pass
    if not file.exists() or not os.path.samestat(os.stat(descriptor), os.stat(file)):
        os.close(descriptor)  # the previous owner removed the file between our open and our lock: try again
        return _acquire(file, how, message)

    def release() -> None:
        file.unlink(missing_ok=True)
        os.close(descriptor)

    return release
