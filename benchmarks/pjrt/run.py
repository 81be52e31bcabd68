"""Run exported workloads with JAX's client: `python -m benchmarks.pjrt.run FOLDER [--output RESULTS.jsonl]`.

For each workload: compare a small batch with what the CPU gave. For each of its batches: compile, compare the peers
that do the same work, and time calls that are waited for, in rounds with them. A record a line: device, versions,
compile seconds, images/s, achieved FLOP/s and bytes/s, and their shares of the matmul peak and the copy bandwidth that
were measured first, on the same device. What fails is told, and the rest goes on: device time is short.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch wants memory, too

import jax
import numpy as np
from jax import numpy as jnp

from benchmarks.pjrt.arrays import argument, summary, values
from benchmarks.pjrt.peers import Run, peers
from benchmarks.results import about
from benchmarks.timing import interleaved, timed

# Largest difference from the CPU's answers, relative to the largest: TF32 and bfloat16 keep 10 and 8 bits.
TOLERANCE = {"float32": 2e-2, "bfloat16": 1e-1}
LENGTH_TOLERANCE = {"float32": 0.1, "bfloat16": 0.5}  # of the length of all gradients, or of all that moved
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

    def run(self, count: int) -> np.ndarray:
        """`count` calls, waited for → the first output of the last."""
        for _ in range(count):
            results = self.step()
        return np.asarray(jax.block_until_ready(results[0]))


def check(program: Program, manifest: Mapping[str, Any], answers: Mapping[str, np.ndarray]) -> float:
    """The largest difference from the CPU's answers. Wrong above the tolerance.

    Of outputs that are compared by their length, such as velocities, it is the length of all together.
    """
    worst, lengths = 0.0, []
    for name, result in zip(manifest["outputs"], program.step(), strict=True):
        by_length = name in manifest["by_length"]
        expected, actual = answers[name], summary(name, np.asarray(result), by_length)
        if by_length:
            lengths.append((expected[0], actual[0]))
        else:
            worst = max(worst, _agree(f"{manifest['name']}: {name}", expected, actual, manifest["precision"]))
    if lengths:
        wanted, found = np.sqrt(np.sum(np.square(lengths), axis=0))
        if not abs(found / wanted - 1) <= LENGTH_TOLERANCE[manifest["precision"]]:  # so that NaN fails too
            raise Wrong(f"{manifest['name']}: the length of what moved is {found:.3g}, not {wanted:.3g}")
    return worst


def _agree(who: str, expected: np.ndarray, actual: np.ndarray, precision: str) -> float:
    """The largest difference, relative to the largest value. Wrong above the tolerance."""
    error = float(np.max(np.abs(actual - expected)) / max(float(np.max(np.abs(expected))), 1e-6))
    if not error <= TOLERANCE[precision]:
        raise Wrong(f"{who} differs by {error:.2g} of its largest value")
    return error


def seconds_of(runs: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each in each round, of as many calls in a row as `LEAST` needs."""
    counts = {}
    for name, run in runs.items():
        run(1)
        counts[name] = max(1, min(100, round(LEAST / timed(partial(run, 1))[0])))
    taken = interleaved({name: partial(run, counts[name]) for name, run in runs.items()}, rounds)
    return {name: [s / counts[name] for s in seconds] for name, seconds in taken.items()}


@cache
def limits(precision: str) -> Mapping[str, float]:
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
    manifest = json.loads((folder / "manifest.json").read_text())
    with np.load(folder / "answers.npz") as answers:
        error = check(Program(folder, manifest, manifest["checked"]), manifest, answers)
    machine, found = limits(manifest["precision"]), jax.devices()[0]
    for batch in manifest["batches"]:
        try:
            program = Program(folder, manifest, batch)
            runs, failed = _entered(program, manifest, batch, names)
            seconds = seconds_of(runs, rounds)
        except jax.errors.JaxRuntimeError as failure:  # memory, above all
            _tell(f"{manifest['name']}, batch {batch}", failure)
            continue
        medians = {name: float(np.median(s)) for name, s in seconds.items()}
        rate = manifest["flops"] * batch / medians["rawcnn"]
        moved = manifest["bytes"][str(batch)] / medians["rawcnn"]
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
                "failed": failed,
                "flops_per_second": rate,
                "bytes_per_second": moved,
                **machine,
                "share_of_matmul": rate / machine["matmul_flops_per_second"],
                "share_of_copy": moved / machine["copy_bytes_per_second"],
                "ratio_to_keras": min(others) / medians["rawcnn"] if others else None,
            },
        }  # fmt: skip


def _entered(
    program: Program, manifest: Mapping[str, Any], batch: int, names: Sequence[str]
) -> tuple[dict[str, Run], dict[str, str]]:
    """(who runs: rawcnn and the peers whose first call gives what its own gave; why each of the others does not).

    Dropout draws other masks in each library: there no losses are compared.
    """
    runs: dict[str, Run] = {"rawcnn": program.run}
    failed: dict[str, str] = {}
    expected = program.run(1)
    layers = (manifest["model"] or {}).get("layers", ())
    drops = manifest["job"] == "training" and any(layer["kind"] == "dropout" for layer in layers)
    for name, make in peers(manifest, batch, names).items():
        try:
            run = make()
            answer = run(1)
            if not drops:
                _agree(name, expected, answer, manifest["precision"])
            runs[name] = run
        except Exception as error:
            failed[name] = _tell(f"{manifest['name']}, batch {batch}: {name}", error)
    return runs, failed


def _tell(who: str, error: Exception) -> str:
    """The first line of what went wrong, on stderr too."""
    line = f"{type(error).__name__}: {(str(error).splitlines() or ['it said nothing'])[0]}"
    print(f"{who}: {line}", file=sys.stderr)
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what benchmarks.pjrt.export wrote")
    parser.add_argument("--output", type=Path, help="file that the records are appended to; otherwise they are printed")
    parser.add_argument("--peers", nargs="*", default=["keras", "torch"], help="who runs beside it; none: nobody")
    parser.add_argument("--only", default="", help="workloads whose folders have this in their names")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    found = sorted(p.parent for p in options.folder.glob("*/manifest.json") if options.only in p.parent.name)
    if not found:
        print(f"{options.folder} holds no workload; write some with python -m benchmarks.pjrt.export", file=sys.stderr)
        return 2
    if options.output:
        try:
            options.output.open("a", encoding="utf-8").close()
        except OSError as error:
            print(f"{options.output} cannot be written ({error.strerror}); name another file", file=sys.stderr)
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
        except Exception as error:
            failed += 1
            _tell(folder.name, error)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
