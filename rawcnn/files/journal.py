"""A journal of results: each result is appended to a file as soon as it is known, so that a stopped run can resume.

Each result is one line of JSON with its number and a checksum. The first line holds the settings of the run. A last
line that is incomplete, because the process was killed, is ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

from rawcnn.files.atomic import errors_name, regular_file, write_atomic
from rawcnn.files.locks import lock

Row = dict[str, Any]


class Journal:
    """The results in a file, and those that are added to it.

    Attributes:
        path: The file.
        rows: The results.
        aside: Where results of other settings are moved, or None.
    """

    def __init__(self, path: Path, settings: Mapping[str, object], *, replace: bool = False):
        """Read a file, or prepare a new one.

        With `replace`, results of other settings are moved to `NAME.DIGEST.jsonl`, named by the digest of their
        settings. A later run with these settings resumes from there.

        Args:
            path: The file. It does not change before the first call of `add`.
            settings: What the results depend on. They must equal those in the file.
            replace: Move results of other settings aside instead of refusing the file.

        Raises:
            ValueError: The file is damaged, or holds results of other settings.
        """
        self.path = path = regular_file(path)
        self._found = _complete_lines(path)
        head = json.dumps({"about": dict(settings)}, sort_keys=True, default=str)
        others = bool(self._found) and not _same(self._found[0], head)
        if others and not replace:
            raise ValueError(f"{path} holds results of other settings; name another file, or delete it")
        self.aside = _aside(path, self._found[0]) if others else None
        earlier = _aside(path, head)  # where an earlier run with these settings was moved
        lines = (_complete_lines(earlier) if others else self._found) or [head]
        self.rows: list[Row] = [_read(earlier if others else path, *numbered) for numbered in enumerate(lines[1:])]
        self._lines = lines  # the file's content before the first row is added
        self._begun = False

    def add(self, row: Row) -> None:
        """Append a result. The first call locks the file and writes its previous content.

        Raises:
            ValueError: Another process writes the file, or has changed it since it was read.
        """
        if not self._begun:
            self._begin()
        numbered = {"row": len(self.rows), "crc32": _checksum(row), **row}
        with errors_name(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(numbered) + "\n")
        self.rows.append(row)

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, lock(self.path))  # locked as long as this object lives
        if _complete_lines(self.path) != self._found:
            raise ValueError(f"another process wrote {self.path} meanwhile; run the same command again")
        if self.aside:
            os.replace(self.path, self.aside)
        write_atomic(self.path, "".join(f"{line}\n" for line in self._lines).encode())
        _aside(self.path, self._lines[0]).unlink(missing_ok=True)
        self._begun = True


def _aside(path: Path, head: str) -> Path:
    """Return where results of these settings are kept while the file holds results of others."""
    return path.with_suffix(f".{hashlib.sha256(head.encode()).hexdigest()[:8]}{path.suffix}")


def _read(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
        if row.pop("row") != number or row.pop("crc32") != _checksum(row):
            raise ValueError("another number or checksum")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged in line {number + 2}; delete that line and those after it to resume from there, or "
            "delete the file to start again"
        ) from error
    return row


def _checksum(row: Row) -> str:
    return f"{crc32(json.dumps(row).encode()):08x}"


def _complete_lines(path: Path) -> list[str]:
    """Return the lines that end with a newline. The first line of a file that is not a journal is not JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        return ["no journal"]
    *lines, cut = text.split("\n")
    return lines or ([cut] if cut else [])


def _same(line: str, head: str) -> bool:
    try:
        return json.loads(line) == json.loads(head)
    except ValueError:
        return False
