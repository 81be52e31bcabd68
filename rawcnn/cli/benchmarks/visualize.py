"""`rawcnn benchmark visualize`: race a step of feature visualization against other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from rawcnn.cli.benchmarks.request import (
    FOLDER,
    ROUNDS,
    BenchmarkRequest,
    Output,
    Rounds,
    finish,
    progress_bar,
)
from rawcnn.cli.options import SIZE, Json, Seed
from rawcnn.cli.parsing import ImageSize, parse_size
from rawcnn.cli.request import begin

COLUMNS = ("contestant", "ms per image and step", "first call s")


@dataclass(frozen=True, kw_only=True)
class VisualizeRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark visualize`."""

    names: Sequence[str]
    batch: int | None
    size: ImageSize
    rounds: int
    contestants: Sequence[str] | None

    def check(self) -> None:
        from benchmarks.races.visualize import LAYERS, select_contestants

        select_contestants(self.contestants)
        if unknown := [name for name in self.names if name not in LAYERS]:
            raise ValueError(f"no layer of {unknown[0]!r} is raced; expected some of {', '.join(LAYERS)}")

    def layers(self) -> dict[str, str]:
        """Return the raced layer of each network."""
        from benchmarks.races.visualize import LAYERS

        return {name: LAYERS[name] for name in self.names or LAYERS}

    def batches(self) -> Sequence[int]:
        from benchmarks.races.visualize import BATCHES

        return (self.batch,) if self.batch else BATCHES

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "visualize": ", ".join(map(" ".join, self.layers().items())),
            "batches": ", ".join(map(str, self.batches())),
            "size": self.size,
            "rounds": self.rounds,
            "seed": self.seed,
            "output": self.output,
        }


def visualize(
    models: Annotated[
        list[str] | None, typer.Argument(help="Networks with a raced layer; an unknown name lists them; default: all.")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size; default: several.", min=1)] = None,
    size: Annotated[
        Any, typer.Option(help="Side of the images in pixels, or HEIGHTxWIDTH.", parser=parse_size, metavar=SIZE)
    ] = 128,
    rounds: Rounds = ROUNDS,
    contestant: Annotated[
        list[str] | None,
        typer.Option(help="Contestant; an unknown name lists them; default: all that are installed. Repeatable."),
    ] = None,
    output: Output = FOLDER / "visualize.jsonl",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race a step of feature visualization.

    The contestants are code around Keras and the libraries that are installed.
    """
    request = VisualizeRequest(
        names=models or (), batch=batch, size=size, rounds=rounds, contestants=contestant, output=output,
        as_json=as_json, seed=seed,
    )  # fmt: skip
    race_visualizations(request)


def race_visualizations(request: VisualizeRequest) -> None:
    """Race each layer with each batch and print one table for each."""
    from benchmarks.run import run_visualizations

    with begin(request) as run:
        with progress_bar(run, "racing") as report:
            races = run_visualizations(
                request.layers(), request.batches(), size=request.size, contestants=request.contestants,
                rounds=request.rounds, seed=request.seed, **request.destination(), progress=report,
            )  # fmt: skip
        for race in races:
            rows = [(t.name, f"{t.median / race.batch * 1e3:.1f}", f"{t.first_call:.1f}") for t in race.timings]
            title = f"{race.network}, {race.layer}, batch {race.batch}"
            run.screen.print_table(title, COLUMNS, rows, text=("contestant",))
        finish(run, request, [race.to_json() for race in races])
