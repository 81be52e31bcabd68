"""`rawcnn benchmark networks` and `memory`: race networks against Keras and PyTorch, and measure their peak memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rawcnn.cli.benchmarks.request import (
    BATCH,
    FOLDER,
    ROUNDS,
    Batch,
    BenchmarkRequest,
    Classes,
    Models,
    Output,
    Rounds,
    check_models,
    check_precision,
    finish,
    progress_bar,
)
from rawcnn.cli.console import Screen
from rawcnn.cli.options import Json, Precision, Seed, Size
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import Run, begin

CONTESTANTS = (
    "rawcnn graph, mixed or xla; keras default, jit, no jit, function or function xla; torch eager or compile, each "
    "with its first word, such as 'keras jit'"
)
Jobs = Annotated[list[str] | None, typer.Option("--job", help="inference or training; default: both. Repeatable.")]


@dataclass(frozen=True, kw_only=True)
class NetworksRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark networks` and `memory`."""

    names: Sequence[str]
    jobs: Sequence[str] | None
    batch: int
    size: ImageSize | None
    classes: int | None
    precision: str
    contestants: Sequence[str] | None

    def check(self) -> None:
        from benchmarks.races.contestants import JOBS
        from benchmarks.races.networks import select_contestants

        check_models(self.names)
        if unknown := [job for job in self.jobs or () if job not in JOBS]:
            raise ValueError(f"--job is {unknown[0]!r}; expected one of {', '.join(JOBS)}")
        check_precision(self.precision)
        select_contestants(self.contestants, self.precision)

    def common_settings(self) -> dict[str, Any]:
        """Return what the timed and the measured contestants share."""
        return {"batch": self.batch, "size": self.size, "classes": self.classes, "precision": self.precision}


@dataclass(frozen=True, kw_only=True)
class RaceRequest(NetworksRequest):
    """The options of `rawcnn benchmark networks`."""

    rounds: int
    memory: bool

    def resolved_names(self) -> Sequence[str]:
        from benchmarks.run import MODELS

        return self.names or list(MODELS)

    def resolved_jobs(self) -> Sequence[str]:
        from benchmarks.races.contestants import JOBS

        return self.jobs or tuple(JOBS)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "models": ",".join(self.resolved_names()),
            "jobs": ",".join(self.resolved_jobs()),
            **self.common_settings(),
            "rounds": self.rounds,
            "seed": self.seed,
            "output": self.output,
        }


