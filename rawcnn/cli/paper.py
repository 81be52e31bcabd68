"""`rawcnn paper`: a paper's printed table next to the counts, and the experiment of the ResNet paper."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    Compile,
    Data,
    Json,
    Recipe,
    Seed,
    Size,
    SkipUnreadable,
)
from rawcnn.cli.parsing import ImageSize
from rawcnn.cli.request import Request, begin, epoch_line, load_data


@dataclass(frozen=True, kw_only=True)
class PaperRequest(Request):
    """The options of `rawcnn paper`."""

    name: str
    train: bool
    gradients: bool
    data: str
    epochs: int | None
    batch: int | None
    recipe: str | None
    size: ImageSize | None
    folder: Path
    compile: str
    skip_unreadable: bool

    @property
    def plot(self) -> Path:
        return self.folder / ("depth.png" if self.train else "gradients.png")

    @property
    def checked_file(self) -> Path | None:
        return self.plot if self.train or self.gradients else None

    def check(self) -> None:
        from rawcnn.papers import compare

        compare(self.name)
        for option, given in (("--train", self.train), ("--gradients", self.gradients)):
            if given and self.name != "resnet":
                raise ValueError(
                    f"{option} repeats the experiment of the ResNet paper, not of {self.name}; "
                    f"use rawcnn paper resnet {option}"
                )
        if self.train and self.gradients:
            raise ValueError("--train and --gradients are two experiments; give one of them")
        if self.gradients and self.epochs:
            raise ValueError("--gradients trains nothing; leave --epochs out")


def paper(
    name: Annotated[str, typer.Argument(help="alexnet, vgg, googlenet, resnet, inception, resnext, senet or nasnet.")],
    train: Annotated[
        bool, typer.Option(help="Only resnet: train plain and residual networks of two depths and compare them.")
    ] = False,
    gradients: Annotated[
        bool,
        typer.Option(help="Only resnet: draw the gradient norms through depth of plain and residual networks."),
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
        name=name, train=train, gradients=gradients, data=data, epochs=epochs, batch=batch, recipe=recipe, size=size,
        folder=output, compile=compile, skip_unreadable=skip_unreadable, as_json=as_json, seed=seed,
    )  # fmt: skip
    (train_depths if train else draw_gradients if gradients else compare_paper)(request)


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

    figures = request.folder / "depth.json"
    with begin(request) as run:
        recipe, images = _prepare(request, run.screen)
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


def draw_gradients(request: PaperRequest) -> None:
    """Draw the gradient norms of each layer of new plain and residual networks, for one batch."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.plots.figures import depth_gradients, save
    from rawcnn.training.depth_gradients import first_over_last, gradient_norms

    figures = request.folder / "gradients.json"
    with begin(request) as run:
        recipe, images = _prepare(request, run.screen)
        with run.screen.progress_bar("measuring") as report:
            norms = gradient_norms(images, recipe=recipe, seed=request.seed, compile=request.compile, progress=report)
        save(depth_gradients(norms), request.plot)
        write_atomic(figures, json.dumps(norms, indent=1).encode())
        growth = {name: first_over_last(values) for name, values in norms.items()}
        columns = ("network", "gradient norm of the first convolution / last")
        rows = [(name, f"{factor:.3g}") for name, factor in growth.items()]
        run.screen.print_table("before training", columns, rows, text=("network",))
        run.screen.print(f"wrote {request.plot} and {figures}")
        run.result = {"gradient_norms": norms, "first_over_last": growth}


def _prepare(request: PaperRequest, screen: Screen):
    """Choose the recipe, load the images and print the settings: (Recipe, DataSet)."""
    from rawcnn.training.recipes import find_recipe

    recipe = find_recipe(request.recipe or "resnet2015_cifar")
    changes: dict[str, Any] = {"epochs": request.epochs, "batch": request.batch}
    recipe = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    images = load_data(screen, request.data, request.size, request.skip_unreadable)
    epochs = {} if request.gradients else {"epochs": recipe.epochs}
    settings = {"data": request.data, "recipe": recipe.name, **epochs, "batch": recipe.batch}
    settings |= {"size": images.size, "seed": request.seed, "compile": request.compile}
    screen.print_settings({**settings, "output": request.folder})
    return recipe, images


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
