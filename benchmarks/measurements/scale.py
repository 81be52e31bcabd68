"""Measure how a training step scales with the number of workers, each with a GPU or separate cores.

The batch of a group of n workers is n times that of one worker. All groups run at the same time and step in turn, so
that a disturbance of the machine affects all groups; waiting groups use no processor time. All workers use the same
images. The loss of each group therefore equals that of one device, unless the network draws random numbers. It is
compared before a step is timed.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import IO

import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.timing import StepProgress
from kernels.dispatch.replica import Replica, running_on
from rawcnn.models import find_model
from rawcnn.nn.arguments import Size
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.distributed import make_cluster
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, TrainStep, make_step

COUNTS = (1, 2, 4, 8)  # workers on one machine
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # of the first losses, relative
RANDOM = ("dropout", "drop_path")  # kinds of operation
ROUND_SECONDS = 1.0  # a round has as many steps as one worker takes in this time
RATE = 0.01


@dataclass(frozen=True)
class Exchange:
    """The sums over all workers in one step."""

    sums: int  # number of consecutive sums
    bytes: int  # of all summed tensors


@dataclass(frozen=True)
class ScaleResult:
    """Seconds per step, one value per round, by the number of workers."""

    model: str
    batch: int  # of each worker
    size: Size
    classes: int
    precision: str
    each: str  # device of each worker: "a GPU", "1 core"
    exchange: Exchange
    seconds: Mapping[int, tuple[float, ...]]

    def efficiency(self, workers: int) -> tuple[float, float, float]:
        """Return a worker's speed in a group relative to one worker: (median, lower, upper quartile) over rounds."""
        low, middle, high = np.percentile(np.divide(self.seconds[1], self.seconds[workers]), (25, 50, 75))
        return float(middle), float(low), float(high)

    def images_per_second(self, workers: int) -> float:
        """Return the throughput of all workers together, by the median."""
        return workers * self.batch / float(np.median(self.seconds[workers]))

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        settings: dict[str, object] = {"scale": self.model, "batch": self.batch, "size": self.size}
        settings |= {"classes": self.classes, "precision": self.precision, "each": self.each}
        groups = [
            {
                "workers": n,
                "images_per_second": self.images_per_second(n),
                "efficiency": list(self.efficiency(n)),
                "seconds": list(seconds),
            }
            for n, seconds in self.seconds.items()
        ]
        return {
            "settings": settings | {"rounds": len(self.seconds[1])},
            "figures": {**asdict(self.exchange), "groups": groups},
        }


def measure_scale(
    model: str,
    *,
    batch: int = 8,
    size: Size | None = None,
    classes: int | None = None,
    precision: str = "float32",
    rounds: int = 10,
    progress: StepProgress | None = None,
) -> ScaleResult:
    """Measure groups of 1, 2, 4 and 8 workers, as far as this machine has GPUs or cores.

    Args:
        model: The name of a model.
        batch: Images per worker.
        size: Side of the images in pixels, or (height, width); by default the model's.
        classes: Number of classes; by default the model's.
        precision: "float32" or "bfloat16".
        rounds: Number of timed rounds.
        progress: Called with (description, rounds done, number of rounds).

    Raises:
        ValueError: On a machine with a single core or GPU.
        RuntimeError: If a worker fails, or the loss of a group differs from that of one worker.
    """
    entry, (places, each) = find_model(model), places_here()
    size, classes = size or entry.size, classes or entry.classes
    counts = [n for n in COUNTS if n <= len(places)]
    order = {"model": model, "batch": batch, "size": size, "classes": classes, "precision": precision}
    seconds: dict[int, list[float]] = {n: [] for n in counts}
    with ExitStack() as stack:
        groups, losses = {}, {}
        for n in counts:
            if progress:
                progress(f"a group of {n} starts", 0, rounds)
            groups[n] = stack.enter_context(Group.of(order, places[:n]))
            losses[n] = groups[n].step(1)[1]
            if not groups[1].metadata["random"] and abs(losses[n] / losses[1] - 1) > TOLERANCE[precision]:
                raise RuntimeError(f"the loss of {n} workers is {losses[n]:.6g}, but that of one is {losses[1]:.6g}")
        exchange = Exchange(groups[1].metadata["sums"], groups[1].metadata["bytes"])
        steps = max(1, round(ROUND_SECONDS / groups[1].step(1)[0]))
        for number in range(-1, rounds):  # round −1 is a warm-up
            for n, group in groups.items():
                taken = group.step(steps)[0] / steps
                if number >= 0:
                    seconds[n].append(taken)
            if progress:
                progress(f"round {number + 1}", number + 1, rounds)
    found = {n: tuple(taken) for n, taken in seconds.items()}
    return ScaleResult(model, batch, size, classes, precision, each, exchange, found)


# The parent process ----------------------------------------------------------------------------------------------

Place = Mapping[str, Sequence[int]]  # "gpu" or "cores" → their numbers


def places_here() -> tuple[list[Place], str]:
    """Return (one place per worker, description of a place). Raise ValueError for a single place."""
    if gpus := tf.config.list_physical_devices("GPU"):
        places: list[Place] = [{"gpu": [number]} for number in range(len(gpus))]
        each = "a GPU"
    else:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        workers = max(n for n in COUNTS if n <= len(cores))
        share = len(cores) // workers
        places = [{"cores": cores[k * share : (k + 1) * share]} for k in range(workers)]
        each = f"{share} core{'s' * (share > 1)}"
    if len(places) < 2:
        raise ValueError("this machine has a place for one worker; scaling needs two GPUs, or two cores on Linux")
    return places, each


