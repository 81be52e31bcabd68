"""Remember which image files can be decoded, so that a large data set is checked once and not before each run.

A note in the cache folder lists the files of a data set that could not be read. The note's name is a digest of the
names, sizes and times of all files: when a file is written, added or removed, all are checked again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rawcnn.data.decode import Item
from rawcnn.files.atomic import write_atomic


def note_path(items: Sequence[Item]) -> Path | None:
    """Return the path of a data set's note, in $XDG_CACHE_HOME/rawcnn or ~/.cache/rawcnn; None if not all are files."""
    digest = hashlib.sha256()
    for item in items:
        if not isinstance(item.source, Path):
            return None
        status = item.source.stat()
        digest.update(repr((item.name, str(item.source.absolute()), status.st_size, status.st_mtime_ns)).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rawcnn" / "checked" / f"{digest.hexdigest()}.json"


def read_note(note: Path | None) -> set[str] | None:
    """Return the names of the files that could not be read; None if the files were not checked."""
    try:
        return {str(name) for name in json.loads(note.read_text(encoding="utf-8"))} if note else None
    except (OSError, ValueError, TypeError):
        return None


def write_note(note: Path | None, unreadable: Iterable[str]) -> None:
    """Write the names of the files that could not be read; without a writable cache folder, write nothing."""
    if note:
        with suppress(OSError):
            write_atomic(note, json.dumps(sorted(unreadable)).encode())
