"""`rawcnn benchmark kernels`: race the forms of each kernel, or choose the fastest ones for this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import onednn
from rawcnn.cli.benchmarks.request import (
    BATCH,
    FOLDER,
    ROUNDS,
    BenchmarkRequest,
    Models,
    Output,
    Rounds,
    check_models,
    check_precision,
    finish,
    progress_bar,
    recorded_command,
)
from rawcnn.cli.options import Json, Precision, Size
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import Request, begin


@dataclass(frozen=True, kw_only=True)
class KernelsRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark kernels`."""

    precision: str
    rounds: int

    def check(self) -> None:
        check_precision(self.precision)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {"kernels": "all", "precision": self.precision, "rounds": self.rounds, "output": self.output}


@dataclass(frozen=True, kw_only=True)
class TuneRequest(Request):
    """The options of `rawcnn benchmark kernels --tune`."""

    names: Sequence[str]
    batch: int
    size: ImageSize | None
    rounds: int

    @property
    def checked_file(self) -> Path:
        from kernels.dispatch.selection import table_path

        return table_path()

    def check(self) -> None:
        check_models(self.names)

    def resolved_names(self) -> Sequence[str]:
        from benchmarks.tune import MODELS

        return self.names or list(MODELS)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "models": ",".join(self.resolved_names()),
            "batch": self.batch,
            "size": self.size,
            "rounds": self.rounds,
            "onednn": onednn.state(),
            "table": self.checked_file,
        }


def kernels(
    models: Models = None,
    tune: Annotated[bool, typer.Option(help="Choose the fastest forms for the layers of the networks.")] = False,
    batch: Annotated[int | None, typer.Option(help=f"Batch size of --tune; default: {BATCH}.", min=1)] = None,
    size: Size = None,
    precision: Precision = "float32",
    rounds: Rounds = ROUNDS,
    output: Output = FOLDER / "kernels.jsonl",
    as_json: Json = False,
) -> None:
    """Race the forms of each kernel.

    With --tune, choose the fastest form for each layer of the networks; rawcnn uses these forms from then on.
    """
    if tune:
        if precision != "float32":
            raise ValueError("--tune measures both precisions; leave --precision out")
        tune_kernels(TuneRequest(names=models or (), batch=batch or BATCH, size=size, rounds=rounds, as_json=as_json))
        return
    if models or batch or size:
        raise ValueError("`benchmark kernels` races its own shapes; networks, --batch and --size go with --tune")
    race_kernels(KernelsRequest(precision=precision, rounds=rounds, output=output, as_json=as_json))


def race_kernels(request: KernelsRequest) -> None:
    """Race the forms of each kernel and print one table per case."""
    from benchmarks.run import run_kernels

    with begin(request) as run:
        with progress_bar(run, "racing") as report:
            races = run_kernels(
                precision=request.precision, rounds=request.rounds, **request.destination(), progress=report
            )
        for race in races:
            rows = [(t.name, f"{t.median * 1e3:.3f}", f"{race.gflops(t):.1f}") for t in race.timings]
            columns = ("form", "median ms", "GFLOP/s")
            run.screen.print_table(f"{race.case}, {race.job}", columns, rows, text=("form",))
        finish(run, request, {"kernels": [race.to_json() for race in races]})


def tune_kernels(request: TuneRequest) -> None:
    """Measure the fastest form for every layer, and write this machine's table of forms."""
    from benchmarks.tune import tune

    with begin(request) as run:
        path = request.checked_file
        with progress_bar(run, "measuring") as report:
            table = tune(
                request.resolved_names(), path=path, batch=request.batch, size=request.size, rounds=request.rounds,
                command=recorded_command(), progress=report,
            )  # fmt: skip
        rows = []
        for job, shapes in table["forms"].items():
            counts = Counter(entry["form"] for sizes in shapes.values() for entry in sizes.values())
            rows.append((job, ", ".join(f"{form} {count}" for form, count in counts.most_common())))
        run.screen.print_table("number of shapes by fastest form", ("job", "forms"), rows, text=("job", "forms"))
        run.screen.print(f"wrote {path}; delete it to use rawcnn's own table again")
        run.result = table
