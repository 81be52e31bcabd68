"""Two claims of the lecture, counted and measured: VGG's small kernels, and GoogLeNet's 1×1 reductions.

The layers are built with the models' functions, and traced to count their costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import tensorflow as tf

from rawcnn.files.progress import Progress
from rawcnn.models.googlenet import INCEPTION, inception, naive_inception
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.layers import conv, relu
from rawcnn.nn.trace import SymbolicTrace, Trace, symbolic_trace


@dataclass(frozen=True)
class Stack:
    """A stack of convolutions with C channels in and out."""

    sizes: tuple[int, ...]
    channels: int
    receptive_field: int
    weights: int
    macs: int  # for each position of the map

    @property
    def weights_of_squares(self) -> int:
        """The weights as a multiple of C²: 27 for three 3×3, 49 for one 7×7."""
        return self.weights // self.channels**2


def stack(sizes: Sequence[int], channels: int = 64) -> Stack:
    """Count a stack of convolutions of these sizes, each followed by a ReLU (VGG, section 2.3)."""

    def layers(net: Trace, x: tf.Tensor) -> tf.Tensor:
        for number, size in enumerate(sizes, start=1):
            x = relu(net, conv(net, f"conv{number}", x, channels, size, bias=False))
        return x

    operations = symbolic_trace(layers, (1, 16, 16, channels)).operations
    return Stack(
        tuple(sizes),
        channels,
        operations[-1].receptive_field.rows.size,
        sum(p.count for operation in operations for p in operation.parameters),
        sum(operation.cost.macs for operation in operations) // 16**2,
    )


@dataclass(frozen=True)
class Module:
    """An inception module, counted and measured."""

    form: str  # "naive" or "reduced"
    channels: int
    parameters: int
    macs: int  # for one image
    seconds: list[float] = field(repr=False)  # for each call

    @property
    def median(self) -> float:
        return median(self.seconds)

    def to_dict(self) -> dict[str, object]:
        return {
            "form": self.form,
            "channels": self.channels,
            "parameters": self.parameters,
            "macs": self.macs,
            "seconds": self.seconds,
        }


def race_inception(
    name: str = "3a", side: int = 28, channels: int = 192, *, batch: int = 8, rounds: int = 15, progress: Progress
) -> list[Module]:
    """Time an inception module in its naive and its reduced form, in turns.

    Args:
        name: Name in `rawcnn.models.googlenet.INCEPTION`.
        side: Side of the maps.
        channels: Channels of the maps.
        batch: Number of the maps, which are random and the same for both forms.
        rounds: Calls of each form.
        progress: Is called with (rounds done, rounds in all).
    """
    maps = np.random.Generator(np.random.PCG64(0)).random((batch, side, side, channels), np.float32)
    images = tf.constant(maps)
    forms = {"naive": naive_inception, "reduced": inception}
    traces: dict[str, SymbolicTrace] = {}
    calls: dict[str, Callable] = {}
    for form, function in forms.items():

        def module(net: Trace, x: tf.Tensor, function=function) -> tf.Tensor:
            return function(net, "module", x, INCEPTION[name])

        traces[form] = symbolic_trace(module, (1, side, side, channels))
        variables = {path: p.create(0) for path, p in traces[form].parameters.items()}
        calls[form] = compiled(lambda x, v=variables, m=module: m(Trace(v, x), x), choose())
        calls[form](images)  # traces, and allocates the memory
    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for done in range(rounds):
        for form, call in calls.items():
            start = time.perf_counter()
            call(images).numpy()
            seconds[form].append(time.perf_counter() - start)
        progress(done + 1, rounds)
    return [
        Module(
            form,
            trace.operations[-1].output_shape[-1],
            sum(p.count for p in trace.parameters.values()),
            sum(operation.cost.macs for operation in trace.operations),
            seconds[form],
        )
        for form, trace in traces.items()
    ]
