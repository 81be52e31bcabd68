"""Where a program's time goes on a GPU: the seconds of each kind of kernel, by the profiler."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax


def spent(run: Callable[[int], object], calls: int = 3) -> dict[str, float]:
    """Seconds of one call by kernel, of `calls` of them; empty on a CPU, which has no streams."""
    found = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(calls)
        for path in Path(folder).rglob("*.xplane.pb"):
            for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines:
                    if "GPU" in plane.name and line.name.startswith("Stream"):
                        for event in line.events:
                            found[event.name + " | " + str(dict(event.stats).get("hlo_op"))] += event.duration_ns
    return {name: duration / 1e9 / calls for name, duration in found.most_common()}
