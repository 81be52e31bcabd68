"""Where a program's time goes on a GPU: the seconds of each kind of kernel, by the profiler."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

# Kind → what names of its kernels hold, the first that fits: cuDNN's and cuBLAS's, then what XLA calls its fusions.
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


def kind_of(kernel: str) -> str:
    """What a kernel does, by its name."""
    return next((kind for kind, pattern in KINDS if pattern.search(kernel)), REST)


def spent(run: Callable[[int], object], calls: int = 3) -> dict[str, float]:
    """Seconds of one call by kind of kernel, of `calls` of them; empty on a CPU, which has no streams."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(calls)
        events = [event for path in Path(folder).rglob("*.xplane.pb") for event in _kernels(path)]
    return {kind: seconds / calls for kind, seconds in by_kind(events).items()}


def by_kind(events: Iterable[tuple[str, float]]) -> dict[str, float]:
    """(name, seconds) of kernels → seconds by kind, the longest first."""
    found: dict[str, float] = {}
    for name, seconds in events:
        found[kind_of(name)] = found.get(kind_of(name), 0.0) + seconds
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _kernels(path: Path) -> list[tuple[str, float]]:
    """(name, seconds) of all that a GPU's streams did."""
    return [
        (event.name, event.duration_ns / 1e9)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        if "GPU" in plane.name and line.name.startswith("Stream")
        for event in line.events
    ]
