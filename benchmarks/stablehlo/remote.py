"""Objects in separate processes, which compile at the same time and do not share memory."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

_spawn = multiprocessing.get_context("spawn")  # a fork would share the CUDA context, which is not allowed


class Gone(RuntimeError):
    """Raised if a call in another process fails, takes too long, or if the process ended; the message is one line."""


class Remote:
    """Objects by name that `make` returns, in a separate process that starts immediately."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]):
        self._pipe, there = _spawn.Pipe()
        self._process = _spawn.Process(target=_serve, args=(there, make), daemon=True)
        self._process.start()
        there.close()  # the pipe then reports an end of file when the process ends

    def wait(self, seconds: float | None = None) -> float:
        """Wait until the objects exist.

        Args:
            seconds: The time limit, after which the process is ended; None for no limit.

        Returns:
            The seconds that `make` took.

        Raises:
            Gone: If `make` fails or takes longer.
        """
        return self._answer(seconds)

    def call(self, name: str, method: str, *arguments: Any, within: float | None = None) -> Any:
        """Call a method of an object and return its result.

        Args:
            name: The name of the object.
            method: The name of the method.
            *arguments: Its arguments.
            within: The time limit in seconds, after which the process is ended; None for no limit.

        Raises:
            Gone: If the call fails or takes longer.
        """
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
    """Run in the process: make the objects, then answer calls until the pipe is closed."""
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
    """Return the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"
