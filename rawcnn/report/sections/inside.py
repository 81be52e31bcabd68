"""Inside a network: deconvolution, optimised images with and without remedies, a direction, attribution, an atlas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.blocks_sheet import effect_overlay, group_colours, group_overlay
from rawcnn.report.page import Figure, Gallery, Section, Strip, Strips, Text
from rawcnn.visualize import (
    Optimized,
    TopInput,
    activation_atlas,
    attribution,
    compare,
    deconvolve,
    diverging,
    enlarge,
    fit,
    grid,
    neuron_groups,
    noise_ratios,
    objectives,
    optimize,
)
from rawcnn.visualize.atlas import Atlas
from rawcnn.visualize.class_attribution import Attribution
from rawcnn.visualize.deconvolution import METHODS
from rawcnn.visualize.factorization import Groups
from rawcnn.visualize.regularization import COMPARED, ROBUST, STILL

STEPS = 128  # of every optimisation
SHOWN = 96  # pixels that pictures in a strip are enlarged to
GRIDS = (7,)  # cells a side of the atlas
ICON = 32  # pixels of a cell
SHEET = 640  # pixels that the atlas is enlarged to, by a whole factor
WEIGHTS = (2.0, 1.0)  # of the two channels of the direction


@dataclass(frozen=True)
class Inside:
    """What was found in a layer, for a few of its channels and one image."""

    layer: str
    channels: list[int]
    tops: Mapping[int, list[TopInput]]
    returned: Mapping[int, dict[str, np.ndarray]]  # channel → method → pictures [N,H,W,3] of its top inputs
    compared: Mapping[str, Optimized]
    direction: Optimized
    reached: tuple[float, float]  # mean activations of the two channels in the direction's image
    image: np.ndarray
    told: Attribution
    groups: Groups
    atlas: Atlas | None
    grey: bool  # all images that were looked at are

    def to_dict(self) -> dict[str, object]:
        return {
            "layer": self.layer,
            "channels": self.channels,
            "best_image_activations": [self.tops[c][0].activation for c in self.channels],
            "optimized": {name: o.values.tolist() for name, o in self.compared.items()},
            "high_frequency_energy_against_none": noise_ratios(self.compared),
            "direction": {"weights": WEIGHTS, "reached": self.reached},
            "attributed_classes": self.told.classes.tolist(),
            "atlas_cells": sum(len(level.cells) for level in self.atlas.levels) if self.atlas else 0,
        }


def look_inside(
    network: Network,
    data: DataSet,
    tops: Mapping[int, list[TopInput]],
    layer: str,
    *,
    seed: int,
    progress: Progress,
) -> Inside:
    """Everything for the channels whose top inputs are given, the first image of the test split, and one atlas."""
    channels = list(tops)
    returned = {
        channel: {
            method: deconvolve(
                network,
                np.stack([top.image for top in inputs]),
                layer,
                channel,
                [top.position for top in inputs],
                method=method,
            ).pictures
            for method in METHODS
        }
        for channel, inputs in tops.items()
    }
    progress(1, 5)
    grey = not any(np.ptp(top.image, axis=-1).any() for inputs in tops.values() for top in inputs)
    remedies = {name: replace(remedy, grey=grey) for name, remedy in COMPARED.items()}
    compared = compare(network, layer, channels, regularizations=remedies, steps=STEPS, seed=seed)
    progress(2, 5)
    pair = dict(zip(channels[:2], WEIGHTS, strict=False))
    objective, still = objectives.weighted_units(network, layer, pair), replace(STILL, grey=grey)
    direction = optimize(network, objective, steps=STEPS, frames=6, seed=seed, regularization=still)
    maps = network.activations(direction.images, [layer])[layer].numpy()
    reached = tuple(float(maps[..., channel].mean()) for channel in (channels * 2)[:2])
    progress(3, 5)
    image = data.take("test", [0])[0]
    told, groups = attribution(network, image, layer), neuron_groups(network, image, layer, seed=seed)
    progress(4, 5)
    try:
        robust = replace(ROBUST, grey=grey)
        atlas = activation_atlas(network, data, layer, grids=GRIDS, steps=STEPS, regularization=robust, seed=seed)
    except ValueError:  # too few images excite the layer: the page says so
        atlas = None
    progress(5, 5)
    return Inside(
        layer, channels, tops, returned, compared, direction, (reached[0], reached[1]), image, told, groups, atlas, grey
    )


def sections(inside: Inside, labels: Sequence[str], album: Album) -> tuple[Section, ...]:
    """The chapter's sections, in the lecture's order."""
    return (
        _deconvolution(inside, album),
        _optimization(inside, album),
        _direction(inside, album),
        _attribution(inside, labels, album),
        _atlas(inside, labels, album),
    )


def _deconvolution(inside: Inside, album: Album) -> Section:
    strips = []
    for channel in inside.channels:
        for method in ("image", *METHODS):
            if method == "image":
                pictures = [top.image for top in inside.tops[channel]]
            else:
                pictures = [_returned(inside, picture) for picture in inside.returned[channel][method]]
            tile = album.strip(
                f"deconvolution-{channel}-{method}",
                [_large(picture) for picture in pictures],
                alt=f"Channel {channel}: {method} of its most activating images",
            )
            strips.append(Strip(f"channel {channel}" if method == "image" else "", _words(method), tile))
    zero = "red above zero, blue below" if inside.grey else "grey is zero"
    return Section(
        "Deconvolution",
        (
            Text(
                "Which part of the input excited the unit? Zeiler & Fergus (2014) run the network backwards from one "
                "activation: unpool to where the maxima were, rectify, apply the transposed filters. The gradient and "
                "guided backpropagation differ from it in the rectifier alone.\n\nA word of caution: "
                "deconvnet and guided backpropagation change little when the weights above are replaced by random "
                "ones (Adebayo et al. 2018). They show what is in the image more than what the network makes of it."
            ),
            Strips(tuple(strips), f"What excites channels of `{inside.layer}` most, and what comes back: {zero}."),
        ),
    )


def _returned(inside: Inside, picture: np.ndarray) -> np.ndarray:
    """Around grey; of a network that sees grey images alone the sum of the colours, red above zero and blue below."""
    return diverging(picture.sum(axis=-1) if inside.grey else picture)


def _words(method: str) -> str:
    return {"image": "most activating images", "guided": "guided backpropagation"}.get(method, method)


def _optimization(inside: Inside, album: Album) -> Section:
    ratios = noise_ratios(inside.compared)
    strips = []
    for number, (name, found) in enumerate(inside.compared.items()):
        tile = album.strip(
            f"optimized-{number}",
            [_large(image) for image in found.images],
            alt=f"Images optimised for channels {inside.channels}: {name}",
        )
        reached = ", ".join(f"{value:.2g}" for value in found.values)
        detail = f"reaches {reached}; high-frequency energy {ratios[name]:.2g} of none's"
        strips.append(Strip(name, detail, tile))
    return Section(
        "Visualization by optimization",
        (
            Text(
                "Optimization works as training does, but the weights are fixed and the image is what changes, from "
                "noise until it excites the unit. Without regularisation the result is mostly noise of high "
                "frequencies. The lecture names two remedies: blur the image in each step, or make high frequencies "
                "cost something. Two more are common: excite the unit however the image is moved, turned and scaled "
                "a little; and climb in Fourier space, where low frequencies are not left behind."
            ),
            Strips(
                tuple(strips),
                f"Channels {', '.join(map(str, inside.channels))} of `{inside.layer}`, {STEPS} steps from the same "
                "noise. The numbers are the channel's mean activation over the map.",
            ),
        ),
    )


def _direction(inside: Inside, album: Album) -> Section:
    first, second = (inside.channels * 2)[:2]
    film = [_large(images[0]) for _, images in inside.direction.frames]
    steps = ", ".join(str(step) for step, _ in inside.direction.frames)
    tile = album.strip("direction", film, alt=f"A direction of channels {first} and {second}, step by step")
    return Section(
        "Directions",
        (
            Text(
                "Units are not all that can be excited: any direction in the space of activations can. Here channel "
                f"{first} counts twice as much as channel {second}; in the last image their mean activations are "
                f"{inside.reached[0]:.2g} and {inside.reached[1]:.2g}."
            ),
            Strips(
                (Strip(f"2·{first} + 1·{second}", f"after steps {steps}", tile),), f"A direction of `{inside.layer}`."
            ),
        ),
    )


def _attribution(inside: Inside, labels: Sequence[str], album: Album) -> Section:
    told, largest = inside.told, float(np.abs(inside.told.spatial).max())
    tiles = [album.tile("attributed", inside.image, alt="A test image", label="image")]
    for k, number in enumerate(told.classes):
        overlay = effect_overlay(inside.image, told.spatial[k], largest)
        detail = f"logit {told.logits[k]:.2f}"
        label = f"“{labels[number]}”"
        tiles.append(
            album.tile(f"attribution-{k}", overlay, alt=f"What speaks for {label}", label=label, detail=detail)
        )
    colours = group_colours(inside.groups.count)
    overlay = group_overlay(inside.image, inside.groups.maps, colours)
    tiles.append(album.tile("groups", overlay, alt="Groups of neurons", label="groups", detail="a colour each"))
    return Section(
        "Attribution and neuron groups",
        (
            Text(
                "The Building Blocks of Interpretability (Olah et al. 2018): how much does each position of a layer "
                "raise a class's logit, estimated linearly as activation times gradient? And which neurons act "
                f"together? A non-negative factorisation finds {inside.groups.count} groups in this image."
            ),
            Gallery(tuple(tiles), f"`{inside.layer}`: red speaks for the class, blue against it."),
        ),
    )


def _atlas(inside: Inside, labels: Sequence[str], album: Album) -> Section:
    title = "A small activation atlas"
    words = Text(
        "An activation atlas (Carter et al. 2019) takes one activation vector of every image, lays similar ones near "
        "each other, cuts the map into cells, and shows of each cell the image that excites its mean most. "
        "`rawcnn visualize atlas` makes a page to zoom into."
    )
    if inside.atlas is None:
        return Section(title, (words, Text("Too few of these images excite the layer for an atlas.")))
    level = inside.atlas.levels[-1]
    side = max(ICON, *level.icons.shape[1:3])
    white = np.ones((side, side, 3), np.float32)
    icons = {(row, column): fit(icon, side) for (column, row), icon in zip(level.cells, level.icons, strict=True)}
    sheet = grid([icons.get(place, white) for place in np.ndindex(level.grid, level.grid)], level.grid, gap=2)
    file = album.picture("atlas", enlarge(sheet, max(1, round(SHEET / len(sheet)))))
    found = ", ".join(dict.fromkeys(labels[number] for number in level.classes))
    caption = (
        f"{len(level.cells)} cells of `{inside.layer}` over {level.counts.sum():,} images, "
        f"{level.counts.min()} to {level.counts.max()} in each. By what they do to the logits they speak for: {found}."
    )
    return Section(title, (words, Figure(file, "Icons of cells, similar ones near each other", caption)))


def _large(picture: np.ndarray) -> np.ndarray:
    return enlarge(picture, max(1, round(SHOWN / max(picture.shape[:2]))))
