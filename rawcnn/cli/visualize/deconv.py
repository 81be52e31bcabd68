"""`rawcnn visualize deconv`: what in an image activated a unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Compile,
    Head,
    Images,
    Json,
    Layer,
    MapPosition,
    Model,
    Options,
    Picture,
    Seed,
    Size,
    Weights,
)
from rawcnn.cli.parsing import PICTURES, parse_position
from rawcnn.cli.request import ImagesRequest, Run, begin

FRAMED = 320  # pixels to which an image with a frame is enlarged
STRONGEST = 3  # channels of each image, unless --channel names some
LABEL = 24  # characters of a file name in the picture


@dataclass(frozen=True, kw_only=True)
class DeconvRequest(ImagesRequest):
    """The options of `rawcnn visualize deconv`."""

    layer: str
    channels: Sequence[int] | None
    position: str | None
    start: str
    output: Path
    compile: str

    endings = PICTURES

    def check(self) -> None:
        from rawcnn.visualize.deconvolution import START_VALUES

        super().check()
        if self.start not in START_VALUES:
            raise ValueError(f"--start is {self.start!r}; expected one of {', '.join(START_VALUES)}")
        parse_position(self.position)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "layer": self.layer,
            "weights": self.weights or "random",
            "start": self.start,
            "seed": self.seed,
            "channel": self.channels or "the most active",
            "position": self.position or "the most active",
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"images": ",".join(map(str, self.images)), "compile": self.compile}

    def check_network(self, network) -> None:
        from rawcnn.nn.arguments import map_position
        from rawcnn.visualize.layer_maps import check_channels

        shape = network.operation(self.layer).output_shape
        check_channels(self.channels or None, self.layer, shape[-1])
        if place := parse_position(self.position):
            map_position(place, shape, self.layer)


def deconv(
    model: Model,
    images: Images,
    layer: Layer,
    channel: Annotated[
        list[int] | None,
        typer.Option(help=f"Number of a channel; default: the {STRONGEST} most active ones. Repeatable."),
    ] = None,
    position: MapPosition = None,
    value: Annotated[
        str,
        typer.Option("--start", help="Value that is projected back: the unit's own (activation), or 1 (one)."),
    ] = "activation",
    weights: Weights = None,
    head: Head = "load",
    output: Picture = Path("deconv.png"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Show what in an image activated a unit.

    Deconvolution, guided backpropagation and the gradient stand side by side.
    """
    request = DeconvRequest(
        model=model, images=images, layer=layer, channels=channel, position=position, start=value, weights=weights,
        output=output, size=size, option=option, compile=compile, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    draw_deconvolutions(request)


def draw_deconvolutions(request: DeconvRequest) -> None:
    """Write the sheet, one row per image and channel."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        rows: dict[str, list] = {}
        titles, units, arrays = [], [], {"images": run.images}
        for number, (file, image) in enumerate(zip(request.images, run.images, strict=True)):
            for channel in request.channels or _strongest_channels(run, request.layer, image):
                found = _deconvolutions(request, run, image, channel)
                # numbered, because two files may share a name
                rows[f"{len(rows) + 1}. {file.name[:LABEL]}\n{request.layer}\nchannel {channel}"] = _row(image, found)
                units.append(_unit_figures(file, channel, found))
                titles.append([f"at {units[-1]['position']}: {units[-1]['activation']:.3g}", *found])
                arrays |= {f"{method}_{number}_{channel}": d.pictures[0] for method, d in found.items()}
        save(picture_rows(rows, titles), request.output)
        run.screen.print(f"wrote {request.output}")
        settings = {**run.settings, "images": request.images}
        run.result = write_record(request.output, settings, {"units": units}, **arrays)


def _strongest_channels(run: Run, layer: str, image) -> list[int]:
    """Return the channels with the largest activations for an image [H,W,3]."""
    import numpy as np

    from rawcnn.visualize.layer_maps import as_map

    activations = as_map(run.network.activations(image[None], [layer])[layer])[0].numpy()  # [h,w,C]
    return np.argsort(-activations.max((0, 1)))[:STRONGEST].tolist()


def _deconvolutions(request: DeconvRequest, run: Run, image, channel: int) -> dict[str, Any]:
    """Return the deconvolution of one channel of an image [H,W,3] by each method."""
    from rawcnn.visualize import deconvolve
    from rawcnn.visualize.deconvolution import METHODS

    position = parse_position(request.position)
    start = partial(deconvolve, run.network, image[None], request.layer, channel, position)
    return {method: start(method=method, seed=request.start, compile=request.compile) for method in METHODS}


def _row(image, found: Mapping[str, Any]) -> list:
    """Return the image with the unit's receptive field framed, and the picture of each method."""
    from rawcnn.visualize import diverging, draw_box, enlarge

    box = next(iter(found.values())).boxes[0]
    scale = max(1, FRAMED // max(image.shape[:2]))  # enlarged, so that the frame is thin
    framed = draw_box(enlarge(image, scale), tuple(scale * int(side) for side in box), width=2)
    return [framed, *(diverging(deconvolution.pictures[0]) for deconvolution in found.values())]


def _unit_figures(file: Path, channel: int, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the unit lies and its activation for the record."""
    first = next(iter(found.values()))
    return {
        "file": str(file),
        "channel": channel,
        "position": tuple(int(place) for place in first.positions[0]),
        "box": first.boxes[0],
        "activation": float(first.activations[0]),
    }
