"""An exported program on this machine's device, with JAX's client: compile, compare with the CPU's answers, run.

And what the device can do at most: `Limits`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others want memory, too

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.harness.timing import timed
from benchmarks.stablehlo.arrays import argument, summary, values
from benchmarks.stablehlo.spent import spent

# Largest difference from the CPU's answers, relative to the largest: TF32 and bfloat16 keep 10 and 8 bits.
TOLERANCE = {"float32": 2e-2, "bfloat16": 1e-1}
LENGTH_TOLERANCE = {"float32": 0.1, "bfloat16": 0.5}  # of the length of all gradients, or of all that moved
SIDE = {"gpu": 8192, "cpu": 1024}  # of the matmul whose speed is the peak
COPIED = {"gpu": 2**31, "cpu": 2**27}  # bytes


class Wrong(RuntimeError):
    """A program gives other numbers here than on the CPU that wrote its answers."""


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
        """One call; what it carries over are arguments of the next."""
        results = self.executable.execute(self.arguments)
        for out, into in self.carried:
            self.arguments[into] = results[out]
        return results

    def run(self, count: int) -> np.ndarray:
        """`count` calls, waited for → the first output of the last."""
        for _ in range(count):
            results = self.step()
        return np.asarray(jax.block_until_ready(results[0]))

    def first(self) -> np.ndarray:
        """The first output of a first call."""
        return self.run(1)

    def seconds_to_compile(self) -> float:
        return self.compile_seconds

    def spent(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds of a call by kind of kernel, and of its longest kernels by name, where the device tells."""
        return spent(self.run)

    def check(self) -> float:
        """The largest difference of a first call from the CPU's answers. Wrong above the tolerance.

        Of outputs that are compared by their length, such as velocities, it is the length of all together.
        """
        manifest, worst, lengths = self.manifest, 0.0, []
        before = list(self.arguments)
        results = self.step()
        self.arguments = before  # as if nobody had asked
        with np.load(self.folder / "answers.npz") as answers:
            for name, result in zip(manifest["outputs"], results, strict=True):
                by_length = name in manifest["by_length"]
                expected, actual = answers[name], summary(name, np.asarray(result), by_length)
                if by_length:
                    lengths.append((expected[0], actual[0]))
                else:
                    worst = max(worst, agree(f"{manifest['name']}: {name}", expected, actual, manifest["precision"]))
        if lengths:
            wanted, found = np.sqrt(np.sum(np.square(lengths), axis=0))
            if not abs(found / wanted - 1) <= LENGTH_TOLERANCE[manifest["precision"]]:  # so that NaN fails too
                raise Wrong(f"{manifest['name']}: the length of what moved is {found:.3g}, not {wanted:.3g}")
        return worst


class NotCompiled:
    """In place of a program that this device cannot have: whatever is asked of it fails, and says why."""

    def __init__(self, why: Exception):
        self._why = why

    def __getattr__(self, asked: str) -> Any:
        raise self._why


def programs(named: Mapping[str, Path], batch: int) -> dict[str, Program | NotCompiled]:
    """Compile each; for a process of its own."""
    made: dict[str, Program | NotCompiled] = {}
    for name, folder in named.items():
        try:
            made[name] = Program(folder, batch)
        except Exception as error:  # the other forms of a kernel are in this process, too
            made[name] = NotCompiled(error)
    return made


def agree(who: str, expected: np.ndarray, actual: np.ndarray, precision: str) -> float:
    """The largest difference, relative to the largest value. Wrong above the tolerance."""
    error = float(np.max(np.abs(actual - expected)) / max(float(np.max(np.abs(expected))), 1e-6))
    if not error <= TOLERANCE[precision]:
        raise Wrong(f"{who} differs by {error:.2g} of its largest value")
    return error


class Limits:
    """What the device does at most in one precision."""

    def __init__(self, precision: str):
        self.device = jax.devices()[0]
        kind = "cpu" if self.device.platform == "cpu" else "gpu"
        side, numbers = SIDE[kind], COPIED[kind] // 4
        random = np.random.default_rng(0).standard_normal((side, side), np.float32)
        self._square, self._long = jnp.asarray(random, jnp.dtype(precision)), jnp.ones(numbers, jnp.float32)

    def gpus(self) -> list[str]:
        return [] if self.device.platform == "cpu" else [self.device.device_kind]

    def measure(self) -> dict[str, float]:
        """FLOP/s of a square matmul and bytes/s of a copy (read once, written once)."""
        multiply, move = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)
        flops, moved = 2 * self._square.shape[0] ** 3, 2 * self._long.nbytes
        return {
            "matmul_flops_per_second": flops / _fastest(multiply, self._square),
            "copy_bytes_per_second": moved / _fastest(move, self._long),
        }


def _fastest(function: Callable, value: jax.Array, calls: int = 10, rounds: int = 5) -> float:
    """Seconds of a call, in the fastest of `rounds` of `calls` in a row."""

    def repeat(count: int) -> None:
        for _ in range(count):
            result = function(value)
        jax.block_until_ready(result)

    repeat(1)
    return min(timed(partial(repeat, calls))[0] for _ in range(rounds)) / calls


def limits(precisions: Sequence[str]) -> dict[str, Limits]:
    """Of each precision; for a process of its own."""
    return {precision: Limits(precision) for precision in precisions}
