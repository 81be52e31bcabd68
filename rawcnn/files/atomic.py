"""Files that are whole or not there at all: written beside their place, then moved into it; by one process at a time.

And what to do where that cannot be done.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

OWN, FILES = "let this user write there", "raise the limit on open files (ulimit -n)"
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: OWN,
    errno.EPERM: OWN,
    errno.EROFS: "mount it for writing",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f)",
    errno.EMFILE: FILES,
    errno.ENFILE: FILES,
}


def remedy(error: Exception) -> str:
    """What to do where a file could not be written: by the system's number, of TensorFlow's errors by its words."""
    number = getattr(error, "errno", None) or next((n for n in REMEDIES if os.strerror(n) in str(error)), 0)
    return REMEDIES.get(number, "see to the disk and the folder")


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file; its folder is made. After an error, OSError, what was there before is there still."""
    path = regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    try:
        with naming(path):
            beside.write_bytes(content)
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def regular(path: str | Path) -> Path:
    """Where a link leads to. ValueError for a device, a pipe or a folder: those are not replaced, nor waited for."""
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; name another path")
    return path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within, an error of the system names the file: a disk that is full names none itself."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within, nobody else is in here with this folder, where the system can tell. ValueError where somebody is."""
    folder.mkdir(parents=True, exist_ok=True)
    release = _held(
        folder / ".lock", "flock", f"another process writes in {folder}; wait for it, or name another folder"
    )
    try:
        yield
    finally:
        release()


def lock(path: Path) -> Callable[[], None]:
    """Keep `path` for this process, where the system can tell, until what this gives is called; or the process ends.

    ValueError where another process has it.
    """
    beside = path.with_name(f".{path.name}.lock")
    return _held(beside, "lockf", f"another process writes {path}; wait for it, or name another output")


def _held(file: Path, how: str, taken: str) -> Callable[[], None]:
    """Make a file and lock it, by open file ("flock") or by process ("lockf") → what takes both away."""
    descriptor = os.open(regular(file), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        import fcntl

        getattr(fcntl, how)(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise ValueError(taken) from error
    except (ImportError, OSError):  # not POSIX, or a network's file system without locks
        pass
    if not file.exists() or not os.path.samestat(os.stat(descriptor), os.stat(file)):  # it went while we came
        os.close(descriptor)
        return _held(file, how, taken)

    def release() -> None:
        file.unlink(missing_ok=True)
        os.close(descriptor)

    return release


def beside_of(path: Path) -> Path:
    """Where a file is written before it is moved to `path`. A process that was killed may leave one behind."""
    return path.with_name(f".{path.name}.part")


@contextmanager
def together(folder: str | Path) -> Iterator[Path]:
    """A hidden folder to write files to, which are moved to `folder` when all are there; after an error, none is."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder) as hidden:
        yield Path(hidden)
        for file in Path(hidden).iterdir():
            os.replace(file, folder / file.name)
