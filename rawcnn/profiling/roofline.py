"""Measure each layer's time on this machine, and compare it with the machine's limits.

Two limits bound a layer (Williams, Waterman, Patterson, "Roofline", 2009). The limit of arithmetic is measured with a
2048² matmul, the limit of memory with an in-place sum of long vectors. A layer of intensity I FLOP/byte reaches at most
min(arithmetic, I·memory), unless its tensors stay in the caches.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from statistics import median
from typing import Any

import tensorflow as tf

import onednn
from kernels.geometry import window_padding
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import Choice, choose, compiled
from rawcnn.nn.trace import PRECISIONS, Operation
from rawcnn.profiling.costs import Profile, bytes_moved

MATMUL_SIDE = 2048
COPY_BYTES = 128 * 2**20
SHORTEST = 1e-7  # seconds: lower bound of a layer's reported time
NEAR = 0.6  # share of its limit from which on the limit explains a layer's time
FEW = 16  # channels: float32 values in a vector register of AVX-512


@dataclass(frozen=True)
class Machine:
    """This machine's measured limits."""

    flops_per_second: float  # a square matmul in the profile's precision
    bytes_per_second: float  # an in-place sum reads two vectors and writes one

    def attainable(self, intensity: float) -> float:
        """Return the FLOP/s that a layer of this intensity (FLOP/byte) can reach."""
        return min(self.flops_per_second, intensity * self.bytes_per_second)


@dataclass(frozen=True)
class LayerTiming:
    """One layer's forward pass, measured alone with its inputs in memory."""

    name: str
    kind: str
    seconds: float  # median
    share: float  # of the sum over all layers
    flops_per_second: float
    bytes_per_second: float
    limit: str  # "arithmetic" or "memory": the limit that bounds this layer
    reached: float  # share of that limit
    resolved: bool  # False if the layer takes less time than a call, so that its time is mostly noise
    reason: str  # explains the time
    alike: str  # the first layer of the same kind, shape and settings, which was measured for all of them

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """All layers of a profile on this machine."""

    machine: Machine
    call: float  # seconds that a call of an empty compiled function takes; subtracted from each layer's time
    choice: Choice  # how the layers were compiled, and why
    timings: list[LayerTiming]
    onednn: bool  # whether TensorFlow ran oneDNN's CPU kernels

    def slowest(self, count: int = 5) -> list[tuple[LayerTiming, int]]:
        """Return (first layer, number of equal layers) of the groups of equal layers that take longest together."""
        many = Counter(timing.alike for timing in self.timings)
        firsts = [timing for timing in self.timings if timing.name == timing.alike]
        ranked = sorted(firsts, key=lambda timing: -timing.seconds * many[timing.name])
        return [(timing, many[timing.name]) for timing in ranked[:count]]

    def to_dict(self) -> dict[str, object]:
        return {
            "machine": asdict(self.machine),
            "seconds_of_a_call": self.call,
            "compile": asdict(self.choice),
            "onednn": self.onednn,
            "layers": [timing.to_dict() for timing in self.timings],
        }


def seconds_of(call: Callable[[], object], repeats: int = 5, least: float = 2e-3) -> float:
    """Return the median time of a call in seconds, after one warm-up call.

    Args:
        call: A function that returns tensors. The measurement waits for them.
        repeats: Number of measurements.
        least: Seconds that a measurement takes at least. Short calls are repeated within it, so that the clock and the
            wait do not matter.
    """

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            results = call()
        for tensor in tf.nest.flatten(results):
            tf.reshape(tensor, (-1,))[:1].numpy()  # waits for the device but moves one value only
        return time.perf_counter() - start

    run(1)
    count = max(1, min(100, round(least / max(run(1), 1e-6))))
    return median(run(count) / count for _ in range(repeats))


