"""The sections on a layer: deconvolution, optimized images and regularization, a direction, attribution, an atlas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.blocks_sheet import effect_overlay, group_colors, group_overlay
from rawcnn.report.page import Figure, Gallery, Section, Strip, Strips, Text
from rawcnn.report.pooled import NAME as POOLED
from rawcnn.report.pooled import has_switches
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

STEPS = 128  # steps of every optimization
SHOWN = 96  # pixels: pictures in a strip are enlarged to about this
GRIDS = (7,)  # cells on a side of the atlas
ICON = 32  # pixels on a side of a cell
SHEET = 640  # pixels: the atlas is enlarged to about this, by a whole factor
WEIGHTS = (2.0, 1.0)  # weights of the direction's two channels


@dataclass(frozen=True)
class Deconvolved:
    """The deconvolutions of channels in their top inputs."""

    network: str
    layer: str
    tops: Mapping[int, list[TopInput]]
    pictures: Mapping[int, dict[str, np.ndarray]]  # channel → method → pictures [N,H,W,3] of its top inputs
    switches: bool  # whether the network has a max-pool
    gray: bool  # whether all top inputs are gray


@dataclass(frozen=True)
class Inside:
    """The visualizations of a layer, for a few of its channels and one image."""

    layer: str
    channels: list[int]
    tops: Mapping[int, list[TopInput]]
    deconvolved: Deconvolved
    compared: Mapping[str, Optimized]  # by regularization
    direction: Optimized
    reached: tuple[float, float]  # mean activations of the direction's two channels in its last image
    image: np.ndarray
    attribution: Attribution
    groups: Groups
    atlas: Atlas | None  # None if too few images excite the layer
    gray: bool  # whether all top inputs are gray

    def to_dict(self) -> dict[str, object]:
        return {
            "layer": self.layer,
            "channels": self.channels,
            "deconvolved": {"network": self.deconvolved.network, "channels": list(self.deconvolved.tops)},
            "best_image_activations": [self.tops[c][0].activation for c in self.channels],
            "optimized": {name: o.values.tolist() for name, o in self.compared.items()},
            "high_frequency_energy_against_none": noise_ratios(self.compared),
            "direction": {"weights": WEIGHTS, "reached": self.reached},
            "attributed_classes": self.attribution.classes.tolist(),
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
    pooled: tuple[Network, str, Mapping[int, list[TopInput]]] | None = None,
) -> Inside:
    """Visualize some channels of a layer, the first test image, and an atlas of the layer.

    Args:
        network: The network.
        data: Its images.
        tops: The channels' top inputs.
        layer: The layer's name.
        seed: Seed of all random choices.
        progress: Is called with (parts done, parts in all).
        pooled: Another network with max-pools, the name of its layer and the channels' top inputs, to be deconvolved;
            by default this network is.
    """
    channels = list(tops)
    deconvolved = _deconvolved(*(pooled or (network, layer, tops)))
    progress(1, 5)
    gray = _all_gray(tops)
    regularizations = {name: replace(regularization, grey=gray) for name, regularization in COMPARED.items()}
    compared = compare(network, layer, channels, regularizations=regularizations, steps=STEPS, seed=seed)
    progress(2, 5)
    pair = dict(zip(channels[:2], WEIGHTS, strict=False))
    objective, still = objectives.weighted_units(network, layer, pair), replace(STILL, grey=gray)
    direction = optimize(network, objective, steps=STEPS, frames=6, seed=seed, regularization=still)
    maps = network.activations(direction.images, [layer])[layer].numpy()
    reached = tuple(float(maps[..., channel].mean()) for channel in (channels * 2)[:2])
    progress(3, 5)
    image = data.take("test", [0])[0]
    effects, groups = attribution(network, image, layer), neuron_groups(network, image, layer, seed=seed)
    progress(4, 5)
    try:
        robust = replace(ROBUST, grey=gray)
        atlas = activation_atlas(network, data, layer, grids=GRIDS, steps=STEPS, regularization=robust, seed=seed)
    except ValueError:  # too few images excite the layer, which the page reports
        atlas = None
    progress(5, 5)
    return Inside(
        layer=layer,
        channels=channels,
        tops=tops,
        deconvolved=deconvolved,
        compared=compared,
        direction=direction,
        reached=(reached[0], reached[1]),
        image=image,
        attribution=effects,
        groups=groups,
        atlas=atlas,
        gray=gray,
    )


def _all_gray(tops: Mapping[int, list[TopInput]]) -> bool:
    """Return whether all top inputs are gray."""
    return not any(np.ptp(top.image, axis=-1).any() for inputs in tops.values() for top in inputs)


def _deconvolved(network: Network, layer: str, tops: Mapping[int, list[TopInput]]) -> Deconvolved:
    """Deconvolve channels of a layer in their top inputs, by each method."""
    pictures = {}
    for channel, inputs in tops.items():
        images, positions = np.stack([top.image for top in inputs]), [top.position for top in inputs]
        pictures[channel] = {
            method: deconvolve(network, images, layer, channel, positions, method=method).pictures for method in METHODS
        }
    return Deconvolved(network.name, layer, tops, pictures, has_switches(network), _all_gray(tops))


def sections(inside: Inside, labels: Sequence[str], album: Album) -> tuple[Section, ...]:
    """Return the sections in the lecture's order."""
    return (
        _deconvolution(inside.deconvolved, album),
        _optimization(inside, album),
        _direction(inside, album),
        _attribution(inside, labels, album),
        _atlas(inside, labels, album),
    )


