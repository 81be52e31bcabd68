"""Run exported workloads with JAX's client: `python -m benchmarks.stablehlo.run FOLDER… [--output RESULTS.jsonl]`.

For each workload and batch: compile, compare with the CPU's results, compare the peers, and time all in interleaved
rounds. Each record is one line: device, versions, compile seconds, images/s, achieved FLOP/s and bytes/s, and their
shares of the matmul peak and copy bandwidth, which are measured first on the same device.

Device time is limited. A failure is therefore reported and the other contestants continue, and contestants compile at
the same time, each in a separate process (of several workloads with `--together`). They are timed one at a time.
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

ROUNDS, ROUND_SECONDS = 7, 0.1  # number of rounds; a round has as many calls as take these seconds
PATIENCE = 600.0  # seconds that the preparation of a race may take; contestants that need longer are left out
TO_PROFILE = 20.0  # seconds
START = time.monotonic()


class Machine(NamedTuple):
    """The GPUs' names, and the peak performance of one of them by precision."""

    gpus: list[str]
    limits: dict[str, dict[str, float]]


class WorkloadRace:
    """The race of one exported workload with one batch: its forms and its peers. All processes start immediately."""

    def __init__(self, folders: Mapping[str, Path], batch: int, begin: Sequence[str]):
        """Start the processes.

        Args:
            folders: The exported folder by name, "rawcnn" or "rawcnn FORM".
            batch: Images per call.
            begin: Beginnings of the peers' names.
        """
        self.folder, self.batch = next(iter(folders.values())), batch
        self.manifest = read_manifest(self.folder)
        self.name = f"{self.manifest['name']}, batch {batch}"
        ours, checked = self._ours(folders, batch), self.manifest["checked"]
        self.checks = ours  # programs with known results; for another batch a separate program of the first form
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
        """Start a process per form; the forms of a kernel are small and share one."""
        if self.manifest["job"] == "kernel":
            return dict.fromkeys(folders, Remote(partial(programs, folders, batch)))
        return {name: Remote(partial(programs, {name: folder}, batch)) for name, folder in folders.items()}

    def prepare(self, until: float) -> None:
        """Wait for all contestants until the time `until`; remove those that are late or have other results.

        The losses of networks with dropout are not compared, because each library draws other masks.
        """
        layers = (self.manifest["model"] or {}).get("layers", ())
        drops = self.manifest["job"] == "training" and any(layer["kind"] == "dropout" for layer in layers)
        expected = None
        for name, remote in list(self.contestants.items()):
            with self._removed_on_failure(name):
                for process in {remote, self.checks.get(name, remote)} - self._ready:
                    took = process.wait(max(until - time.monotonic(), 0.1))
                    self._ready.add(process)
                    _report(f"{self.name}: {name} is ready after {took:.0f} s")
                if name in self.checks:
                    self.difference = max(self.difference, self.checks[name].call(name, "check"))
                answer = remote.call(name, "first")
                expected = answer if expected is None else expected
                if not drops:
                    agree(name, expected, answer, self.manifest["precision"])

    @contextmanager
    def _removed_on_failure(self, name: str) -> Iterator[None]:
        """Report an error of the contestant and remove it from the race."""
        try:
            yield
        except Exception as error:
            self.failed[name] = str(error) if isinstance(error, Gone) else first_line(error)
            _report(f"{self.name}: {name}: {self.failed[name]}")
            removed = self.contestants.pop(name)
            for process in {removed, self.checks.get(name, removed)} - {*self.contestants.values()}:  # may be shared
                process.end()  # frees its memory on the device

    def run(self, name: str, calls: int) -> None:
        """Call a contestant `calls` times, unless it failed before."""
        if name in self.contestants:
            with self._removed_on_failure(name):
                self.contestants[name].call(name, "run", calls)

    def record(self, rounds: int, machine: Machine, command: str) -> dict[str, Any]:
        """Time the contestants and return the record. Raise Gone if all of rawcnn's contestants failed."""
        taken = seconds_of({name: partial(self.run, name) for name in self.contestants}, rounds)
        seconds = {name: taken[name] for name in self.contestants}
        if not any(name in self.contestants for name in self.ours):
            raise Gone("all contestants of rawcnn failed")
        manifest, batch, limit = self.manifest, self.batch, machine.limits[self.manifest["precision"]]
        medians = {name: float(np.median(s)) for name, s in seconds.items()}
        ours = "rawcnn" if "rawcnn" in medians else min(medians.keys() & set(self.ours), key=medians.__getitem__)
        others = [m for name, m in medians.items() if name.startswith("keras")]
        rate, moved = manifest["flops"] * batch / medians[ours], manifest["bytes"][str(batch)] / medians[ours]
        return {
            **metadata(command, machine.gpus),
            "commit": manifest["commit"],  # of the exported programs; this machine may have no checkout
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
        """Profile rawcnn's first contestant, as `spent.spent` does. Raise Gone if the profiler fails."""
        name = next(name for name in self.ours if name in self.contestants)
        return self.contestants[name].call(name, "spent", within=TO_PROFILE)

    def end(self) -> None:
        for remote in {*self.contestants.values(), *self.checks.values()}:
            remote.end()


def seconds_of(runs: Mapping[str, Any], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per call of each contestant, one value per round of at least `ROUND_SECONDS`."""
    counts = {}
    for name, run in runs.items():
        run(1)
        counts[name] = max(1, min(100, round(ROUND_SECONDS / max(timed(partial(run, 1))[0], 1e-6))))
    taken = interleaved({name: partial(run, counts[name]) for name, run in runs.items()}, rounds, short=0.0)
    return {name: [s / counts[name] for s in seconds] for name, seconds in taken.items()}


# All races -------------------------------------------------------------------------------------------------------

Unit = tuple[dict[str, Path], int]  # (exported folder by form, batch)


def races(folder: Path, only: str, batches: Sequence[int]) -> list[Unit]:
    """Return the races of the workloads in `folder` whose names contain `only`, with `batches` or all exported ones."""
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
    """Prepare races at the same time and run one after another; yield None for a race that failed, and report it."""
    until = time.monotonic() + patience
    started = [WorkloadRace(named, batch, begin) for named, batch in group]
    for race in started:
        race.prepare(until)
    for race in started:
        record = None
        try:
            record = race.record(rounds, machine, command)
            if profile:
                record["figures"]["spent"], record["figures"]["longest"] = race.spent()
        except Gone as error:
            _report(f"{race.name}: {error}")
        race.end()
        yield record


def _machine(units: Sequence[Unit]) -> Machine:
    """Describe this machine's device and measure its peaks, in the precisions of these workloads."""
    precisions = sorted({read_manifest(path)["precision"] for named, _ in units for path in named.values()})
    remote = Remote(partial(limits, precisions))
    remote.wait()
    found = Machine(remote.call(precisions[0], "gpus"), {p: remote.call(p, "measure") for p in precisions})
    remote.end()
    return found


def _none_found(only: str, batches: Sequence[int]) -> str:
    """Return the end of the error message for a folder without matching races."""
    if not only and not batches:
        return "; write some with python -m benchmarks.stablehlo.export"
    name = f" with {only!r} in its name" if only else ""
    batch = f" for a batch of {', '.join(map(str, batches))}" if batches else ""
    return f"{name}{batch}; leave {'--only' if only else '--batches'} out, or export it"


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _report(line: str) -> None:
    print(f"[{time.monotonic() - START:4.0f} s] {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders that benchmarks.stablehlo.export wrote")
    parser.add_argument("--output", type=Path, help="append the records to this file instead of printing them")
    parser.add_argument("--peers", nargs="*", default=["keras", "torch"], help="beginnings of the peers' names")
    parser.add_argument("--only", default="", help="run only workloads whose folders' names contain this")
    parser.add_argument(
        "--batches", type=int, nargs="*", default=(), help="batches to run; by default all exported ones"
    )
    parser.add_argument("--rounds", type=_positive, default=ROUNDS, help="number of timed rounds")
    parser.add_argument("--profile", action="store_true", help="record the time by kind of kernel (only on a GPU)")
    parser.add_argument("--together", type=_positive, default=1, help="number of races that compile at the same time")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE,
        help="seconds for the preparation of a race; late contestants are left out",
    )
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    found = {folder: races(folder, options.only, options.batches) for folder in options.folders}
    if nothing := [folder for folder, units in found.items() if not units]:
        print(f"{nothing[0]} holds no workload{_none_found(options.only, options.batches)}", file=sys.stderr)
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
