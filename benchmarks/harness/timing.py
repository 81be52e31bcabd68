"""Interleaved timing, A B C A B C …, so that a disturbance of the machine affects all contestants; and peak memory."""

from __future__ import annotations

import ctypes
import gc
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], object]
StepProgress = Callable[[str, int, int], None]  # (description, steps done, number of steps)
SHORT = 0.2  # seconds; cold caches and sleeping threads cost some ms, more than 1 % of a shorter call


@dataclass(frozen=True)
class Timing:
    """The times and the peak memory of one contestant."""

    name: str
    first_call: float  # seconds of the first call: tracing, compilation and one run
    seconds: tuple[float, ...]  # one value per round, in order
    memory: int | None  # bytes: increase of the memory over one call; None if unknown
    difference: float | None  # from the reference, relative to the largest value; None if the results are random

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)

    def over(self, other: Timing) -> tuple[float, ...]:
        """Return the ratio of this contestant's time to the other's, per round."""
        return tuple(a / b for a, b in zip(self.seconds, other.seconds, strict=True))

    def summary(self) -> dict[str, object]:
        """Return the values as JSON types."""
        low, high = self.quartiles
        return {
            "name": self.name,
            "median": self.median,
            "minimum": min(self.seconds),
            "maximum": max(self.seconds),
            "interquartile_range": high - low,
            "first_call": self.first_call,
            "memory": self.memory,
            "difference": self.difference,
            "seconds": list(self.seconds),
        }


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return (seconds, result) of one call, which must wait for its own result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def interleaved(
    runs: Mapping[str, Run], rounds: int, on_round: Callable[[int], None] | None = None, short: float = SHORT
) -> dict[str, tuple[float, ...]]:
    """Time all runs in each round; the order is randomized in each round.

    A warm-up round is not counted: caches and allocators settle in it. If a run takes less than `short` in it, all runs
    are called twice per round and the second call is timed, so that caches are warm. Garbage is collected between
    rounds. Objects that existed before are frozen, because scanning them would empty the processor's caches. If the
    caller had frozen objects, all stay frozen.

    Args:
        runs: The calls by name; each must wait for its own result.
        rounds: The number of timed rounds, at least 1.
        on_round: Called after each round with its number, −1 for the warm-up round.
        short: Seconds below which all runs are called twice per round.

    Returns:
        The seconds of each run, one value per round.

    Raises:
        ValueError: If `rounds` is less than 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; expected at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    chance, twice, collecting, frozen = random.Random(rounds), False, gc.isenabled(), gc.get_freeze_count()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number in range(-1, rounds):
            gc.collect()
            taken = {}
            for name in chance.sample(list(runs), len(runs)):
                if twice:
                    runs[name]()
                taken[name], _ = timed(runs[name])
            if number < 0:
                twice = any(s < short for s in taken.values())
            else:
                for name, s in taken.items():
                    seconds[name].append(s)
            if on_round:
                on_round(number)
    finally:
        if not frozen:  # otherwise this would unfreeze the caller's objects, too
            gc.unfreeze()
        if collecting:
            gc.enable()
    return {name: tuple(values) for name, values in seconds.items()}


def memory_of(run: Run) -> int | None:
    """Return the peak memory of one call of `run` in bytes, above the memory that the process holds before it.

    On a GPU TensorFlow counts it. On Linux it is the kernel's high-water mark of resident memory, after the C library
    has returned its free memory. Elsewhere the result is None.
    """
    import tensorflow as tf  # the rest of this module also runs without TensorFlow

    if tf.config.list_logical_devices("GPU"):
        before = tf.config.experimental.get_memory_info("GPU:0")["current"]
        tf.config.experimental.reset_memory_stats("GPU:0")
        run()
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] - before
    if sys.platform != "linux":
        return None
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = resident("VmRSS")
        run()
        return max(resident("VmHWM") - before, 0)
    except (OSError, AttributeError):  # not permitted, or a C library without malloc_trim
        return None


def last_words(run: subprocess.CompletedProcess) -> str:
    """Return the last line that a failed process printed on stderr, or its exit code."""
    return (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]


def resident(field: str) -> int:
    """Return a field of /proc/self/status in bytes: VmRSS (resident memory) or VmHWM (its peak).

    Raises:
        OSError: If the system does not report the field.
    """
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024
