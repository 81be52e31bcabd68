"""`rawcnn visualize optimize`: images that maximize a neuron, a channel, a class, a layer or a direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Compile,
    Head,
    IconSize,
    Json,
    MapPosition,
    Model,
    Options,
    Picture,
    Seed,
    Steps,
    Weights,
)
from rawcnn.cli.parsing import PICTURES, ImageSize, check_finite, parse_position, parse_settings
from rawcnn.cli.request import NetworkRequest, Run, begin, layer_or_logits

COLUMNS = 8  # images per row of a sheet
INTERPOLATED = 5  # images of --between, unless --count says otherwise
DEFAULTS = (
    "Defaults: image=fourier decorrelate=True grey=False decay=1.0 blur=0 total_variation=0 blur_penalty=0 l1=0 "
    "jitter=0.03125 scale=0.1 rotation=10 last_jitter=0.015625"
)


@dataclass(frozen=True)
class Target:
    """The options that say what is maximized.

    Attributes:
        layer: A layer; None: the classes' logits.
        channels: Its channels, each with an image of its own.
        units: A direction, as CHANNEL:WEIGHT.
        between: Two channels as "CHANNEL,CHANNEL", between which images interpolate.
        position: "ROW,COLUMN" of a neuron; None: the whole map.
        negative: Whether to minimize instead.
    """

    layer: str | None
    channels: Sequence[int] | None
    units: Sequence[str] | None
    between: str | None
    position: str | None
    negative: bool

    def check(self) -> None:
        """Raise ValueError for options that exclude each other or cannot be parsed."""
        if sum(bool(option) for option in (self.channels, self.units, self.between)) > 1:
            raise ValueError("--channel, --unit and --between exclude each other; give one of them")
        if parse_position(self.position) and not self.channels:
            raise ValueError("--position is the position of a channel; give --channel, too")
        parse_weights(self.units or ())
        if self.between:
            parse_pair(self.between)

    def resolved_layer(self, network) -> str:
        """Return the layer; what a rectifier never outputs is minimized before the rectifier."""
        from rawcnn.visualize.unit_summary import rectified

        layer = layer_or_logits(self.layer, network)
        return rectified(network, layer) if self.negative else layer

    def check_network(self, network, size: ImageSize | None) -> None:
        """Raise ValueError for a channel or a position that the layer lacks, for images of this size."""
        from rawcnn.nn.arguments import image_size, map_position
        from rawcnn.visualize.layer_maps import check_channels, operation_at_size

        layer = self.resolved_layer(network)
        channels = [*(self.channels or ()), *parse_weights(self.units or ())]
        channels += parse_pair(self.between) if self.between else ()
        check_channels(channels or None, layer, network.operation(layer).output_shape[-1])
        operation = operation_at_size(network, layer, image_size(network.input_size if size is None else size))
        if place := parse_position(self.position):
            map_position(place, operation.output_shape, layer)

    def objective(self, network, count: int):
        """Return the objective, and a label for each of its images.

        Args:
            network: The network.
            count: The number of images of an interpolation.
        """
        objective, labels = self._positive_objective(network, self.resolved_layer(network), count)
        return (-objective, [f"−{label}" for label in labels]) if self.negative else (objective, labels)

    def _positive_objective(self, network, layer: str, count: int):
        from rawcnn.visualize import objectives

        if self.units:
            return objectives.weighted_units(network, layer, parse_weights(self.units)), [" + ".join(self.units)]
        if self.between:
            first, second = (objectives.channel(network, layer, c) for c in parse_pair(self.between))
            objective = objectives.interpolation(first, second, max(count, 2))
            return objective, [f"{share:.0%}" for share in objective.rows[0]]
        if self.channels:
            classes = network.labels or [f"class {c}" for c in range(network.classes)]
            are_classes = network.last is None and layer == network.head
            names = [classes[c] if are_classes else f"channel {c}" for c in self.channels]
            place = parse_position(self.position)
            if place:
                return objectives.neuron(network, layer, self.channels, place), names
            return objectives.channel(network, layer, self.channels), names
        return objectives.layer(network, layer), [layer]


def parse_weights(units: Sequence[str]) -> dict[int, float]:
    """Convert ["5:2", "16:1"] to {5: 2.0, 16: 1.0}; raise ValueError for anything else."""
    weights = {}
    for unit in units:
        channel, _, weight = unit.partition(":")
        try:
            weights[int(channel)] = float(weight or 1)
        except ValueError:
            raise ValueError(f"--unit is {unit!r}; expected CHANNEL:WEIGHT, such as 5:2") from None
    return weights


def parse_pair(between: str) -> tuple[int, int]:
    """Convert "5,16" to (5, 16); raise ValueError for anything else."""
    try:
        first, second = (int(part) for part in between.split(","))
    except ValueError:
        raise ValueError(f"--between is {between!r}; expected two channels, such as 5,16") from None
    return first, second


@dataclass(frozen=True, kw_only=True)
class OptimizeRequest(NetworkRequest):
    """The options of `rawcnn visualize optimize`."""

    target: Target
    compare: bool
    count: int
    diversity: float
    steps: int
    rate: float
    regularization: Sequence[str] | None
    frames: int
    batch: int
    image_size: ImageSize | None
    output: Path
    compile: str

    endings = PICTURES

    def check(self) -> None:
        super().check()
        check_finite(rate=self.rate, diversity=self.diversity)
        if self.frames > self.steps:
            raise ValueError(
                f"--frames is {self.frames}, and there are {self.steps} steps; expected no more frames than steps"
            )
        if self.compare:
            self._check_compare()
        self.target.check()
        self.resolved_regularization()

    def _check_compare(self) -> None:
        """Raise ValueError for options that --compare does not take."""
        target = self.target
        options: dict[str, Any] = {
            "unit": target.units,
            "between": target.between,
            "position": target.position,
            "negative": target.negative,
            "frames": self.frames,
            "regularization": self.regularization,
            "diversity": self.diversity,
            "count": self.count > 1,
        }
        if wrong := [f"--{name}" for name, value in options.items() if value]:
            raise ValueError(f"--compare has its own settings; leave out {', '.join(wrong)}")
        if not target.channels:
            raise ValueError("--compare needs channels; give --channel, once or more")

    def resolved_regularization(self):
        """Return the default Regularization with the settings of --regularization."""
        from rawcnn.visualize.regularization import ROBUST, Regularization

        settings = parse_settings(self.regularization, "--regularization", "image=pixel")
        known = [field.name for field in fields(Regularization)]
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(f"--regularization has no {', '.join(unknown)}; its names are {', '.join(known)}")
        return replace(ROBUST, **settings)

    def optimizer_settings(self, network) -> dict[str, Any]:
        """Return the settings that `visualize.optimize` and `visualize.compare` share."""
        return {
            "size": network.input_size if self.image_size is None else self.image_size,
            "steps": self.steps,
            "rate": self.rate,
            "seed": self.seed,
            "batch": self.batch,
            "compile": self.compile,
        }

    def check_network(self, network: Any) -> None:
        self.target.check_network(network, self.image_size)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights or "random",
            "layer": self.target.resolved_layer(network),
            "channel": self.target.channels,
            "unit": self.target.units,
            "between": self.target.between,
            "position": self.target.position,
            "negative": self.target.negative,
            "count": self.count,
            "diversity": self.diversity,
            "frames": self.frames,
            "regularization": ",".join(self.regularization or ()) or "the default",
            **self.optimizer_settings(network),
            "compare": self.compare,
        }


def optimize(
    model: Model,
    layer: Annotated[str | None, typer.Option(help="Name of a layer; default: the logits of the classes.")] = None,
    channel: Annotated[
        list[int] | None, typer.Option(help="Number of a channel; default: the whole layer. Repeatable.")
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            help="CHANNEL:WEIGHT; several form a direction, such as --unit 5:2 --unit 16:1. The image has their "
            "proportion approximately, because channels depend on each other."
        ),
    ] = None,
    between: Annotated[
        str | None,
        typer.Option(
            help=f"CHANNEL,CHANNEL: interpolate between two channels with --count images; default: {INTERPOLATED}."
        ),
    ] = None,
    negative: Annotated[bool, typer.Option(help="Minimize instead of maximize.")] = False,
    position: MapPosition = None,
    compare: Annotated[
        bool, typer.Option(help="Show none, blur, penalty, robustness and Fourier side by side.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(help="Number of images of each target; default: 1.", min=1, max=10_000)
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="Weight of the term that makes the images of a target differ.", min=0)
    ] = 0.0,
    steps: Steps = 512,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam.", min=0)] = 0.05,
    regularization: Annotated[
        list[str] | None,
        typer.Option("--regularization", "-r", help=f"Setting as NAME=VALUE. Repeatable. {DEFAULTS}."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Number of intermediate images to show per image.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Batch size.", min=1)] = 32,
    weights: Weights = None,
    head: Head = "load",
    size: IconSize = None,
    output: Picture = Path("optimize.png"),
    option: Options = None,
    compile: Compile = "auto",
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Optimize images that activate a unit most.

    The images start as noise. They maximize a neuron, a channel, a class, a layer or a direction.
    """
    request = OptimizeRequest(
        model=model, target=Target(layer, channel, unit, between, position, negative), compare=compare,
        count=count or (INTERPOLATED if between else 1), diversity=diversity, steps=steps, rate=rate,
        regularization=regularization, frames=frames, batch=batch, weights=weights, image_size=size, output=output,
        option=option, compile=compile, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    draw_optimized(request)


def draw_optimized(request: OptimizeRequest) -> None:
    """Optimize the images and write them as one sheet."""
    from rawcnn.plots.figures import picture_rows, save
    from rawcnn.visualize.record import write_record

    with begin(request) as run:
        rows, titles, figures, arrays = (_compare if request.compare else _optimize)(request, run)
        save(picture_rows(rows, titles), request.output)
        run.screen.print(f"wrote {request.output}")
        run.result = write_record(request.output, run.settings, figures, **arrays)


def _optimize(request: OptimizeRequest, run: Run):
    """Optimize the target: (rows of the sheet, titles, figures, arrays)."""
    from rawcnn.visualize import optimize

    target = request.target
    _print_replaced_layer(target, run)
    objective, labels = target.objective(run.network, request.count)
    count = 1 if target.between else request.count
    with run.screen.progress_bar("optimizing") as report:
        found = optimize(
            run.network, objective, count=count, diversity=request.diversity,
            regularization=request.resolved_regularization(), frames=request.frames, progress=report,
            **request.optimizer_settings(run.network),
        )  # fmt: skip
    names = [f"{label}, {n + 1}" if count > 1 else label for label in labels for n in range(count)]
    if dead := [name for name, value in zip(names, found.values, strict=True) if value == 0]:
        run.screen.print(f"no image was found that activates {', '.join(dead)}")
    rows, titles = _filmstrips(found, names) if request.frames else _tiles(found, names)
    arrays = {"images": found.images, "history": found.history}
    arrays |= {f"step_{step}": images for step, images in found.frames}
    return rows, titles, _figures(found), arrays


def _print_replaced_layer(target: Target, run: Run) -> None:
    """Print that --negative optimizes the layer before a rectifier."""
    layer, resolved = layer_or_logits(target.layer, run.network), target.resolved_layer(run.network)
    if resolved != layer:
        run.screen.print(f"{layer} is never negative; minimizing {resolved}, the input of its rectifier, instead")


def _compare(request: OptimizeRequest, run: Run):
    """Optimize the channels with each regularization: (rows of the sheet, titles, figures, arrays).

    The sheet has one row per channel and one column per regularization. "of the noise" is the high-frequency energy
    relative to that without regularization.
    """
    from rawcnn.visualize import compare, noise_ratios

    channels = request.target.channels or ()
    layer = request.target.resolved_layer(run.network)
    with run.screen.progress_bar("optimizing") as report:
        found = compare(run.network, layer, channels, progress=report, **request.optimizer_settings(run.network))
    reference = found["none"].high_frequency
    rows = {f"channel {c}": [o.images[n] for o in found.values()] for n, c in enumerate(channels)}
    titles = [
        [
            f"{name}\n{o.values[n]:.3g} · {o.high_frequency[n] / reference[n]:.0%} of the noise"
            for name, o in found.items()
        ]
        for n in range(len(channels))
    ]
    figures = {
        "high_frequency_energy_against_none": noise_ratios(found),
        "regularizations": {name: _figures(o) for name, o in found.items()},
    }
    return rows, titles, figures, {name.replace(" ", "_"): o.images for name, o in found.items()}


def _filmstrips(found, names: Sequence[str]):
    """Return the rows and titles of a sheet with one row per image, from noise to the result."""
    rows = {f"{n + 1}. {name}": [images[n] for _, images in found.frames] for n, name in enumerate(names)}
    steps = [f"step {step}" for step, _ in found.frames]
    return rows, [[*steps[:-1], f"{steps[-1]}: {value:.3g}"] for value in found.values]


def _tiles(found, names: Sequence[str]):
    """Return the rows and titles of a sheet with COLUMNS images per row, each with its name and activation."""
    titles = [f"{name}\n{value:.3g}" for name, value in zip(names, found.values, strict=True)]
    starts = range(0, len(names), COLUMNS)
    rows = {" " * (start // COLUMNS): list(found.images[start : start + COLUMNS]) for start in starts}
    return rows, [titles[start : start + COLUMNS] for start in starts]


def _figures(found) -> dict[str, Any]:
    """Return the settings and values of optimized images for the record."""
    return {"made_with": found.settings, "activation": found.values, "high_frequency_energy": found.high_frequency}
