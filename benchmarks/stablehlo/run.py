"""Run exported workloads with JAX's client: `python -m benchmarks.stablehlo.run FOLDER… [--output RESULTS.jsonl]`.

For each workload and each of its batches: compile, compare with what the CPU gave, compare the peers that do the same
work, and time calls that are waited for, in rounds with them. A record a line: device, versions, compile seconds,
images/s, achieved FLOP/s and bytes/s, and their shares of the matmul peak and the copy bandwidth that were measured
first, on the same device. What fails is told, and the rest goes on: device time is short. So each contestant has a
process of its own, in which it is compiled while others are, of several workloads `--together`; then they are timed,
one at a time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.results import command_line, metadata
from benchmarks.harness.timing import interleaved, timed
from benchmarks.stablehlo import peers
from benchmarks.stablehlo.program import agree, limits, programs, read_manifest
from benchmarks.stablehlo.remote import Gone, Remote, first_line

ROUNDS, LEAST = 7, 0.1  # rounds; seconds that one of them takes, of as many calls as that needs
PATIENCE = 600.0  # seconds that a race may take to be ready; who is not is left out
TO_PROFILE = 20.0  # seconds
BEGUN = time.monotonic()


class Machine(NamedTuple):
    """The GPUs' names, and what one of them does at most in each precision."""

    gpus: list[str]
    limits: dict[str, dict[str, float]]


