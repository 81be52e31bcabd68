"""Execution: the one place that decides how a step runs.

A step is compiled by XLA ("xla"), traced as a TensorFlow graph ("graph"), traced as a graph with some parts compiled by
XLA ("mixed"), or run eagerly ("eager").

- On a CPU, the convolutions of TensorFlow's graph are oneDNN's and faster than XLA's. In float32 everything else is at
  least as fast, too. In bfloat16 it is not: Eigen's elementwise kernels convert each number by itself and take as long
  as in float32 or longer. There XLA compiles the chains of elementwise operations between oneDNN's convolutions.
- On a GPU, XLA fuses such chains between cuDNN's convolutions.

`rawcnn benchmark` measures this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

import onednn
from kernels.forms.compiler import compiled_by

MODES = ("auto", "xla", "graph", "mixed", "eager")
# The bfloat16 operations that XLA compiles in a mixed graph. Reductions are left out: XLA's are slower on a CPU.
ELEMENTWISE = frozenset({"Relu", "ReluGrad", "AddV2", "AddN", "Mul", "Sub", "Sigmoid", "SigmoidGrad"})


@dataclass(frozen=True)
class Choice:
    """How a step runs, and why."""

    mode: str  # "xla", "graph", "mixed" or "eager"
    reason: str


def choose(mode: str = "auto", devices: Sequence[str] = (), precision: str = "float32") -> Choice:
    """Choose how a step runs on this machine.

    Args:
        mode: One of `MODES`; any other than "auto" is taken as it is.
        devices: The devices that the network is split over.
        precision: "float32", "bfloat16" or "float64".

    Raises:
        ValueError: The mode is unknown, or it is "xla" for a network on several devices.
    """
    if mode not in MODES:
        raise ValueError(f"compile is {mode!r}; expected one of {', '.join(MODES)}")
    if devices:
        if mode == "xla":
            raise ValueError('XLA compiles for one device, but this network is split over several; use "graph" instead')
        return Choice("graph" if mode == "auto" else mode, "the network is split over several devices, XLA takes one")
    if mode != "auto":
        return Choice(mode, "as requested")
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
    """Compile a function of tensors.

    Args:
        function: The function.
        choice: How it runs.
        signature: The input signature of a graph, so that one trace serves all batch sizes. XLA ignores it.

    Returns:
        The function itself in eager mode on a CPU, otherwise a traced or compiled function.
    """
    if choice.mode == "eager" and not tf.config.list_physical_devices("GPU"):
        return function
    function = traced_for(function, choice.mode)
    if choice.mode == "eager":
        return function
    if choice.mode == "xla":
        return tf.function(function, jit_compile=True, autograph=False)
    return tf.function(function, jit_compile=False, autograph=False, input_signature=signature)


def traced_for(function: Callable, mode: str) -> Callable:
    """Return the function in the context that it needs while it is traced for this mode.

    The context chooses the kernels' forms; in a mixed graph it also marks the operations that XLA compiles.
    """
    if mode == "mixed":
        function = _within(function, partial(tf.xla.experimental.jit_scope, compile_ops=_compiled_by_xla))
    return _within(function, choosing_for("xla" if mode == "xla" else "graph"))


def choosing_for(mode: str) -> Callable[[], AbstractContextManager[None]]:
    """Return the context in which kernels choose their forms for this mode on this machine."""
    on_gpu = tf.config.list_physical_devices("GPU")
    return partial(compiled_by, "gpu" if on_gpu else mode)


def _within(function: Callable, context: Callable[[], AbstractContextManager[None]]) -> Callable:
    """Return the function, called in this context."""

    def in_context(*arguments, **named):
        with context():
            return function(*arguments, **named)

    return in_context


def _compiled_by_xla(node) -> bool:
    """Whether XLA compiles this node of a mixed graph."""
    return node.op in ELEMENTWISE and node.attr["T"].type == tf.bfloat16.as_datatype_enum
