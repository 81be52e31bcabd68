"""Verbs about weights in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.options import Classes, Json, Model, Options, Size, network_for
from rawcnn.console import Screen

app = typer.Typer(help="Weights in files.", no_args_is_help=True, rich_markup_mode=None)
File = Annotated[Path, typer.Argument(help="A .safetensors or .npz file.")]


@app.command("import")
def import_weights(
    model: Model,
    file: File,
    output: Annotated[Path, typer.Option(help="Where to write them: .safetensors or .npz.")],
    classes: Classes = None,
    size: Size = None,
    option: Options = None,
    as_json: Json = False,
) -> None:
    """Read published weights, check that every tensor fits, and write them under rawcnn's names."""
    from rawcnn.weights import save_weights

    screen = Screen(as_json)
    network = network_for(model, file, classes=classes, size=size, options=option)
    save_weights(network, output)
    screen.say(f"all {len(network.variables)} variables of {model} found in {file}; wrote {output}")
    screen.emit({"model": model, "variables": len(network.variables), "output": str(output)})


@app.command("show")
def show_weights(file: File, as_json: Json = False) -> None:
    """List the tensors of a file and what it says about its network."""
    from rawcnn.weights import describe, read

    screen = Screen(as_json)
    about, tensors = describe(file), read(file)
    rows = [(name, "×".join(map(str, t.shape)), str(t.dtype), t.size) for name, t in tensors.items()]
    screen.table(str(file), ("tensor", "shape", "type", "values"), rows, text=("tensor", "shape", "type"))
    screen.say(f"{len(tensors)} tensors, {sum(t.size for t in tensors.values()):,} values")
    screen.emit({"about": about, "tensors": {n: {"shape": t.shape, "dtype": str(t.dtype)} for n, t in tensors.items()}})
