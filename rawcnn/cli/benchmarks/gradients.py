"""`rawcnn benchmark gradients`: race a training step by the tape and by gradients that are written out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rawcnn.cli.benchmarks.request import (
    FOLDER,
    ROUNDS,
    BenchmarkRequest,
    Models,
    Output,
    Rounds,
    check_models,
    finish,
    progress_bar,
)
from rawcnn.cli.options import Json, Seed, Size
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import begin

COLUMNS = ("contestant", "median ms", "fastest", "slowest", "first call s", "peak MiB")


@dataclass(frozen=True, kw_only=True)
class GradientsRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark gradients`."""

    names: Sequence[str]
    batch: int | None
    size: ImageSize | None
    rounds: int
    contestants: Sequence[str] | None

    def check(self) -> None:
        from benchmarks.races.gradients import select_contestants

        check_models(self.names)
        select_contestants(self.contestants)

    def resolved_names(self) -> Sequence[str]:
        from benchmarks.races.gradients import SHAPES

        return self.names or tuple(SHAPES)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "gradients": ",".join(self.resolved_names()),
            "batch": self.batch,
            "size": self.size,
            "rounds": self.rounds,
            "seed": self.seed,
            "output": self.output,
        }


def gradients(
    models: Models = None,
    batch: Annotated[int | None, typer.Option(help="Batch size; default: that of the documents.", min=1)] = None,
    size: Size = None,
    rounds: Rounds = ROUNDS,
    contestant: Annotated[
        list[str] | None, typer.Option(help="'tape graph', 'hand graph', 'tape xla' or 'hand xla'; default: all.")
    ] = None,
    output: Output = FOLDER / "gradients.jsonl",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race gradients by hand against the tape.

    Each contestant takes the same training step.
    """
    request = GradientsRequest(
        names=models or (), batch=batch, size=size, rounds=rounds, contestants=contestant, output=output,
        as_json=as_json, seed=seed,
    )  # fmt: skip
    race_by_hand(request)


def race_by_hand(request: GradientsRequest) -> None:
    """Race each network and print one table for each."""
    from benchmarks.run import run_gradients

    with begin(request) as run:
        with progress_bar(run, "racing") as report:
            races = run_gradients(
                request.resolved_names(), batch=request.batch, size=request.size, rounds=request.rounds,
                contestants=request.contestants, seed=request.seed, **request.destination(), progress=report,
            )  # fmt: skip
        for race in races:
            rows = []
            for t in race.timings:
                times = (f"{1e3 * seconds:.1f}" for seconds in (t.median, min(t.seconds), max(t.seconds)))
                peak = "unknown" if t.memory is None else f"{t.memory / 2**20:,.0f}"
                rows.append((t.name, *times, f"{t.first_call:.1f}", peak))
            run.screen.print_table(f"{race.model}, batch {race.batch}", COLUMNS, rows, text=("contestant",))
        finish(run, request, [race.to_json() for race in races])
