"""Atomic file writes: write to a temporary file in the same folder, then rename it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # by a file system that does not synchronize folders


def write_atomic(path: str | Path, content: bytes) -> Path:
    """Write a file so that it is complete or unchanged, and create its folder.

    Args:
        path: The file. A symbolic link is followed.
        content: The bytes to write.

    Returns:
        The path that was written, with links resolved.

    Raises:
        OSError: The file could not be written; the previous file is still there, and no temporary file is left.
        ValueError: `path` is a device, a pipe or a folder.
    """
    path = regular_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with errors_name(path):
            temporary.write_bytes(content)
            replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a file so that after a power failure `path` is the complete new file or the previous one.

    Without the first synchronization, a file system may store the new name before the content; without the second, the
    new name may be lost although later files are there.
    """
    synchronize(temporary)
    os.replace(temporary, path)
    synchronize(path.parent)


def synchronize(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # Windows opens no folders
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """Return where a file is written before it is renamed to `path`. A killed process may leave this file behind."""
    return path.with_name(f".{path.name}.part")


def regular_file(path: str | Path) -> Path:
    """Return `path` with a link resolved.

    Raises:
        ValueError: It is a device, a pipe or a folder. Those are neither replaced nor waited for.
    """
    path = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; name another path")
    return path


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Add the file's name to an OSError that has none: the error of a full disk names no file."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def atomic_files(folder: str | Path, last: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a hidden folder to write files to; move them to `folder` at the end, or none of them after an error.

    Args:
        folder: The folder. It is created, and files of other names in it stay.
        last: Names of files that are moved after all others, in this order, because they refer to these.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder) as hidden:
        yield Path(hidden)
        names = sorted(file.name for file in Path(hidden).iterdir())
        for name in sorted(names, key=lambda name: last.index(name) if name in last else -1):
            replace_durably(Path(hidden, name), folder / name)
