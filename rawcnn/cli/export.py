"""The verb that hands a network on to other programs: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import Classes, Json, Labels, Model, Options, Precision, Seed, Size, Weights, network_for


def export(
    model: Model,
    format: Annotated[str, typer.Option(help="savedmodel or stablehlo.")] = "savedmodel",
    weights: Weights = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write; MODEL-FORMAT otherwise.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images at a time; any number otherwise, 1 in stablehlo.")] = None,
    labels: Labels = None,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Write a network as a folder that runs without rawcnn: a SavedModel, or StableHLO with its variables."""
    from rawcnn.evaluation.class_names import read_labels
    from rawcnn.export import check
    from rawcnn.export import export as export_network

    screen = Screen(as_json)
    output = output or Path(f"{model}-{format}")
    check(output, format, batch)
    network = network_for(model, weights, classes=classes, size=size, seed=seed, precision=precision, options=option)
    if labels:
        network.labels = read_labels(labels)
    screen.settings(model=model, format=format, weights=weights or "random", output=output, batch=batch, seed=seed)
    screen.settings(size=network.input_size, classes=network.classes, precision=precision, labels=labels)
    with screen.err.status(f"exporting {model}"):
        export_network(network, output, format, batch=batch)
    files = {str(f.relative_to(output)): f.stat().st_size for f in sorted(output.rglob("*")) if f.is_file()}
    screen.say(f"wrote {output}: {', '.join(files)}; {sum(files.values()) / 1e6:,.1f} MB")
    screen.emit({"model": model, "format": format, "output": str(output), "bytes": files})