def networks(
    models: Models = None,
    job: Jobs = None,
    batch: Batch = BATCH,
    size: Size = None,
    classes: Classes = None,
    precision: Precision = "float32",
    rounds: Rounds = ROUNDS,
    contestant: Annotated[
        list[str] | None, typer.Option(help=f"{CONTESTANTS}; default: all but PyTorch's. Repeatable.")
    ] = None,
    memory: Annotated[
        bool, typer.Option(help="Then measure the peak memory of rawcnn and of Keras's best contestant.")
    ] = True,
    output: Output = FOLDER / "races.jsonl",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race networks against Keras or PyTorch.

    PyTorch takes part where --contestant names it.
    """
    request = RaceRequest(
        names=models or (), jobs=job, batch=batch, size=size, classes=classes, precision=precision, rounds=rounds,
        contestants=contestant, memory=memory, output=output, as_json=as_json, seed=seed,
    )  # fmt: skip
    race_networks(request)


def race_networks(request: RaceRequest) -> None:
    """Race each job on each network; then measure the memory of rawcnn and of Keras's best contestant."""
    from benchmarks.run import run as run_races

    with begin(request) as run:
        with progress_bar(run, "racing") as report:
            races = run_races(
                request.resolved_names(), request.resolved_jobs(), **request.common_settings(), rounds=request.rounds,
                contestants=request.contestants, seed=request.seed, **request.destination(), progress=report,
            )  # fmt: skip
        for race in races:
            _print_race(race, run.screen)
        best = {(r.model, r.job): [n for n in (r.chosen, r.keras_best and r.keras_best.name) if n] for r in races}
        best = {race: names for race, names in best.items() if names}
        peaks = _measure_peaks(request, best, run) if request.memory and best else []
        finish(run, request, {"races": [race.to_json() for race in races], "memory": peaks})


def _print_race(race, screen: Screen) -> None:
    """Print the times of all contestants, and Keras's best time over rawcnn's."""
    columns = ("contestant", "median ms", "fastest", "slowest", "first call s")
    rows = []
    for t in race.timings:
        milliseconds = (f"{1e3 * seconds:.1f}" for seconds in (t.median, min(t.seconds), max(t.seconds)))
        rows.append((t.name, *milliseconds, f"{t.first_call:.1f}"))
    screen.print_table(f"{race.model}, {race.job}, batch {race.batch}", columns, rows, text=("contestant",))
    if race.ratio:
        low, high = min(race.ratios), max(race.ratios)
        best = "best contestant" if race.complete else "fastest of these contestants"
        screen.print(f"Keras's {best} takes {race.ratio:.2f} times as long ({low:.2f} to {high:.2f} over the rounds)")


@dataclass(frozen=True, kw_only=True)
class MemoryRequest(NetworksRequest):
    """The options of `rawcnn benchmark memory`."""

    def check(self) -> None:
        super().check()
        if not self.names:
            raise ValueError("`benchmark memory` needs networks; name some, as `benchmark memory resnet50`")

    def resolved_contestants(self) -> list[str]:
        """Return the contestants; by default all of Keras's and the one that rawcnn chooses on this machine."""
        from benchmarks.races.contestants import NAMES
        from rawcnn.nn.execution import choose

        chosen = f"rawcnn {choose('auto', (), self.precision).mode}"
        default = [name for name in NAMES if name == chosen or not name.startswith("rawcnn")]
        return list(self.contestants or default)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "memory": ",".join(self.names),
            **self.common_settings(),
            "contestants": ", ".join(self.resolved_contestants()),
            "output": self.output,
        }


def memory(
    models: Models = None,
    job: Jobs = None,
    batch: Batch = BATCH,
    size: Size = None,
    classes: Classes = None,
    precision: Precision = "float32",
    contestant: Annotated[
        list[str] | None, typer.Option(help=f"{CONTESTANTS}; default: Keras's and rawcnn's choice. Repeatable.")
    ] = None,
    output: Output = FOLDER / "memory.jsonl",
    as_json: Json = False,
) -> None:
    """Measure the peak memory of networks.

    Each contestant runs in a process of its own.
    """
    request = MemoryRequest(
        names=models or (), jobs=job, batch=batch, size=size, classes=classes, precision=precision,
        contestants=contestant, output=output, as_json=as_json,
    )  # fmt: skip
    measure_memory(request)


def measure_memory(request: MemoryRequest) -> None:
    """Measure every contestant in every job on every network."""
    from benchmarks.races.contestants import JOBS

    with begin(request) as run:
        contestants = request.resolved_contestants()
        jobs = request.jobs or tuple(JOBS)
        races = {(name, job): contestants for name in request.names for job in jobs}
        finish(run, request, {"memory": _measure_peaks(request, races, run)})


def _measure_peaks(request: NetworksRequest, races: Mapping[tuple[str, str], Sequence[str]], run: Run) -> list:
    """Measure, print and append the peak memory of the contestants of each (network, job)."""
    from benchmarks.run import run_memory

    with progress_bar(run, "measuring memory") as report:
        results = run_memory(races, **request.common_settings(), **request.destination(), progress=report)
    for r in results:
        rows = [(name, "unknown" if peak is None else f"{peak / 2**20:,.0f}") for name, peak in r.peaks.items()]
        title = f"{r.model}, {r.job}, batch {r.batch}"
        run.screen.print_table(title, ("contestant", "peak MiB"), rows, text=("contestant",))
    return [r.to_json() for r in results]
