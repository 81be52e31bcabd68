"""`rawcnn weights`: import, download and show weights files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import WEIGHTS, Classes, Head, Json, Labels, Model, Options, Size
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import Request, begin, load_network, note_origin

app = typer.Typer(help="Import, download and show weights files.", no_args_is_help=True, rich_markup_mode=None)
File = Annotated[Path, typer.Argument(help=f"Weights file {WEIGHTS}.")]
Output = Annotated[
    Path | None, typer.Option(help="Also write the weights under rawcnn's names, as .safetensors or .npz.")
]


@dataclass(frozen=True, kw_only=True)
class ConvertRequest(Request):
    """The options of `rawcnn weights import` and `fetch`; `file` is None until the weights are downloaded."""

    model: str
    file: Path | None = None
    labels: Path | None = None
    classes: int | None = None
    size: ImageSize | None = None
    option: Sequence[str] | None = None
    head: str = "load"

    endings = (".safetensors", ".npz")

    def check(self) -> None:
        from rawcnn.models import find_model

        find_model(self.model)


@app.command("import")
def import_weights(
    model: Model,
    file: File,
    output: Output = None,
    labels: Labels = None,
    classes: Classes = None,
    size: Size = None,
    option: Options = None,
    head: Head = "load",
    as_json: Json = False,
) -> None:
    """Load published weights.

    Every tensor must fit, with --head skip every tensor but the classifier's. With --output, the weights are written
    under rawcnn's names.
    """
    request = ConvertRequest(
        model=model, file=file, output=output, labels=labels, classes=classes, size=size, option=option,
        head=head, as_json=as_json,
    )  # fmt: skip
    convert_weights(request)


@app.command("fetch")
def fetch_weights(
    model: Model,
    source: Annotated[str, typer.Option("--from", help="Publisher of the weights: keras.")] = "keras",
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Download published weights.

    The file goes to Keras's cache. With --output, the weights are also written under rawcnn's names, with ImageNet's
    class names.
    """
    if source != "keras":
        raise ValueError(f"--from is {source!r}; expected keras")
    convert_weights(ConvertRequest(model=model, output=output, as_json=as_json))


def convert_weights(request: ConvertRequest) -> None:
    """Load the file, downloaded first if the request names none, and write the output."""
    from rawcnn.weights import save_weights
    from rawcnn.weights.download import fetch

    with begin(request) as run:
        file = request.file or fetch(request.model)
        network = _load(request, file, run.screen)
        note_origin(run.screen, [file])
        network.labels = _labels(request) or network.labels
        network.check_labels()
        if request.output:
            save_weights(network, request.output)
        run.screen.print_settings(network.settings)
        wrote = f"; wrote {request.output}" if request.output else ""
        found = f"all {len(network.variables)} variables" if request.head == "load" else "all but the classifier"
        run.screen.print(f"found {found} of {request.model} in {file}{wrote}")
        run.result = {
            "model": request.model,
            "file": str(file),
            "variables": len(network.variables),
            "settings": network.settings,
            "output": str(request.output) if request.output else None,
        }


def _load(request: ConvertRequest, file: Path, screen: Screen):
    """Build the network from the file; print all problems as JSON before the error names the first."""
    from rawcnn.weights import Misfit

    with screen.err.status(f"reading {file}"):
        try:
            return load_network(
                request.model, file, classes=request.classes, size=request.size, option=request.option,
                head=request.head,
            )  # fmt: skip
        except Misfit as error:
            screen.print_json({"model": request.model, "file": str(file), "problems": error.problems})
            raise


def _labels(request: ConvertRequest):
    """Return the class names of the request's file, or ImageNet's for downloaded weights that are written."""
    from rawcnn.evaluation.class_names import read_labels
    from rawcnn.weights.download import fetch_labels

    if request.file is None:
        return fetch_labels() if request.output else None
    return read_labels(request.labels) if request.labels else None


@app.command("show")
def show_weights(file: File, as_json: Json = False) -> None:
    """List the tensors of a weights file.

    With --json, also print what the file stores about its network.
    """
    show_file(file, Request(as_json=as_json))


def show_file(file: Path, request: Request) -> None:
    """Print the table of tensors."""
    from rawcnn.weights import describe
    from rawcnn.weights.detect import detect_format
    from rawcnn.weights.packaged import find_weights
    from rawcnn.weights.readers import open_tensors

    with begin(request) as run:
        note_origin(run.screen, [file])
        path = find_weights(file)
        metadata = describe(path)
        with open_tensors(path) as tensors:
            rows = [(name, "×".join(map(str, t.shape)), t.dtype, prod(t.shape)) for name, t in tensors.items()]
            listed = {name: {"shape": t.shape, "dtype": t.dtype} for name, t in tensors.items()}
            names = detect_format(tensors) or "unknown"
        columns = ("tensor", "shape", "type", "values")
        run.screen.print_table(str(file), columns, rows, text=("tensor", "shape", "type"))
        run.screen.print(f"{len(rows)} tensors, {sum(row[3] for row in rows):,} values; names: {names}")
        run.result = {"about": metadata, "names": names, "tensors": listed}
