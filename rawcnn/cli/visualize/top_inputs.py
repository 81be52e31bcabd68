"""`rawcnn visualize top-inputs`: the images that activate a channel, a unit or a class most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Channels,
    Compile,
    Data,
    Head,
    Json,
    MapPosition,
    Model,
    Options,
    Picture,
    Seed,
    SkipUnreadable,
    Split,
    Weights,
)
from rawcnn.cli.parsing import parse_position
from rawcnn.cli.request import DataRequest, begin, layer_or_logits


@dataclass(frozen=True, kw_only=True)
class TopInputsRequest(DataRequest):
    """The options of `rawcnn visualize top-inputs`."""

    layer: str | None
    channels: Sequence[int] | None
    position: str | None
    count: int
    histograms: bool
    output: Path
    compile: str

    endings = (".png",)

    def resolved_layer(self, network) -> str:
        return layer_or_logits(self.layer, network)

    def check(self) -> None:
        super().check()
        parse_position(self.position)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "layer": self.resolved_layer(network),
            "data": self.data,
            "weights": self.weights or "random",
            "count": self.count,
            "channel": self.channels or "all",
            "position": self.position or "anywhere",
            "split": self.split,
            "seed": self.seed,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"compile": self.compile}

    def check_network(self, network) -> None:
        from rawcnn.nn.arguments import map_position
        from rawcnn.visualize.layer_maps import check_channels

        layer = self.resolved_layer(network)
        shape = network.operation(layer).output_shape
        check_channels(self.channels or None, layer, shape[-1])
        if place := parse_position(self.position):
            map_position(place, shape, layer)


def top_inputs(
    model: Model,
    layer: Annotated[str | None, typer.Option(help="Name of a layer; default: the logits of the classes.")] = None,
    data: Data = "digits",
    weights: Weights = None,
    head: Head = "load",
    channel: Channels = None,
    position: MapPosition = None,
    count: Annotated[int, typer.Option(help="Number of images per channel.", min=1)] = 9,
    split: Split = "train",
    histograms: Annotated[
        bool, typer.Option(help="Also plot the activations of all images, with examples at quantiles.")
    ] = True,
    output: Picture = Path("top-inputs.png"),
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Show the images that activate a unit most.

    The sheet has one row per channel, unit or class. Images are cropped to the receptive field.
    """
    request = TopInputsRequest(
        model=model, layer=layer, data=data, weights=weights, channels=channel, position=position, count=count,
        split=split, histograms=histograms, output=output, option=option, compile=compile,
        skip_unreadable=skip_unreadable, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    draw_top_inputs(request)


def draw_top_inputs(request: TopInputsRequest) -> None:
    """Write the sheet, one row per channel, and a histogram of each channel."""
    import numpy as np

    from rawcnn.visualize import contact_sheet, excitations, save_png
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        layer = request.resolved_layer(run.network)
        with run.screen.progress_bar("searching") as report:
            found = excitations(
                run.network, run.data, layer, request.channels or None, request.count,
                position=parse_position(request.position), split=request.split, seed=request.seed,
                compile=request.compile, progress=report,
            )  # fmt: skip
        inputs = [top for excitation in found.values() for top in excitation.top]
        labels = [f"channel {top.channel}: {top.activation:.3g}" for top in inputs]
        save_png(request.output, contact_sheet(inputs, labels=labels, columns=len(inputs) // len(found)))
        histograms = _draw_histograms(request, layer, found) if request.histograms else ""
        shown = f"channel{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
        run.screen.print(f"wrote {request.output}: {shown} of {layer}, strongest first{histograms}")
        channels = {str(number): _channel_figures(e, run.data, request.split) for number, e in found.items()}
        arrays = {f"channel_{number}": np.stack([top.image for top in e.top]) for number, e in found.items()}
        figures = {"layer": layer, "channels": channels}
        run.result = write_record(request.output, run.settings, figures, **arrays)


def _draw_histograms(request: TopInputsRequest, layer: str, found: Mapping[int, Any]) -> str:
    """Write a plot next to the sheet for each channel; return the words about them."""
    from rawcnn.plots.themed import LIGHT, save
    from rawcnn.report.activation_sheet import histogram_sheet, sheet_size

    plots = []
    for number, excitation in found.items():
        plots.append(request.output.with_name(f"{request.output.stem}-{number}.png"))
        save(histogram_sheet(excitation, f"{layer}, channel {number}"), plots[-1], LIGHT, sheet_size())
    some = f"{plots[0]}" if len(plots) == 1 else f"{plots[0]} to {plots[-1].name}"
    return f"; the distribution of the activations is in {some}"


def _channel_figures(excitation, data, split: str) -> dict[str, Any]:
    """Return the images and activations of one channel for the record."""
    figures_of = partial(_input_figures, data=data, split=split)
    return {
        "top": [figures_of(top) for top in excitation.top],
        "bottom": [figures_of(top) for top in excitation.bottom],
        "quantiles": [{"quantile": quantile, **figures_of(top)} for quantile, top in excitation.quantiles],
        "histogram": {
            "counts": excitation.counts.tolist(),
            "edges": excitation.edges.tolist(),
            "images": excitation.sampled,
        },
        "images": excitation.images,
    }


def _input_figures(top, data, split: str) -> dict[str, Any]:
    """Return which image it is, its activation, and the part of it that the unit sees."""
    part = data.splits[split]
    image = {"index": top.index, "class": data.labels[part.labels[top.index]]}
    image |= {"file": part.items[top.index].name} if part.items else {}
    return {**image, "activation": top.activation, "position": top.position, "box": top.box}
