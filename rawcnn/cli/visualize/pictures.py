"""`rawcnn visualize filters`, `top-inputs`, `deconv` and `saliency`: one picture of a network."""

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
    Images,
    Json,
    Layer,
    Model,
    Options,
    Picture,
    Position,
    Seed,
    Size,
    SkipUnreadable,
    Split,
    Weights,
)
from rawcnn.cli.parsing import PICTURES, parse_position
from rawcnn.cli.request import DataRequest, NetworkRequest, Run, begin, load_images

FRAMED = 320  # pixels to which an image with a frame is enlarged
STRONGEST = 3  # channels that `deconv` shows of each image where none is named
LABEL = 24  # characters of a file's name in a picture


@dataclass(frozen=True, kw_only=True)
class FiltersRequest(NetworkRequest):
    """The options of `rawcnn visualize filters`."""

    layer: str | None
    scale: int
    output: Path

    endings = (".png",)

    def resolved_layer(self, network) -> str:
        from rawcnn.visualize import first_layers

        return self.layer or first_layers(network)[0]

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
        seed=seed,
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
        return self.layer or network.head

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
        from rawcnn.visualize.filters import check_channels

        layer = self.resolved_layer(network)
        check_channels(self.channels or None, layer, network.operation(layer).output_shape[-1])


def top_inputs(
    model: Model,
    layer: Annotated[str | None, typer.Option(help="Name of a layer; default: the logits of the classes.")] = None,
    data: Data = "digits",
    weights: Weights = None,
    channel: Channels = None,
    position: Position = None,
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
        skip_unreadable=skip_unreadable, as_json=as_json, seed=seed,
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
        numbers = ", ".join(map(str, found))
        run.screen.print(f"wrote {request.output}: channels {numbers} of {layer}, strongest first{histograms}")
        channels = {str(number): _channel_figures(e, run.data, request.split) for number, e in found.items()}
        arrays = {f"channel_{number}": np.stack([top.image for top in e.top]) for number, e in found.items()}
        figures = {"layer": layer, "channels": channels}
        run.result = write_record(request.output, run.settings, figures, **arrays)


def _draw_histograms(request: TopInputsRequest, layer: str, found: Mapping[int, Any]) -> str:
    """Write OUTPUT-CHANNEL.png for each channel; return the words about it."""
    from rawcnn.plots.themed import LIGHT, save
    from rawcnn.report.excitation import histogram_sheet, sheet_size

    stem = request.output.stem
    for number, excitation in found.items():
        plot = request.output.with_name(f"{stem}-{number}.png")
        save(histogram_sheet(excitation, f"{layer}, channel {number}"), plot, LIGHT, sheet_size())
    return f"; the activations of all images are in {stem}-CHANNEL.png"


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


@dataclass(frozen=True, kw_only=True)
class DeconvRequest(NetworkRequest):
    """The options of `rawcnn visualize deconv`."""

    images: Sequence[Path]
    layer: str
    channels: Sequence[int] | None
    position: str | None
    start: str
    output: Path
    compile: str

    endings = PICTURES

    def check(self) -> None:
        from rawcnn.visualize.deconvolution import SEEDS

        super().check()
        if self.start not in SEEDS:
            raise ValueError(f"--start is {self.start!r}; expected one of {', '.join(SEEDS)}")
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
        network.operation(self.layer)


def deconv(
    model: Model,
    images: Images,
    layer: Layer,
    channel: Annotated[
        list[int] | None,
        typer.Option(help=f"Number of a channel; default: the {STRONGEST} most active ones. Repeatable."),
    ] = None,
    position: Position = None,
    value: Annotated[
        str,
        typer.Option("--start", help="Value that is projected back: the unit's own (activation), or 1 (one)."),
    ] = "activation",
    weights: Weights = None,
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
        output=output, size=size, option=option, compile=compile, as_json=as_json, seed=seed,
    )  # fmt: skip
    draw_deconvolutions(request)


def draw_deconvolutions(request: DeconvRequest) -> None:
    """Write the sheet, one row per image and channel."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        pixels = load_images(request.images, run.network.input_size)  # [B,S,S,3]
        rows: dict[str, list] = {}
        titles, units, arrays = [], [], {"images": pixels}
        for number, (file, image) in enumerate(zip(request.images, pixels, strict=True)):
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

    from rawcnn.visualize.objectives import as_map

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


@dataclass(frozen=True, kw_only=True)
class SaliencyRequest(NetworkRequest):
    """The options of `rawcnn visualize saliency`."""

    images: Sequence[Path]
    target: int | None
    samples: int
    steps: int
    output: Path
    compile: str

    endings = PICTURES

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
    classes: Annotated[
        int | None, typer.Option("--class", help="Number of a class; default: the predicted one.", min=0)
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
        size=size, option=option, compile=compile, as_json=as_json, seed=seed,
    )  # fmt: skip
    draw_saliency(request)


def draw_saliency(request: SaliencyRequest) -> None:
    """Write the sheet, one row per image."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize import input_gradient, integrated_gradients, saliency_pictures, smooth_gradient
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        network, target, mode = run.network, request.target, request.compile
        pixels = load_images(request.images, network.input_size)
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
