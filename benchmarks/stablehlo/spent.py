"""Measure the time of each kind of kernel in a program on a GPU, with JAX's profiler."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

# Kind → pattern of its kernels' names; the first match counts. cuDNN's and cuBLAS's kernels precede XLA's fusions.
KINDS = (
    (
        "copies",
        re.compile(r"Padding|tensorTransform|convertTensor|nchwToNhwc|memset|memcpy|transpose|copy", re.IGNORECASE),
    ),
    ("convolutions", re.compile(r"xmma|nvjet|cutlass|convolve|wgrad|dgrad|fprop|cudnn")),
    ("matmuls", re.compile(r"gemm|cublas")),
    ("pools", re.compile(r"reduce_window|scatter")),
    ("reductions", re.compile(r"reduce")),
)
REST = "elementwise"
LONGEST = 16  # number of kernels that are reported by name


def kind_of(kernel: str) -> str:
    """Return the kind of a kernel by its name."""
    return next((kind for kind, pattern in KINDS if pattern.search(kernel)), REST)


def spent(run: Callable[[int], object], calls: int = 3) -> tuple[dict[str, float], dict[str, float]]:
    """Profile a program.

    Args:
        run: Takes the number of calls, and waits for the last one.
        calls: The number of profiled calls.

    Returns:
        (seconds per call by kind of kernel, seconds per call of the longest kernels by name). Both are empty on a CPU,
        which has no streams.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(calls)
        events = [
            (name, seconds / calls) for path in Path(folder).rglob("*.xplane.pb") for name, seconds in _kernels(path)
        ]
    return by_kind(events), dict(list(_summed(events).items())[:LONGEST])


def by_kind(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sum (name, seconds) of kernels by kind, the longest first."""
    return _summed((kind_of(name), seconds) for name, seconds in events)


def _summed(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, seconds in events:
        found[name] = found.get(name, 0.0) + seconds
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _kernels(path: Path) -> list[tuple[str, float]]:
    """Return (name, seconds) of all events on a GPU's streams."""
    return [
        (event.name, event.duration_ns / 1e9)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        if "GPU" in plane.name and line.name.startswith("Stream")
        for event in line.events
    ]
