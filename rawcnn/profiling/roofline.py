"""How long each layer takes on this machine, beside what the machine can do.

Two limits bound a layer (Williams, Waterman, Patterson, "Roofline", 2009): arithmetic, measured as a 2048² matmul, and
memory, measured as a sum of long vectors in place. A layer of intensity I FLOP/byte can reach
min(arithmetic, I·memory) and no more, unless its tensors stay in the caches.
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
NOTHING = 1e-7  # seconds: the least that a layer is said to take
NEAR = 0.6  # of its limit: what a layer that reaches this does is what its limit says
FEW = 16  # channels: as many float32 numbers as a vector register of AVX-512 holds


@dataclass(frozen=True)
class Machine:
    """This machine's measured limits."""

    flops_per_second: float  # a square matmul in the profile's precision
    bytes_per_second: float  # read twice and written once by a sum in place

    def attainable(self, intensity: float) -> float:
        """The roofline: FLOP/s that a layer of this intensity can reach."""
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
    limit: str  # "arithmetic" or "memory": which of the two bounds this layer
    reached: float  # fraction of that bound
    resolved: bool  # False where the layer takes less than a call costs: its time is then that of noise
    reason: str  # why it takes that long
    alike: str  # the first layer of the same kind, shape and setting: measured for all of them

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """All layers of a profile on this machine."""

    machine: Machine
    call: float  # seconds that calling a compiled function costs by itself, taken off each layer's time
    choice: Choice  # how the layers ran, and why
    timings: list[LayerTiming]
    onednn: bool  # whether TensorFlow ran oneDNN's CPU kernels

    def slowest(self, count: int = 5) -> list[tuple[LayerTiming, int]]:
        """(the first layer, how many are alike) of those layers that together take longest."""
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
    """Median seconds of `call`, whose tensors are waited for, after one call that is not counted.

    A short call is made many times in a row, so that one measurement takes `least` seconds and the clock and the wait
    do not count.
    """

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            results = call()
        for tensor in tf.nest.flatten(results):
            tf.reshape(tensor, (-1,))[:1].numpy()  # waits for the device without moving the whole
        return time.perf_counter() - start

    run(1)
    count = max(1, min(100, round(least / max(run(1), 1e-6))))
    return median(run(count) / count for _ in range(repeats))


def machine_limits(dtype: tf.DType = tf.float32) -> Machine:
    """Measure this machine's matmul and memory."""
    square = tf.cast(tf.random.stateless_uniform((MATMUL_SIDE, MATMUL_SIDE), (0, 1)), dtype)
    long, added = tf.Variable(tf.ones(COPY_BYTES // 4)), tf.ones(COPY_BYTES // 4)
    multiply = tf.function(lambda: tf.matmul(square, square), autograph=False)

    @tf.function(autograph=False)
    def add():
        long.assign_add(added)  # in place: no fresh pages for the system to zero
        return long[0]

    return Machine(2 * MATMUL_SIDE**3 / seconds_of(multiply), 3 * COPY_BYTES / seconds_of(add))


def measure(
    profile: Profile, *, compile: str = "auto", repeats: int = 5, progress: Progress | None = None
) -> Measurement:
    """Time every layer of `profile` alone. Layers of one kind, shape and setting are measured once."""
    choice = choose(compile, (), profile.precision)
    dtype = PRECISIONS[profile.precision]
    machine = machine_limits(dtype)
    nothing, little = compiled(tf.identity, choice), tf.zeros((1, 1))
    call = seconds_of(lambda: nothing(little), repeats)
    known: dict[str, tuple[float, str]] = {}  # what a layer does → its seconds, and its name
    measured = []
    for done, operation in enumerate(profile.operations, start=1):
        key = repr(_work_of(operation))
        if key not in known:
            known[key] = max(_time(operation, choice, dtype, repeats) - call, NOTHING), operation.name
        measured.append((operation, *known[key]))
        if progress:
            progress(done, len(profile.operations))
    total = sum(seconds for _, seconds, _ in measured)
    timings = [_timing(o, s, s / total, machine, dtype, call, alike) for o, s, alike in measured]
    return Measurement(machine, call, choice, timings, onednn.in_use())


def _work_of(operation: Operation) -> tuple:
    """What a layer does: layers with the same take the same time. A convolution's "SAME" and equal pixels are one."""
    shapes = operation.input_shapes, operation.output_shape, [p.shape for p in operation.parameters]
    s: dict[str, Any] = operation.settings
    if operation.kind == "conv":
        image, (kh, kw, *_) = operation.input_shapes[0][1:3], operation.parameters[0].shape
        s = s | {"padding": window_padding(s["padding"], image, (kh, kw), s["stride"], s["dilation"])}
    return operation.kind, shapes, s


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
    """Why a layer takes its time: its limit where it comes near that, else what its shape has to do with it."""
    if not resolved:
        return "takes less than a call costs"
    flops, mebibytes = operation.cost.flops, moved / 2**20
    if reached > 1.1 and limit == "arithmetic":
        if operation.kind == "conv" and operation.parameters[0].shape[:2] == (3, 3):
            return f"needs fewer multiplications than the {flops / 1e9:.2f} GFLOP that are counted: Winograd's form"
        return f"does {flops / 1e9:.2f} GFLOP, faster than the large matmul that is the limit here"
    if reached > 1.1:
        return f"its {mebibytes:.1f} MiB stay in the caches, faster than memory"
    if reached > NEAR:
        return f"does {flops / 1e9:.2f} GFLOP" if limit == "arithmetic" else f"moves {mebibytes:.1f} MiB"
    if operation.kind in ("conv", "dense"):
        weights, (rows, channels) = operation.parameters[0].shape, _rows_and_channels(operation)
        if channels // _groups(operation) < FEW:
            return f"reads {channels // _groups(operation)} channels at a time: vector units stay partly empty"
        if rows < max(prod(weights[:-1]), weights[-1]):
            shared = f"{rows:,} image" + "s" * (rows > 1) if operation.kind == "dense" else f"{rows:,} pixels"
            return f"only {shared} for {prod(weights):,} weights, which take long to read and to order"
    if limit == "memory" and operation.kind in ("batch_norm", "lrn", "max_pool", "average_pool"):
        return "goes over its tensors more than once"
    return f"reaches {reached:.0%} of its {limit} limit; its shape does not tell why"


def _rows_and_channels(operation: Operation) -> tuple[int, int]:
    """Of the matmul that a layer amounts to: its rows, one a pixel of each image, and its input channels."""
    return prod(operation.output_shape[:-1]), operation.input_shapes[0][-1]


def _groups(operation: Operation) -> int:
    groups = operation.settings.get("groups", 1)
    assert isinstance(groups, int)
    return groups