class Race:
    """A workload for one batch, in one form or several, beside its peers. Its processes begin at once."""

    def __init__(self, folders: Mapping[str, Path], batch: int, begin: Sequence[str]):
        """`folders`: "rawcnn", or "rawcnn FORM" → where it was exported; peers are those whose names `begin` so."""
        self.folder, self.batch = next(iter(folders.values())), batch
        self.manifest = read_manifest(self.folder)
        self.name = f"{self.manifest['name']}, batch {batch}"
        ours, checked = self._ours(folders, batch), self.manifest["checked"]
        self.checks = ours  # programs whose answers are known: of another batch they are others, the first form's alone
        if checked != batch:
            self.checks = self._ours(dict(list(folders.items())[:1]), checked)
        others = {
            name: Remote(partial(peers.make, name, self.folder, batch)) for name in peers.names(self.manifest, begin)
        }
        self.contestants = {**ours, **others}
        self.ours, self._ready = tuple(ours), set[Remote]()
        self.failed: dict[str, str] = {}
        self.difference = 0.0

    def _ours(self, folders: Mapping[str, Path], batch: int) -> dict[str, Remote]:
        """A process for each form; of a kernel one for all, which are small."""
        if self.manifest["job"] == "kernel":
            return dict.fromkeys(folders, Remote(partial(programs, folders, batch)))
        return {name: Remote(partial(programs, {name: folder}, batch)) for name, folder in folders.items()}

    def prepare(self, until: float) -> None:
        """Wait until then for all; leave out who is not ready, or gives other answers.

        Dropout draws other masks in each library: there no losses are compared.
        """
        layers = (self.manifest["model"] or {}).get("layers", ())
        drops = self.manifest["job"] == "training" and any(layer["kind"] == "dropout" for layer in layers)
        expected = None
        for name, remote in list(self.contestants.items()):
            with self._left_out_if_wrong(name):
                for process in {remote, self.checks.get(name, remote)} - self._ready:
                    took = process.wait(max(until - time.monotonic(), 0.1))
                    self._ready.add(process)
                    _tell(f"{self.name}: {name} is ready after {took:.0f} s")
                if name in self.checks:
                    self.difference = max(self.difference, self.checks[name].call(name, "check"))
                answer = remote.call(name, "first")
                expected = answer if expected is None else expected
                if not drops:
                    agree(name, expected, answer, self.manifest["precision"])

    @contextmanager
    def _left_out_if_wrong(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed[name] = str(error) if isinstance(error, Gone) else first_line(error)
            _tell(f"{self.name}: {name}: {self.failed[name]}")
            its = self.contestants.pop(name)
            for process in {its, self.checks.get(name, its)} - {*self.contestants.values()}:  # forms may share one
                process.end()  # and its memory on the device is free

    def run(self, name: str, calls: int) -> None:
        """So many calls of a contestant; of one that fails there are none from then on."""
        if name in self.contestants:
            with self._left_out_if_wrong(name):
                self.contestants[name].call(name, "run", calls)

    def record(self, rounds: int, machine: Machine, command: str) -> dict[str, Any]:
        """Time it. Gone where none of ours can take part."""
        taken = seconds_of({name: partial(self.run, name) for name in self.contestants}, rounds)
        seconds = {name: taken[name] for name in self.contestants}
        if not any(name in self.contestants for name in self.ours):
            raise Gone("nothing is left to be timed")
        manifest, batch, limit = self.manifest, self.batch, machine.limits[self.manifest["precision"]]
        medians = {name: float(np.median(s)) for name, s in seconds.items()}
        ours = "rawcnn" if "rawcnn" in medians else min(medians.keys() & set(self.ours), key=medians.__getitem__)
        others = [m for name, m in medians.items() if name.startswith("keras")]
        rate, moved = manifest["flops"] * batch / medians[ours], manifest["bytes"][str(batch)] / medians[ours]
        return {
            **metadata(command, machine.gpus),
            "commit": manifest["commit"],  # of the programs; here there may be no checkout
            "settings": {
                "pjrt": manifest["name"], "job": manifest["job"], "precision": manifest["precision"], "batch": batch,
                "rounds": rounds, **({"case": manifest["case"]} if manifest["case"] else {}),
            },
            "figures": {
                "difference": self.difference,
                "compile_seconds": self.contestants[ours].call(ours, "seconds_to_compile"),
                "seconds": seconds,
                "images_per_second": {name: batch / m for name, m in medians.items()},
                "failed": self.failed,
                "flops_per_second": rate,
                "bytes_per_second": moved,
                **limit,
                "share_of_matmul": rate / limit["matmul_flops_per_second"],
                "share_of_copy": moved / limit["copy_bytes_per_second"],
                "ratio_to_keras": min(others) / medians[ours] if others else None,
            },
        }  # fmt: skip

    def spent(self) -> tuple[dict[str, float], dict[str, float]]:
        """Where the time of the first of ours goes: kinds of kernels, and the longest. Gone where nobody tells."""
        name = next(name for name in self.ours if name in self.contestants)
        return self.contestants[name].call(name, "spent", within=TO_PROFILE)

    def end(self) -> None:
        for remote in {*self.contestants.values(), *self.checks.values()}:
            remote.end()


def seconds_of(runs: Mapping[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each in each round, of as many calls in a row as `LEAST` needs."""
    counts = {}
    for name, run in runs.items():
        run(1)
        counts[name] = max(1, min(100, round(LEAST / max(timed(partial(run, 1))[0], 1e-6))))
    taken = interleaved({name: partial(run, counts[name]) for name, run in runs.items()}, rounds, short=0.0)
    return {name: [s / counts[name] for s in seconds] for name, seconds in taken.items()}


# All of them -----------------------------------------------------------------------------------------------------

Unit = tuple[dict[str, Path], int]  # where each form of a workload was exported, and a batch


def races(folder: Path, only: str, batches: Sequence[int]) -> list[Unit]:
    """The races of the workloads in `folder`; of those `batches`, or of all that were exported."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(p.parent for p in folder.glob("*/manifest.json")):
        manifest = read_manifest(path)
        if only in path.name:
            found.setdefault(manifest["name"], {})[f"rawcnn {manifest['form']}".strip()] = path
    return [
        (named, batch)
        for named in found.values()
        for batch in read_manifest(next(iter(named.values())))["batches"]
        if not batches or batch in batches
    ]


def records(
    group: Sequence[Unit],
    begin: Sequence[str],
    rounds: int,
    patience: float,
    profile: bool,
    machine: Machine,
    command: str,
) -> Iterator[dict[str, Any] | None]:
    """Of races that are prepared side by side, one after another; None for what failed, which is told."""
    until = time.monotonic() + patience
    begun = [Race(named, batch, begin) for named, batch in group]
    for race in begun:
        race.prepare(until)
    for race in begun:
        record = None
        try:
            record = race.record(rounds, machine, command)
            if profile:
                record["figures"]["spent"], record["figures"]["longest"] = race.spent()
        except Gone as error:
            _tell(f"{race.name}: {error}")
        race.end()
        yield record


def _machine(units: Sequence[Unit]) -> Machine:
    """What this machine's device is and does at most, in the precisions of these workloads."""
    precisions = sorted({read_manifest(path)["precision"] for named, _ in units for path in named.values()})
    remote = Remote(partial(limits, precisions))
    remote.wait()
    found = Machine(remote.call(precisions[0], "gpus"), {p: remote.call(p, "measure") for p in precisions})
    remote.end()
    return found


def _asked(only: str, batches: Sequence[int]) -> str:
    """What is wrong where a folder has no races of these."""
    if not only and not batches:
        return "; write some with python -m benchmarks.stablehlo.export"
    name = f" with {only!r} in its name" if only else ""
    batch = f" for a batch of {', '.join(map(str, batches))}" if batches else ""
    return f"{name}{batch}; leave {'--only' if only else '--batches'} out, or export it"


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _tell(line: str) -> None:
    print(f"[{time.monotonic() - BEGUN:4.0f} s] {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders that benchmarks.stablehlo.export wrote")
    parser.add_argument("--output", type=Path, help="file that the records are appended to; otherwise they are printed")
    parser.add_argument("--peers", nargs="*", default=["keras", "torch"], help="whose names begin so; none: nobody")
    parser.add_argument("--only", default="", help="workloads whose folders have this in their names")
    parser.add_argument("--batches", type=int, nargs="*", default=(), help="of those that were exported; otherwise all")
    parser.add_argument("--rounds", type=_positive, default=ROUNDS)
    parser.add_argument("--profile", action="store_true", help="of ours, the time by kind of kernel, on a GPU")
    parser.add_argument(
        "--together", type=_positive, default=1, help="races of a folder that are compiled side by side"
    )
    parser.add_argument(
        "--patience", type=float, default=PATIENCE, help="seconds for that; who takes longer is left out"
    )
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    found = {folder: races(folder, options.only, options.batches) for folder in options.folders}
    if nothing := [folder for folder, units in found.items() if not units]:
        print(f"{nothing[0]} holds no workload{_asked(options.only, options.batches)}", file=sys.stderr)
        return 2
    if options.output:
        try:
            options.output.open("a", encoding="utf-8").close()
        except OSError as error:
            print(f"{options.output} cannot be written ({error.strerror}); name another file", file=sys.stderr)
            return 2
    try:
        machine = _machine([unit for units in found.values() for unit in units])
    except Gone as error:
        print(f"JAX could not measure this machine's device: {error}", file=sys.stderr)
        return 2
    command = command_line("benchmarks.stablehlo.run", words)
    groups = [
        units[k : k + options.together] for units in found.values() for k in range(0, len(units), options.together)
    ]
    failed = 0
    for group in groups:
        for record in records(
            group, options.peers, options.rounds, options.patience, options.profile, machine, command
        ):
            if record is None:
                failed += 1
                continue
            line = json.dumps(record, allow_nan=False)
            if options.output:
                with options.output.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            else:
                print(line)
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
