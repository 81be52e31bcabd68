"""`rawcnn visualize page`, `building-blocks` and `atlas`: one HTML page about a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Channels,
    Compile,
    Data,
    Head,
    IconBatch,
    IconSize,
    Json,
    Layer,
    Model,
    Options,
    Page,
    Seed,
    Size,
    SkipUnreadable,
    Split,
    Steps,
    Weights,
)
from rawcnn.cli.parsing import ImageSize, parse_integers
from rawcnn.cli.request import DataRequest, ImagesRequest, begin


@dataclass(frozen=True)
class Icons:
    """The options of the optimized images on a page."""

    size: ImageSize | None  # pixels; None: the network's input size
    steps: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class PageRequest(DataRequest):
    """The options of `rawcnn visualize page`."""

    layer: str
    channels: Sequence[int] | None
    count: int
    icons: Icons
    output: Path
    compile: str

    endings = (".html",)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "layer": self.layer,
            "data": self.data,
            "weights": self.weights or "random",
            "split": self.split,
            "channel": self.channels or "all",
            "count": self.count,
            "steps": self.icons.steps,
            "size": self.icons.size,
            "seed": self.seed,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"batch": self.icons.batch, "compile": self.compile}

    def check_network(self, network) -> None:
        from rawcnn.visualize.layer_maps import check_channels

        check_channels(self.channels or None, self.layer, network.operation(self.layer).output_shape[-1])


def page(
    model: Model,
    layer: Layer,
    data: Data = "digits",
    weights: Weights = None,
    head: Head = "load",
    channel: Channels = None,
    count: Annotated[
        int, typer.Option(help="Number of diverse images, and of top and bottom inputs, per unit.", min=2)
    ] = 4,
    split: Split = "train",
    steps: Steps = 256,
    icon_size: IconSize = None,
    batch: IconBatch = 32,
    output: Page = Path("units.html"),
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Show the units of a layer on a page.

    Each row has optimized images, top and bottom inputs, deconvolutions and a histogram.
    """
    request = PageRequest(
        model=model, layer=layer, data=data, weights=weights, channels=channel, count=count, split=split,
        icons=Icons(icon_size, steps, batch), output=output, option=option, compile=compile,
        skip_unreadable=skip_unreadable, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    write_units(request)


def write_units(request: PageRequest) -> None:
    """Write the page, one row per unit."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.units_page import units_page
    from rawcnn.visualize.record import write_record
    from rawcnn.visualize.unit_summary import units

    with begin(request) as run:
        icons, layer = request.icons, request.layer
        with run.screen.progress_bar("visualizing") as report:
            rows = units(
                run.network, run.data, layer, request.channels, count=request.count, split=request.split,
                size=icons.size, steps=icons.steps, batch=icons.batch, seed=request.seed, compile=request.compile,
                progress=report,
            )  # fmt: skip
        lead = _units_lead(run.network, layer, run.data.count(request.split))
        html = units_page(rows, title=f"{request.model}, {layer}", lead=lead, settings=run.settings)
        write_atomic(request.output, html.encode())
        run.screen.print(f"wrote {request.output}: {len(rows)} units of {layer}; open it in a browser")
        figures = {"layer": layer, "units": [row.to_dict() for row in rows]}
        run.result = write_record(request.output, run.settings, figures, **_unit_arrays(rows))


def _units_lead(network, layer: str, images: int) -> str:
    """Return the first paragraph of the page."""
    from rawcnn.visualize.unit_summary import rectified

    lead = (
        f"What the units of {layer} respond to: images optimized from noise, and those of {images:,} real images that "
        "activate and inhibit each unit most. A frame marks the part of an image that the unit sees. The value of an "
        "optimized image is the mean over its map, the value of a real image is that of its best position."
    )
    if (input_layer := rectified(network, layer)) != layer:
        lead += f" Inhibition is measured in {input_layer}, before the rectifier."
    return lead


def _unit_arrays(rows: Sequence[Any]) -> dict[str, Any]:
    """Return the channels and pictures of all units."""
    import numpy as np

    pictures = ("optimized", "diverse", "negative", "deconvolutions")
    return {
        "channels": np.array([row.channel for row in rows]),
        **{name: np.stack([getattr(row, name) for row in rows]) for name in pictures},
    }


@dataclass(frozen=True, kw_only=True)
class BuildingBlocksRequest(ImagesRequest):
    """The options of `rawcnn visualize building-blocks`."""

    layer: str
    targets: Sequence[int] | None
    groups: int | None
    top: int
    icons: Icons
    limit: int
    output: Path
    compile: str

    endings = (".html",)
    needs_classifier = True

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "image": self.images[0],
            "layer": self.layer,
            "weights": self.weights or "random",
            "size": network.input_size if network else self.size,
            "top": self.top,
            "classes": self.targets or "the top two",
            "groups": self.groups,
            "steps": self.icons.steps,
            "seed": self.seed,
            "limit": self.limit,
        }

    def check_network(self, network: Any) -> None:
        from rawcnn.visualize.interpretability import check_blocks

        check_blocks(network, self.layer, self.top, self.groups, self.limit, self.targets or None)

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"icon_size": self.icons.size, "batch": self.icons.batch, "compile": self.compile}


def building_blocks(
    model: Model,
    image: Annotated[Path, typer.Argument(help="Image file.")],
    layer: Layer,
    weights: Weights = None,
    head: Head = "load",
    classes: Annotated[
        list[int] | None,
        typer.Option("--class", help="Number of a class to explain; default: the top two. Repeatable."),
    ] = None,
    groups: Annotated[
        int | None,
        typer.Option(help="Number of groups of neurons; default: 6, or as many as the layer allows.", min=1),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of channels per position.", min=1)] = 4,
    steps: Steps = 256,
    icon_size: IconSize = None,
    batch: IconBatch = 32,
    limit: Annotated[int, typer.Option(help="Largest number of channels with an icon.", min=1)] = 64,
    output: Page = Path("building-blocks.html"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Explain how a network sees one image.

    The page shows what each position of a layer detects, its effect on the classes, and groups of neurons.
    """
    request = BuildingBlocksRequest(
        model=model, images=[image], layer=layer, weights=weights, targets=classes, groups=groups, top=top,
        icons=Icons(icon_size, steps, batch), limit=limit, output=output, size=size, option=option, compile=compile,
        as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    write_building_blocks(request)


def write_building_blocks(request: BuildingBlocksRequest) -> None:
    """Write the page, and a sheet for print."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.blocks_page import blocks_page
    from rawcnn.report.blocks_sheet import blocks_sheet
    from rawcnn.visualize import building_blocks, save_png
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        icons, sheet = request.icons, request.output.with_suffix(".png")
        with run.screen.progress_bar("optimizing icons") as report:
            blocks = building_blocks(
                run.network, run.images[0], request.layer, top=request.top, classes=request.targets or None,
                groups=request.groups,
                icon_size=icons.size, steps=icons.steps, batch=icons.batch, limit=request.limit, seed=request.seed,
                compile=request.compile, progress=report,
            )  # fmt: skip
        title = f"{request.model}, {request.layer}: {request.images[0].name}"
        write_atomic(request.output, blocks_page(blocks, run.network.labels, title).encode())
        save_png(sheet, blocks_sheet(blocks))
        run.screen.print(f"wrote {request.output} and {sheet}")
        run.result = write_record(request.output, run.settings, blocks.figures(), **blocks.arrays())


@dataclass(frozen=True, kw_only=True)
class AtlasRequest(DataRequest):
    """The options of `rawcnn visualize atlas`."""

    layer: str
    images: int | None
    grids: str
    minimum: int
    layout: str
    icons: Icons
    output: Path
    compile: str

    endings = (".html",)

    def check(self) -> None:
        from rawcnn.visualize.projection import available_method

        super().check()
        self.sides()
        available_method(self.layout)

    def sides(self) -> tuple[int, ...]:
        """Return the number of cells per side at each zoom level."""
        return parse_integers("--grid", self.grids) or ()

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "layer": self.layer,
            "data": self.data,
            "weights": self.weights or "random",
            "split": self.split,
            "images": self.images or "all",
            "grids": self.grids,
            "minimum": self.minimum,
            "layout": self.layout,
            "steps": self.icons.steps,
            "seed": self.seed,
            "size": self.icons.size,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {"batch": self.icons.batch, "compile": self.compile}

    def check_network(self, network) -> None:
        network.operation(self.layer)


def atlas(
    model: Model,
    layer: Layer,
    data: Data = "digits",
    weights: Weights = None,
    head: Head = "load",
    images: Annotated[int | None, typer.Option(help="Number of images; default: all.", min=1)] = None,
    grids: Annotated[
        str, typer.Option("--grid", help="Cells per side at each zoom level, such as 10,20,40.")
    ] = "10,20,40",
    minimum: Annotated[int, typer.Option(help="Number of images that a cell needs.", min=1)] = 8,
    layout: Annotated[str, typer.Option(help="Projection: umap, tsne, or auto (umap if it is installed).")] = "auto",
    split: Split = "train",
    steps: Steps = 256,
    icon_size: IconSize = None,
    batch: IconBatch = 32,
    output: Page = Path("atlas.html"),
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Map what a layer distinguishes.

    The page is an activation atlas of optimized icons with several zoom levels.
    """
    request = AtlasRequest(
        model=model, layer=layer, data=data, weights=weights, images=images, grids=grids, minimum=minimum,
        layout=layout, split=split, icons=Icons(icon_size, steps, batch), output=output, option=option, compile=compile,
        skip_unreadable=skip_unreadable, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    write_atlas(request)


def write_atlas(request: AtlasRequest) -> None:
    """Write the page of the atlas."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.atlas_page import atlas_page
    from rawcnn.visualize import activation_atlas
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        icons, network = request.icons, run.network
        with run.screen.progress_bar("atlas") as report:
            found = activation_atlas(
                network, run.data, request.layer, images=request.images, split=request.split, grids=request.sides(),
                minimum=request.minimum, layout=request.layout, steps=icons.steps, size=icons.size,
                icon_batch=icons.batch, seed=request.seed, compile=request.compile, progress=report,
            )  # fmt: skip
        labels = network.labels or (run.data.labels if len(run.data.labels) == network.classes else None)
        write_atomic(request.output, atlas_page(found, labels, f"{request.model}, {request.layer}").encode())
        run.screen.print(f"wrote {request.output}: open it in a browser")
        figures = {
            "made_with": found.settings,
            "images": len(found.points),
            "levels": [
                {"grid": level.grid, "cells": len(level.cells), "images": int(level.counts.sum())}
                for level in found.levels
            ],
        }
        run.result = write_record(request.output, run.settings, figures, **found.arrays())
