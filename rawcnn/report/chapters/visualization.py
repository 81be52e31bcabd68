"""Chapter 4: what networks detect. A VGG-16 is visualized on photographs, the trained network on its digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.data import DataSet
from rawcnn.data.photographs import installed, patches, whole
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.chapters.real_network import RealNetwork
from rawcnn.report.page import Chapter, Code, Notes, Section, Text
from rawcnn.report.pooled import LAYER, train_pooled
from rawcnn.report.progress import Clock
from rawcnn.report.sections import atlas, attribution, deconvolution, filters, optimization, top_inputs
from rawcnn.report.sections.optimization import Effort
from rawcnn.visualize.atlas import Atlas

TITLE = "Feature visualization"
SIDE = 96  # pixels: patches of photographs
TOP_LAYERS = ("conv2_2/relu", "conv3_3/relu", "conv4_3/relu")  # of VGG-16: the last ones before three pools
WHOLE, PHOTOGRAPHS = 160, 6  # photographs that are deconvolved: their side in pixels, and how many at most
STRONGEST = "conv5_1/relu"  # whose most active unit in each photograph is deconvolved; it sees 132×132 pixels
PARTS = ("conv3_3/relu", "conv4_3/relu")  # whose units in the inside of the photographs are deconvolved
OPTIMIZED = "conv4_3/relu"  # whose channels are optimized
MIDDLE = "conv4_2/relu"  # whose atlas is shown
DEPTHS = {
    "Edges": "conv2_1/relu",
    "Textures": "conv3_1/relu",
    "Patterns": "conv4_1/relu",
    "Parts": "conv5_1/relu",
}
ROW = 6  # images of a depth
CELLS, IN_A_CELL = 6, 3  # of the atlas: cells on a side, patches that a cell needs
OF_DIGITS = Effort(size=None, steps=128)
DIGIT_CELLS, IN_A_DIGIT_CELL = 7, 8


@dataclass(frozen=True)
class OfPhotographs:
    """What VGG-16 detects in photographs."""

    network: Network
    data: DataSet
    tops: top_inputs.TopInputs
    parts: deconvolution.Deconvolved
    compared: optimization.Compared
    rows: Sequence[optimization.Row]
    direction: optimization.Direction
    atlas: Atlas | None

    @classmethod
    def compute(cls, real: RealNetwork, effort: Effort, clock: Clock, seed: int) -> OfPhotographs:
        """Visualize the network on patches of the photographs."""
        network, data = real.create(SIDE), patches(installed(), SIDE)
        with clock.step("Find the parts of photographs that excite it", len(TOP_LAYERS)) as report:
            tops = top_inputs.find_top_inputs(network, data, TOP_LAYERS, report)
        with clock.step("Deconvolve them"):
            parts = deconvolve_photographs(network)
        channels = list(tops.shown(OPTIMIZED))
        with clock.step("Optimize images, with each regularization") as report:
            compared = optimization.compare_regularizations(
                network, OPTIMIZED, channels, effort, gray=False, seed=seed, progress=report
            )
        with clock.step("Optimize images, from edges to parts") as report:
            rows = optimization.optimize_rows(network, DEPTHS, ROW, effort, seed=seed, progress=report)
        with clock.step("Optimize a direction"):
            direction = optimization.optimize_direction(network, OPTIMIZED, channels, effort, gray=False, seed=seed)
        with clock.step("Draw an activation atlas"):
            drawn = atlas.find_atlas(network, data, MIDDLE, CELLS, IN_A_CELL, effort, gray=False, seed=seed)
        return cls(network, data, tops, parts, compared, rows, direction, drawn)

    def sections(self, album: Album) -> tuple[Section, ...]:
        """Return the sections in the lecture's order."""
        return (
            filters.section(self.network, album, gray=False),
            top_inputs.section(self.tops, self.network, self.data, album),
            deconvolution.section(self.parts, album),
            optimization.regularization(self.compared, album),
            optimization.by_depth(self.rows, album),
            optimization.direction(self.direction, album),
            atlas.section(self.atlas, (), album),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "network": self.network.name,
            "data": self.data.name,
            "top_inputs": self.tops.to_dict(),
            "deconvolved": self.parts.to_dict(),
            "optimized": self.compared.to_dict(),
            "by_depth": {row.layer: row.found.values.tolist() for row in self.rows},
            "direction": self.direction.to_dict(),
            "atlas_cells": atlas.count_cells(self.atlas),
        }


def whole_photographs() -> np.ndarray:
    """Return the first installed photographs, [N,WHOLE,WHOLE,3]."""
    return np.stack([whole(photograph, (WHOLE, WHOLE)) for photograph in installed()[:PHOTOGRAPHS]])


def deconvolve_photographs(network: Network) -> deconvolution.Deconvolved:
    """Deconvolve the most active unit of three layers in each photograph, the last layer first."""
    images = whole_photographs()
    groups = [deconvolution.deconvolve_strongest(network, STRONGEST, images)]
    groups += [deconvolution.deconvolve_parts(network, layer, images) for layer in reversed(PARTS)]
    return deconvolution.Deconvolved(network.name, groups, switches=True, gray=False)


