"""What the kinds of `rawcnn benchmark` share: options, the base of their requests, and the end of a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import onednn
from rawcnn.cli.parsing import without_folders
from rawcnn.cli.request import Request, Run

BATCH = 8  # images, unless --batch says otherwise
FOLDER = Path("benchmark")  # of the files of results
ROUNDS = 10

Batch = Annotated[int, typer.Option(help="Batch size.", min=1)]
Classes = Annotated[int | None, typer.Option(help="Number of classes; default: the network's own.", min=1)]
Models = Annotated[list[str] | None, typer.Argument(help="Names of models; `rawcnn models` lists them.")]
Output = Annotated[Path, typer.Option(help="File to which the results are appended.")]
Rounds = Annotated[int, typer.Option(help="Number of interleaved rounds.", min=1)]


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest(Request):
    """The options of every kind of benchmark; the results are appended to the file `output`."""

    output: Path

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"onednn": onednn.state()}

    def destination(self) -> dict[str, Any]:
        """Return the arguments about where results go, and the command that they record."""
        return {"file": self.output, "command": recorded_command()}


def recorded_command() -> str:
    """Return this process's command as result files record it: without the folders of this machine."""
    return " ".join(["rawcnn", *map(without_folders, sys.argv[1:])])


def check_models(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is not a model's."""
    from rawcnn.models import find_model

    for name in names:
        find_model(name)


def check_precision(precision: str) -> None:
    """Raise ValueError for a precision that no benchmark measures."""
    if precision not in ("float32", "bfloat16"):
        raise ValueError(f"precision is {precision!r}; expected float32 or bfloat16, which benchmarks measure")


@contextmanager
def progress_bar(run: Run, description: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar and yield a callback (what, done, total), as benchmarks call it."""
    with run.screen.progress_bar(description) as report:
        yield lambda what, done, total: report(done, total, what)


def finish(run: Run, request: BenchmarkRequest, results: object) -> None:
    """Print where the results were written and set them as the run's result."""
    run.screen.print(f"appended to {request.output}")
    run.result = results
