"""Race of the interchangeable forms of a kernel, each as a TensorFlow graph and compiled by XLA.

A case is one kernel on one shape, forward or with its gradients. The outputs are compared with those of the first form
before anything is timed. GFLOP/s are the operations that `kernels.*_cost` counts, divided by the median. The count is
the same for all forms, also for those that need fewer operations (Winograd), so that they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import tensorflow as tf

import kernels
from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.timing import Timing, interleaved, memory_of, timed
from benchmarks.stablehlo.arrays import draw
from kernels.dispatch.normalization import BATCH_NORMS
from kernels.dispatch.pooling import POOLS
from kernels.dispatch.response import RESPONSE_NORMS
from rawcnn.nn.execution import choose, compiled

MODES = ("graph", "xla")
# Largest difference from the first form, relative to the largest value. The error of F(4×4) is 1e-5 in float32.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass(frozen=True)
class KernelCase:
    """One kernel on one shape [B,H,W,C]."""

    kernel: str  # a key of KERNELS
    batch: int
    size: int  # height and width
    channels: int
    out: int = 0  # output channels of a convolution
    window: int = 0  # side of the filter or of the pool's window
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        parts = [f"{self.batch}×{self.size}×{self.size}×{self.channels}"]
        if self.out:
            parts.append(f"→ {self.out}")
        if self.window:
            parts.append(f"{self.window}×{self.window}/{self.stride}")
        if self.groups > 1:
            parts.append(f"in {self.groups} groups")
        return f"{self.kernel} {' '.join(parts)}"

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.batch, self.size, self.size, self.channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        side = -(-self.size // self.stride)  # "SAME"
        return self.batch, side, side, self.out or self.channels


# Layers that take most of the networks' time, and a small one.
CASES = (
    KernelCase("conv2d", 8, 112, 128, 128, 3),  # VGG's second stage
    KernelCase("conv2d", 8, 56, 64, 64, 3),  # ResNet-18's first
    KernelCase("conv2d", 8, 28, 128, 128, 3),
    KernelCase("conv2d", 8, 14, 256, 256, 3),
    KernelCase("conv2d", 8, 7, 512, 512, 3),
    KernelCase("conv2d", 8, 56, 64, 256, 1),  # ResNet-50's bottleneck
    KernelCase("conv2d", 8, 14, 1024, 256, 1),
    KernelCase("conv2d", 8, 224, 3, 64, 7, 2),  # the stem
    KernelCase("conv2d", 8, 227, 3, 96, 11, 4),  # AlexNet's
    KernelCase("conv2d", 8, 27, 96, 256, 5, groups=2),  # AlexNet's second, fourth and fifth layers
    KernelCase("conv2d", 8, 13, 384, 384, 3, groups=2),
    KernelCase("conv2d", 8, 13, 384, 256, 3, groups=2),
    KernelCase("max_pool", 8, 112, 64, window=3, stride=2),
    KernelCase("average_pool", 8, 28, 256, window=3, stride=1),
    KernelCase("batch_norm", 8, 56, 256),
    KernelCase("batch_norm", 8, 14, 1024),
    KernelCase("lrn", 8, 55, 96),
)
SMALL_CASES = (
    KernelCase("conv2d", 4, 16, 16, 16, 3),
    KernelCase("conv2d", 4, 16, 16, 32, 1),
    KernelCase("conv2d", 4, 16, 3, 16, 5, 2),
    KernelCase("conv2d", 4, 16, 16, 16, 3, groups=2),
    KernelCase("max_pool", 4, 16, 16, window=3, stride=2),
    KernelCase("average_pool", 4, 16, 16, window=3, stride=1),
    KernelCase("batch_norm", 4, 16, 16),
    KernelCase("lrn", 4, 16, 16),
)
JOBS = ("forward", "gradient")


@dataclass(frozen=True)
class KernelResult:
    """The result of one case and job. The first form is the reference."""

    case: KernelCase
    job: str
    precision: str
    flops: int
    timings: tuple[Timing, ...]  # named "form mode": "winograd xla"

    @property
    def best(self) -> Timing:
        return min(self.timings, key=lambda t: t.median)

    def gflops(self, timing: Timing) -> float:
        """Return 10⁹ floating point operations per second, by the median."""
        return self.flops / timing.median / 1e9

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        return {
            "settings": {
                **asdict(self.case),
                "kernel": self.case.kernel,
                "case": str(self.case),
                "job": self.job,
                "precision": self.precision,
                "rounds": len(self.timings[0].seconds),
            },
            "figures": {
                "flops": self.flops,
                "best": self.best.name,
                "contestants": [{**t.summary(), "gflops": self.gflops(t)} for t in self.timings],
            },
        }


# The forms of each kernel ---------------------------------------------------------------------------------------

Function = Callable[..., tf.Tensor]
FORMS = {
    "conv2d": ("nn", "im2col", "shifted"),
    "max_pool": POOLS,
    "average_pool": POOLS,
    "batch_norm": BATCH_NORMS,
    "lrn": RESPONSE_NORMS,
}


def forms(case: KernelCase) -> tuple[str, ...]:
    """Return the forms that can compute this case; Winograd's are for 3×3 filters with stride 1."""
    return FORMS[case.kernel] + (_more_forms(case) if case.kernel == "conv2d" else ())


