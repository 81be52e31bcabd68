"""`rawcnn benchmark scale`: measure how a training step scales over several workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
from rawcnn.cli.options import Json, Precision, Size
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import begin


@dataclass(frozen=True, kw_only=True)
class ScaleRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark scale`; `batch` is the number of images per worker."""

    names: Sequence[str]
    batch: int
    size: ImageSize | None
    classes: int | None
    precision: str
    rounds: int

    def check(self) -> None:
        if not self.names:
            raise ValueError("`benchmark scale` needs networks; name some, as `benchmark scale resnet18`")
        check_models(self.names)
        check_precision(self.precision)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "scale": ",".join(self.names),
            "batch": f"{self.batch} per worker",
            "precision": self.precision,
            "rounds": self.rounds,
            "output": self.output,
        }


def scale(
    models: Models = None,
    batch: Batch = BATCH,
    size: Size = None,
    classes: Classes = None,
    precision: Precision = "float32",
    rounds: Rounds = ROUNDS,
    output: Output = FOLDER / "scale.jsonl",
    as_json: Json = False,
) -> None:
    """Measure how a training step scales over workers.

    The workers share a batch. Each has its own GPU or its own cores.
    """
    request = ScaleRequest(
        names=models or (), batch=batch, size=size, classes=classes, precision=precision, rounds=rounds, output=output,
        as_json=as_json,
    )  # fmt: skip
    measure_scaling(request)


def measure_scaling(request: ScaleRequest) -> None:
    """Measure each network and print one table for each."""
    from benchmarks.run import run_scale

    with begin(request) as run:
        with progress_bar(run, "measuring") as report:
            results = run_scale(
                request.names, batch=request.batch, size=request.size, classes=request.classes,
                precision=request.precision, rounds=request.rounds, **request.destination(), progress=report,
            )  # fmt: skip
        for result in results:
            _print_result(result, run.screen)
        finish(run, request, [result.to_json() for result in results])


def _print_result(result, screen: Screen) -> None:
    """Print one row per number of workers."""
    rows = []
    for workers in result.seconds:
        middle, low, high = result.efficiency(workers)
        speed = f"{result.images_per_second(workers):.1f}"
        rows.append((str(workers), speed, f"{middle:.0%}", f"{low:.0%} to {high:.0%}"))
    title = f"{result.model}, {result.batch} images per worker; each worker has {result.each}"
    screen.print_table(title, ("workers", "images/s", "efficiency", "middle half"), rows)
