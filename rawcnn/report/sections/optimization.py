"""The sections on optimized images: what regularization does, what channels show by depth, and a direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Strip, Strips, Text
from rawcnn.visualize import Optimized, compare, enlarge, fit, noise_ratios, objectives, optimize
from rawcnn.visualize.pictures import scale_to
from rawcnn.visualize.progress import equal_part
from rawcnn.visualize.regularization import COMPARED, ROBUST, STILL

SHOWN = 96  # pixels: pictures in a strip are enlarged to about this
OVERVIEW = 128  # pixels: pictures at the top of the page are enlarged to about this
WEIGHTS = (2.0, 1.0)  # weights of the direction's two channels


@dataclass(frozen=True)
class Effort:
    """How much is computed: side of optimized images in pixels (None: the network's own), and steps."""

    size: int | None
    steps: int


# Regularization --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Images of the same channels, optimized with each regularization."""

    layer: str
    channels: Sequence[int]
    found: Mapping[str, Optimized]  # by regularization

    def to_dict(self) -> dict[str, object]:
        return {
            "layer": self.layer,
            "channels": list(self.channels),
            "reached": {name: found.values.tolist() for name, found in self.found.items()},
            "high_frequency_energy_against_none": noise_ratios(self.found),
        }


def compare_regularizations(
    network: Network, layer: str, channels: Sequence[int], effort: Effort, *, gray: bool, seed: int, progress: Progress
) -> Compared:
    """Optimize channels with each regularization of COMPARED."""
    regularizations = {name: replace(regularization, grey=gray) for name, regularization in COMPARED.items()}
    found = compare(
        network, layer, channels, regularizations=regularizations, size=effort.size, steps=effort.steps, seed=seed,
        progress=progress,
    )  # fmt: skip
    return Compared(layer, channels, found)


def regularization(compared: Compared, album: Album) -> Section:
    """Return the section that compares the regularizations, with the high-frequency energy of each."""
    ratios, strips = noise_ratios(compared.found), []
    for number, (name, found) in enumerate(compared.found.items()):
        alt = f"Images optimized for channels {', '.join(map(str, compared.channels))}: {name}"
        tile = album.strip(f"optimized-{number}", [_large(image) for image in found.images], alt=alt)
        reached = ", ".join(f"{value:.3g}" for value in found.values)
        strips.append(Strip(name, f"high-frequency energy {ratios[name]:.2g} × that of none; reaches {reached}", tile))
    settings = next(iter(compared.found.values())).settings
    least = min(ratios, key=lambda name: ratios[name])
    return Section(
        "Visualization by optimization",
        (
            Text(
                "Optimization works like training, but the weights are fixed and the image changes. It begins with "
                "noise and ends with an image that excites the unit. The lecture names two remedies against "
                "high-frequency noise: blur the image in each step, or penalize high frequencies. Two others are "
                "common. Random small shifts, rotations and scalings make the image excite the unit under all of "
                "them. Steps in Fourier space treat low and high frequencies equally. Here {least} has the least "
                "energy in high frequencies, {share:.2g} times that of an image without a remedy.".format(
                    least=f"“{least}”", share=ratios[least]
                )
            ),
            Strips(
                tuple(strips),
                f"Channels {', '.join(map(str, compared.channels))} of `{compared.layer}` after {settings['steps']} "
                "steps from the same noise. The energy is that of more than a quarter cycle per pixel. The values "
                "that are reached are mean activations over the map.",
            ),
        ),
    )


# By depth --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """Optimized images of channels of one layer."""

    title: str
    layer: str
    field: int | None  # side of the receptive field in pixels; None if it is the whole image
    channels: Sequence[int]
    found: Optimized


def optimize_rows(
    network: Network, rows: Mapping[str, str], count: int, effort: Effort, *, seed: int, progress: Progress
) -> list[Row]:
    """Optimize some evenly spaced channels of a layer for each row: {title: layer}."""
    found = []
    for number, (title, layer) in enumerate(rows.items()):
        operation = network.operation(layer)
        channels = np.linspace(0, operation.output_shape[-1] - 1, count + 2, dtype=int)[1:-1].tolist()
        report = equal_part(progress, number, len(rows))
        images = optimize(network, layer, channels, size=effort.size, steps=effort.steps, seed=seed, progress=report)
        found.append(Row(title, layer, operation.receptive_field.size, channels, images))
    return found


def by_depth(rows: Sequence[Row], album: Album) -> Section:
    """Return the section with a strip for each depth, as in the lecture."""
    strips = [
        Strip(
            row.title,
            f"{row.layer}, a value sees {f'{row.field}×{row.field} pixels' if row.field else 'the whole image'}",
            album.strip(
                f"depth-{number}",
                [_large(image) for image in row.found.images],
                alt=f"Optimized images of channels {', '.join(map(str, row.channels))} of {row.layer}",
            ),
        )
        for number, row in enumerate(rows)
    ]
    settings = rows[0].found.settings
    return Section(
        "Edges, textures, patterns, parts",
        (
            Text(
                "The lecture's rows, from the first layers to the last. The titles are the lecture's. A channel can "
                "show no more than its receptive field holds, repeated over the image."
            ),
            Strips(
                tuple(strips),
                f"Evenly spaced channels of each layer, {settings['steps']} steps of gradient ascent at "
                f"{settings['size']} pixels, in Fourier space with random moves.",
            ),
        ),
    )


def overview(rows: Sequence[Row], image: np.ndarray, name: str, album: Album) -> Strips:
    """Return a strip of a photograph [H,W,3] of a `name`, and the optimized image of each row with most contrast."""
    pictures = [row.found.images[int(row.found.images.std(axis=(1, 2, 3)).argmax())] for row in rows]
    side = pictures[0].shape[0] * max(1, round(OVERVIEW / pictures[0].shape[0]))
    tile = album.strip(
        "overview",
        [fit(image, side), *(fit(picture, side) for picture in pictures)],
        alt=f"A photograph of a {name}, and images optimized for channels from the first layers to the last",
    )
    layers = ", ".join(f"`{row.layer}`" for row in rows)
    return Strips((Strip("", "", tile),), f"A photograph, and images that excite a channel of {layers}.")


# A direction -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Direction:
    """An image that is optimized for two channels of a layer, the first with twice the weight."""

    layer: str
    channels: tuple[int, int]
    found: Optimized
    reached: tuple[float, float]  # mean activations of the two channels in the last image

    def to_dict(self) -> dict[str, object]:
        return {"layer": self.layer, "channels": self.channels, "weights": WEIGHTS, "reached": self.reached}


def optimize_direction(
    network: Network, layer: str, channels: Sequence[int], effort: Effort, *, gray: bool, seed: int
) -> Direction:
    """Optimize a direction of the first two channels; with one channel, of this one."""
    first, second = (list(channels) * 2)[:2]
    objective = objectives.weighted_units(network, layer, dict(zip(channels[:2], WEIGHTS, strict=False)))
    found = optimize(
        network, objective, size=effort.size, steps=effort.steps, frames=6, seed=seed,
        regularization=replace(STILL if gray else ROBUST, grey=gray),
    )  # fmt: skip
    maps = network.activations(found.images, [layer])[layer].numpy()
    reached = tuple(float(maps[..., channel].mean()) for channel in (first, second))
    return Direction(layer, (first, second), found, (reached[0], reached[1]))


def direction(direction: Direction, album: Album) -> Section:
    """Return the section on a direction, with images of its steps."""
    first, second = direction.channels
    film = [_large(images[0]) for _, images in direction.found.frames]
    steps = ", ".join(str(step) for step, _ in direction.found.frames)
    tile = album.strip("direction", film, alt=f"A direction of channels {first} and {second}, step by step")
    return Section(
        "Directions",
        (
            Text(
                "An image can be optimized for any direction in the space of activations, not only for a unit. Here "
                f"channel {first} has twice the weight of channel {second}. In the last image their mean activations "
                f"are {direction.reached[0]:.2g} and {direction.reached[1]:.2g}."
            ),
            Strips(
                (Strip(f"2·{first} + 1·{second}", f"after steps {steps}", tile),),
                f"A direction of `{direction.layer}`.",
            ),
        ),
    )


def _large(picture: np.ndarray) -> np.ndarray:
    return enlarge(picture, scale_to(picture, SHOWN))
