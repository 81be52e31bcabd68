"""Measure the peak memory of a job in a fresh process.

TensorFlow does not return memory, so a second call in the same process seems to need none. In a fresh process the
kernel's high-water mark covers the tensors of the step, and the caches and compilers that it needs. The memory that the
process holds before the first call, such as the network's variables, is subtracted.
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
from benchmarks.harness.timing import StepProgress, memory_of
from benchmarks.races.contestants import JOBS
from benchmarks.races.networks import randomize_norms, select_contestants
from benchmarks.races.setup import NetworkTask, Setup
from benchmarks.twins.keras import keras_twin
from benchmarks.twins.specification import model_of
from rawcnn.models import find_model
from rawcnn.nn.arguments import Size

CALLS = 3  # the first call traces and compiles; caches and pools are full after the second


@dataclass(frozen=True)
class MemoryResult(NetworkTask):
    """Peak memory in bytes by contestant, above the memory held before the first call; None if unknown."""

    peaks: Mapping[str, int | None]

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        settings: dict[str, object] = {"memory": self.model, "job": self.job, "precision": self.precision}
        settings |= {"batch": self.batch, "size": self.size, "classes": self.classes}
        return {"settings": settings, "figures": {"peaks": dict(self.peaks)}}


def measure_memory(
    model: str,
    job: str,
    contestants: Sequence[str],
    *,
    batch: int = 8,
    size: Size | None = None,
    classes: int | None = None,
    precision: str = "float32",
    progress: StepProgress | None = None,
) -> MemoryResult:
    """Measure the peak memory of each contestant in a fresh process.

    The arguments are those of `benchmarks.races.networks.race`. The result is None for a contestant whose process
    fails, for instance because another process uses the GPU's memory.

    Raises:
        ValueError: For an unknown job or contestant.
    """
    if job not in JOBS:
        raise ValueError(f"job is {job!r}; expected one of {', '.join(JOBS)}")
    entry = find_model(model)
    size, classes = size or entry.size, classes or entry.classes
    peaks: dict[str, int | None] = {}
    for number, name in enumerate(select_contestants(contestants, precision), start=1):
        peaks[name] = _apart(job, name, model, batch, size, classes, precision)
        if progress:
            progress(f"{name}: memory", number, len(contestants))
    return MemoryResult(model, job, batch, size, classes, precision, peaks)


def _apart(*order: str | Size) -> int | None:
    """Return the value that `main` prints in a fresh process; None if it fails."""
    words = [sys.executable, "-m", "benchmarks.measurements.memory", json.dumps(order)]
    run = subprocess.run(words, capture_output=True, text=True)
    return None if run.returncode else json.loads(run.stdout.splitlines()[-1])


def main(order: str) -> None:
    """Print the peak of one contestant."""
    job, contestant, model, batch, size, classes, precision = json.loads(order)
    network = rawcnn.create(model, size=size, classes=classes, precision=precision)
    randomize_norms(network, 0)
    twin = keras_twin(network, precision) if contestant.startswith("keras") else None
    torch = None
    if contestant.startswith("torch"):
        from benchmarks.twins.torch import Twin

        torch = Twin(model_of(network))
    images = tf.constant(np.random.default_rng(0).random((batch, *network.image_size, 3), np.float32))
    run = JOBS[job](Setup(network, twin, images, tf.zeros(batch, tf.int32), torch), contestant).run
    print(json.dumps(memory_of(lambda: [run() for _ in range(CALLS)])))


if __name__ == "__main__":
    main(sys.argv[1])