def _more_forms(case: KernelCase) -> tuple[str, ...]:
    if case.groups > 1:
        return "split", "dense"
    if case.stride > 1:
        return ("space_to_depth",)
    return ("winograd", "winograd4") if case.window == 3 else ()


def _conv2d(case: KernelCase, dtype) -> tuple[Mapping[str, Function], list[tf.Tensor], kernels.Cost]:
    filter_shape = (case.window, case.window, case.channels // case.groups, case.out)
    filters = random_tensor(filter_shape, 1, dtype) * tf.cast((2 / np.prod(filter_shape[:3])) ** 0.5, dtype)
    conv2d = partial(kernels.conv2d, stride=case.stride, groups=case.groups)
    functions = {form: partial(conv2d, algorithm=form) for form in forms(case)}
    cost = kernels.conv2d_cost(filter_shape, case.output_shape)
    return functions, [random_tensor(case.input_shape, 0, dtype), filters], cost


def _pool(pool: Function, case: KernelCase, dtype):
    functions = {
        form: partial(pool, size=case.window, stride=case.stride, padding="SAME", algorithm=form)
        for form in forms(case)
    }
    cost = kernels.pool_cost(case.input_shape, case.output_shape, case.window)
    return functions, [distinct_tensor(case.input_shape, dtype)], cost


def _batch_norm(case: KernelCase, dtype):
    def form(algorithm, x, scale, offset):
        return kernels.batch_normalization_training(x, scale, offset, 1e-5, algorithm)[0]

    functions = {name: partial(form, name) for name in forms(case)}
    scale, offset = random_tensor((case.channels,), 1, tf.float32), random_tensor((case.channels,), 2, tf.float32)
    cost = kernels.batch_normalization_cost(case.input_shape, training=True)
    return functions, [random_tensor(case.input_shape, 0, dtype), scale, offset], cost


def _lrn(case: KernelCase, dtype):
    functions = {form: partial(kernels.local_response_normalization, algorithm=form) for form in forms(case)}
    cost = kernels.local_response_normalization_cost(case.input_shape)
    return functions, [random_tensor(case.input_shape, 0, dtype)], cost


KERNELS: dict[str, Callable] = {
    "conv2d": _conv2d,
    "max_pool": partial(_pool, kernels.max_pool),
    "average_pool": partial(_pool, kernels.average_pool),
    "batch_norm": _batch_norm,
    "lrn": _lrn,
}


def random_tensor(shape: Sequence[int], seed: int, dtype) -> tf.Tensor:
    return tf.cast(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def distinct_tensor(shape: Sequence[int], dtype) -> tf.Tensor:
    """Return [B,H,W,C] for a pool: no window up to 8×8 has two equal values."""
    return tf.cast(draw("x", shape, "distinct"), dtype)


def contestants(case: KernelCase, job: str, precision: str) -> tuple[Mapping[str, Callable[[], list[tf.Tensor]]], int]:
    """Return ("form mode" → a call that returns its results, floating point operations of one call).

    The result of "forward" is the output. Those of "gradient" are the output and the gradients of all inputs, from a
    random upstream gradient. Inputs and results stay on the device; a call copies one value of each result to wait for
    it.
    """
    functions, inputs, cost = KERNELS[case.kernel](case, tf.as_dtype(precision))
    upstream = random_tensor(case.output_shape, 9, tf.as_dtype(precision))

    def both(form: Function, inputs, upstream):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = form(*inputs)
        return [y, *tape.gradient(y, inputs, output_gradients=upstream)]

    def forward(form: Function, inputs, upstream):
        return [form(*inputs)]

    calls = {}
    for name, form in functions.items():
        for mode in MODES:
            function = compiled(partial(both if job == "gradient" else forward, form), choose(mode))
            calls[f"{name} {mode}"] = partial(_call, function, inputs, upstream)
    return calls, cost.flops + (cost.backward_flops if job == "gradient" else 0)


def _call(function, inputs, upstream) -> list[tf.Tensor]:
    results = function(inputs, upstream)
    wait_for(results)
    return results


def wait_for(results: Sequence[tf.Tensor]) -> None:
    """Wait until the device has computed the results, by copying one value of each."""
    for result in results:
        tf.reshape(result, (-1,))[0].numpy()


def race_kernel(
    case: KernelCase, job: str = "forward", *, precision: str = "float32", rounds: int = 10
) -> KernelResult:
    """Race the forms of one case.

    Args:
        case: The kernel and its shape.
        job: "forward" or "gradient".
        precision: "float32" or "bfloat16".
        rounds: Number of timed rounds.

    Raises:
        ValueError: For an unknown job or precision.
        Disagreement: If the results of the forms differ.
    """
    if job not in JOBS:
        raise ValueError(f"job is {job!r}; expected one of {', '.join(JOBS)}")
    if precision not in TOLERANCE:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(TOLERANCE)}")
    calls, flops = contestants(case, job, precision)
    first_calls, differences, reference = {}, {}, None
    for name, call in calls.items():
        first_calls[name], tensors = timed(call)
        results = [tf.cast(t, tf.float32).numpy() for t in tensors]
        reference = reference or results
        differences[name] = compare(case, name, precision, reference, results)
    seconds = interleaved(calls, rounds)
    gpu = tf.config.list_logical_devices("GPU")  # on a CPU TensorFlow's pool hides a call's memory
    memory = {n: memory_of(call) if gpu else None for n, call in calls.items()}
    timings = (Timing(n, first_calls[n], seconds[n], memory[n], differences[n]) for n in calls)
    return KernelResult(case, job, precision, flops, tuple(timings))


def compare(case: KernelCase, name: str, precision: str, expected: list[np.ndarray], actual: list[np.ndarray]) -> float:
    """Return `difference`. Raise Disagreement above the tolerance."""
    error = difference(expected, actual)
    if not error <= TOLERANCE[precision]:
        raise Disagreement(f"{name} of {case} differs by {error:.2g} of the largest value")
    return error


def difference(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> float:
    """Return the largest difference divided by the largest value, over all results; NaN if a result has a NaN."""
    errors = [
        float(np.max(np.abs(e - a)) / max(float(np.max(np.abs(e))), 1e-30))
        for e, a in zip(expected, actual, strict=True)
    ]
    return float(np.max(errors))
