"""The devices of a run: one, or several that share each batch by TensorFlow's `tf.distribute`.

    mirrored       all GPUs of this machine; without GPUs its logical CPU devices
    multiworker    several machines with one process each; TF_CONFIG in the environment describes them

Each device holds a copy of the variables and takes a part of every batch. The step is that of one device
(`rawcnn.training.step`): gradients, batch-norm moments and metrics are summed over all devices, and each device updates
its own copy by the same values. A run on many devices therefore takes the steps of a run on one; only the order of the
sums differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import tensorflow as tf

from kernels.dispatch.replica import Replica, running_on
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.execution import Choice, choose, traced_for
from rawcnn.nn.network import Network
from rawcnn.training.collectives import Collectives, Votes, WorkerCollectives, WorkerLost
from rawcnn.training.recipes import Recipe
from rawcnn.training.shared_folder import check_shared_folder
from rawcnn.training.step import Adversary, State, Tensors, TrainStep, make_step
from rawcnn.training.tf_config import check_configuration

STRATEGIES = ("mirrored", "multiworker")


class SingleDevice:
    """A run in one process on one device: the interface of `Cluster`, with nothing to share.

    Attributes:
        count: The number of devices.
        workers: The number of processes.
        worker: The number of this process, from 0.
        writes: Whether this process writes checkpoints, events and results; one process does.
        part: (worker, workers), the part of each batch that this process reads.
    """

    count = workers = 1
    worker = 0
    writes = True
    part = (0, 1)

    def __init__(self) -> None:
        self.collectives = Collectives()
        self.votes = Votes(self.collectives)

    def choose(self, mode: str, network: Network) -> Choice:
        """Choose how the step runs. Raises ValueError for an unknown mode."""
        return choose(mode, network.devices, network.precision)

    def scope(self) -> AbstractContextManager:
        """Return the context in which variables must be created."""
        return nullcontext()

    def check(self, recipe: Recipe) -> None:
        """Check that the devices can share the recipe's batch."""

    def check_folder(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Check that all workers share the folder and have the same settings."""

    def make_step(
        self, network: Network, recipe: Recipe, state: State, choice: Choice, adversary: Adversary | None = None
    ) -> Callable[..., Tensors]:
        """Return the compiled step (images, labels, seed [2], rate) → metrics."""
        return make_step(network, recipe, state, choice, adversary)

    def common_batches(self, images: int, batch: int) -> int:
        """Return in how many batches of an evaluation all workers have images."""
        return -(-images // batch)

    def merge(self, part: Evaluation) -> Evaluation:
        """Return the evaluation of all images from that of this process's part."""
        return part


class Cluster:
    """The devices of a run that share each batch. Attributes and methods are those of `SingleDevice`.

    Further attributes:
        strategy: TensorFlow's strategy.
        name: "mirrored" or "multiworker".
        local: The number of devices of this process.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.strategy = strategy
        multiworker = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        self.name = "multiworker" if multiworker else "mirrored"
        self.count = strategy.num_replicas_in_sync
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec().as_dict() if resolver else {}
        self.workers = len(spec.get("worker", ())) or 1
        self.worker = int(resolver.task_id or 0) if resolver else 0
        self.local = self.count // self.workers
        self.writes, self.part = self.worker == 0, (self.worker, self.workers)
        self.collectives: Collectives = WorkerCollectives(strategy, self.workers, self.local)
        self.votes = Votes(self.collectives)

    def choose(self, mode: str, network: Network) -> Choice:
        """Choose how the step runs: as on one device, but not compiled by XLA.

        Raises:
            ValueError: The mode is "xla" or unknown.
        """
        if mode == "xla":
            raise ValueError('XLA compiles for one device, and this step is shared by several; use "graph" instead')
        choice = choose(mode, (), network.precision)
        return Choice("graph", "XLA does not compile sums over devices") if choice.mode == "xla" else choice

    def scope(self) -> AbstractContextManager:
        """Return the context in which each new variable gets a copy on each device."""
        return self.strategy.scope()

    def check(self, recipe: Recipe) -> None:
        """Check that the recipe's batch has equal parts for all devices. Raises ValueError."""
        if recipe.batch % self.count:
            raise ValueError(f"a batch of {recipe.batch} has no {self.count} equal parts; give another --batch")

    def check_folder(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Check that all workers share the folder and have the same settings. Raises ValueError."""
        if self.workers > 1:
            check_shared_folder(self.collectives, self.worker, folder, settings)

    def make_step(
        self, network: Network, recipe: Recipe, state: State, choice: Choice, adversary: Adversary | None = None
    ) -> Callable[..., Tensors]:
        """Return the compiled step (images, labels, seed [2], rate) → metrics of the whole batch.

        Images and labels are this process's part of the batch.
        """
        step = partial(TrainStep(network, recipe, fused=True, adversary=adversary), state)

        def on_each_device(images, labels, seed, rate):
            context = tf.distribute.get_replica_context()
            total = partial(context.all_reduce, tf.distribute.ReduceOp.SUM)
            with running_on(Replica(context.replica_id_in_sync_group, self.count, total)):
                return traced_for(step, choice.mode)(images, labels, seed, rate)

        def on_all_devices(images, labels, seed, rate):
            batch = (self._distribute(tf.split(t, self.local)) for t in (images, labels))
            metrics = self.strategy.run(on_each_device, (*batch, seed, rate))
            return {name: self.strategy.experimental_local_results(value)[0] for name, value in metrics.items()}

        return tf.function(on_all_devices, autograph=False, jit_compile=False)

    def _distribute(self, parts: list[tf.Tensor]):
        """One part for each local device."""
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group % self.local]
        )

    def common_batches(self, images: int, batch: int) -> int:
        """Return in how many batches of an evaluation all workers have images: in the complete ones."""
        return images // batch

    def merge(self, part: Evaluation) -> Evaluation:
        """Return the evaluation of all images; predictions and labels stay those of this worker's part."""
        sums = self.collectives.total([part.count, part.correct, part.correct5, part.loss * part.count])
        count, correct, correct5 = (round(s) for s in sums[:3])
        return replace(part, count=count, correct=correct, correct5=correct5, loss=float(sums[3] / count))


Devices = SingleDevice | Cluster


def make_cluster(strategy: str, replicas: int | None = None) -> Cluster:
    """Find the devices of a strategy. This must come before TensorFlow has done anything.

    Args:
        strategy: "mirrored" or "multiworker".
        replicas: With "mirrored", on a machine without GPUs: the number of logical CPU devices to create.

    Raises:
        ValueError: The strategy is unknown, TF_CONFIG is missing or wrong, or `replicas` is given on a machine with
            GPUs.
        WorkerLost: This worker's port is in use.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
    if strategy == "mirrored":
        if replicas:
            _create_logical_devices(replicas)
        gpus, cpus = (tf.config.list_logical_devices(device) for device in ("GPU", "CPU"))
        return _mirrored(tuple(device.name for device in gpus or cpus))
    check_configuration()
    try:
        return Cluster(tf.distribute.MultiWorkerMirroredStrategy())
    except tf.errors.UnknownError as error:
        raise WorkerLost(
            f"this worker's port in TF_CONFIG is in use ({error.message}); check whether an earlier worker still runs"
        ) from error


@cache
def _mirrored(devices: tuple[str, ...]) -> Cluster:
    """One per process: the collective operations of two strategies over the same devices would mix their values."""
    return Cluster(tf.distribute.MirroredStrategy(devices))


def _create_logical_devices(count: int) -> None:
    (cpu,), gpus = tf.config.list_physical_devices("CPU"), tf.config.list_physical_devices("GPU")
    if gpus:
        raise ValueError(
            f"--replicas is for machines without GPUs; this one has {len(gpus)}, all of which are used: leave it out"
        )
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
