"""`rawcnn benchmark build`: measure how long networks take until their first answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rawcnn.cli.benchmarks.request import (
    FOLDER,
    BenchmarkRequest,
    Models,
    Output,
    check_models,
    finish,
    progress_bar,
)
from rawcnn.cli.options import Json
from rawcnn.cli.request import begin

COLUMNS = ("network", "layers", "profile s", "create s", "graph s", "XLA s", "Keras's XLA s")
STEPS = ("profile", "create", "graph", "xla", "keras")


@dataclass(frozen=True, kw_only=True)
class BuildRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark build`."""

    names: Sequence[str]

    def check(self) -> None:
        check_models(self.names)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {"build": ",".join(self.names) or "all", "output": self.output}


def build(models: Models = None, output: Output = FOLDER / "build.jsonl", as_json: Json = False) -> None:
    """Measure the time until the first answer.

    This is the time to profile, create, trace and compile a network. Without names, all networks are measured.
    """
    measure_builds(BuildRequest(names=models or (), output=output, as_json=as_json))


def measure_builds(request: BuildRequest) -> None:
    """Measure each network and print one row for each."""
    from benchmarks.measurements.build import run_builds
    from rawcnn.models import MODELS

    with begin(request) as run:
        with progress_bar(run, "building") as report:
            results = run_builds(request.names or list(MODELS), **request.destination(), progress=report)
        rows = [(r.model, r.operations, *(f"{getattr(r, step):.2f}" for step in STEPS)) for r in results]
        run.screen.print_table("time to the first answer, one image", COLUMNS, rows, text=("network",))
        finish(run, request, [r.to_json() for r in results])
