"""The compiler for which graphs are traced: kernels and their forms may differ by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
    """The compiler that `compiled_by` set."""
    return _compiler.get()