def machine_limits(dtype: tf.DType = tf.float32) -> Machine:
    """Measure this machine's arithmetic (a square matmul) and memory (an in-place sum)."""
    square = tf.cast(tf.random.stateless_uniform((MATMUL_SIDE, MATMUL_SIDE), (0, 1)), dtype)
    long, added = tf.Variable(tf.ones(COPY_BYTES // 4)), tf.ones(COPY_BYTES // 4)
    multiply = tf.function(lambda: tf.matmul(square, square), autograph=False)

    @tf.function(autograph=False)
    def add():
        long.assign_add(added)  # in place: new pages would have to be zeroed by the system
        return long[0]

    return Machine(2 * MATMUL_SIDE**3 / seconds_of(multiply), 3 * COPY_BYTES / seconds_of(add))


def measure(
    profile: Profile, *, compile: str = "auto", repeats: int = 5, progress: Progress | None = None
) -> Measurement:
    """Time every layer of a profile alone. Layers of one kind, shape and settings are measured once.

    Args:
        profile: The counted costs.
        compile: "auto", "eager", "graph" or "xla".
        repeats: Measurements of a layer; their median counts.
        progress: Is called with (layers done, layers in all).
    """
    choice = choose(compile, (), profile.precision)
    dtype = PRECISIONS[profile.precision]
    machine = machine_limits(dtype)
    empty, tensor = compiled(tf.identity, choice), tf.zeros((1, 1))
    call = seconds_of(lambda: empty(tensor), repeats)
    known: dict[str, tuple[float, str]] = {}  # description of a layer's work → its seconds, and its name
    measured = []
    for done, operation in enumerate(profile.operations, start=1):
        key = repr(_work_of(operation))
        if key not in known:
            known[key] = max(_time(operation, choice, dtype, repeats) - call, SHORTEST), operation.name
        measured.append((operation, *known[key]))
        if progress:
            progress(done, len(profile.operations))
    total = sum(seconds for _, seconds, _ in measured)
    timings = [_timing(o, s, s / total, machine, dtype, call, alike) for o, s, alike in measured]
    return Measurement(machine, call, choice, timings, onednn.in_use())


def _work_of(operation: Operation) -> tuple:
    """Describe a layer's work: equal work takes equal time. A convolution's padding is given in pixels."""
    shapes = operation.input_shapes, operation.output_shape, [p.shape for p in operation.parameters]
    settings: dict[str, Any] = operation.settings
    if operation.kind == "conv":
        image, (kh, kw, *_) = operation.input_shapes[0][1:3], operation.parameters[0].shape
        padding = window_padding(settings["padding"], image, (kh, kw), settings["stride"], settings["dilation"])
        settings = settings | {"padding": padding}
    return operation.kind, shapes, settings


def _time(operation: Operation, choice: Choice, dtype: tf.DType, repeats: int) -> float:
    def values(shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
        return tf.cast(tf.random.stateless_uniform(shape, (len(shape), shape[-1])), dtype)

    tensors = [values(shape, dtype) for shape in operation.input_shapes]
    tensors += [values(p.shape, p.dtype) for p in operation.parameters]
    run = compiled(operation.kernel, choice)
    return seconds_of(lambda: run(*tensors), repeats)


def _timing(
    operation: Operation, seconds: float, share: float, machine: Machine, dtype: tf.DType, call: float, alike: str
) -> LayerTiming:
    moved, flops = bytes_moved(operation, dtype.size), operation.cost.flops
    intensity = flops / moved
    arithmetic = intensity * machine.bytes_per_second > machine.flops_per_second
    rate, bandwidth = flops / seconds, moved / seconds
    reached = rate / machine.flops_per_second if arithmetic else bandwidth / machine.bytes_per_second
    limit = "arithmetic" if arithmetic else "memory"
    reason = _reason(operation, limit, reached, seconds > call, moved)
    return LayerTiming(
        operation.name, operation.kind, seconds, share, rate, bandwidth, limit, reached, seconds > call, reason, alike
    )


def _reason(operation: Operation, limit: str, reached: float, resolved: bool, moved: int) -> str:
    """Explain a layer's time: by its limit if it comes near to that, else by its shape."""
    if not resolved:
        return "takes less time than a call"
    flops, mebibytes = operation.cost.flops, moved / 2**20
    if reached > 1.1 and limit == "arithmetic":
        if operation.kind == "conv" and operation.parameters[0].shape[:2] == (3, 3):
            return f"Winograd's form needs fewer multiplications than the {flops / 1e9:.2f} GFLOP that are counted"
        return f"does {flops / 1e9:.2f} GFLOP faster than the matmul that measures the limit"
    if reached > 1.1:
        return f"its {mebibytes:.1f} MiB stay in the caches, which are faster than memory"
    if reached > NEAR:
        return f"does {flops / 1e9:.2f} GFLOP" if limit == "arithmetic" else f"moves {mebibytes:.1f} MiB"
    if operation.kind in ("conv", "dense"):
        weights, (rows, channels) = operation.parameters[0].shape, _rows_and_channels(operation)
        if channels // _groups(operation) < FEW:
            return f"reads {channels // _groups(operation)} channels at a time, so vector units stay partly empty"
        if rows < max(prod(weights[:-1]), weights[-1]):
            shared = f"{rows:,} image" + "s" * (rows > 1) if operation.kind == "dense" else f"{rows:,} pixels"
            return f"only {shared} for {prod(weights):,} weights, which take long to read and to rearrange"
    if limit == "memory" and operation.kind in ("batch_norm", "lrn", "max_pool", "average_pool"):
        return "reads its tensors more than once"
    return f"reaches {reached:.0%} of its {limit} limit; its shape does not explain why"


def _rows_and_channels(operation: Operation) -> tuple[int, int]:
    """Return the rows (output pixels of all images) and the input channels of the matmul that equals the layer."""
    return prod(operation.output_shape[:-1]), operation.input_shapes[0][-1]


def _groups(operation: Operation) -> int:
    groups = operation.settings.get("groups", 1)
    assert isinstance(groups, int)
    return groups
