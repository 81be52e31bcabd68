"""`rawcnn visualize filters`: the filters of the first layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Head,
    Json,
    Model,
    Options,
    Picture,
    Seed,
    Weights,
)
from rawcnn.cli.request import NetworkRequest, begin


@dataclass(frozen=True, kw_only=True)
class FiltersRequest(NetworkRequest):
    """The options of `rawcnn visualize filters`."""

    layer: str | None
    scale: int
    output: Path

    endings = (".png",)

    def resolved_layer(self, network) -> str:
        from rawcnn.visualize.filters import image_convolution

        return image_convolution(network, self.layer)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights or "random",
            "layer": self.resolved_layer(network),
            "scale": self.scale,
            "seed": self.seed,
        }


def filters(
    model: Model,
    weights: Weights = None,
    head: Head = "load",
    layer: Annotated[
        str | None, typer.Option(help="A convolution that reads the image; default: the first one.")
    ] = None,
    scale: Annotated[int, typer.Option(help="Screen pixels per weight.", min=1, max=256)] = 16,
    output: Picture = Path("filters.png"),
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Show the filters of the first layer."""
    request = FiltersRequest(
        model=model, weights=weights, layer=layer, scale=scale, output=output, option=option, as_json=as_json,
        seed=seed, head=head,
    )  # fmt: skip
    draw_filters(request)


def draw_filters(request: FiltersRequest) -> None:
    """Write the sheet of filters."""
    from rawcnn.visualize import filter_grid, save_png
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        layer = request.resolved_layer(run.network)
        save_png(request.output, filter_grid(run.network, layer), request.scale)
        run.screen.print(f"wrote {request.output}")
        figures = {"layer": layer, "filters": run.network.operation(layer).output_shape[-1]}
        weights = run.network.variables[f"{layer}/filters"].numpy()
        run.result = write_record(request.output, run.settings, figures, filters=weights)