@dataclass(frozen=True)
class OfClassifier:
    """What a network with a classifier detects in the images that it was trained on."""

    network: Network
    data: DataSet
    tops: top_inputs.TopInputs
    deconvolved: deconvolution.Deconvolved
    compared: optimization.Compared
    direction: optimization.Direction
    attributed: attribution.Attributed
    atlas: Atlas | None

    @classmethod
    def compute(cls, network: Network, data: DataSet, clock: Clock, seed: int, suffix: str = "") -> OfClassifier:
        """Visualize a network. `suffix` follows the names of the steps."""
        with clock.step(f"Find what excites the network{suffix}") as report:
            tops = top_inputs.find_top_inputs(network, data, top_inputs.layers_of(network), report)
        layer, gray = list(tops.layers)[-1], tops.gray
        channels = list(tops.shown(layer))
        deconvolved = deconvolve(network, data, tops, clock, seed, suffix)
        with clock.step(f"Optimize images{suffix}") as report:
            compared = optimization.compare_regularizations(
                network, layer, channels, OF_DIGITS, gray=gray, seed=seed, progress=report
            )
        with clock.step(f"Look inside the network{suffix}", 3) as report:
            direction = optimization.optimize_direction(network, layer, channels, OF_DIGITS, gray=gray, seed=seed)
            report(1, 3)
            attributed = attribution.attribute(network, data.take("test", [0])[0], layer, seed=seed)
            report(2, 3)
            drawn = atlas.find_atlas(
                network, data, layer, DIGIT_CELLS, IN_A_DIGIT_CELL, OF_DIGITS, gray=gray, seed=seed
            )
        return cls(network, data, tops, deconvolved, compared, direction, attributed, drawn)

    def sections(self, album: Album) -> tuple[Section, ...]:
        """Return the sections in the lecture's order."""
        return (
            top_inputs.section(self.tops, self.network, self.data, album),
            deconvolution.section(self.deconvolved, album),
            optimization.regularization(self.compared, album),
            optimization.direction(self.direction, album),
            attribution.section(self.attributed, self.data.labels, album),
            atlas.section(self.atlas, self.data.labels, album),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "network": self.network.name,
            "data": self.data.name,
            "top_inputs": self.tops.to_dict(),
            "deconvolved": self.deconvolved.to_dict(),
            "optimized": self.compared.to_dict(),
            "direction": self.direction.to_dict(),
            "attributed": self.attributed.to_dict(),
            "atlas_cells": atlas.count_cells(self.atlas),
        }


def deconvolve(
    network: Network, data: DataSet, tops: top_inputs.TopInputs, clock: Clock, seed: int, suffix: str
) -> deconvolution.Deconvolved:
    """Deconvolve the network's top inputs; without max-pools, those of a small network that has some."""
    if suffix or deconvolution.has_switches(network):
        layer = list(tops.layers)[-1]
        return deconvolution.deconvolve_tops(network, layer, tops.shown(layer), gray=tops.gray)
    with clock.step("Train a small network with max-pools") as report:
        pooled = train_pooled(data, seed, report)
    found = top_inputs.TopInputs({LAYER: top_inputs.top_inputs(pooled, data, LAYER, count=top_inputs.COUNT)})
    return deconvolution.deconvolve_tops(pooled, LAYER, found.shown(LAYER), gray=tops.gray)


@dataclass(frozen=True)
class OfDigits:
    """What needs the trained network where VGG-16 shows the rest: attribution, and the limits of a deconvnet."""

    data: DataSet
    attributed: attribution.Attributed
    alike: Sequence[deconvolution.Alike]  # of VGG-16 and of the trained network

    @classmethod
    def compute(cls, network: Network, data: DataSet, photographs: OfPhotographs, clock: Clock, seed: int) -> OfDigits:
        """Look into the trained network, and compare its deconvnet with VGG-16's."""
        layer = top_inputs.layers_of(network)[-1]
        with clock.step("Look inside the network", 2) as report:
            attributed = attribution.attribute(network, data.take("test", [0])[0], layer, seed=seed)
            report(1, 2)
            alike = [
                deconvolution.of_two_images(photographs.network, STRONGEST, whole_photographs()[:2]),
                deconvolution.of_two_images(network, layer, data.take("test", [0, 1])),
            ]
        return cls(data, attributed, alike)

    def sections(self, album: Album) -> tuple[Section, ...]:
        return (
            deconvolution.limits(self.alike, album),
            attribution.section(self.attributed, self.data.labels, album),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "attributed": self.attributed.to_dict(),
            "deconvnets_of_two_images": [pair.to_dict() for pair in self.alike],
        }


def render(photographs: OfPhotographs | None, of_digits: OfDigits | OfClassifier, album: Album) -> Chapter:
    """Return the chapter. Without VGG-16, the trained network shows everything, and the last section lists the rest."""
    if photographs is None:
        assert isinstance(of_digits, OfClassifier)
        first = filters.section(of_digits.network, album, gray=of_digits.tops.gray)
        return Chapter(TITLE, (first, *of_digits.sections(album), skipped()), "What the parts of a network detect.")
    lead = "What the parts of VGG-16 detect in photographs, and what the network of chapter 3 shows in addition."
    return Chapter(TITLE, (*photographs.sections(album), *of_digits.sections(Album(album.folder, "digits-"))), lead)


def render_user(found: OfClassifier, weights: str, album: Album) -> Chapter:
    """Return the chapter about a user's network."""
    return Chapter(f"Inside {found.network.name}", found.sections(album), f"What {weights} detects.")


def skipped() -> Section:
    """Return the list of what this page lacks without VGG-16."""
    return Section(
        "Skipped sections",
        (
            Text("A real VGG-16 and five more photographs come with the extra `vgg`. With it, this page also shows:"),
            Notes(
                (
                    "the maps and the filters of VGG-16 instead of those of networks that never saw a photograph",
                    "the parts of photographs that excite its channels, and their deconvolutions",
                    "images that are optimized for its channels, with each regularization",
                    "edges, textures, patterns and parts by depth",
                    "an atlas of what a middle layer detects in photographs",
                    "what a deconvnet cannot show",
                )
            ),
            Code("pip install 'rawcnn[vgg]'"),
        ),
    )
