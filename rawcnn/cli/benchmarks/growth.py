"""`rawcnn benchmark growth`: measure how time grows with batch, size, depth and an attack's steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.benchmarks.request import (
    FOLDER,
    ROUNDS,
    BenchmarkRequest,
    Output,
    Rounds,
    check_precision,
    finish,
    progress_bar,
)
from rawcnn.cli.options import SIZE, Json, Precision
from rawcnn.cli.parsing import ImageSize, parse_size
from rawcnn.cli.request import begin

COLUMNS = ("along", "job", "networks", "ms per image", "exponent")


@dataclass(frozen=True, kw_only=True)
class GrowthRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark growth`."""

    precision: str
    size: ImageSize
    rounds: int

    @property
    def plot(self) -> Path:
        return self.output.with_name(f"growth-{self.precision}.png")

    def check(self) -> None:
        check_precision(self.precision)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "growth": "all",
            "precision": self.precision,
            "size": self.size,
            "rounds": self.rounds,
            "output": self.output,
        }


def growth(
    precision: Precision = "float32",
    size: Annotated[
        Any,
        typer.Option(
            help="Side of the images in pixels, or HEIGHTxWIDTH, where batch or depth grows; where the size grows, "
            "images are square.",
            parser=parse_size,
            metavar=SIZE,
        ),
    ] = 224,
    rounds: Rounds = ROUNDS,
    output: Output = FOLDER / "growth.jsonl",
    as_json: Json = False,
) -> None:
    """Measure how time grows.

    The batch, the size, the depth and the steps of an attack vary. The plot is written next to the results.
    """
    measure_growth(GrowthRequest(precision=precision, size=size, rounds=rounds, output=output, as_json=as_json))


def measure_growth(request: GrowthRequest) -> None:
    """Measure the series, print one row for each and draw them."""
    from benchmarks.measurements.growth import grow
    from rawcnn.plots import figures

    with begin(request) as run:
        with progress_bar(run, "measuring") as report:
            series = grow(
                request.precision, size=request.size, rounds=request.rounds, **request.destination(), progress=report
            )
        rows = [
            (
                s.along,
                s.job,
                s.model,
                f"{1e3 * s.seconds_per_image[0]:.1f} to {1e3 * s.seconds_per_image[-1]:.1f}",
                f"{s.exponent:.2f}",
            )
            for s in series
        ]
        run.screen.print_table("time per image ∝ x^exponent", COLUMNS, rows, text=("along", "job", "networks"))
        figures.save(figures.growth(series), request.plot)
        run.screen.print(f"wrote {request.plot}")
        finish(run, request, [s.to_json() for s in series])
