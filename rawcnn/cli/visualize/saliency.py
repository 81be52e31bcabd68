"""`rawcnn visualize saliency`: which pixels a class depends on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Compile,
    Head,
    Images,
    Json,
    Model,
    Options,
    Picture,
    Seed,
    Size,
    Weights,
)
from rawcnn.cli.parsing import PICTURES
from rawcnn.cli.request import ImagesRequest, begin

LABEL = 24  # characters of a file name in the picture


@dataclass(frozen=True, kw_only=True)
class SaliencyRequest(ImagesRequest):
    """The options of `rawcnn visualize saliency`."""

    target: int | None
    samples: int
    steps: int
    output: Path
    compile: str

    endings = PICTURES
    needs_classifier = True

    def check_network(self, network: Any) -> None:
        from rawcnn.visualize.layer_maps import check_classes

        if self.target is not None:
            check_classes(self.target, network)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights or "random",
            "samples": self.samples,
            "steps": self.steps,
            "seed": self.seed,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"images": ",".join(map(str, self.images)), "class": self.target, "compile": self.compile}


def saliency(
    model: Model,
    images: Images,
    weights: Weights = None,
    head: Head = "load",
    classes: Annotated[
        int | None, typer.Option("--class", help="Number of a class; default: the predicted one.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Number of noisy copies for the smoothed gradient.", min=1)] = 50,
    steps: Annotated[int, typer.Option(help="Number of steps of the integrated gradients.", min=1)] = 64,
    output: Picture = Path("saliency.png"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Show which pixels a class depends on.

    The pictures are the gradient, the gradient averaged over noise, and the gradient integrated from black.
    """
    request = SaliencyRequest(
        model=model, images=images, weights=weights, target=classes, samples=samples, steps=steps, output=output,
        size=size, option=option, compile=compile, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    draw_saliency(request)


def draw_saliency(request: SaliencyRequest) -> None:
    """Write the sheet, one row per image."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize import input_gradient, integrated_gradients, saliency_pictures, smooth_gradient
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        network, pixels, target, mode = run.network, run.images, request.target, request.compile
        plain = input_gradient(network, pixels, target, compile=mode)
        smooth = smooth_gradient(network, pixels, target, samples=request.samples, seed=request.seed, compile=mode)
        integrated = integrated_gradients(network, pixels, target, steps=request.steps, compile=mode)
        pictures = [saliency_pictures(result) for result in (plain, smooth, integrated)]
        names = [f"{n + 1}. {file.name[:LABEL]}" for n, file in enumerate(request.images)]
        rows = {name: [pixels[n], *(p[n] for p in pictures)] for n, name in enumerate(names)}
        labels = network.labels or [f"class {number}" for number in range(network.classes)]
        titles = [
            [f"{labels[c]}: {logit:.3g}", "gradient", "smooth", "integrated"]
            for c, logit in zip(plain.classes, plain.logits, strict=True)
        ]
        save(picture_rows(rows, titles), request.output)
        figures = {
            "classes": plain.classes,
            "logits": plain.logits,
            "integrated_gradients_miss_the_logits_by": integrated.gap,
        }
        run.screen.print(f"wrote {request.output}")
        run.result = write_record(
            request.output, {**run.settings, "images": request.images}, figures,
            images=pixels, gradient=plain.maps, smooth=smooth.maps, integrated=integrated.maps,
        )  # fmt: skip
