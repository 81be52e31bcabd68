"""Verbs that make one picture of a network: filters, top inputs, deconvolutions, saliency, optimised images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    PICTURES,
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
    Weights,
    check_split,
    load_data,
    load_images,
    network_for,
    position_of,
    writable,
)

Channels = Annotated[list[int] | None, typer.Option("--channel", help="May be repeated; all channels otherwise.")]
FRAMED = 320  # pixels that an image with a frame is enlarged to
Steps = Annotated[int, typer.Option(help="Steps of the optimisation.", min=1)]


def filters(
    model: Model,
    weights: Weights = None,
    layer: Annotated[str | None, typer.Option(help="A convolution that reads the image; the first otherwise.")] = None,
    scale: Annotated[int, typer.Option(help="Screen pixels a weight.", min=1, max=256)] = 16,
    output: Picture = Path("filters.png"),
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The filters of the first layer, as colours."""
    from rawcnn.visualize import filter_grid, first_layers, save_png
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, ".png")
    network = network_for(model, weights, seed=seed, options=option)
    layer = layer or first_layers(network)[0]
    settings = {"model": model, "weights": weights or "random", "layer": layer, "scale": scale, "seed": seed}
    screen.settings(**settings)
    tiles = filter_grid(network, layer)
    save_png(output, tiles, scale)
    figures = {"layer": layer, "filters": network.operation(layer).output_shape[-1]}
    screen.say(f"wrote {output}")
    screen.emit(write_record(output, settings, figures, filters=network.variables[f"{layer}/filters"].numpy()))


