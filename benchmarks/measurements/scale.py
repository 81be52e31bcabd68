"""How a training step scales: workers that share a batch, each with a GPU or with cores of its own.

A group of n workers takes n times the batch of one. The groups are started together and step in turn, so that what
disturbs the machine disturbs all alike; those that wait take nothing. All workers see the same images: where nothing is
drawn at random, the loss of each group is that of one device, and it is compared before a step is timed.
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
from benchmarks.harness.timing import Progress
from kernels.dispatch.replica import Replica, running_on
from rawcnn.models import find
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.distributed import make_cluster
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, TrainStep, make_step

COUNTS = (1, 2, 4, 8)  # workers of one machine
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}  # of the first losses, relative
RANDOM = ("dropout", "drop_path")  # kinds of operation
LEAST = 1.0  # seconds that a round of one worker takes, of as many steps as that needs
RATE = 0.01


@dataclass(frozen=True)
class Exchange:
    """What a worker sums with the others in one step."""

    sums: int  # one after the other
    bytes: int  # of the tensors in them


@dataclass(frozen=True)
class ScaleResult:
    """Seconds of a step, round by round, by the number of workers."""

    model: str
    batch: int  # of each worker
    size: int
    classes: int
    precision: str
    each: str  # what a worker has: "a GPU", "1 core"
    exchange: Exchange
    seconds: Mapping[int, tuple[float, ...]]

    def efficiency(self, workers: int) -> tuple[float, float, float]:
        """What is left of a worker's speed in a group of so many: (median, lower, upper quartile) over the rounds."""
        low, middle, high = np.percentile(np.divide(self.seconds[1], self.seconds[workers]), (25, 50, 75))
        return float(middle), float(low), float(high)

    def images_per_second(self, workers: int) -> float:
        """Of all workers together, by the median."""
        return workers * self.batch / float(np.median(self.seconds[workers]))

    def to_json(self) -> dict[str, object]:
        """Plain numbers: settings and figures."""
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
    size: int | None = None,
    classes: int | None = None,
    precision: str = "float32",
    rounds: int = 10,
    progress: Progress | None = None,
) -> ScaleResult:
    """Groups of 1, 2, 4 and 8 workers, as many as this machine has GPUs or cores for.

    ValueError on a machine with one core and no GPU. RuntimeError where a worker fails, or a group has another loss.
    """
    entry, (places, each) = find(model), places_here()
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
            if not groups[1].about["random"] and abs(losses[n] / losses[1] - 1) > TOLERANCE[precision]:
                raise RuntimeError(f"{n} workers have a loss of {losses[n]:.6g} where one has {losses[1]:.6g}")
        exchange = Exchange(groups[1].about["sums"], groups[1].about["bytes"])
        steps = max(1, round(LEAST / groups[1].step(1)[0]))
        for number in range(-1, rounds):  # a round before the first is not counted
            for n, group in groups.items():
                taken = group.step(steps)[0] / steps
                if number >= 0:
                    seconds[n].append(taken)
            if progress:
                progress(f"round {number + 1}", number + 1, rounds)
    found = {n: tuple(taken) for n, taken in seconds.items()}
    return ScaleResult(model, batch, size, classes, precision, each, exchange, found)


# The parent's side -----------------------------------------------------------------------------------------------

Place = Mapping[str, Sequence[int]]  # "gpu" or "cores": their numbers


def places_here() -> tuple[list[Place], str]:
    """(a place for each worker, what each is). ValueError where there is but one."""
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
        raise ValueError("there is a place for one worker here; scaling needs two GPUs, or two cores on Linux")
    return places, each


@dataclass(frozen=True)
class Group:
    """Workers that step together when they are told."""

    processes: Sequence[subprocess.Popen]
    said: Sequence[IO[str]]  # what each writes on stderr
    about: Mapping[str, int]  # what the first told of its step

    @staticmethod
    @contextmanager
    def of(order: Mapping[str, object], places: Sequence[Place]) -> Iterator[Group]:
        """A worker at each place, alive within the context."""
        with ExitStack() as stack:
            said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in places]
            processes = []
            for environment, place, err in zip(_environments(places), places, said, strict=True):
                process = stack.enter_context(_start(order, environment, place.get("cores"), err))
                stack.callback(process.kill)  # before the context waits for it
                processes.append(process)
            yield Group(processes, said, _hear(processes, said)[0])

    def step(self, count: int) -> tuple[float, float]:
        """(seconds that the slowest took for so many steps, the last loss). RuntimeError where a worker fails."""
        for process in self.processes:
            print(count, file=process.stdin, flush=True)
        told = _hear(self.processes, self.said)
        return max(t["seconds"] for t in told), told[0]["loss"]


