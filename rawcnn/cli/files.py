"""Verbs about weights in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import WEIGHTS, Classes, Json, Labels, Model, Options, Size, network_for, writable

app = typer.Typer(help="Weights in files.", no_args_is_help=True, rich_markup_mode=None)
File = Annotated[Path, typer.Argument(help=f"A file of weights: {WEIGHTS}.")]
ENDINGS = (".safetensors", ".npz")


@app.command("import")
def import_weights(
    model: Model,
    file: File,
    output: Annotated[Path | None, typer.Option(help="Write them under our names: .safetensors or .npz.")] = None,
    labels: Labels = None,
    classes: Classes = None,
    size: Size = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Read published weights, check that every tensor fits, and write them under rawcnn's names."""
    screen = Screen(as_json)
    writable(output, *ENDINGS)
    _convert(screen, model, file, output, labels, classes=classes, size=size, option=option)


@app.command("fetch")
def fetch_weights(
    model: Model,
    source: Annotated[str, typer.Option("--from", help="Who publishes them: keras.")] = "keras",
    output: Annotated[Path | None, typer.Option(help="Write them under our names: .safetensors or .npz.")] = None,
    as_json: Json = False,
) -> None:
    """Download published weights into Keras's cache; --output writes them with the names of ImageNet's classes."""
    from rawcnn.models import find
    from rawcnn.weights.download import fetch, fetch_labels

    screen = Screen(as_json)
    if source != "keras":
        raise ValueError(f"--from is {source!r}; expected keras")
    find(model)
    writable(output, *ENDINGS)
    file = fetch(model)
    _convert(screen, model, file, output, fetch_labels() if output else None)


def _convert(
    screen: Screen, model: str, file: Path, output: Path | None, labels, *, classes=None, size=None, option=()
):
    """Load, and write where an output is named; `labels` is a file of names, or the names."""
    from rawcnn.evaluation.class_names import read_labels
    from rawcnn.weights import Misfit, save_weights

    with screen.err.status(f"reading {file}"):
        try:
            network = network_for(model, file, classes=classes, size=size, options=option)
        except Misfit as error:
            screen.emit({"model": model, "file": str(file), "problems": error.problems})
            raise
    if labels:
        network.labels = read_labels(labels) if isinstance(labels, Path) else labels
        network.check_labels()
    if output:
        save_weights(network, output)
    wrote = f"; wrote {output}" if output else ""
    screen.settings(**network.settings)
    screen.say(f"all {len(network.variables)} variables of {model} found in {file}{wrote}")
    told = {"model": model, "file": str(file), "variables": len(network.variables), "settings": network.settings}
    screen.emit(told | {"output": str(output) if output else None})


@app.command("show")
def show_weights(file: File, as_json: Json = False) -> None:
    """List the tensors of a file and what it says about its network."""
    from math import prod

    from rawcnn.weights import describe
    from rawcnn.weights.detect import form_of
    from rawcnn.weights.readers import opened

    screen = Screen(as_json)
    about = describe(file)
    with opened(file) as tensors:
        rows = [(name, "×".join(map(str, t.shape)), t.dtype, prod(t.shape)) for name, t in tensors.items()]
        listed = {name: {"shape": t.shape, "dtype": t.dtype} for name, t in tensors.items()}
        names = form_of(tensors) or "unknown"
    screen.table(str(file), ("tensor", "shape", "type", "values"), rows, text=("tensor", "shape", "type"))
    screen.say(f"{len(rows)} tensors, {sum(row[3] for row in rows):,} values; names: {names}")
    screen.emit({"about": about, "names": names, "tensors": listed})
