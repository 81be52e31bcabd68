"""`rawcnn explain`: every number of a network for one image, forward and backward, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import Classes, Head, Json, Model, Options, Recipe, Seed, Size, Weights
from rawcnn.cli.parsing import parse_model_settings, parse_position, show_size
from rawcnn.cli.request import ImagesRequest, Run, begin

PHOTOGRAPH = "china.jpg"  # of scikit-learn: a pagoda


@dataclass(frozen=True, kw_only=True)
class ExplainRequest(ImagesRequest):
    """The options of `rawcnn explain`. Without an image it explains the photograph."""

    folder: Path
    layers: Sequence[str]
    label: str | None
    recipe: str | None
    everything: bool
    position: str | None
    channels: Sequence[int]

    needs_classifier = True  # the page goes back from the loss

    @property
    def checked_file(self) -> Path:
        return self.folder / "index.html"

    def check(self) -> None:
        from rawcnn.explain.explanation import check_one_layer
        from rawcnn.models import find_model
        from rawcnn.training.recipes import find_recipe

        super().check()
        check_one_layer(self.layers, parse_position(self.position), self.channels)
        if self.recipe:
            find_recipe(self.recipe)
        if self.weights is None:  # otherwise the file has the number of classes and their names
            classes = parse_model_settings(self.option).get("classes", find_model(self.model).classes)
            self.class_number((), self.classes or classes)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "image": self.images[0] if self.images else f"scikit-learn's {PHOTOGRAPH}",
            "weights": self.weights or "random",
            "size": show_size(network.input_size if network else self.size),
            "layers": ",".join(self.layers) or "one of each kind",
            "label": "the predicted class" if self.label is None else self.label,
            "recipe": self.recipe or "that of rawcnn train",
            "output": self.folder,
            "seed": self.seed,
        }

    def load_network(self, weights: Path | None):
        network = super().load_network(weights)
        self.class_number(network.labels or (), network.classes)  # the file names the classes
        network.check_labels()
        return network

    def check_network(self, network: Any) -> None:
        from rawcnn.explain.explanation import check

        check(network, None, self.layers, parse_position(self.position), self.channels)

    def class_number(self, names: Sequence[str], classes: int) -> int | None:
        """Return the number of the class that --label names by its number or name; None without the option.

        Args:
            names: The names of the classes; empty if they are unknown.
            classes: The number of classes.

        Raises:
            ValueError: There is no such class.
        """
        if self.label is None:
            return None
        if self.label in names:
            return list(names).index(self.label)
        try:
            number = int(self.label)
        except ValueError:
            number = -1
        if not 0 <= number < classes:
            known = "the name of a class or its number" if names else "a class number"
            raise ValueError(f"--label is {self.label!r}; expected {known} from 0 to {classes - 1}")
        return number


def explain(
    model: Model,
    image: Annotated[
        Path | None, typer.Argument(help="Image file; default: a photograph that scikit-learn ships.")
    ] = None,
    weights: Weights = None,
    head: Head = "load",
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            help="Name of an operation whose arrays the page holds; `rawcnn profile MODEL` lists them. Repeatable. "
            "Default: the first and the last convolution, one operation of each other kind, and the classifier.",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Class of the loss, by number or name; default: the predicted one.")
    ] = None,
    recipe: Recipe = None,
    position: Annotated[
        str | None,
        typer.Option(help="Position in the layer's output as ROW,COLUMN that is selected first; needs one --layer."),
    ] = None,
    channels: Annotated[
        list[int] | None,
        typer.Option("--channel", help="Channel of the layer that the page holds in any case. Repeatable.", min=0),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Hold all values of these operations, whatever the size of the page.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("explanation"),
    classes: Classes = None,
    size: Size = None,
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Explain every number of a network for one image, forward and backward.

    The page shows the model's source with what each line computed. Click an operation, then a pixel: the page computes
    its value and its gradient from the network's own arrays.
    """
    request = ExplainRequest(
        model=model, images=[image] if image else (), weights=weights, head=head, layers=layers or (), label=label,
        recipe=recipe, position=position, channels=channels or (), everything=everything, folder=output,
        classes=classes, size=size, option=option, as_json=as_json, seed=seed,
    )  # fmt: skip
    write_page(request)


def write_page(request: ExplainRequest) -> None:
    """Write the page into its folder."""
    from rawcnn.explain import explain
    from rawcnn.report.explanation_page import write_explanation
    from rawcnn.training.recipes import find_recipe

    with begin(request) as run:
        name, pixels = _image(request, run)
        network = run.network
        with run.screen.progress_bar("explaining") as report:
            explanation = explain(
                network, pixels, name=name, label=request.class_number(network.labels or (), network.classes),
                layers=request.layers, position=parse_position(request.position), channels=request.channels,
                everything=request.everything, recipe=find_recipe(request.recipe) if request.recipe else None,
                progress=report,
            )  # fmt: skip
        page = write_explanation(explanation, request.folder)
        size = page.stat().st_size
        for layer, text in explanation.left_out.items():
            run.screen.note(f"{layer}: {text}")
        if explanation.warning:
            run.screen.note(explanation.warning)
        run.screen.print(f"wrote {page} ({size / 1e6:.1f} MB): open it in a browser")
        run.result = {"page": str(page), "bytes": size, **explanation.summary()}


def _image(request: ExplainRequest, run: Run):
    """Return the name and the pixels [H,W,3] in [0,1] of the image, or of the photograph."""
    import numpy as np
    from sklearn.datasets import load_sample_image

    from rawcnn.data.decode import Item, read

    if request.images:
        return request.images[0].name, run.images[0]
    photograph = read(Item("test", PHOTOGRAPH, 0, load_sample_image(PHOTOGRAPH)), run.network.image_size)
    return PHOTOGRAPH, photograph.astype(np.float32) / np.float32(255)
