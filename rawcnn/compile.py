"""The one place that decides how a step runs: compiled by XLA, as a TensorFlow graph, or eagerly.

On a CPU a ResNet-50 training step takes XLA half as long again as the plain graph, whose convolutions are oneDNN's; in
inference the two are close (README's table, measured with AVX-512). Other CPUs may differ: `rawcnn benchmark` measures
it. On GPUs, where XLA fuses the elementwise chains between convolutions, nothing has been measured yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

MODES = ("auto", "xla", "graph", "eager")


@dataclass(frozen=True)
class Choice:
    """How a step runs, and why."""

    mode: str  # "xla", "graph" or "eager"
    reason: str


def choose(mode: str = "auto", devices: Sequence[str] = ()) -> Choice:
    """The mode for this machine; a `mode` other than "auto" is taken as it is. ValueError for an unknown one."""
    if mode not in MODES:
        raise ValueError(f"compile is {mode!r}; expected one of {', '.join(MODES)}")
    if devices:
        if mode == "xla":
            raise ValueError('XLA compiles for one device, but this network is split over several; use compile="graph"')
        return Choice("graph" if mode == "auto" else mode, "the network is split over several devices, XLA takes one")
    if mode != "auto":
        return Choice(mode, "asked for")
    if tf.config.list_physical_devices("GPU"):
        return Choice("xla", "on a GPU, XLA fuses the elementwise chains between the convolutions")
    return Choice("graph", "on a CPU, oneDNN's convolutions in TensorFlow's graph are faster than XLA's")


def compiled(function: Callable, choice: Choice, signature: Sequence[tf.TensorSpec] | None = None) -> Callable:
    """`function` as `choice` says; `signature` keeps one trace for all batch sizes where XLA does not need them."""
    if choice.mode == "eager":
        return function
    if choice.mode == "xla":
        return tf.function(function, jit_compile=True, autograph=False)
    return tf.function(function, jit_compile=False, autograph=False, input_signature=signature)
