"""`rawcnn export`: write a network for programs that do not use rawcnn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import Classes, Head, Json, Labels, Model, Options, Precision, Seed, Size, Weights
from rawcnn.cli.request import NetworkRequest, begin, named_classes


@dataclass(frozen=True, kw_only=True)
class ExportRequest(NetworkRequest):
    """The options of `rawcnn export`."""

    folder: Path
    format: str
    batch: int | None
    labels: Path | None

    needs_classifier = True

    def load_network(self, weights: Path | None):
        return named_classes(super().load_network(weights), self.labels)

    def check(self) -> None:
        from rawcnn.export import check

        super().check()
        check(self.folder, self.format, self.batch)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "format": self.format,
            "weights": self.weights or "random",
            "output": self.folder,
            "batch": self.batch,
            "seed": self.seed,
            "size": network.input_size,
            "classes": network.classes,
            "precision": self.precision,
            "labels": self.labels,
        }


def export(
    model: Model,
    format: Annotated[str, typer.Option(help="savedmodel or stablehlo.")] = "savedmodel",
    weights: Weights = None,
    head: Head = "load",
    output: Annotated[Path | None, typer.Option(help="Folder to write; default: MODEL-FORMAT.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Fixed batch size; default: any for savedmodel, 1 for stablehlo.")
    ] = None,
    labels: Labels = None,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Export a network to run without rawcnn.

    The result is a folder: a SavedModel, or StableHLO with its variables.
    """
    request = ExportRequest(
        model=model, format=format, weights=weights, folder=output or Path(f"{model}-{format}"), batch=batch,
        labels=labels, size=size, classes=classes, option=option, precision=precision, as_json=as_json, seed=seed,
        head=head,
    )  # fmt: skip
    export_network(request)


def export_network(request: ExportRequest) -> None:
    """Write the folder and list its files."""
    from rawcnn.export import export

    folder = request.folder
    with begin(request) as run:
        with run.screen.err.status(f"exporting {request.model}"):
            export(run.network, folder, request.format, batch=request.batch)
        files = {str(f.relative_to(folder)): f.stat().st_size for f in sorted(folder.rglob("*")) if f.is_file()}
        run.screen.print(f"wrote {folder}: {', '.join(files)}; {sum(files.values()) / 1e6:,.1f} MB")
        run.result = {"model": request.model, "format": request.format, "output": str(folder), "bytes": files}
