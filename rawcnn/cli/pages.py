"""Verbs that make a page of a network: the units of a layer, one image's building blocks, an activation atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    Compile,
    Data,
    Json,
    Layer,
    Model,
    Options,
    Seed,
    Size,
    SkipUnreadable,
    Weights,
    check_split,
    load_data,
    load_images,
    network_for,
    whole_numbers,
    writable,
)
from rawcnn.cli.pictures import Channels, Steps

Page = Annotated[Path, typer.Option(help="The page to write, one offline HTML file; figures and arrays beside it.")]
Split = Annotated[str, typer.Option(help="train or test.")]
IconSize = Annotated[int | None, typer.Option(help="Side of optimised images; the network's own otherwise.", min=1)]
IconBatch = Annotated[int, typer.Option(help="Optimised images at a time.", min=1)]


def page(
    model: Model,
    layer: Layer,
    data: Data = "digits",
    weights: Weights = None,
    channel: Channels = None,
    count: Annotated[int, typer.Option(help="Diverse images, and inputs of each kind, a unit.", min=2)] = 4,
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
    """A row a unit: optimised, diverse, negative, top and bottom inputs, deconvolutions, histogram."""
    import numpy as np

    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.units_page import units_page
    from rawcnn.visualize.layer_maps import check_channels
    from rawcnn.visualize.record import write_record
    from rawcnn.visualize.unit_summary import rectified, units

    screen = Screen(as_json)
    writable(output, ".html")
    network = network_for(model, weights, seed=seed, options=option)
    settings: dict = {"model": model, "layer": layer, "data": data, "weights": weights or "random", "split": split}
    settings |= {"channel": channel or "all", "count": count, "steps": steps, "size": icon_size, "seed": seed}
    screen.settings(**settings, batch=batch, compile=compile)
    check_channels(channel or None, layer, network.operation(layer).output_shape[-1])  # before the data is read
    check_split(split)
    images = load_data(screen, data, network.input_size, skip_unreadable)
    made: dict = {"size": icon_size, "steps": steps, "batch": batch, "seed": seed, "compile": compile}
    with screen.bar("looking") as told:
        rows = units(network, images, layer, channel, count=count, split=split, progress=told, **made)
    lead = (
        f"What the units of {layer} look for: images optimised from noise, and of {images.count(split):,} real ones "
        "those that excite and inhibit each most, framed where the unit sees a part of them only. An optimised image "
        "is told by the mean over its map, a real one by its best position."
    )
    if rectified(network, layer) != layer:
        lead += f" What inhibits is looked for in {rectified(network, layer)}, before the rectifier."
    html = units_page(rows, title=f"{model}, {layer}", lead=lead, settings=settings)
    write_atomic(output, html.encode())
    figures = {"layer": layer, "units": [row.to_dict() for row in rows]}
    arrays = {
        "channels": np.array([row.channel for row in rows]),
        "optimized": np.stack([row.optimized for row in rows]),
        "diverse": np.stack([row.diverse for row in rows]),
        "negative": np.stack([row.negative for row in rows]),
        "deconvolutions": np.stack([row.deconvolutions for row in rows]),
    }
    screen.say(f"wrote {output}: {len(rows)} units of {layer}; open it in a browser")
    screen.emit(write_record(output, settings, figures, **arrays))


def building_blocks(
    model: Model,
    image: Annotated[Path, typer.Argument(help="An image file.")],
    layer: Layer,
    weights: Weights = None,
    classes: Annotated[list[int] | None, typer.Option("--class", help="May be repeated; the top two without.")] = None,
    groups: Annotated[int | None, typer.Option(help="Of neurons: six, or as many as the layer allows.", min=1)] = None,
    top: Annotated[int, typer.Option(help="Channels a position.", min=1)] = 4,
    steps: Steps = 256,
    icon_size: IconSize = None,
    batch: IconBatch = 32,
    limit: Annotated[int, typer.Option(help="Icons of channels at the most.", min=1)] = 64,
    output: Page = Path("building-blocks.html"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """One image: what each position of a layer detects, what that says of the classes, and in which groups."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.blocks_page import blocks_page
    from rawcnn.report.blocks_sheet import blocks_sheet
    from rawcnn.visualize import building_blocks as look
    from rawcnn.visualize import save_png
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, ".html")
    network = network_for(model, weights, size=size, seed=seed, options=option)
    settings: dict = {"model": model, "image": image, "layer": layer, "weights": weights or "random", "top": top}
    settings |= {"classes": classes or "the top two", "groups": groups, "steps": steps, "seed": seed, "limit": limit}
    screen.settings(**settings, icon_size=icon_size, batch=batch, compile=compile)
    (pixels,) = load_images([image], network.input_size)
    made: dict = {
        "icon_size": icon_size,
        "steps": steps,
        "batch": batch,
        "limit": limit,
        "seed": seed,
        "compile": compile,
    }
    with screen.bar("icons") as told:
        blocks = look(network, pixels, layer, top=top, classes=classes, groups=groups, progress=told, **made)
    html = blocks_page(blocks, network.labels, f"{model}, {layer}: {image.name}")
    write_atomic(output, html.encode())
    save_png(output.with_suffix(".png"), blocks_sheet(blocks))
    screen.say(f"wrote {output} and {output.with_suffix('.png')}")
    screen.emit(write_record(output, settings, blocks.figures(), **blocks.arrays()))


def atlas(
    model: Model,
    layer: Layer,
    data: Data = "digits",
    weights: Weights = None,
    images: Annotated[int | None, typer.Option(help="How many; all without.", min=1)] = None,
    grids: Annotated[str, typer.Option("--grid", help="Cells a side at each zoom, as 10,20,40.")] = "10,20,40",
    minimum: Annotated[int, typer.Option(help="Images that a cell needs.", min=1)] = 8,
    layout: Annotated[str, typer.Option(help="umap, tsne, or auto: umap where it is installed.")] = "auto",
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
    """An activation atlas: all that a layer tells apart, as a map of optimised icons to zoom into."""
    from rawcnn.files.atomic import write_atomic
    from rawcnn.report.atlas_page import atlas_page
    from rawcnn.visualize import activation_atlas
    from rawcnn.visualize.projection import available_method
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, ".html")
    network = network_for(model, weights, seed=seed, options=option)
    settings: dict = {"model": model, "layer": layer, "data": data, "weights": weights or "random", "split": split}
    settings |= {"images": images or "all", "grids": grids, "minimum": minimum, "layout": layout, "steps": steps}
    settings |= {"seed": seed, "size": icon_size}
    screen.settings(**settings, batch=batch, compile=compile)
    network.operation(layer)
    check_split(split)
    sides = whole_numbers("--grid", grids) or ()
    available_method(layout)
    shown = load_data(screen, data, network.input_size, skip_unreadable)
    with screen.bar("atlas") as told:
        made = activation_atlas(
            network,
            shown,
            layer,
            images=images,
            split=split,
            grids=sides,
            minimum=minimum,
            layout=layout,
            steps=steps,
            size=icon_size,
            icon_batch=batch,
            seed=seed,
            compile=compile,
            progress=told,
        )
    labels = network.labels or (shown.labels if len(shown.labels) == network.classes else None)
    write_atomic(output, atlas_page(made, labels, f"{model}, {layer}").encode())
    screen.say(f"wrote {output}: open it in a browser")
    figures = {
        "made_with": made.settings,
        "images": len(made.points),
        "levels": [
            {"grid": level.grid, "cells": len(level.cells), "images": int(level.counts.sum())} for level in made.levels
        ],
    }
    screen.emit(write_record(output, settings, figures, **made.arrays()))
