"""A worker that comes back: its process is started again when it dies, or when another's death took it along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

ENDED = (0, 2, 130)  # done, or stopped; wrong input; Ctrl-C
CHILD = "RAWCNN_WORKER"  # in the environment of a process that is watched over
PAUSE = 1.0  # seconds before it is started again: ports are to become free
PATIENCE = 120.0  # seconds that it has after SIGTERM: one that waits for others in TensorFlow never hears of it


def watched() -> bool:
    """Is this process one that is started again?"""
    return CHILD in os.environ


def watch_over(restarts: int, told: Callable[[str], None]) -> int:
    """Run this process's own command until it ends by itself, started again at most `restarts` times → its exit code.

    SIGTERM is handed on, and Ctrl-C, which the whole group gets, is left to it. One that does not end after that, or
    is told twice, is killed; its last checkpoint stands. Only the first time --fresh counts.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    environment = {**os.environ, CHILD: "1"}
    stopping: list[int] = []
    for number in range(restarts + 1):
        with subprocess.Popen(command, env=environment) as process:
            told(f"worker is process {process.pid}")

            patience = threading.Timer(PATIENCE, process.kill)

            def hand_on(signum: int, _: object, process=process, patience=patience) -> None:
                process.send_signal(signal.SIGKILL if stopping else signum)
                if not stopping:
                    patience.start()
                stopping.append(signum)

            before = signal.signal(signal.SIGTERM, hand_on), signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                code = process.wait()
            finally:
                patience.cancel()
                signal.signal(signal.SIGTERM, before[0])
                signal.signal(signal.SIGINT, before[1])
        if code in ENDED or stopping:
            break
        command = [word for word in command if word != "--fresh"]
        how = f"signal {-code}" if code < 0 else f"code {code}"
        if number < restarts:
            told(f"the worker ended with {how}; starting it again ({number + 1} of {restarts} times)")
            time.sleep(PAUSE)
    return code if code >= 0 else 128 - code
