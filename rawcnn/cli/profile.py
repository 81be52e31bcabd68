"""`rawcnn models` and `rawcnn profile`: what networks and their layers cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli import profile_table
from rawcnn.cli.console import Screen, short_number
from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Json,
    Model,
    Options,
    Precision,
    Seed,
    Size,
)
from rawcnn.cli.parsing import PICTURES, ImageSize, check_writable, parse_model_settings
from rawcnn.cli.request import Request, begin


def models(as_json: Json = False) -> None:
    """List the models.

    The columns are parameters, MACs, receptive field and paper.
    """
    list_models(Request(as_json=as_json))


def list_models(request: Request) -> None:
    """Print one row for each model."""
    from rawcnn.profiling.model_totals import listed_models

    with begin(request) as run:
        with run.screen.progress_bar("profiling") as report:
            found = listed_models(report)
        columns = ("model", "image", "parameters", "MACs", "receptive field", "paper")
        rows = [
            (
                m["name"],
                m["size"],
                m["parameters"],
                short_number(m["macs"]),
                m["receptive_field"] or "image",
                m["paper"],
            )
            for m in found
        ]
        run.screen.print_table("", columns, rows, text=("model", "paper"))
        run.result = found


@dataclass(frozen=True, kw_only=True)
class ProfileRequest(Request):
    """The options of `rawcnn profile`."""

    model: str
    size: ImageSize | None
    batch: int
    classes: int | None
    option: list[str] | None
    precision: str
    measure: bool
    plot: Path | None
    csv: Path | None
    compile: str

    @property
    def is_measured(self) -> bool:
        return self.measure or self.plot is not None

    def check(self) -> None:
        from rawcnn.models import find_model

        check_writable(self.plot, *PICTURES)
        check_writable(self.csv)
        if self.compile != "auto" and not self.is_measured:
            raise ValueError("--compile applies to measured layers; give --measure or --plot, too")
        find_model(self.model)

    def settings(self, network: Any = None) -> dict[str, Any]:
        from rawcnn.models import find_model

        return {
            "model": self.model,
            "size": find_model(self.model).size if self.size is None else self.size,
            "batch": self.batch,
            "classes": self.classes,
            "precision": self.precision,
            **parse_model_settings(self.option, "size", "classes"),
        }


def profile(
    model: Model,
    size: Size = None,
    batch: Batch = 1,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    measure: Annotated[bool, typer.Option(help="Also time every layer on this machine.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Time every layer and draw the roofline to this .png, .svg or .pdf file.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this CSV file.")] = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """List what each layer of a network costs.

    The columns are parameters, MACs, FLOPs, memory, receptive field and arithmetic intensity.
    """
    request = ProfileRequest(
        model=model, size=size, batch=batch, classes=classes, option=option, precision=precision, measure=measure,
        plot=plot, csv=csv, compile=compile, as_json=as_json, seed=seed,
    )  # fmt: skip
    profile_layers(request)


def profile_layers(request: ProfileRequest) -> None:
    """Print the table of layers, and what was measured; write the plot and the CSV file."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.profiling.costs import profile

    with begin(request) as run:
        options = parse_model_settings(request.option, "size", "classes")
        found = profile(
            request.model, request.batch, request.size, classes=request.classes, precision=request.precision, **options
        )
        measurement = _measure(request, found, run.screen) if request.is_measured else None
        _print_profile(run.screen, found, measurement)
        if measurement and request.plot:
            from rawcnn.plots import figures

            figures.save(figures.roofline(found, measurement), request.plot)
            run.screen.print(f"wrote {request.plot}")
        if request.csv:
            write_atomic(request.csv, found.to_csv().encode())
        run.result = {**found.to_dict(), **({"measured": measurement.to_dict()} if measurement else {})}


def _measure(request: ProfileRequest, profile, screen: Screen):
    """Time every layer."""
    from rawcnn.profiling.roofline import measure

    with screen.progress_bar("measuring layers") as report:
        return measure(profile, compile=request.compile, progress=report)


def _print_profile(screen: Screen, profile, measurement) -> None:
    """Print the table of layers, the totals, and what was measured."""
    columns = (*profile_table.COLUMNS, *(profile_table.MEASURED_COLUMNS if measurement else ()))
    rows = profile_table.layer_rows(profile, measurement)
    screen.print_table(profile.model, columns, rows, text=profile_table.TEXT_COLUMNS)
    for line in profile_table.totals_lines(profile):
        screen.print(line)
    if measurement:
        for line in profile_table.machine_lines(measurement):
            screen.print(line)
        title, columns = "the slowest five, equal layers together", profile_table.SLOWEST_COLUMNS
        screen.print_table(title, columns, profile_table.slowest_rows(measurement), text=("layers", "limit", "why"))
