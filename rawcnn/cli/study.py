"""`rawcnn models`, `rawcnn profile` and `rawcnn paper`: study networks without trained weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli import profile_table
from rawcnn.cli.console import Screen, short_number
from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Data,
    Json,
    Model,
    Options,
    Precision,
    Recipe,
    Seed,
    Size,
    SkipUnreadable,
)
from rawcnn.cli.parsing import PICTURES, check_writable, parse_settings
from rawcnn.cli.request import Request, begin, epoch_line, load_data


def models(as_json: Json = False) -> None:
    """List the models.

    The columns are parameters, MACs, receptive field and paper.
    """
    list_models(Request(as_json=as_json))


def list_models(request: Request) -> None:
    """Profile every model and print one row for each."""
    from rawcnn.models import MODELS
    from rawcnn.profiling.costs import profile

    with begin(request) as run:
        found: list[dict[str, Any]] = []
        with run.screen.progress_bar("profiling") as report:
            for done, (name, model) in enumerate(MODELS.items(), start=1):
                metadata = {"name": name, "size": model.size, "paper": model.paper, "options": model.options}
                found.append({**metadata, **profile(name).totals})
                report(done, len(MODELS), name)
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
    size: int | None
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
        from rawcnn.models import find

        check_writable(self.plot, *PICTURES)
        check_writable(self.csv)
        if self.compile != "auto" and not self.is_measured:
            raise ValueError("--compile applies to measured layers; give --measure or --plot, too")
        find(self.model)

    def settings(self, network: Any = None) -> dict[str, Any]:
        from rawcnn.models import find

        return {
            "model": self.model,
            "size": find(self.model).size if self.size is None else self.size,
            "batch": self.batch,
            "classes": self.classes,
            "precision": self.precision,
            **parse_settings(self.option),
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
        options = parse_settings(request.option)
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


@dataclass(frozen=True, kw_only=True)
class PaperRequest(Request):
    """The options of `rawcnn paper`."""

    name: str
    train: bool
    data: str
    epochs: int | None
    batch: int | None
    recipe: str | None
    size: int | None
    folder: Path
    compile: str
    skip_unreadable: bool

    @property
    def plot(self) -> Path:
        return self.folder / "depth.png"

    @property
    def checked_file(self) -> Path | None:
        return self.plot if self.train else None

    def check(self) -> None:
        from rawcnn.papers import compare

        compare(self.name)
        if self.train and self.name != "resnet":
            raise ValueError(
                f"--train repeats the experiment of the ResNet paper, not of {self.name}; "
                "use rawcnn paper resnet --train"
            )


def paper(
    name: Annotated[str, typer.Argument(help="alexnet, vgg, googlenet, resnet, inception, resnext, senet or nasnet.")],
    train: Annotated[
        bool, typer.Option(help="Only resnet: train plain and residual networks of two depths and compare them.")
    ] = False,
    data: Data = "digits",
    epochs: Annotated[
        int | None, typer.Option(help="Number of epochs of each run; default: the recipe's.", min=1)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Batch size; default: the recipe's.", min=1)] = None,
    recipe: Recipe = None,
    size: Size = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs and of the plot.")] = Path("runs/depth"),
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Compare a paper's table with the counts.

    Each difference is explained.
    """
    request = PaperRequest(
        name=name, train=train, data=data, epochs=epochs, batch=batch, recipe=recipe, size=size, folder=output,
        compile=compile, skip_unreadable=skip_unreadable, as_json=as_json, seed=seed,
    )  # fmt: skip
    (train_depths if train else compare_paper)(request)


def compare_paper(request: PaperRequest) -> None:
    """Print the paper's table next to the counts."""
    from rawcnn.papers import compare

    with begin(request) as run:
        found = compare(request.name)
        title = f"{found.title} ({found.source})"
        run.screen.print_table(title, found.columns, found.rows, text=("row", "quantity", "explanation"))
        for note in found.notes:
            run.screen.print(f"• {note}")
        run.result = found.to_dict()


def train_depths(request: PaperRequest) -> None:
    """Repeat the ResNet paper's experiment: train plain and residual networks of two depths and compare them."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.plots.figures import depth_curves, save
    from rawcnn.training.plain_vs_residual import compare_depths, verdict
    from rawcnn.training.recipes import find

    figures = request.folder / "depth.json"
    with begin(request) as run:
        recipe = find(request.recipe or "resnet2015_cifar")
        changes: dict[str, Any] = {"epochs": request.epochs, "batch": request.batch}
        recipe = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
        images = load_data(run.screen, request.data, request.size, request.skip_unreadable)
        settings = {"data": request.data, "recipe": recipe.name, "epochs": recipe.epochs, "batch": recipe.batch}
        settings |= {"size": images.size[0], "seed": request.seed, "compile": request.compile}
        run.screen.print_settings({**settings, "output": request.folder})
        with run.screen.progress_bar("training") as report:
            histories = compare_depths(
                images, recipe=recipe, seed=request.seed, folder=request.folder, compile=request.compile,
                on_step=lambda name, done, steps, m: report(done, steps, f"{name}  loss {m['loss']:.3f}"),
                on_epoch=lambda name, summary: run.screen.note(epoch_line(name, summary)),
            )  # fmt: skip
        save(depth_curves(histories), request.plot)
        write_atomic(figures, json.dumps(histories, indent=1).encode())
        _print_errors(run.screen, histories)
        run.screen.print(verdict(histories))
        run.screen.print(f"wrote {request.plot} and {figures}")
        run.result = {"histories": histories, "verdict": verdict(histories)}


def _print_errors(screen: Screen, histories: dict[str, list[dict[str, float]]]) -> None:
    """Print the errors of each network after its last epoch."""
    rows = [
        (
            name,
            f"{100 * (1 - history[-1]['train_accuracy']):.2f} %",
            f"{100 * (1 - history[-1]['test_accuracy']):.2f} %",
        )
        for name, history in histories.items()
    ]
    screen.print_table("after the last epoch", ("network", "training error", "test error"), rows, text=("network",))
