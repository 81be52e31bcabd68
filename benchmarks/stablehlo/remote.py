"""Objects in processes of their own: what compiles for minutes does so side by side, and keeps its memory to itself."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

_spawn = multiprocessing.get_context("spawn")  # a fork would share what cannot be shared, such as a CUDA context


class Gone(RuntimeError):
    """What was asked of the process failed there; or it ended, or took too long. The message is its own, in a line."""


class Remote:
    """What `make` gives, objects by name, made in a process of its own that begins at once."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]):
        self._pipe, there = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(there, make), daemon=True)
        self._process.start()
        there.close()  # so that a process that ends is an end of file here

    def wait(self, seconds: float | None = None) -> float:
        """Until it is made → the seconds that this took. Gone where it fails or takes longer: then it is ended."""
        return self._answer(seconds)

    def call(self, name: str, method: str, *arguments: Any, within: float | None = None) -> Any:
        """What the method of the object of that name gives. Gone where it fails, or takes longer: then it is ended."""
        try:
            self._pipe.send((name, method, arguments))
        except OSError as error:
            raise Gone("its process ended") from error
        return self._answer(within)

    def end(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self, within: float | None) -> Any:
        try:
            if not self._pipe.poll(within):
                self.end()
                raise Gone(f"no answer within {within:.0f} s")
            well, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise Gone("its process ended") from error
        if not well:
            raise Gone(answer)
        return answer


def _serve(pipe: Connection, make: Callable[[], Mapping[str, Any]]) -> None:
    """The process: make, and answer until nobody asks."""
    start = time.monotonic()
    try:
        made = make()
    except Exception as error:
        pipe.send((False, first_line(error)))
        return
    pipe.send((True, time.monotonic() - start))
    while True:
        try:
            name, method, arguments = pipe.recv()
        except (EOFError, OSError):
            sys.exit()
        try:
            pipe.send((True, getattr(made[name], method)(*arguments)))
        except Exception as error:
            pipe.send((False, first_line(error)))


def first_line(error: Exception) -> str:
    """What went wrong, in a line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['it said nothing'])[0]}"
