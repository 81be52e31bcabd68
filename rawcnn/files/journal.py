"""Results that come one by one, each in a file as soon as it is there: who is stopped goes on after the last.

A line of JSON each, with its number and a checksum; the first says what they are results of. A last line that was cut
short by a kill is no result.
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
    """The rows of a file, and those that are added. `about` are the settings of what is done: they must be the same."""

    def __init__(self, path: Path, about: Mapping[str, object], *, replace: bool = False):
        """ValueError where the file is damaged, or has results of something else: with `replace` those are moved aside.

        Their name is then `NAME.DIGEST.jsonl`, by the digest of their settings; who comes back to these goes on there.
        """
        self.path = path = regular_file(path)
        self._found, head = _whole_lines(path), json.dumps({"about": dict(about)}, sort_keys=True, default=str)
        others = bool(self._found) and not _same(self._found[0], head)
        if others and not replace:
            raise ValueError(f"{path} holds results of something else; name another file, or delete it")
        self.aside = _aside(path, self._found[0]) if others else None  # where results of something else go
        own = _aside(path, head)
        lines = (_whole_lines(own) if others else self._found) or [head]
        self.rows: list[Row] = [_read(own if others else path, *numbered) for numbered in enumerate(lines[1:])]
        self._whole = lines  # what is to stand in the file before the first row that is added
        self._begun = False

    def add(self, row: Row) -> None:
        """Append. Before the first row the file is as it was: settings that do not fit leave nothing behind.

        ValueError where another process adds to the file, or did since it was read.
        """
        if not self._begun:
            self._begin()
        numbered = {"row": len(self.rows), "crc32": _checksum(row), **row}
        with errors_name(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(numbered) + "\n")
        self.rows.append(row)

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        weakref.finalize(self, lock(self.path))  # nobody else's until then
        if _whole_lines(self.path) != self._found:
            raise ValueError(f"another process wrote {self.path} meanwhile; run the same command again")
        if self.aside:
            os.replace(self.path, self.aside)
        write_atomic(self.path, "".join(f"{line}\n" for line in self._whole).encode())
        _aside(self.path, self._whole[0]).unlink(missing_ok=True)
        self._begun = True


def _aside(path: Path, head: str) -> Path:
    """Where results of these settings are, while the file has those of others."""
    return path.with_suffix(f".{hashlib.sha256(head.encode()).hexdigest()[:8]}{path.suffix}")


def _read(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
        if row.pop("row") != number or row.pop("crc32") != _checksum(row):
            raise ValueError("another number or checksum")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged in line {number + 2}; delete that line and those after it to go on from there, or the "
            "file to start anew"
        ) from error
    return row


def _checksum(row: Row) -> str:
    return f"{crc32(json.dumps(row).encode()):08x}"


def _whole_lines(path: Path) -> list[str]:
    """Those that end with a line's end; of a file that is none of ours the first is no JSON."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        return ["not ours"]
    *lines, cut = text.split("\n")
    return lines or ([cut] if cut else [])


def _same(line: str, head: str) -> bool:
    try:
        return json.loads(line) == json.loads(head)
    except ValueError:
        return False
