"""The memory that a job takes at its peak: measured in a process of its own.

TensorFlow keeps what it once had, so that within a process the second call seems to take nothing. In a fresh process
the kernel's high-water mark tells all: the step's tensors, and the caches and compilers that it needs. What the process
holds before its first call, the network's variables among it, does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.timing import Progress, memory_of
from benchmarks.races.contestants import JOBS
from benchmarks.races.networks import entered, train_in_appearance
from benchmarks.races.setup import Contest, Setup
from benchmarks.twins.keras import keras_twin
from benchmarks.twins.specification import model_of
from rawcnn.models import find

CALLS = 3  # the first traces and compiles, and caches and pools are full after the second


@dataclass(frozen=True)
class MemoryResult(Contest):
    """Bytes that contestants take at their peak, above what is held before the first call; None where nobody tells."""

    peaks: Mapping[str, int | None]

    def to_json(self) -> dict[str, object]:
        """Plain numbers: settings and figures."""
        settings: dict[str, object] = {"memory": self.model, "job": self.job, "precision": self.precision}
        settings |= {"batch": self.batch, "size": self.size, "classes": self.classes}
        return {"settings": settings, "figures": {"peaks": dict(self.peaks)}}


def measure_memory(
    model: str,
    job: str,
    contestants: Sequence[str],
    *,
    batch: int = 8,
    size: int | None = None,
    classes: int | None = None,
    precision: str = "float32",
    progress: Progress | None = None,
) -> MemoryResult:
    """The peak of each contestant in `job`, as in `race`; a process that fails, as on a GPU that is taken, tells None.

    ValueError for an unknown job or contestant.
    """
    if job not in JOBS:
        raise ValueError(f"job is {job!r}; expected one of {', '.join(JOBS)}")
    entry = find(model)
    size, classes = size or entry.size, classes or entry.classes
    peaks: dict[str, int | None] = {}
    for number, name in enumerate(entered(contestants, precision), start=1):
        peaks[name] = _apart(job, name, model, batch, size, classes, precision)
        if progress:
            progress(f"{name}: memory", number, len(contestants))
    return MemoryResult(model, job, batch, size, classes, precision, peaks)


def _apart(*order: str | int) -> int | None:
    """What `main` prints in a process of its own; None where it fails."""
    words = [sys.executable, "-m", "benchmarks.measurements.memory", json.dumps(order)]
    run = subprocess.run(words, capture_output=True, text=True)
    return None if run.returncode else json.loads(run.stdout.splitlines()[-1])


def main(order: str) -> None:
    """Print the peak of one contestant."""
    job, contestant, model, batch, size, classes, precision = json.loads(order)
    network = rawcnn.create(model, size=size, classes=classes, precision=precision)
    train_in_appearance(network, 0)
    twin = keras_twin(network, precision) if contestant.startswith("keras") else None
    torch = None
    if contestant.startswith("torch"):
        from benchmarks.twins.torch import Twin

        torch = Twin(model_of(network))
    images = tf.constant(np.random.default_rng(0).random((batch, size, size, 3), np.float32))
    run = JOBS[job](Setup(network, twin, images, tf.zeros(batch, tf.int32), torch), contestant).run
    print(json.dumps(memory_of(lambda: [run() for _ in range(CALLS)])))


if __name__ == "__main__":
    main(sys.argv[1])