def top_inputs(
    model: Model,
    layer: Annotated[str | None, typer.Option(help="A layer's name; without, the classes' logits.")] = None,
    data: Data = "digits",
    weights: Weights = None,
    channel: Channels = None,
    position: Position = None,
    count: Annotated[int, typer.Option(help="Images a channel.", min=1)] = 9,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    histograms: Annotated[bool, typer.Option(help="Activations of all images and examples at quantiles, too.")] = True,
    output: Picture = Path("top-inputs.png"),
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The images that excite each channel, unit or class most, cropped to what it sees: a row a channel."""
    import numpy as np

    from rawcnn.plots.themed import LIGHT, save
    from rawcnn.report.excitation import histogram_sheet, sheet_size
    from rawcnn.visualize import contact_sheet, excitations, save_png
    from rawcnn.visualize.layer_maps import check_channels
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, ".png")
    network = network_for(model, weights, seed=seed, options=option)
    layer, place = layer or network.head, position_of(position)
    settings: dict = {"model": model, "layer": layer, "data": data, "weights": weights or "random", "count": count}
    settings |= {"channel": channel or "all", "position": position or "anywhere", "split": split, "seed": seed}
    screen.settings(**settings, compile=compile)
    check_channels(channel or None, layer, network.operation(layer).output_shape[-1])  # before the data is read
    check_split(split)
    images = load_data(screen, data, network.input_size, skip_unreadable)
    with screen.bar("searching") as told:
        found = excitations(
            network,
            images,
            layer,
            channel or None,
            count,
            position=place,
            split=split,
            seed=seed,
            compile=compile,
            progress=told,
        )
    item = partial(_input, data=images, split=split)
    sheet = [top for excitation in found.values() for top in excitation.top]
    labels = [f"channel {top.channel}: {top.activation:.3g}" for top in sheet]
    save_png(output, contact_sheet(sheet, labels=labels, columns=len(sheet) // len(found)))
    if histograms:
        for number, excitation in found.items():
            plot = output.with_name(f"{output.stem}-{number}.png")
            save(histogram_sheet(excitation, f"{layer}, channel {number}"), plot, LIGHT, sheet_size())
    beside = f"; how all images excite a channel is in {output.stem}-CHANNEL.png" if histograms else ""
    screen.say(f"wrote {output}: channels {', '.join(map(str, found))} of {layer}, strongest first{beside}")
    told_inputs = {
        str(number): {
            "top": [item(t) for t in e.top],
            "bottom": [item(t) for t in e.bottom],
            "quantiles": [{"quantile": q, **item(t)} for q, t in e.quantiles],
            "histogram": {"counts": e.counts.tolist(), "edges": e.edges.tolist(), "images": e.sampled},
            "images": e.images,
        }
        for number, e in found.items()
    }
    arrays = {f"channel_{number}": np.stack([top.image for top in e.top]) for number, e in found.items()}
    screen.emit(write_record(output, settings, {"layer": layer, "channels": told_inputs}, **arrays))


def _input(top, data, split: str) -> dict[str, object]:
    """Which image it is, and what of it excites."""
    part = data.splits[split]
    which = {"index": top.index, "class": data.labels[part.labels[top.index]]}
    which |= {"file": part.items[top.index].name} if part.items else {}
    return {**which, "activation": top.activation, "position": top.position, "box": top.box}


def deconv(
    model: Model,
    images: Images,
    layer: Layer,
    channel: Annotated[list[int] | None, typer.Option(help="May be repeated; the most active three otherwise.")] = None,
    position: Position = None,
    value: Annotated[str, typer.Option("--start", help="activation: its own value is sent back; one: 1 is.")] = (
        "activation"
    ),
    weights: Weights = None,
    output: Picture = Path("deconv.png"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """What in an image excited a unit: deconvolutional network, guided backpropagation and gradient side by side."""
    import numpy as np

    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize import deconvolve, diverging, draw_box, enlarge
    from rawcnn.visualize.deconvolution import METHODS, START_VALUES
    from rawcnn.visualize.layer_maps import as_map
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, *PICTURES)
    if value not in START_VALUES:
        raise ValueError(f"--start is {value!r}; expected one of {', '.join(START_VALUES)}")
    network = network_for(model, weights, size=size, seed=seed, options=option)
    settings: dict = {"model": model, "layer": layer, "weights": weights or "random", "start": value, "seed": seed}
    settings |= {"channel": channel or "the most active", "position": position or "the most active"}
    screen.settings(images=",".join(map(str, images)), **settings, compile=compile)
    network.operation(layer)
    pixels = load_images(images, network.input_size)
    rows: dict[str, list] = {}
    titles, figures, arrays = [], [], {"images": pixels}
    for number, (file, image) in enumerate(zip(images, pixels, strict=True)):
        means = as_map(network.activations(image[None], [layer])[layer])[0].numpy().max((0, 1))
        for unit in channel or np.argsort(-means)[:3].tolist():
            found = {
                method: deconvolve(
                    network,
                    image[None],
                    layer,
                    unit,
                    position_of(position),
                    method=method,
                    seed=value,
                    compile=compile,
                )
                for method in METHODS
            }
            first = next(iter(found.values()))
            place = tuple(int(n) for n in first.positions[0])
            times = max(1, FRAMED // max(image.shape[:2]))  # for a thin frame
            framed = draw_box(enlarge(image, times), tuple(times * int(side) for side in first.boxes[0]), width=2)
            name = f"{len(rows) + 1}. {file.name[:24]}\n{layer}\nchannel {unit}"  # files may have one name
            rows[name] = [framed, *(diverging(f.pictures[0]) for f in found.values())]
            titles.append([f"at {place}: {first.activations[0]:.3g}", *found])
            arrays |= {f"{method}_{number}_{unit}": f.pictures[0] for method, f in found.items()}
            figures.append({"file": str(file), "channel": unit, "position": place, "box": first.boxes[0]})
            figures[-1]["activation"] = float(first.activations[0])
    save(picture_rows(rows, titles), output)
    screen.say(f"wrote {output}")
    screen.emit(write_record(output, {**settings, "images": images}, {"units": figures}, **arrays))


def saliency(
    model: Model,
    images: Images,
    weights: Weights = None,
    classes: Annotated[int | None, typer.Option("--class", help="The predicted one otherwise.", min=0)] = None,
    samples: Annotated[int, typer.Option(help="Noisy copies of the smooth gradient.", min=1)] = 50,
    steps: Annotated[int, typer.Option(help="Of integrated gradients.", min=1)] = 64,
    output: Picture = Path("saliency.png"),
    size: Size = None,
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Which pixels a class depends on: the gradient, averaged over noise, and integrated from black."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize import input_gradient, integrated_gradients, saliency_pictures, smooth_gradient
    from rawcnn.visualize.record import write_record

    screen = Screen(as_json)
    writable(output, *PICTURES)
    network = network_for(model, weights, size=size, seed=seed, options=option)
    settings = {"model": model, "weights": weights or "random", "samples": samples, "steps": steps, "seed": seed}
    screen.settings(images=",".join(map(str, images)), **settings, classes=classes, compile=compile)
    pixels = load_images(images, network.input_size)
    plain = input_gradient(network, pixels, classes, compile=compile)
    smooth = smooth_gradient(network, pixels, classes, samples=samples, seed=seed, compile=compile)
    whole = integrated_gradients(network, pixels, classes, steps=steps, compile=compile)
    shown = [saliency_pictures(kind) for kind in (plain, smooth, whole)]
    labels = network.labels or [f"class {number}" for number in range(network.classes)]
    rows = {f"{n + 1}. {file.name[:24]}": [pixels[n], *(kind[n] for kind in shown)] for n, file in enumerate(images)}
    titles = [
        [f"{labels[c]}: {logit:.3g}", "gradient", "smooth", "integrated"]
        for c, logit in zip(plain.classes, plain.logits, strict=True)
    ]
    save(picture_rows(rows, titles), output)
    figures = {
        "classes": plain.classes,
        "logits": plain.logits,
        "integrated_gradients_miss_the_logits_by": whole.gap,
    }
    record = write_record(
        output,
        {**settings, "images": images},
        figures,
        images=pixels,
        gradient=plain.maps,
        smooth=smooth.maps,
        integrated=whole.maps,
    )
    screen.say(f"wrote {output}")
    screen.emit(record)
