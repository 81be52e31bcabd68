"""`rawcnn visualize optimize`: from the words of the command line to an objective, and from images to a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    PICTURES,
    Compile,
    Json,
    Model,
    Options,
    Picture,
    Position,
    Seed,
    Weights,
    check_finite,
    network_for,
    position_of,
    settings_of,
    writable,
)
from rawcnn.cli.pictures import Steps

ACROSS = 8  # pictures in a row of a sheet
DEFAULTS = (
    "By default image=fourier decorrelate=True grey=False decay=1.0 blur=0 total_variation=0 blur_penalty=0 l1=0 "
    "jitter=0.0625 scale=0.1 rotation=10 last_jitter=0.03125"
)


def optimize(
    model: Model,
    layer: Annotated[str | None, typer.Option(help="A layer's name; without, the classes' logits.")] = None,
    channel: Annotated[list[int] | None, typer.Option(help="May be repeated; the whole layer without.")] = None,
    unit: Annotated[
        list[str] | None, typer.Option(help="CHANNEL:WEIGHT, repeated: a direction, as 5:2 and 16:1.")
    ] = None,
    between: Annotated[
        str | None, typer.Option(help="CHANNEL,CHANNEL: images from one to the other, --count of them, or five.")
    ] = None,
    negative: Annotated[bool, typer.Option(help="What inhibits it most, instead.")] = False,
    position: Position = None,
    compare: Annotated[bool, typer.Option(help="None, blur, penalty, robustness, Fourier side by side.")] = False,
    count: Annotated[int | None, typer.Option(help="Images of each; one otherwise.", min=1, max=10_000)] = None,
    diversity: Annotated[float, typer.Option(help="How much the images of one unit must differ.", min=0)] = 0.0,
    steps: Steps = 512,
    rate: Annotated[float, typer.Option(help="Of Adam.", min=0)] = 0.05,
    regularization: Annotated[
        list[str] | None, typer.Option("--regularization", "-r", help=f"NAME=VALUE. {DEFAULTS}.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Images on the way: a filmstrip.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Images at a time.", min=1)] = 32,
    weights: Weights = None,
    size: Annotated[int | None, typer.Option(help="Side of the image; the network's own otherwise.", min=1)] = None,
    output: Picture = Path("optimize.png"),
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Images that excite a neuron, channel, class, layer or direction most, optimised from noise."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize import compare as compare_regularizations
    from rawcnn.visualize import optimize as optimize_images
    from rawcnn.visualize.record import write_record
    from rawcnn.visualize.unit_summary import rectified

    screen = Screen(as_json)
    writable(output, *PICTURES)
    check_finite(rate=rate, diversity=diversity)
    network = network_for(model, weights, seed=seed, options=option)
    layer = layer or network.head
    if negative and (below := rectified(network, layer)) != layer:
        screen.say(f"{layer} is never below zero; {below}, which it rectifies, is inhibited instead")
        layer = below
    count = count or (5 if between else 1)
    size = size or network.input_size
    if frames > steps:
        raise ValueError(f"--frames is {frames}, and there are {steps} steps; expected no more frames than steps")
    made: dict = {"size": size, "steps": steps, "rate": rate, "seed": seed, "batch": batch, "compile": compile}
    asked: dict = {"channel": channel, "unit": unit, "between": between, "position": position, "negative": negative}
    asked |= {"count": count, "diversity": diversity, "frames": frames}
    asked |= {"regularization": ",".join(regularization or ()) or "the default"}
    given = {"model": model, "weights": weights or "random", "layer": layer, **asked, **made, "compare": compare}
    screen.settings(**given)
    if compare:
        others: dict = {"unit": unit, "between": between, "position": position, "negative": negative, "frames": frames}
        others |= {"regularization": regularization, "diversity": diversity, "count": count > 1}
        if wrong := [f"--{name}" for name, value in others.items() if value]:
            raise ValueError(f"--compare has settings of its own; leave out {', '.join(wrong)}")
        if not channel:
            raise ValueError("--compare takes channels; give --channel, once or more")
        with screen.bar("optimising") as told:
            found = compare_regularizations(network, layer, channel, progress=told, **made)
        sheet, figures, arrays = _compared(found, channel)
    else:
        target, labels = _target(network, layer, channel, unit, between, negative, position, count)
        count = 1 if between else count
        style = _regularization(regularization)
        with screen.bar("optimising") as told:
            one = optimize_images(
                network,
                target,
                count=count,
                diversity=diversity,
                regularization=style,
                frames=frames,
                progress=told,
                **made,
            )
        names = [f"{label}, {n + 1}" if count > 1 else label for label in labels for n in range(count)]
        sheet = _filmstrips(one, names) if frames else _tiles(one, names)
        figures, arrays = _figures(one), {"images": one.images, "history": one.history}
        arrays |= {f"step_{step}": images for step, images in one.frames}
        if dead := [name for name, value in zip(names, one.values, strict=True) if value == 0]:
            screen.say(f"nothing woke {', '.join(dead)}: these images excite it not at all")
    save(picture_rows(*sheet), output)
    screen.say(f"wrote {output}")
    screen.emit(write_record(output, given, figures, **arrays))


def _compared(found, channels: Sequence[int]):
    """Of `visualize.compare`: (rows and titles of the sheet, figures, arrays).

    A row a channel, a column a remedy; "high" is the high-frequency energy, of that without a remedy.
    """
    from rawcnn.visualize import noise_ratios

    none = found["none"].high_frequency
    rows = {f"channel {c}": [o.images[n] for o in found.values()] for n, c in enumerate(channels)}
    titles = [
        [f"{name}\n{o.values[n]:.3g} · {o.high_frequency[n] / none[n]:.0%} high" for name, o in found.items()]
        for n in range(len(channels))
    ]
    figures = {
        "high_frequency_energy_against_none": noise_ratios(found),
        "regularizations": {name: _figures(o) for name, o in found.items()},
    }
    return (rows, titles), figures, {name.replace(" ", "_"): o.images for name, o in found.items()}


def _filmstrips(one, names: Sequence[str]):
    """A row an image: what it was on the way."""
    rows = {f"{n + 1}. {name}": [images[n] for _, images in one.frames] for n, name in enumerate(names)}
    steps = [f"step {step}" for step, _ in one.frames]
    return rows, [[*steps[:-1], f"{steps[-1]}: {value:.3g}"] for value in one.values]


def _tiles(one, names: Sequence[str]):
    """The images side by side, each under its name and what it reaches."""
    titles = [f"{name}\n{value:.3g}" for name, value in zip(names, one.values, strict=True)]
    starts = range(0, len(names), ACROSS)
    rows = {" " * (start // ACROSS): list(one.images[start : start + ACROSS]) for start in starts}
    return rows, [titles[start : start + ACROSS] for start in starts]


def _figures(one) -> dict[str, object]:
    return {"made_with": one.settings, "activation": one.values, "high_frequency_energy": one.high_frequency}


def _regularization(chosen: Sequence[str] | None):
    """The default, with what --regularization names. ValueError for a name that it has not."""
    from rawcnn.visualize.regularization import ROBUST, Regularization

    settings = settings_of(chosen, "--regularization", "image=pixel")
    known = [f.name for f in fields(Regularization)]
    if unknown := sorted(set(settings) - set(known)):
        raise ValueError(f"--regularization has no {', '.join(unknown)}; its names are {', '.join(known)}")
    return replace(ROBUST, **settings)


def _target(
    network,
    layer: str,
    channels: Sequence[int] | None,
    units: Sequence[str] | None,
    between: str | None,
    negative: bool,
    position: str | None,
    count: int,
):
    """The objective, and a label for each thing that it asks for. ValueError where two are asked for at once."""
    if sum(bool(asked) for asked in (channels, units, between)) > 1:
        raise ValueError("--channel, --unit and --between exclude each other; give one of them")
    from rawcnn.visualize import objectives

    place = position_of(position)
    if place and not channels:
        raise ValueError("--position is that of a channel; give --channel too")
    if units:
        objective, labels = objectives.weighted_units(network, layer, _weights(units)), [" + ".join(units)]
    elif between:
        first, second = (objectives.channel(network, layer, c) for c in _two(between))
        objective = objectives.interpolation(first, second, max(count, 2))
        labels = [f"{share:.0%}" for share in objective.given[0]]
    elif channels:
        classes = network.labels or [f"class {c}" for c in range(network.classes)]
        labels = [classes[c] if layer == network.head else f"channel {c}" for c in channels]
        objective = (
            objectives.neuron(network, layer, channels, place)
            if place
            else objectives.channel(network, layer, channels)
        )
    else:
        objective, labels = objectives.layer(network, layer), [layer]
    return (-objective, [f"−{label}" for label in labels]) if negative else (objective, labels)


def _weights(units: Sequence[str]) -> dict[int, float]:
    """["5:2", "16:1"] → {5: 2.0, 16: 1.0}."""
    weights = {}
    for unit in units:
        channel, _, weight = unit.partition(":")
        try:
            weights[int(channel)] = float(weight or 1)
        except ValueError:
            raise ValueError(f"--unit is {unit!r}; expected CHANNEL:WEIGHT, such as 5:2") from None
    return weights


def _two(between: str) -> tuple[int, int]:
    try:
        first, second = (int(part) for part in between.split(","))
    except ValueError:
        raise ValueError(f"--between is {between!r}; expected two channels, such as 5,16") from None
    return first, second
