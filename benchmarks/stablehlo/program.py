"""Compile an exported program with JAX's client, compare it with the CPU's results, and run it.

`Limits` measures the peak performance of the device.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves memory to other processes

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.harness.timing import timed
from benchmarks.stablehlo.arrays import argument, summary, values
from benchmarks.stablehlo.spent import spent

# Largest difference from the CPU's results, relative to the largest value: TF32 and bfloat16 keep 10 and 8 bits.
TOLERANCE = {"float32": 2e-2, "bfloat16": 1e-1}
LENGTH_TOLERANCE = {"float32": 0.1, "bfloat16": 0.5}  # relative, of all outputs that are compared by length
SIDE = {"gpu": 8192, "cpu": 1024}  # of the square matmul whose speed is the peak
COPIED = {"gpu": 2**31, "cpu": 2**27}  # bytes of the copy whose speed is the peak bandwidth


class Wrong(RuntimeError):
    """Raised if a program's results differ from those of the CPU that exported it."""


def read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


class Program:
    """A workload for one batch, compiled on this device."""

    def __init__(self, folder: Path, batch: int):
        self.folder, self.manifest = folder, read_manifest(folder)
        arguments = [argument(a) for a in self.manifest["arguments"][str(batch)]]
        self.carried = [(int(out), int(into)) for out, into in self.manifest["carried"]]
        device = jax.devices()[0]
        start = time.perf_counter()
        self.executable = device.client.compile_and_load(
            (folder / f"program-{batch}.mlirbc").read_bytes(), device.client.local_devices()[:1]
        )
        self.compile_seconds = time.perf_counter() - start
        self.arguments = [jax.device_put(array, device) for array in values(arguments, self.manifest["paths"])]

    def step(self) -> list[jax.Array]:
        """Call the program once; carried outputs become arguments of the next call."""
        results = self.executable.execute(self.arguments)
        for out, into in self.carried:
            self.arguments[into] = results[out]
        return results

    def run(self, count: int) -> np.ndarray:
        """Call the program `count` times, wait, and return the first output of the last call."""
        for _ in range(count):
            results = self.step()
        return np.asarray(jax.block_until_ready(results[0]))

    def first(self) -> np.ndarray:
        """Return the first output of one call."""
        return self.run(1)

    def seconds_to_compile(self) -> float:
        return self.compile_seconds

    def spent(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the seconds of a call by kind of kernel, and of its longest kernels by name; empty if unknown."""
        return spent(self.run)

    def check(self) -> float:
        """Compare one call with the CPU's results.

        Outputs that are compared by length, such as velocities, are compared together.

        Returns:
            The largest relative difference of the other outputs.

        Raises:
            Wrong: If a difference is above the tolerance.
        """
        manifest, worst, lengths = self.manifest, 0.0, []
        before = list(self.arguments)
        results = self.step()
        self.arguments = before  # the check leaves the state unchanged
        with np.load(self.folder / "answers.npz") as answers:
            for name, result in zip(manifest["outputs"], results, strict=True):
                by_length = name in manifest["by_length"]
                expected, actual = answers[name], summary(name, np.asarray(result), by_length)
                if by_length:
                    lengths.append((expected[0], actual[0]))
                else:
                    worst = max(worst, agree(f"{manifest['name']}: {name}", expected, actual, manifest["precision"]))
        if lengths:
            expected, actual = np.sqrt(np.sum(np.square(lengths), axis=0))
            if not abs(actual / expected - 1) <= LENGTH_TOLERANCE[manifest["precision"]]:  # this form also rejects NaN
                raise Wrong(f"{manifest['name']}: the length of its outputs is {actual:.3g}, not {expected:.3g}")
        return worst


class NotCompiled:
    """Replaces a program that cannot be compiled on this device: each attribute raises the compiler's error."""

    def __init__(self, error: Exception):
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


def programs(named: Mapping[str, Path], batch: int) -> dict[str, Program | NotCompiled]:
    """Compile the programs by name. This runs in a separate process."""
    made: dict[str, Program | NotCompiled] = {}
    for name, folder in named.items():
        try:
            made[name] = Program(folder, batch)
        except Exception as error:  # this process also has the other forms of a kernel
            made[name] = NotCompiled(error)
    return made


def agree(name: str, expected: np.ndarray, actual: np.ndarray, precision: str) -> float:
    """Return the largest difference, relative to the largest value. Raise Wrong above the tolerance."""
    error = float(np.max(np.abs(actual - expected)) / max(float(np.max(np.abs(expected))), 1e-6))
    if not error <= TOLERANCE[precision]:
        raise Wrong(f"{name} differs by {error:.2g} of its largest value")
    return error


class Limits:
    """Measures the peak performance of the device in one precision."""

    def __init__(self, precision: str):
        self.device = jax.devices()[0]
        kind = "cpu" if self.device.platform == "cpu" else "gpu"
        side, numbers = SIDE[kind], COPIED[kind] // 4
        random = np.random.default_rng(0).standard_normal((side, side), np.float32)
        self._square, self._long = jnp.asarray(random, jnp.dtype(precision)), jnp.ones(numbers, jnp.float32)

    def gpus(self) -> list[str]:
        """Return the name of the GPU; [] on a CPU."""
        return [] if self.device.platform == "cpu" else [self.device.device_kind]

    def measure(self) -> dict[str, float]:
        """Measure FLOP/s of a square matmul and bytes/s of a copy (one read and one write per value)."""
        multiply, move = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
        flops, moved = 2 * self._square.shape[0] ** 3, 2 * self._long.nbytes
        return {
            "matmul_flops_per_second": flops / _fastest(multiply, self._square),
            "copy_bytes_per_second": moved / _fastest(move, self._long),
        }


def _fastest(function: Callable, value: jax.Array, calls: int = 10, rounds: int = 5) -> float:
    """Return the seconds per call in the fastest of `rounds` rounds of `calls` calls."""

    def repeat(count: int) -> None:
        for _ in range(count):
            result = function(value)
        jax.block_until_ready(result)

    repeat(1)
    return min(timed(partial(repeat, calls))[0] for _ in range(rounds)) / calls


def limits(precisions: Sequence[str]) -> dict[str, Limits]:
    """Return `Limits` by precision. This runs in a separate process."""
    return {precision: Limits(precision) for precision in precisions}
