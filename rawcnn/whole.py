"""Files that are whole or not there at all: written beside their place, then moved into it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file; its folder is made. After an error, OSError, what was there before is there still."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = beside_of(path)
    try:
        with naming(path):
            beside.write_bytes(content)
            os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
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