def _hear(processes: Sequence[subprocess.Popen], said: Sequence[IO[str]]) -> list[dict]:
    """The next line of each. RuntimeError with the last words of one that has ended."""
    lines = [process.stdout.readline() for process in processes if process.stdout]
    for line, err in zip(lines, said, strict=True):
        if not line:
            err.seek(0)
            words = err.read().strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"a worker ended: {words[-1]}")
    return [json.loads(line) for line in lines]


def _environments(places: Sequence[Place]) -> list[dict[str, str]]:
    """What each worker finds in its environment: the cluster, unless it is alone, and its GPU."""
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
            told = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
            environment["TF_CONFIG"] = json.dumps(told)
        if "gpu" in place:
            environment["CUDA_VISIBLE_DEVICES"] = str(place["gpu"][0])
        environments.append(environment)
    return environments


def _start(
    order: Mapping[str, object], environment: Mapping[str, str], cores: Sequence[int] | None, err: IO[str]
) -> subprocess.Popen:
    words = [sys.executable, "-m", "benchmarks.measurements.scale", json.dumps(order)]
    before = os.sched_getaffinity(0) if cores else None
    try:
        if cores:
            os.sched_setaffinity(0, cores)  # a child has those of the thread that starts it, from its first breath
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, text=True, env=environment
        )
    finally:
        if before:
            os.sched_setaffinity(0, before)


# A worker's side -------------------------------------------------------------------------------------------------


def work(model: str, batch: int, size: int, classes: int, precision: str) -> None:
    """Tell of the step; then take as many as each line of stdin says, and tell how long they took."""
    cluster = make_cluster("multiworker") if "TF_CONFIG" in os.environ else None
    recipe = Recipe("scale", "ours", batch=batch, epochs=1, rate=RATE, momentum=0.9)
    with cluster.scope() if cluster else nullcontext():
        network = rawcnn.create(model, size=size, classes=classes, precision=precision)
        state = State.begin(network, recipe)
    choice = cluster.choose("auto", network) if cluster else choose("auto", (), precision)
    step = (cluster.make_step if cluster else make_step)(network, recipe, state, choice)
    _tell({} if cluster else told_of(network, recipe, state))
    generator = np.random.default_rng(0)
    images = tf.constant(generator.random((batch, size, size, 3), np.float32))
    labels = tf.constant(generator.integers(0, classes, batch), tf.int32)
    seed, rate = tf.constant([0, 0]), tf.constant(RATE)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            metrics = step(images, labels, seed, rate)
        loss = float(metrics["loss"])  # waits for the last step
        _tell({"seconds": time.perf_counter() - start, "loss": loss})


def _tell(what: Mapping[str, object]) -> None:
    print(json.dumps(what), flush=True)


def told_of(network: Network, recipe: Recipe, state: State) -> dict[str, int]:
    """What a step sums over the workers, counted in its trace, and whether anything is random in it."""
    summed: list[list[tf.Tensor]] = []

    def total(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        summed.append(tensors)
        return tensors

    def step(images, labels, seed, rate):
        with running_on(Replica(0, 2, total)):
            return TrainStep(network, recipe, fused=True)(state, images, labels, seed, rate)

    shapes = (recipe.batch, network.input_size, network.input_size, 3), (recipe.batch,), (2,), ()
    types = tf.float32, tf.int32, tf.int32, tf.float32
    tf.function(step, autograph=False).get_concrete_function(*map(tf.TensorSpec, shapes, types))
    size = sum(t.shape.num_elements() * t.dtype.size for tensors in summed for t in tensors)
    random = any(operation.kind in RANDOM for operation in network.operations)
    return {"sums": len(summed), "bytes": size, "random": int(random)}


if __name__ == "__main__":
    work(**json.loads(sys.argv[1]))
