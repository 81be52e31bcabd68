"""Errors of stdout and stderr: a closed pipe, as after `| head -1`, or a full disk behind `> FILE`.

A failed write raises OutputFailed, which is no OSError. An OSError could also be a file's, and rich and Typer handle a
broken pipe themselves: they end the program with code 1 and no message.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO, cast

CLOSED_PIPE = 141  # the exit code that a shell reports for a program that SIGPIPE ended


class OutputFailed(Exception):
    """Writing to stdout or stderr failed; the message says why and what to do."""


class ReaderClosed(OutputFailed):
    """The reader closed the other end of the pipe."""


class _Stream:
    """A stream that raises OutputFailed instead of OSError, and writes characters that it cannot encode as \\x…."""

    def __init__(self, stream: TextIO, name: str):
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._errors():
            try:
                return self._stream.write(text)
            except UnicodeEncodeError as error:  # a file's name may hold bytes that are no text
                return self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def flush(self) -> None:
        with self._errors():
            self._stream.flush()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise ReaderClosed(f"the reader of {self._name} closed the pipe") from error
        except OSError as error:
            full = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            why = (error.strerror or type(error).__name__).lower()
            raise OutputFailed(f"{self._name} cannot be written: {why}; {full}redirect it elsewhere") from error


@contextmanager
def checked_streams() -> Iterator[None]:
    """Within the block, a failed write to stdout or stderr raises OutputFailed or ReaderClosed."""
    _open_closed_descriptors()
    out, err = sys.stdout or _null_stream(), sys.stderr or _null_stream()
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
            except OSError:  # already reported; Python would report it again at exit, with an exit code of its own
                os.dup2(_null_stream().fileno(), stream.fileno())


def _open_closed_descriptors() -> None:
    """Open /dev/null for streams that the caller closed (`>&-`); the next file would get their descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _null_stream() -> TextIO:
    return open(os.devnull, "w")
