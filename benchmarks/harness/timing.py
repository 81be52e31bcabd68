"""Interleaved timing, A B C A B C …: what disturbs the machine disturbs all alike. And the memory of one call."""

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
Progress = Callable[[str, int, int], None]  # (what was done, steps done, steps in all)
SHORT = 0.2  # seconds: what a call loses to cold caches and sleeping threads, some ms, is more than a hundredth of less


@dataclass(frozen=True)
class Timing:
    """What one contestant took. `seconds` are its rounds in their order."""

    name: str
    first_call: float  # seconds of the first call: tracing, compiling, and one run
    seconds: tuple[float, ...]
    memory: int | None  # bytes that one call takes above what is held before it; None where the system does not tell
    difference: float | None  # from the reference, relative to the largest value; None: it draws other random numbers

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)

    def over(self, other: Timing) -> tuple[float, ...]:
        """Its time over the other's, of each round, in which both ran."""
        return tuple(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))

    def summary(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
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
    """(seconds, result) of one call, which must wait for its own result."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def interleaved(
    runs: Mapping[str, Run], rounds: int, on_round: Callable[[int], None] | None = None, short: float = SHORT
) -> dict[str, tuple[float, ...]]:
    """Seconds of each run in each round; every round takes all of them, in an order that is drawn anew.

    A round before the first is not counted: caches and allocators settle in it. Where anyone took less than `short` in
    it, all are called twice in each round, of which the second call counts: the first finds caches and threads as the
    one before it left them. Garbage is collected between rounds, without what lived before, of which the sweep alone
    would empty caches.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; expected at least 1")
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    chance, twice, collecting = random.Random(rounds), False, gc.isenabled()
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
        gc.unfreeze()
        if collecting:
            gc.enable()
    return {name: tuple(values) for name, values in seconds.items()}


def memory_of(run: Run) -> int | None:
    """Bytes that one call of `run` takes at its peak, above what the process holds before it.

    On a GPU by TensorFlow's own count. On Linux by the kernel's high-water mark of resident memory, after the C library
    has given back what it kept; None elsewhere.
    """
    import tensorflow as tf  # the rest of this file also runs where there is none

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
        Path("/proc/self/clear_refs").write_text("5")  # the mark starts again from here
        before = resident("VmRSS")
        run()
        return max(resident("VmHWM") - before, 0)
    except (OSError, AttributeError):  # not permitted, or a C library without malloc_trim
        return None


def last_words(run: subprocess.CompletedProcess) -> str:
    """What a process said last before it failed, or how it ended."""
    return (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]


def resident(field: str) -> int:
    """VmRSS, what the process holds, or VmHWM, the most that it held: bytes. OSError where the system does not tell."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if not found:
        raise OSError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024
