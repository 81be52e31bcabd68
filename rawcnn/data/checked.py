"""Which image files were decoded whole before: a data set too large for memory is checked once, not before each run.

A note in the cache folder tells which of its files could not be read. It is found again by the names, sizes and times
of all of them: where one was written, added or taken away, all are checked anew.
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


def note_of(items: Sequence[Item]) -> Path | None:
    """Where what is known of them lies, in $XDG_CACHE_HOME/rawcnn or under ~/.cache; None if not all are files."""
    digest = hashlib.sha256()
    for item in items:
        if not isinstance(item.source, Path):
            return None
        told = item.source.stat()
        digest.update(repr((item.name, str(item.source.absolute()), told.st_size, told.st_mtime_ns)).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rawcnn" / "checked" / f"{digest.hexdigest()}.json"


def unreadable_in(note: Path | None) -> set[str] | None:
    """The names of the files that could not be read; None if they were not checked, or nobody knows."""
    try:
        return {str(name) for name in json.loads(note.read_text(encoding="utf-8"))} if note else None
    except (OSError, ValueError, TypeError):
        return None


def remember(note: Path | None, unreadable: Iterable[str]) -> None:
    """Best effort: without a cache folder that can be written the next run checks again."""
    if note:
        with suppress(OSError):
            write_atomic(note, json.dumps(sorted(unreadable)).encode())
