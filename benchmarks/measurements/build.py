"""Measure the time until a network's first result: profiling, creation, tracing as a graph, compilation by XLA.

Each network is built in a fresh process, so that no memory or cache of another one is reused.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.results import append
from benchmarks.harness.timing import StepProgress, last_words

BATCH = 1


@dataclass(frozen=True)
class BuildResult:
    """Seconds of each step, for a batch of one image of the network's default size."""

    model: str
    size: int
    operations: int  # number of operations
    profile: float  # the symbolic trace and its sums; creates no variables
    create: float  # two symbolic traces, and the variables with their initial values
    graph: float  # the first call of `rawcnn.program` as a TensorFlow graph: folding, tracing and one run
    xla: float  # the same by XLA, including its compilation
    answer: float  # a later call of the graph
    keras: float | None = None  # the first call of its Keras twin with jit_compile; the twin is built before

    def to_json(self) -> dict[str, object]:
        figures = asdict(self)
        settings = {"build": figures.pop("model"), "size": figures.pop("size"), "batch": BATCH}
        return {"settings": settings, "figures": figures}


def build(model: str) -> BuildResult:
    """Measure all steps in this process, which should be a fresh one."""
    import numpy as np
    import tensorflow as tf

    import rawcnn
    from benchmarks.twins.keras import keras_twin

    def timed(step):
        start = time.perf_counter()
        result = step()
        return time.perf_counter() - start, result

    # TensorFlow loads libraries for its first graph, and XLA for its first program; that time is not counted.
    timed(lambda: rawcnn.profile("cifar_resnet20"))
    tf.function(lambda x: tf.nn.relu(tf.nn.conv2d(x, x, 1, "SAME")), jit_compile=True)(tf.ones((1, 1, 1, 1)))
    gc.collect()  # takes 0.25 s with TensorFlow loaded, and would otherwise be part of a random step
    gc.freeze()
    profile, _ = timed(lambda: rawcnn.profile(model))
    create, network = timed(lambda: rawcnn.create(model))
    images = tf.constant(np.random.default_rng(0).random((BATCH, *network.image_size, 3), np.float32))
    programs = {}

    def first(mode: str):
        programs[mode] = rawcnn.program(network, mode)
        return programs[mode](images).numpy()

    graph, _ = timed(lambda: first("graph"))
    answer, _ = timed(lambda: programs["graph"](images).numpy())
    xla, _ = timed(lambda: first("xla"))
    twin = keras_twin(network)
    twin.compile(jit_compile=True)
    keras, _ = timed(lambda: twin.predict_on_batch(images))
    return BuildResult(model, network.input_size, len(network.operations), profile, create, graph, xla, answer, keras)


def run_builds(
    models: Sequence[str],
    *,
    file: Path | None = None,
    command: str = "benchmarks.measurements.build.run_builds",
    progress: StepProgress | None = None,
) -> list[BuildResult]:
    """Build each model in a fresh process.

    Args:
        models: Names of models.
        file: A result file; each result is appended as soon as it is measured.
        command: The command line that is recorded with the results.
        progress: Called with (description, models done, number of models).

    Raises:
        RuntimeError: If a process fails, with the last line that it printed.
    """
    results = []
    for number, model in enumerate(models, start=1):
        if progress:
            progress(f"building {model}", number - 1, len(models))
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.measurements.build", model], capture_output=True, text=True
        )
        if run.returncode:
            raise RuntimeError(f"{model} could not be built: {last_words(run)}")
        results.append(BuildResult(**json.loads(run.stdout)))
        if file:
            append(results[-1:], command, file)
        if progress:
            progress(f"built {model} in {results[-1].xla:.1f} s by XLA", number, len(models))
    return results


if __name__ == "__main__":
    print(json.dumps(asdict(build(sys.argv[1]))))
