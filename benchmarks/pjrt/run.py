"""Run exported workloads with JAX's client: `python -m benchmarks.pjrt.run FOLDER [--output RESULTS.jsonl]`.

For each workload and batch: compile, compare a small batch with what the CPU gave, then time calls that are waited for,
in rounds with the peers that do the same work. A record a line: device, versions, compile seconds, images/s, achieved
FLOP/s, and the shares of the matmul peak and the copy bandwidth that were measured just before, on the same device.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.pjrt.arrays import argument, values
from benchmarks.results import about
from benchmarks.timing import interleaved, timed

# Largest difference from the CPU's answers, relative to the largest: TF32 and bfloat16 keep 10 and 8 bits.
TOLERANCE = {"float32": 2e-2, "bfloat16": 1e-1}
LENGTH_TOLERANCE = {"float32": 0.1, "bfloat16": 0.5}
ROUNDS, LEAST = 7, 0.2  # rounds; seconds that one of them takes, of as many calls as that needs
SIDE = {"gpu": 8192, "cpu": 1024}  # of the matmul whose speed is the peak
COPIED = {"gpu": 2**31, "cpu": 2**27}  # bytes


class Wrong(RuntimeError):
    """A program gives other numbers here than on the CPU that wrote its answers."""


class Program:
    """A workload for one batch, compiled on this device."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], batch: int):
        arguments = [argument(a) for a in manifest["arguments"][str(batch)]]
        self.carried = [(int(out), int(into)) for out, into in manifest["carried"]]
        device = jax.devices()[0]
        start = time.perf_counter()
        self.executable = device.client.compile_and_load(
            (folder / f"program-{batch}.mlirbc").read_bytes(), device.client.local_devices()[:1]
        )
        self.compile_seconds = time.perf_counter() - start
        self.arguments = [jax.device_put(array, device) for array in values(arguments, manifest["paths"])]

    def step(self) -> list[jax.Array]:
        """One call; what it carries over are arguments of the next."""
        results = self.executable.execute(self.arguments)
        for out, into in self.carried:
            self.arguments[into] = results[out]
        return results

    def run(self, count: int) -> None:
        """`count` calls, waited for."""
        for _ in range(count):
            results = self.step()
        jax.block_until_ready(results[0])


def check(program: Program, manifest: Mapping[str, Any], answers: Mapping[str, np.ndarray]) -> float:
    """The largest difference from the CPU's answers. Wrong above the tolerance.

    Of a training step's velocities the length of all together is compared: in a deep network a ReLU within rounding of
    zero moves those of the first layers.
    """
    worst, lengths = 0.0, []
    for name, result in zip(manifest["outputs"], program.step(), strict=True):
        expected, actual = answers[name], np.asarray(result, np.float64)
        if expected.size == 1 and actual.size > 1:
            actual = np.sqrt(np.sum(np.square(actual)))
        if name.endswith("/velocity"):
            lengths.append([np.sum(np.square(a)) for a in (expected, actual)])
            continue
        error = float(np.max(np.abs(actual - expected)) / max(float(np.max(np.abs(expected))), 1e-6))
        if not error <= TOLERANCE[manifest["precision"]]:  # so that NaN fails too
            raise Wrong(f"{manifest['name']}: {name} differs by {error:.2g} of its largest value")
        worst = max(worst, error)
    if lengths:
        expected, actual = np.sqrt(np.sum(lengths, axis=0))
        if not abs(actual / expected - 1) <= LENGTH_TOLERANCE[manifest["precision"]]:
            raise Wrong(f"{manifest['name']}: the gradients' length is {actual:.3g}, not {expected:.3g}")
    return worst


def seconds_of(runs: Mapping[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each in each round, of as many calls in a row as `LEAST` needs."""
    counts = {}
    for name, run in runs.items():
        run(1)
        counts[name] = max(1, min(100, round(LEAST / timed(partial(run, 1))[0])))
    taken = interleaved({name: partial(run, counts[name]) for name, run in runs.items()}, rounds)
    return {name: [s / counts[name] for s in seconds] for name, seconds in taken.items()}


def limits(precision: str) -> dict[str, float]:
    """FLOP/s of a square matmul and bytes/s of a copy (read once, written once), on this device."""
    kind = jax.devices()[0].platform
    side, numbers = SIDE["cpu" if kind == "cpu" else "gpu"], COPIED["cpu" if kind == "cpu" else "gpu"] // 4
    square = jnp.ones((side, side), jnp.dtype(precision))
    long = jnp.ones(numbers, jnp.float32)
    multiply, move = jax.jit(lambda a: a @ a), jax.jit(lambda a: a + 1)

    def repeat(function, value):
        def run(count: int) -> None:
            for _ in range(count):
                result = function(value)
            jax.block_until_ready(result)

        return run

    seconds = seconds_of({"matmul": repeat(multiply, square), "copy": repeat(move, long)}, 3)
    return {
        "matmul_flops_per_second": 2 * side**3 / float(np.median(seconds["matmul"])),
        "copy_bytes_per_second": 8 * numbers / float(np.median(seconds["copy"])),
    }


def measure(folder: Path, names: Sequence[str], rounds: int) -> Iterator[dict[str, Any]]:
    """A record a batch of the workload in `folder`, beside the peers of these names. Wrong where its answers are."""
    from benchmarks.pjrt.peers import peers

    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "answers.npz") as answers:
        error = check(Program(folder, manifest, manifest["checked"]), manifest, answers)
    machine, found = limits(manifest["precision"]), jax.devices()[0]
    for batch in manifest["batches"]:
        program = Program(folder, manifest, batch)
        seconds = seconds_of({"rawcnn": program.run, **peers(manifest, batch, names)}, rounds)
        medians = {name: float(np.median(s)) for name, s in seconds.items()}
        rate = manifest["flops"] * batch / medians["rawcnn"]
        others = [m for name, m in medians.items() if name.startswith("keras")]
        yield {
            **about("python -m benchmarks.pjrt.run", [] if found.platform == "cpu" else [found.device_kind]),
            "commit": manifest["commit"],  # of the programs; here there may be no checkout
            "settings": {
                "pjrt": manifest["name"], "job": manifest["job"], "precision": manifest["precision"], "batch": batch,
                "rounds": rounds,
            },
            "figures": {
                "difference": error,
                "compile_seconds": program.compile_seconds,
                "seconds": seconds,
                "images_per_second": {name: batch / m for name, m in medians.items()},
                "flops_per_second": rate,
                **machine,
                "share_of_matmul": rate / machine["matmul_flops_per_second"],
                "ratio_to_keras": min(others) / medians["rawcnn"] if others else None,
            },
        }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what benchmarks.pjrt.export wrote")
    parser.add_argument("--output", type=Path, help="file that the records are appended to; otherwise they are printed")
    parser.add_argument("--peers", nargs="*", default=["keras", "torch"], help="who runs beside it; none: nobody")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    found = sorted(path.parent for path in options.folder.glob("*/manifest.json"))
    if not found:
        print(f"{options.folder} holds no workload; write some with python -m benchmarks.pjrt.export", file=sys.stderr)
        return 2
    failed = 0
    for number, folder in enumerate(found, start=1):
        print(f"{number} of {len(found)}: {folder.name}", file=sys.stderr)
        try:
            for record in measure(folder, options.peers, options.rounds):
                line = json.dumps(record, allow_nan=False)
                if options.output:
                    with options.output.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")
                else:
                    print(line)
        except Exception as error:  # the others are still worth measuring: device time is short
            failed += 1
            print(f"{folder.name}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