def _deconvolution(found: Deconvolved, album: Album) -> Section:
    strips = []
    for channel in found.tops:
        for method in ("image", *METHODS):
            if method == "image":
                pictures = [top.image for top in found.tops[channel]]
            else:
                pictures = [_signed(found, picture) for picture in found.pictures[channel][method]]
            tile = album.strip(
                f"deconvolution-{channel}-{method}",
                [_large(picture) for picture in pictures],
                alt=f"Channel {channel}: {method} of its most activating images",
            )
            strips.append(Strip(f"channel {channel}" if method == "image" else "", _title(method), tile))
    zero = "red above zero, blue below" if found.gray else "gray is zero"
    of_image = (
        f"The pictures are those of {found.network}, trained on the same images."
        if found.network == POOLED
        else f"`{found.network}` has max-pools, whose maxima tie the picture to the image."
        if found.switches
        else f"`{found.network}` has no max-pool. So the deconvnet's pictures of a channel at one position differ in "
        "strength only, whatever the image; the other two methods see where the image was positive."
    )
    return Section(
        "Deconvolution",
        (
            Text(
                "Deconvolution shows which part of the input excites a unit. Zeiler & Fergus (2014) run the network "
                "backwards from one activation: they unpool to the positions of the maxima, rectify, and apply the "
                "transposed filters. The gradient and guided backpropagation pass rectifiers in other ways, and unlike "
                "the deconvnet they also pass response normalization and gates.\n\n"
                "The maxima of the pools are all that a deconvnet knows about the image: a residual network without "
                f"max-pools gives the same picture for every image. {of_image}\n\n"
                "Deconvolution and guided backpropagation must be read with caution. Both partly recover the image "
                "instead of explaining the decision (Nie et al. 2018), and guided backpropagation changes little if "
                "the weights of later layers are replaced by random values (Adebayo et al. 2018)."
            ),
            Strips(tuple(strips), f"Top inputs of channels of `{found.layer}`, and their deconvolutions: {zero}."),
        ),
    )


def _signed(found: Deconvolved, picture: np.ndarray) -> np.ndarray:
    """Show signed values around gray, or, for gray images, the sum of the channels: red above zero, blue below."""
    return diverging(picture.sum(axis=-1) if found.gray else picture)


def _title(method: str) -> str:
    return {"image": "most activating images", "guided": "guided backpropagation"}.get(method, method)


