"""The memory that a job takes at its peak: measured in a process of its own.

TensorFlow keeps what it once had, so that within a process the second call seems to take nothing. In a fresh process
the kernel's high-water mark tells all: the step's tensors, and the caches and compilers that it needs. What the process
holds before its first call, the network's variables among it, does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import last_words, resident

CALLS = 3  # the first traces and compiles, and caches and pools are full after the second


def peak(job: str, contestant: str, model: str, batch: int, size: int, classes: int, precision: str) -> int | None:
    """Bytes above what is held before the first call. None where the system does not tell, RuntimeError if it fails."""
    if not Path("/proc/self/status").exists():
        return None
    order = json.dumps([job, contestant, model, batch, size, classes, precision])
    run = subprocess.run([sys.executable, "-m", "benchmarks.memory", order], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{contestant} could not be measured: {last_words(run)}")
    return int(run.stdout.splitlines()[-1])


def main(order: str) -> None:
    """Print the peak of one contestant."""
    import numpy as np
    import tensorflow as tf

    import rawcnn
    from benchmarks.contestants import JOBS, Setup
    from benchmarks.keras_twin import keras_twin
    from benchmarks.layers import model_of

    job, contestant, model, batch, size, classes, precision = json.loads(order)
    network = rawcnn.create(model, size=size, classes=classes, precision=precision)
    twin = keras_twin(network, precision) if contestant.startswith("keras") else None
    torch = None
    if contestant.startswith("torch"):
        from benchmarks.torch_twin import Twin

        torch = Twin(model_of(network))
    images = tf.constant(np.random.default_rng(0).random((batch, size, size, 3), np.float32))
    run = JOBS[job](Setup(network, twin, images, tf.zeros(batch, tf.int32), torch), contestant).run
    before = resident("VmRSS")
    for _ in range(CALLS):
        run()
    print(max(resident("VmHWM") - before, 0))


if __name__ == "__main__":
    main(sys.argv[1])
