"""A report's folder, written whole: pages are made in a folder beside it and moved into place when all is there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LAST = ("tour.json", "index.html")  # moved after the pictures that they speak of


@contextmanager
def written_whole(folder: str | Path) -> Iterator[Path]:
    """A new empty folder to write into; at the end its files are moved to `folder`, one by one, the page last.

    Files of an earlier report are replaced, others stay. Where the body raises, `folder` stays as it was. ValueError if
    `folder` cannot be a folder or be written to: at the start, before any work is done.
    """
    target = Path(folder).expanduser().absolute()
    is_new = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target))  # the same disk: a move is a rename
    except FileExistsError as error:
        raise ValueError(f"{folder} is a file; give the name of a folder for the report") from error
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; give another folder for the report") from error
    try:
        yield beside
        names = sorted(file.name for file in beside.iterdir())
        for name in sorted(names, key=lambda name: LAST.index(name) if name in LAST else -1):
            os.replace(beside / name, target / name)
    except OSError as error:
        raise ValueError(f"the report could not be written to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if is_new and not any(target.iterdir()):
            target.rmdir()
