"""The compiler for which graphs are traced: kernels and their forms may differ by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import tensorflow as tf

_compiler: ContextVar[str] = ContextVar("compiler", default="graph")


@contextmanager
def compiled_by(compiler: str) -> Iterator[None]:
    """Select kernels for a compiler within this context.

    Args:
        compiler: "graph" (TensorFlow's CPU kernels, the default), "inference" (the same, where constant filters, bias
            and ReLU follow each other and TensorFlow may fuse them), "xla" (on a CPU), "gpu" (by XLA; its part of the
            table is written by the GPU benchmarks), or "portable", for programs that run elsewhere: all kernels then
            use their defaults.
    """
    token = _compiler.set(compiler)
    try:
        yield
    finally:
        _compiler.reset(token)


def compiler() -> str:
    """The compiler that `compiled_by` set; XLA within a `tf.function(jit_compile=True)` that was not announced."""
    chosen = _compiler.get()
    if chosen in ("graph", "inference") and _traced_for_xla():
        return "gpu" if tf.config.list_physical_devices("GPU") else "xla"
    return chosen


def by_xla() -> bool:
    """Whether XLA compiles what is traced now. It expands some of TensorFlow's fused kernels into less exact steps."""
    return _compiler.get() in ("xla", "gpu") or _traced_for_xla()


def _traced_for_xla() -> bool:
    """Whether this is the trace of a `tf.function(jit_compile=True)`, or of a function that it calls.

    A function that was traced before, outside of it, is not traced again, so its kernels stay those of a graph.
    """
    if tf.executing_eagerly():
        return False
    try:
        from tensorflow.python.ops import control_flow_util  # TensorFlow has no public name for it

        return bool(control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()))
    except (ImportError, AttributeError):
        return False
