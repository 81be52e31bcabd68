"""One training on many devices, by TensorFlow's own engine: a copy of the variables on each, a part of every batch.

    mirrored       all GPUs of this machine; without one its logical CPU devices
    multiworker    several machines, a process each; TF_CONFIG in the environment says which

The step is that of one device (`rawcnn.training.step`), written for a part of the batch: gradients, batch-norm moments
and metrics are summed over all parts (`kernels.dispatch.replica`), and each device then moves its own copy by the same
numbers. So a run on many devices takes the steps of a run on one, but for the order of sums.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from textwrap import shorten

import numpy as np
import tensorflow as tf

from kernels.dispatch.replica import Replica, running_on
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.execution import Choice, choose, traced_for
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import Adversary, State, Tensors, update_in_place

STRATEGIES = ("mirrored", "multiworker")
SUCH_AS = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
ASK_EVERY, MOST_BETWEEN = 5.0, 20  # seconds and steps between two questions to all workers, whether to stop
SEEN = 90.0  # seconds until a file of another machine is seen: a network's file system may remember that there is none
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError)


class WorkerLost(RuntimeError):
    """Another worker is gone; started again, all go on from the last checkpoint."""

    exit_code = 75  # of the command: EX_TEMPFAIL of sysexits.h


class Cluster:
    """The devices of a run.

    `count` replicas share each batch; of `workers` processes this one, `worker`, has `local` of them.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        many = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.name = "multiworker" if many else "mirrored"
        self.count = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = len(spec.get("worker", ())) or 1
        self.worker = int(resolver.task_id or 0) if resolver else 0
        self.local = self.count // self.workers
        self.ask_soon()

    def choose(self, mode: str, precision: str) -> Choice:
        """How the step runs: as on one device, but not by XLA as a whole. ValueError where that is asked for."""
        if mode == "xla":
            raise ValueError('XLA compiles for one device, and this step is shared by several; use "graph" instead')
        choice = choose(mode, (), precision)
        return Choice("graph", "sums over devices are none of XLA's operations") if choice.mode == "xla" else choice

    @property
    def writes(self) -> bool:
        """Is it this process that writes checkpoints, events and results? One does."""
        return self.worker == 0

    def scope(self) -> AbstractContextManager:
        """Within, variables that are made get a copy on each device."""
        return self.strategy.scope()

    def check(self, recipe: Recipe) -> None:
        """ValueError unless the recipe's batch has equal parts."""
        if recipe.batch % self.count:
            raise ValueError(f"a batch of {recipe.batch} has no {self.count} equal parts; give another --batch")

    def step_of(
        self, network: Network, recipe: Recipe, state: State, choice: Choice, adversary: Adversary | None = None
    ) -> Callable[..., Tensors]:
        """The compiled step (images, labels, seed [2], rate) → metrics of the whole batch.

        Images and labels are this process's part of it.
        """
        update = partial(update_in_place, network, recipe, state, adversary=adversary)

        def replica(images, labels, seed, rate):
            context = tf.distribute.get_replica_context()
            total = partial(context.all_reduce, tf.distribute.ReduceOp.SUM)
            with running_on(Replica(context.replica_id_in_sync_group, self.count, total)):
                return traced_for(update, choice.mode)(images, labels, seed, rate)

        def step(images, labels, seed, rate):
            parts = [tf.split(t, self.local) for t in (images, labels)]
            here = [self.strategy.experimental_distribute_values_from_function(partial(self._part, p)) for p in parts]
            metrics = self.strategy.run(replica, (*here, seed, rate))
            return {name: self.strategy.experimental_local_results(value)[0] for name, value in metrics.items()}

        return tf.function(step, autograph=False, jit_compile=False)

    def _part(self, parts: list[tf.Tensor], context: tf.distribute.ValueContext) -> tf.Tensor:
        return parts[context.replica_id_in_sync_group % self.local]

    def total(self, values: Sequence[float]) -> np.ndarray:
        """The sums of numbers over all workers, float64: each comes here with its own."""
        with self.lost_told():
            mine = self.strategy.run(self._once, (tf.constant(values, tf.float64),))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, mine, axis=None).numpy()

    def _once(self, values: tf.Tensor) -> tf.Tensor:
        """Of the devices of a process the first comes with its values, the others with zeros: the sums are exact."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return values if replica % self.local == 0 else tf.zeros_like(values)

    @contextmanager
    def lost_told(self) -> Iterator[None]:
        """Within, WorkerLost is raised where a collective fails."""
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise WorkerLost(f"another worker is gone ({_said(error)}); start all again to go on") from error

    def ask_soon(self) -> None:
        """The next `ask` is asked. For all workers at the same place, where what they do will take another time."""
        self._between, self._left, self._asked = 1, 1, time.monotonic()

    def ask(self, *mine: bool) -> list[bool] | None:
        """Does any worker say yes, to each? None where they did not ask each other: they do every few seconds.

        All come here after the same steps. How many are between two questions follows from the mean time of all, so
        that all ask at once.
        """
        self._left -= 1
        if self._left:
            return None
        now = time.monotonic()
        *yes, seconds = self.total([*mine, now - self._asked])
        pace = seconds / self.workers / self._between
        self._left = self._between = int(np.clip(ASK_EVERY / max(pace, 1e-3), 1, MOST_BETWEEN))
        self._asked = now
        return [bool(answer) for answer in yes]

    def wait(self) -> None:
        """Until all workers are here."""
        self.total([0.0])

    def check_shared(self, folder: Path, about: Mapping[str, str]) -> None:
        """ValueError unless the workers share the folder and what the run is `about`, settings and data by name.

        Each writes a file there, and looks for those of all and into the first's.
        """
        (number,) = self.total([float(time.time_ns() % 2**40) if self.writes else 0.0])
        files = [f".worker-{k}-{number:.0f}" for k in range(self.workers)]
        own = folder / files[self.worker]
        own.write_text(json.dumps(dict(about)), encoding="utf-8")
        try:
            self.wait()
            until = time.monotonic() + SEEN
            while (missing := not set(files) <= set(os.listdir(folder))) and time.monotonic() < until:
                time.sleep(0.2)
            first = {} if missing else json.loads((folder / files[0]).read_text(encoding="utf-8"))
            others = [f"{name} is {about.get(name)} here, {first.get(name)} there" for name in {**first, **about}
                      if first.get(name) != about.get(name)]  # fmt: skip
            missing, different = map(bool, self.total([missing, bool(others) and not missing]))
        finally:
            own.unlink(missing_ok=True)
        if missing:
            raise ValueError(f"not all workers see what the others write in {folder}; name an --output that all share")
        if different:
            told = f"than the first: {', '.join(others)}" if others else "in another process, which says what differs"
            raise ValueError(f"the workers were started with different settings {told}; give all the same command")

    def agree(self, number: int) -> bool:
        """Do all workers come with the same number?"""
        first, second = self.total([number, number**2]) / self.workers
        return bool(first == number and second == number**2)

    def merged(self, part: Evaluation) -> Evaluation:
        """Each worker's evaluation of its part → of all images; predictions and labels stay those of the part."""
        sums = self.total([part.count, part.correct, part.correct5, part.loss * part.count])
        count, correct, correct5 = (round(s) for s in sums[:3])
        return replace(part, count=count, correct=correct, correct5=correct5, loss=float(sums[3] / count))


