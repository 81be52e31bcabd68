"""stdout and stderr that take nothing more: the reader went away, as `| head -1` does, or `> FILE` found a full disk.

What was to be written raises an error of its own kind, no OSError: those could be a file's, and rich and Typer end the
program with code 1 and no word where a pipe is closed.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

CLOSED = 141  # what a shell reports of a program that wrote into a closed pipe, and was ended by SIGPIPE


class Unwritten(Exception):
    """What a command says could not be written; the message says why, and what to do."""


class NobodyReads(Unwritten):
    """The other end of the pipe was closed: the reader has what it wanted."""


class _Stream:
    """A stream with these errors in place of the system's."""

    def __init__(self, stream: TextIO, name: str):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise NobodyReads(f"nobody reads {self._name}") from error
        except OSError as error:
            full = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            why = (error.strerror or type(error).__name__).lower()
            raise Unwritten(f"{self._name} cannot be written: {why}; {full}send it elsewhere") from error


@contextmanager
def watched() -> Iterator[None]:
    """Within, writing to stdout or stderr raises Unwritten or NobodyReads where it fails."""
    _open_all()
    out, err = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    try:
        with (
            redirect_stdout(cast(TextIO, _Stream(out, "stdout"))),
            redirect_stderr(cast(TextIO, _Stream(err, "stderr"))),
        ):
            yield
    finally:
        for stream in (out, err):
            try:
                stream.flush()
            except OSError:  # told by now; else Python would say it again as it ends, with a code of its own
                os.dup2(_nowhere().fileno(), stream.fileno())


def _open_all() -> None:
    """Streams that were closed before we came (`>&-`) lead nowhere: else the next file would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _nowhere() -> TextIO:
    return open(os.devnull, "w")
