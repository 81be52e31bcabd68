"""Sums over the worker processes of a run, and what is built on them: agreement and votes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import shorten

import numpy as np
import tensorflow as tf

VOTE_EVERY, MOST_BETWEEN = 5.0, 20  # seconds, and at most so many steps, between two votes
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


class WorkerLost(RuntimeError):
    """Another worker has ended. When all workers are started again, they resume from the last checkpoint."""

    exit_code = 75  # of the command: EX_TEMPFAIL of sysexits.h


class Collectives:
    """Collective operations of a run in one process: each result is the process's own input."""

    workers = 1

    def total(self, values: Sequence[float]) -> np.ndarray:
        """Return the sums of values over all workers, float64 of the same length. Every worker must call it."""
        return np.asarray(values, np.float64)

    def wait(self) -> None:
        """Wait until all workers have called this."""
        self.total([0.0])

    def agree(self, number: int) -> bool:
        """Say whether all workers call this with the same number."""
        first, second = self.total([number, number**2]) / self.workers
        return bool(first == number and second == number**2)

    @contextmanager
    def lost_workers(self) -> Iterator[None]:
        """Raise WorkerLost in this `with` block where a collective operation fails."""
        yield


class WorkerCollectives(Collectives):
    """Collective operations over the processes of a `tf.distribute` strategy.

    Args:
        strategy: The strategy.
        workers: The number of processes.
        local: The number of devices in each.
    """

    def __init__(self, strategy: tf.distribute.Strategy, workers: int, local: int):
        self.strategy, self.workers, self.local = strategy, workers, local

    def total(self, values: Sequence[float]) -> np.ndarray:
        """Return the sums of values over all workers. Raises WorkerLost."""
        with self.lost_workers():
            local = self.strategy.run(self._first_device_only, (tf.constant(values, tf.float64),))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, local, axis=None).numpy()

    def _first_device_only(self, values: tf.Tensor) -> tf.Tensor:
        """Values on the first device of each process and zeros on the others, so that their sum is exact."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return values if replica % self.local == 0 else tf.zeros_like(values)

    @contextmanager
    def lost_workers(self) -> Iterator[None]:
        """Raise WorkerLost in this `with` block where a collective operation fails."""
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise WorkerLost(
                f"another worker has ended ({_reason(error)}); start all workers again to resume"
            ) from error


class Votes:
    """Yes-or-no questions to all workers every few seconds, for instance whether to stop.

    All workers call `vote` after the same steps. The number of steps between two votes follows from the mean time that
    all of them take for a step, so that all vote at the same step.
    """

    def __init__(self, collectives: Collectives):
        self.collectives = collectives
        self.vote_next()

    def vote_next(self) -> None:
        """Hold a vote at the next call. All workers call this where the time between two calls will change."""
        self._interval, self._left, self._last = 1, 1, time.monotonic()

    def vote(self, *local: bool) -> list[bool] | None:
        """Return, for each question, whether any worker says yes; None where no vote is due."""
        workers = self.collectives.workers
        if workers == 1:
            return list(local)
        self._left -= 1
        if self._left:
            return None
        now = time.monotonic()
        *yes, seconds = self.collectives.total([*local, now - self._last])
        per_step = seconds / workers / self._interval
        self._left = self._interval = int(np.clip(VOTE_EVERY / max(per_step, 1e-3), 1, MOST_BETWEEN))
        self._last = now
        return [bool(answer) for answer in yes]


def _reason(error: tf.errors.OpError) -> str:
    """The kind of an error. InternalError may have other causes than a lost worker, so its first line is added."""
    # TensorFlow puts the name of its own function in front: "{{function_node …}} message"
    lines = str(error.message).split("}} ")[-1].splitlines() if isinstance(error, tf.errors.InternalError) else []
    return ": ".join([type(error).__name__, *(shorten(line, 160, placeholder=" …") for line in lines[:1])])