def _said(error: tf.errors.OpError) -> str:
    """What went wrong by its kind; one that may have other reasons than a lost worker has its first line, too.

    TensorFlow's own function's name, which stands in front of that, is left out.
    """
    lines = str(error.message).split("}} ")[-1].splitlines() if isinstance(error, tf.errors.InternalError) else []
    return ": ".join([type(error).__name__, *(shorten(line, 160, placeholder=" …") for line in lines[:1])])


def cluster_of(strategy: str, replicas: int | None = None) -> Cluster:
    """The devices that a strategy by name finds here; `replicas` are logical CPU devices, made where there is no GPU.

    Before TensorFlow has done anything. ValueError for an unknown strategy, or without a TF_CONFIG.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if strategy == "mirrored":
        if replicas:
            _make_devices(replicas)
        gpus, cpus = (tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU"))
        return _mirrored(tuple(device.name for device in gpus or cpus))
    check_configuration()
    try:
        return Cluster(tf.distribute.MultiWorkerMirroredStrategy())
    except tf.errors.UnknownError as error:
        raise WorkerLost(
            f"this worker's port, as TF_CONFIG has it, is not free ({error.message}); does an earlier worker still run?"
        ) from error


@cache
def _mirrored(devices: tuple[str, ...]) -> Cluster:
    """One in a process: TensorFlow's collectives of two strategies over the same devices take each other's numbers."""
    return Cluster(tf.distribute.MirroredStrategy(devices))


def _make_devices(count: int) -> None:
    (cpu,), gpus = tf.config.list_physical_devices("CPU"), tf.config.list_physical_devices("GPU")
    if gpus:
        raise ValueError(f"--replicas are for a machine without GPUs; this one has {len(gpus)}, which are all taken")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def check_configuration() -> None:
    """ValueError that says what is wrong with TF_CONFIG."""
    if wrong := _wrong_with(os.environ.get("TF_CONFIG")):
        raise ValueError(f"--strategy multiworker needs TF_CONFIG in the environment, such as {SUCH_AS}; {wrong}")


def _wrong_with(text: str | None) -> str | None:
    if not text:
        return "it is not set"
    try:
        told = json.loads(text)
        cluster, task = told["cluster"], told["task"]
        workers, kind, index = cluster["worker"], task["type"], task["index"]
    except json.JSONDecodeError as error:
        return f"it is not JSON ({error})"
    except KeyError as error:
        return f"it has no {error.args[0]}"
    except (TypeError, IndexError):
        return "it has no objects cluster and task"
    if not isinstance(workers, list) or not all(isinstance(w, str) and ":" in w for w in workers):
        return f"its workers are {workers!r}, expected a list of HOST:PORT"
    ports = [worker.rpartition(":")[2] for worker in workers]
    if wrong := [port for port in ports if not port.isdecimal() or not 0 < int(port) < 2**16]:
        return f"{wrong[0]!r} is no port, expected 1 to 65535"
    if len(set(workers)) < len(workers):
        return "it names a worker twice"
    if others := set(cluster) - {"worker"}:  # a chief would write, too
        return f"its cluster has {', '.join(sorted(others))}, expected worker alone"
    if kind != "worker":
        return f"its task is of type {kind!r}, expected worker"
    if not isinstance(index, int) or not 0 <= index < len(workers):
        return f"its index is {index!r}, expected 0 to {len(workers) - 1}"
    return None
