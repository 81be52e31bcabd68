"""The one place that decides how a step runs: compiled by XLA, as a TensorFlow graph, as both mixed, or eagerly.

On a CPU the convolutions of TensorFlow's graph are oneDNN's, and faster than XLA's. In float32 all else is at least
level there, too. In bfloat16 it is not: Eigen's elementwise kernels widen each number by itself, and take as long as in
float32 or longer. So there XLA compiles the chains of elementwise operations between the convolutions, and oneDNN does
the rest. On GPUs XLA fuses such chains as well, between cuDNN's convolutions. `rawcnn benchmark` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

import kernels
import onednn

MODES = ("auto", "xla", "graph", "mixed", "eager")
# What XLA compiles in a mixed graph where it is bfloat16. Reductions are not among them: XLA's are slower on a CPU.
ELEMENTWISE = frozenset({"Relu", "ReluGrad", "AddV2", "AddN", "Mul", "Sub", "Sigmoid", "SigmoidGrad"})


@dataclass(frozen=True)
class Choice:
    """How a step runs, and why."""

    mode: str  # "xla", "graph", "mixed" or "eager"
    reason: str


def choose(mode: str = "auto", devices: Sequence[str] = (), precision: str = "float32") -> Choice:
    """The mode for this machine; a `mode` other than "auto" is taken as it is. ValueError for an unknown one."""
    if mode not in MODES:
        raise ValueError(f"compile is {mode!r}; expected one of {', '.join(MODES)}")
    if devices:
        if mode == "xla":
            raise ValueError('XLA compiles for one device, but this network is split over several; use "graph" instead')
        return Choice("graph" if mode == "auto" else mode, "the network is split over several devices, XLA takes one")
    if mode != "auto":
        return Choice(mode, "asked for")
    if tf.config.list_physical_devices("GPU"):
        return Choice("xla", "on a GPU, XLA fuses the elementwise chains between the convolutions")
    if precision == "bfloat16":
        return Choice(
            "mixed", "on a CPU in bfloat16, oneDNN's convolutions with XLA's elementwise chains win in large networks"
        )
    if not onednn.in_use():
        return Choice("graph", f"on a CPU; oneDNN is off here, and {onednn.VARIABLE}=1 turns it on")
    return Choice("graph", "on a CPU, oneDNN's convolutions in TensorFlow's graph are faster than XLA's")


def compiled(function: Callable, choice: Choice, signature: Sequence[tf.TensorSpec] | None = None) -> Callable:
    """`function` as `choice` says; `signature` keeps one trace for all batch sizes where XLA does not need them."""
    if choice.mode == "eager" and not tf.config.list_physical_devices("GPU"):
        return function
    function = traced_for(function, choice.mode)
    if choice.mode == "eager":
        return function
    if choice.mode == "xla":
        return tf.function(function, jit_compile=True, autograph=False)
    return tf.function(function, jit_compile=False, autograph=False, input_signature=signature)


def traced_for(function: Callable, mode: str) -> Callable:
    """The function as it is to be traced in this mode: kernels chosen for it, in a mixed graph XLA's islands too."""
    if mode == "mixed":
        function = _within(function, partial(tf.xla.experimental.jit_scope, compile_ops=_is_island))
    return _within(function, choosing_for("xla" if mode == "xla" else "graph"))


def choosing_for(mode: str) -> Callable[[], AbstractContextManager[None]]:
    """Where kernels are chosen for this mode on this machine."""
    on_gpu = tf.config.list_physical_devices("GPU")
    return partial(kernels.choice.compiled_by, "gpu" if on_gpu else mode)


def _within(function: Callable, context: Callable[[], AbstractContextManager[None]]) -> Callable:
    """The function, traced in this context."""

    def traced(*arguments, **named):
        with context():
            return function(*arguments, **named)

    return traced


def _is_island(node) -> bool:
    return node.op in ELEMENTWISE and node.attr["T"].type == tf.bfloat16.as_datatype_enum
