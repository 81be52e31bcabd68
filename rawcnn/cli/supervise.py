"""A worker that comes back: its process is started again when it dies, or when another's death took it along."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rawcnn.cli.streams import CLOSED

ENDED = (0, 2, 130, CLOSED)  # done, or stopped; wrong input; Ctrl-C; nobody reads what it says
CHILD = "RAWCNN_WORKER"  # in the environment of a process that is watched over: where it says that all workers are here
WATCHER = "RAWCNN_WATCHER"  # in the same: the process that watches
PAUSE = 1.0  # seconds before it is started again: ports are to become free
PATIENCE = 120.0  # seconds that it has after SIGTERM: one that waits for others in TensorFlow never hears of it


class NobodyCame(RuntimeError):
    """The other workers did not start: they may have ended for good."""


def watched() -> bool:
    """Is this process one that is started again?"""
    return CHILD in os.environ


def end_with_the_watcher() -> None:
    """In a process that is watched over: end it where the one that watches is gone, killed itself say.

    Else it would train on unseen, and hold the port that the next run needs.
    """
    watcher = os.environ.get(WATCHER)

    def look() -> None:
        while str(os.getppid()) == watcher:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    if watcher:
        threading.Thread(target=look, daemon=True).start()


def all_are_here() -> None:
    """Said by a process that is watched over, once it has met the other workers."""
    _say(b".")


def run_has_begun() -> None:
    """Said after that, once what --fresh asks for is done."""
    _say(b"!")


def _say(word: bytes) -> None:
    if descriptor := os.environ.get(CHILD):
        os.write(int(descriptor), word)


class _Worker:
    """A process of the command; SIGTERM and Ctrl-C come to it through this one."""

    def __init__(self, command: Sequence[str]):
        self._here, there = os.pipe()
        environment = {**os.environ, CHILD: str(there), WATCHER: str(os.getpid())}
        self.process = subprocess.Popen(command, env=environment, pass_fds=(there,))
        os.close(there)
        self.stopping, self.met, self.began = False, False, False
        self._patience = threading.Timer(PATIENCE, self.process.kill)

    def wait(self, seconds: float) -> int:
        """Its exit code; NobodyCame where it has not met the others after so many seconds, and was killed."""
        try:
            ready, _, _ = select.select([self._here], [], [], seconds)
            self.met = bool(ready) and os.read(self._here, 1) != b""  # nothing is read where it has ended
            if not ready and not self.stopping:
                self.process.kill()
                self.process.wait()
                raise NobodyCame(
                    f"the other workers did not come in {seconds / 60:.3g} minutes; look at what they said last, and "
                    "start all again. --wait MINUTES gives them longer"
                )
            code = self.process.wait()
            self.began = self.met and os.read(self._here, 1) != b""
            return code
        finally:
            self._patience.cancel()
            os.close(self._here)

    def stop(self, signum: int) -> None:
        """Hand a signal on. Before the workers have met there is nothing to save, and TensorFlow would swallow it."""
        self.process.send_signal(signum if self.met and not self.stopping else signal.SIGKILL)
        if not self.stopping:
            self._patience.start()
        self.stopping = True


class _Watch:
    """What SIGTERM and Ctrl-C do to the worker of the moment, and between two of them.

    Ctrl-C comes to the whole group, so it is left to the worker where there is one. Handlers, unlike signals that are
    ignored, are not handed down to it.
    """

    def __init__(self) -> None:
        self.worker: _Worker | None = None
        self.stopping = False

    def start(self, command: Sequence[str]) -> _Worker:
        self.worker = worker = _Worker(command)
        if self.stopping:  # asked while it was started
            worker.stop(signal.SIGTERM)
        return worker

    def terminate(self, *_: object) -> None:
        self.stopping = True
        if self.worker:
            self.worker.stop(signal.SIGTERM)

    def interrupt(self, *_: object) -> None:
        if self.worker is None:
            raise KeyboardInterrupt

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, self.terminate), signal.signal(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])


def watch_over(restarts: int, wait: float, told: Callable[[str], None]) -> int:
    """Run this process's own command until it ends by itself, started again at most `restarts` times → its exit code.

    Each time it has `wait` seconds to meet the other workers; NobodyCame after that. SIGTERM is handed on. One that
    does not end after that, or is told twice, is killed; its last checkpoint stands. --fresh counts until a run has
    begun.
    """
    command, watch = [sys.executable, *sys.orig_argv[1:]], _Watch()
    with watch.watching():
        for number in range(restarts + 1):
            worker = watch.start(command)
            told(f"worker is process {worker.process.pid}")
            code = worker.wait(wait)
            watch.worker = None
            if worker.stopping and not worker.met:
                told("stopped as asked before the training began")
                return 0
            if code in ENDED or worker.stopping:
                break
            if worker.began:
                command = [word for word in command if word != "--fresh"]
            how = f"signal {-code}" if code < 0 else f"code {code}"
            if number == restarts:
                told(f"the worker ended with {how}, and is not started again ({restarts} times are used up)")
                break
            told(f"the worker ended with {how}; starting it again ({number + 1} of {restarts} times)")
            time.sleep(PAUSE)
            if watch.stopping:
                told("stopped as asked; the same command goes on from the last checkpoint")
                return 0
    return code if code >= 0 else 128 - code
