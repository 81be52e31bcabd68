"""Chapter 1: one photograph through one network, its activation maps by depth, and one convolution to click on."""

from __future__ import annotations

from dataclasses import dataclass

from rawcnn.data.photographs import PHOTOGRAPHS, Photograph, whole
from rawcnn.explain.explanation import Explanation, explain
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.chapters.real_network import RealNetwork
from rawcnn.report.explanation_page import explanation_page
from rawcnn.report.page import Chapter, Link, Section, Strips, Text
from rawcnn.report.progress import Clock
from rawcnn.report.sections import activation_maps

PAGE = "explanation.html"  # in the folder of the tour


@dataclass(frozen=True)
class OneImage:
    """A photograph, its maps, and the explanation of a convolution."""

    real: RealNetwork
    photograph: Photograph
    maps: activation_maps.Maps
    explanation: Explanation

    @classmethod
    def compute(cls, real: RealNetwork, clock: Clock) -> OneImage:
        """Run the network on the first photograph."""
        photograph = PHOTOGRAPHS[0]
        with clock.step("Run a photograph through a network", 2) as report:
            network = real.create()
            maps = activation_maps.find_maps(network, whole(photograph, network.image_size))
            report(1, 2)
            explanation = explain_first_convolution(real, photograph)
            report(2, 2)
        return cls(real, photograph, maps, explanation)

    def opening(self, album: Album) -> Strips:
        """Return the first picture of the page: the photograph, and the strongest map of each depth."""
        return activation_maps.overview(self.maps, self.photograph.name, album)

    def render(self, album: Album) -> Chapter:
        """Return the chapter, and write the page of the convolution into the album's folder."""
        (album.folder / PAGE).write_text(explanation_page(self.explanation), encoding="utf-8")
        return Chapter(
            "One image through one network",
            (activation_maps.section(self.maps, album), self._one_convolution()),
            f"A photograph of a {self.photograph.name} ({self.photograph.credit}) passes through {self.real.title}.",
        )

    def _one_convolution(self) -> Section:
        network = self.explanation.recording.network
        layer, size = first_convolution(network), "×".join(map(str, network.image_size))
        return Section(
            "One convolution, number by number",
            (
                Text(
                    f"The page below shows the same photograph at {size} pixels, and every number of `{layer}`. Click "
                    "a pixel of a map: the page lists the pixels and the weights whose products add up to its value. "
                    f"The convolutions are those of {self.real.title}. The gradients on the page belong to a "
                    "classifier with random values, which was added because a gradient needs a loss.\n\n"
                    f"`{self.real.explain_command(layer)}` writes the page."
                ),
                Link(PAGE, f"Open {layer}, number by number"),
            ),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "photograph": self.photograph.name,
            "network": self.real.model,
            "weights": self.real.weights,
            "maps": self.maps.to_dict(),
        }


def explain_first_convolution(real: RealNetwork, photograph: Photograph) -> Explanation:
    """Explain the first convolution of the network on the photograph, at a size that makes a small page."""
    network = real.create_small()
    image = whole(photograph, network.image_size)
    return explain(network, image, name=photograph.name, layers=[first_convolution(network)])


def first_convolution(network: Network) -> str:
    """Return the name of the first convolution."""
    return next(operation.name for operation in network.operations if operation.kind == "conv")