def _optimization(inside: Inside, album: Album) -> Section:
    ratios = noise_ratios(inside.compared)
    strips = []
    for number, (name, found) in enumerate(inside.compared.items()):
        tile = album.strip(
            f"optimized-{number}",
            [_large(image) for image in found.images],
            alt=f"Images optimized for channels {inside.channels}: {name}",
        )
        reached = ", ".join(f"{value:.2g}" for value in found.values)
        detail = f"reaches {reached}; high-frequency energy {ratios[name]:.2g} × that of none"
        strips.append(Strip(name, detail, tile))
    return Section(
        "Visualization by optimization",
        (
            Text(
                "Optimization works like training, but the weights are fixed and the image changes. It begins with "
                "noise and ends with an image that excites the unit. Without regularization the result is mostly "
                "high-frequency noise. The lecture names two remedies: blur the image in each step, or penalize high "
                "frequencies. Two others are common. Random small shifts, rotations and scalings make the image excite "
                "the unit under all of them. Steps in Fourier space treat low and high frequencies equally."
            ),
            Strips(
                tuple(strips),
                f"Channels {', '.join(map(str, inside.channels))} of `{inside.layer}` after {STEPS} steps from the "
                "same noise. The numbers are the channels' mean activations over the map.",
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
                "An image can be optimized for any direction in the space of activations, not only for a unit. Here "
                f"channel {first} has twice the weight of channel {second}. In the last image their mean activations "
                f"are {inside.reached[0]:.2g} and {inside.reached[1]:.2g}."
            ),
            Strips(
                (Strip(f"2·{first} + 1·{second}", f"after steps {steps}", tile),), f"A direction of `{inside.layer}`."
            ),
        ),
    )


def _attribution(inside: Inside, labels: Sequence[str], album: Album) -> Section:
    effects, largest = inside.attribution, float(np.abs(inside.attribution.spatial).max())
    tiles = [album.tile("attributed", inside.image, alt="A test image", label="image")]
    for k, number in enumerate(effects.classes):
        overlay = effect_overlay(inside.image, effects.spatial[k], largest)
        detail = f"logit {effects.logits[k]:.2f}"
        label = f"“{labels[number]}”"
        tiles.append(
            album.tile(f"attribution-{k}", overlay, alt=f"Attribution for {label}", label=label, detail=detail)
        )
    colors = group_colors(inside.groups.count)
    overlay = group_overlay(inside.image, inside.groups.maps, colors)
    tiles.append(album.tile("groups", overlay, alt="Groups of neurons", label="groups", detail="one color each"))
    return Section(
        "Attribution and neuron groups",
        (
            Text(
                "Two techniques of The Building Blocks of Interpretability (Olah et al. 2018). Attribution estimates "
                "linearly, as activation × gradient, how much each position of a layer raises a class's logit. A "
                f"non-negative matrix factorization finds {inside.groups.count} groups of neurons that are active "
                "together in this image."
            ),
            Gallery(tuple(tiles), f"`{inside.layer}`: red positions raise the class's logit, blue ones lower it."),
        ),
    )


def _atlas(inside: Inside, labels: Sequence[str], album: Album) -> Section:
    title = "A small activation atlas"
    lead = Text(
        "An activation atlas (Carter et al. 2019) takes one activation vector of every image and places similar "
        "vectors near each other. It divides the plane into cells, and shows for each cell the image that excites the "
        "mean of its vectors most. `rawcnn visualize atlas` makes a page that can be zoomed."
    )
    if inside.atlas is None:
        return Section(title, (lead, Text("Too few of these images excite the layer for an atlas.")))
    level = inside.atlas.levels[-1]
    side = max(ICON, *level.icons.shape[1:3])
    white = np.ones((side, side, 3), np.float32)
    icons = {(row, column): fit(icon, side) for (column, row), icon in zip(level.cells, level.icons, strict=True)}
    sheet = grid([icons.get(place, white) for place in np.ndindex(level.grid, level.grid)], level.grid, gap=2)
    file = album.picture("atlas", enlarge(sheet, max(1, round(SHEET / len(sheet)))))
    found = ", ".join(dict.fromkeys(labels[number] for number in level.classes))
    caption = (
        f"{len(level.cells)} cells of `{inside.layer}` over {level.counts.sum():,} images, "
        f"{level.counts.min()} to {level.counts.max()} in each. The classes whose logits they raise most are {found}."
    )
    return Section(title, (lead, Figure(file, "Icons of cells, similar ones near each other", caption)))


def _large(picture: np.ndarray) -> np.ndarray:
    return enlarge(picture, max(1, round(SHOWN / max(picture.shape[:2]))))
