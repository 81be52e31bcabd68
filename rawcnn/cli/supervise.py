"""Restart a training worker whose process ends unexpectedly, by itself or because another worker died."""

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

from rawcnn.cli.streams import CLOSED_PIPE

FINAL_CODES = (0, 2, 130, CLOSED_PIPE)  # finished or stopped, bad input, Ctrl-C, closed pipe: do not restart
WORKER_PIPE = "RAWCNN_WORKER"  # environment of a supervised process: the descriptor to which it reports its progress
SUPERVISOR = "RAWCNN_SUPERVISOR"  # environment of a supervised process: the supervisor's process id
RESTART_PAUSE = 1.0  # seconds before a restart, so that the ports become free
STOP_LIMIT = 120.0  # seconds from SIGTERM to SIGKILL: a worker that waits inside TensorFlow does not handle SIGTERM


class WorkersMissing(RuntimeError):
    """The other workers did not start in time; they may have ended for good."""


def is_supervised() -> bool:
    """Return whether another process supervises this one."""
    return WORKER_PIPE in os.environ


def exit_with_supervisor() -> None:
    """In a supervised process: end it when its supervisor is gone.

    Otherwise it would train on unseen and hold the port that the next run needs.
    """
    supervisor = os.environ.get(SUPERVISOR)

    def poll() -> None:
        while str(os.getppid()) == supervisor:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    if supervisor:
        threading.Thread(target=poll, daemon=True).start()


def report_met() -> None:
    """Tell the supervisor that this process has met the other workers."""
    _send(b".")


def report_started() -> None:
    """Tell the supervisor that the run has started, and that `--fresh` has been carried out."""
    _send(b"!")


def _send(word: bytes) -> None:
    if descriptor := os.environ.get(WORKER_PIPE):
        os.write(int(descriptor), word)


class _Worker:
    """A supervised process; the supervisor forwards SIGTERM and Ctrl-C to it."""

    def __init__(self, command: Sequence[str]):
        self._read_end, write_end = os.pipe()
        environment = {**os.environ, WORKER_PIPE: str(write_end), SUPERVISOR: str(os.getpid())}
        self.process = subprocess.Popen(command, env=environment, pass_fds=(write_end,))
        os.close(write_end)
        self.stopping, self.met, self.started = False, False, False
        self._kill_timer = threading.Timer(STOP_LIMIT, self.process.kill)

    def wait(self, seconds: float) -> int:
        """Wait for the process to end and return its exit code.

        Raises:
            WorkersMissing: The process did not meet the other workers within `seconds`; it was killed.
        """
        try:
            ready, _, _ = select.select([self._read_end], [], [], seconds)
            self.met = bool(ready) and os.read(self._read_end, 1) != b""  # an empty read: the process has ended
            if not ready and not self.stopping:
                self.process.kill()
                self.process.wait()
                raise WorkersMissing(
                    f"the other workers did not start within {seconds / 60:.3g} minutes; read their last messages and "
                    "start all workers again; --wait MINUTES allows more time"
                )
            code = self.process.wait()
            self.started = self.met and os.read(self._read_end, 1) != b""
            return code
        finally:
            self._kill_timer.cancel()
            os.close(self._read_end)

    def stop(self, signum: int) -> None:
        """Forward a signal. Before the workers have met, kill: nothing needs saving, and TensorFlow ignores SIGTERM."""
        self.process.send_signal(signum if self.met and not self.stopping else signal.SIGKILL)
        if not self.stopping:
            self._kill_timer.start()
        self.stopping = True


class _Supervisor:
    """Signal handlers that act on the current worker, if one is running.

    Ctrl-C reaches the whole process group, so the running worker handles it. The worker inherits ignored signals but
    not handlers, so this class installs handlers.
    """

    def __init__(self) -> None:
        self.worker: _Worker | None = None
        self.stopping = False

    def start(self, command: Sequence[str]) -> _Worker:
        self.worker = worker = _Worker(command)
        if self.stopping:  # SIGTERM came while the process was being started
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
    def handling_signals(self) -> Iterator[None]:
        before = signal.signal(signal.SIGTERM, self.terminate), signal.signal(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])


def run_supervised(restarts: int, wait: float, report: Callable[[str], None]) -> int:
    """Run this process's own command in a child process and restart it when it ends unexpectedly.

    SIGTERM is forwarded to the child. A child that does not end within STOP_LIMIT, or that gets a second SIGTERM, is
    killed; its last checkpoint remains. `--fresh` is dropped from the command once a run has started.

    Args:
        restarts: How often the child is restarted at most.
        wait: Seconds that each child has to meet the other workers.
        report: Receives a line about each start and end.

    Returns:
        The exit code of the last child; 128 plus the signal's number if a signal ended it.

    Raises:
        WorkersMissing: A child did not meet the other workers in time.
    """
    command, supervisor = [sys.executable, *sys.orig_argv[1:]], _Supervisor()
    with supervisor.handling_signals():
        for number in range(restarts + 1):
            worker = supervisor.start(command)
            report(f"worker is process {worker.process.pid}")
            code = worker.wait(wait)
            supervisor.worker = None
            if worker.stopping and not worker.met:
                report("stopped on request before the training started")
                return 0
            if code in FINAL_CODES or worker.stopping:
                break
            if worker.started:
                command = [word for word in command if word != "--fresh"]
            how = f"signal {-code}" if code < 0 else f"code {code}"
            if number == restarts:
                report(f"the worker ended with {how} and is not restarted: all {restarts} restarts are used up")
                break
            report(f"the worker ended with {how}; restarting it ({number + 1} of {restarts})")
            time.sleep(RESTART_PAUSE)
            if supervisor.stopping:
                report("stopped on request; run the same command again to resume from the last checkpoint")
                return 0
    return code if code >= 0 else 128 - code