@dataclass(frozen=True)
class Group:
    """Workers that take steps together, on request."""

    processes: Sequence[subprocess.Popen]
    errors: Sequence[IO[str]]  # the stderr of each worker
    metadata: Mapping[str, int]  # of the step, reported by the first worker

    @staticmethod
    @contextmanager
    def of(order: Mapping[str, object], places: Sequence[Place]) -> Iterator[Group]:
        """Start a worker at each place; they are killed at the end of the context."""
        with ExitStack() as stack:
            errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in places]
            processes = []
            for environment, place, err in zip(_environments(places), places, errors, strict=True):
                process = stack.enter_context(_start(order, environment, place.get("cores"), err))
                stack.callback(process.kill)  # before the context waits for it
                processes.append(process)
            yield Group(processes, errors, _read_lines(processes, errors)[0])

    def step(self, count: int) -> tuple[float, float]:
        """Take `count` steps; return (seconds of the slowest worker, last loss). Raise RuntimeError if one fails."""
        for process in self.processes:
            print(count, file=process.stdin, flush=True)
        reports = _read_lines(self.processes, self.errors)
        return max(report["seconds"] for report in reports), reports[0]["loss"]


def _read_lines(processes: Sequence[subprocess.Popen], errors: Sequence[IO[str]]) -> list[dict]:
    """Read one line of JSON from each worker. Raise RuntimeError with the last line on stderr of one that ended."""
    lines = [process.stdout.readline() for process in processes if process.stdout]
    for line, err in zip(lines, errors, strict=True):
        if not line:
            err.seek(0)
            words = err.read().strip().splitlines() or ["no error message"]
            raise RuntimeError(f"a worker ended: {words[-1]}")
    return [json.loads(line) for line in lines]


def _environments(places: Sequence[Place]) -> list[dict[str, str]]:
    """Return the environment of each worker: the cluster if there are several workers, and its GPU."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in places]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    environments = []
    for index, place in enumerate(places):
        environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # groups share GPUs, and step in turn
        environment.pop("TF_CONFIG", None)
        if len(places) > 1:
            config = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(config)
        if "gpu" in place:
            environment["CUDA_VISIBLE_DEVICES"] = str(place["gpu"][0])
        environments.append(environment)
    return environments


def _start(
    order: Mapping[str, object], environment: Mapping[str, str], cores: Sequence[int] | None, err: IO[str]
) -> subprocess.Popen:
    """Start a worker, on these cores if they are given."""
    words = [sys.executable, "-m", "benchmarks.measurements.scale", json.dumps(order)]
    before = os.sched_getaffinity(0) if cores else None
    try:
        if cores:
            os.sched_setaffinity(0, cores)  # a child inherits those of the thread that starts it
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, env=environment
        )
    finally:
        if before:
            os.sched_setaffinity(0, before)


# The worker process ----------------------------------------------------------------------------------------------


def work(model: str, batch: int, size: Size, classes: int, precision: str) -> None:
    """Print the metadata of the step; then, per line of stdin, take that many steps and print the time and the loss."""
    cluster = make_cluster("multiworker") if "TF_CONFIG" in os.environ else None
    recipe = Recipe("scale", "ours", batch=batch, epochs=1, rate=RATE, momentum=0.9)
    with cluster.scope() if cluster else nullcontext():
        network = rawcnn.create(model, size=size, classes=classes, precision=precision)
        state = State.begin(network, recipe)
    choice = cluster.choose("auto", network) if cluster else choose("auto", (), precision)
    step = (cluster.make_step if cluster else make_step)(network, recipe, state, choice)
    _print({} if cluster else step_metadata(network, recipe, state))
    generator = np.random.default_rng(0)
    images = tf.constant(generator.random((batch, *network.image_size, 3), np.float32))
    labels = tf.constant(generator.integers(0, classes, batch), tf.int32)
    seed, rate = tf.constant([0, 0]), tf.constant(RATE)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            metrics = step(images, labels, seed, rate)
        loss = float(metrics["loss"])  # waits for the last step
        _print({"seconds": time.perf_counter() - start, "loss": loss})


def _print(values: Mapping[str, object]) -> None:
    """Print one line of JSON for the parent process."""
    print(json.dumps(values), flush=True)


def step_metadata(network: Network, recipe: Recipe, state: State) -> dict[str, int]:
    """Count the sums over workers while tracing a step, and report whether it draws random numbers."""
    summed: list[list[tf.Tensor]] = []

    def total(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        summed.append(tensors)
        return tensors

    def step(images, labels, seed, rate):
        with running_on(Replica(0, 2, total)):
            return TrainStep(network, recipe, fused=True)(state, images, labels, seed, rate)

    shapes = (recipe.batch, *network.image_size, 3), (recipe.batch,), (2,), ()
    types = tf.float32, tf.int32, tf.int32, tf.float32
    tf.function(step, autograph=False).get_concrete_function(*map(tf.TensorSpec, shapes, types))
    size = sum(t.shape.num_elements() * t.dtype.size for tensors in summed for t in tensors)
    random = any(operation.kind in RANDOM for operation in network.operations)
    return {"sums": len(summed), "bytes": size, "random": int(random)}


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
