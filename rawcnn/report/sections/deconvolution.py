"""The sections on deconvolution: parts of the top inputs that excite a channel, and what a deconvnet cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Gallery, Section, Strip, Strips, Text
from rawcnn.report.pooled import NAME as POOLED
from rawcnn.report.pooled import has_switches
from rawcnn.visualize import TopInput, deconvolve, diverging, fit
from rawcnn.visualize.deconvolution import METHODS

SHOWN = 96  # pixels: a receptive field is enlarged to about this
TITLES = {"deconvnet": "deconvnet", "guided": "guided backpropagation", "gradient": "gradient"}
GRAY = 0.5  # of the frame around a receptive field that the image's edge cuts


@dataclass(frozen=True)
class Deconvolved:
    """The deconvolutions of channels in their top inputs."""

    network: str
    layer: str
    tops: Mapping[int, list[TopInput]]
    crops: Mapping[int, dict[str, list[np.ndarray]]]  # channel → method → receptive fields of its top inputs
    switches: bool  # whether the network has a max-pool
    gray: bool  # whether all top inputs are gray

    def to_dict(self) -> dict[str, object]:
        return {"network": self.network, "layer": self.layer, "channels": list(self.tops)}


def deconvolve_tops(network: Network, layer: str, tops: Mapping[int, list[TopInput]], *, gray: bool) -> Deconvolved:
    """Deconvolve channels of a layer in their top inputs, by each method."""
    crops = {}
    for channel, inputs in tops.items():
        images, positions = np.stack([top.image for top in inputs]), [top.position for top in inputs]
        crops[channel] = {
            method: deconvolve(network, images, layer, channel, positions, method=method).crops for method in METHODS
        }
    return Deconvolved(network.name, layer, tops, crops, has_switches(network), gray)


def section(found: Deconvolved, album: Album) -> Section:
    """Return the section with the top inputs of each channel, and their deconvolution by each method."""
    side, strips = _side(found), []
    for channel, inputs in found.tops.items():
        rows = {"most activating inputs": [fit(top.crop, side, GRAY) for top in inputs]}
        for method, title in TITLES.items():
            rows[title] = [fit(_signed(crop, found.gray), side, GRAY) for crop in found.crops[channel][method]]
        for number, (title, pictures) in enumerate(rows.items()):
            alt = f"Channel {channel} of {found.layer}: {title}"
            tile = album.strip(f"deconvolution-{channel}-{number}", pictures, alt=alt)
            strips.append(Strip("" if number else f"channel {channel}", title, tile))
    zero = "red above zero, blue below" if found.gray else "gray is zero"
    return Section(
        "Deconvolution",
        (
            Text(
                "Deconvolution shows which part of the input excites a unit. Zeiler & Fergus (2014) run the network "
                "backwards from one activation: they unpool to the positions of the maxima, rectify, and apply the "
                "transposed filters. The gradient and guided backpropagation pass rectifiers in other ways, and unlike "
                "the deconvnet they also pass response normalization and gates. "
                f"{_of_image(found)}\n\n"
                "Deconvolution and guided backpropagation must be read with caution. Both partly recover the image "
                "instead of explaining the decision (Nie et al. 2018), and guided backpropagation changes little if "
                "the weights of later layers are replaced by random values (Adebayo et al. 2018)."
            ),
            Strips(
                tuple(strips),
                f"Receptive fields of channels of `{found.layer}` in their top inputs, and their deconvolutions: "
                f"{zero}.",
            ),
        ),
    )


def _side(found: Deconvolved) -> int:
    """Return the side of a picture: the largest receptive field, enlarged by a whole factor to about SHOWN pixels."""
    largest = max(max(top.crop.shape[:2]) for inputs in found.tops.values() for top in inputs)
    return largest * max(1, round(SHOWN / largest))


def _of_image(found: Deconvolved) -> str:
    """Say what ties the pictures to the image."""
    if found.network == POOLED:
        return f"The pictures are those of {found.network}, trained on the same images."
    if found.switches:
        return f"`{found.network}` has max-pools, whose maxima tie the picture to the image."
    return (
        f"`{found.network}` has no max-pool. So the deconvnet's pictures of a channel at one position differ in "
        "strength only, whatever the image; the other two methods see where the image was positive."
    )


def _signed(picture: np.ndarray, gray: bool) -> np.ndarray:
    """Show signed values around gray, or, for gray images, the sum of the channels: red above zero, blue below."""
    return diverging(picture.sum(axis=-1) if gray else picture)


# What a deconvnet cannot show ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alike:
    """The deconvnet's pictures of one unit in two images."""

    network: str
    layer: str
    images: np.ndarray  # [2,H,W,3]
    pictures: np.ndarray  # [2,H,W,3], signed
    switches: bool

    @property
    def correlation(self) -> float:
        """The cosine of the angle between the two pictures; 1 if they differ in strength only."""
        first, second = self.pictures.reshape(2, -1).astype(np.float64)
        return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-30))

    def to_dict(self) -> dict[str, object]:
        return {"network": self.network, "layer": self.layer, "cosine": self.correlation}


def of_two_images(network: Network, layer: str, images: np.ndarray) -> Alike:
    """Deconvolve the unit in the middle of a layer's map that is most active in both of two images [2,H,W,3]."""
    maps = network.activations(images, [layer])[layer].numpy()  # [2,h,w,C]
    middle = (maps.shape[1] // 2, maps.shape[2] // 2)
    channel = int(maps[:, middle[0], middle[1]].min(axis=0).argmax())
    found = deconvolve(network, images, layer, channel, middle)
    return Alike(network.name, layer, images, found.pictures, has_switches(network))


def limits(pairs: Sequence[Alike], album: Album) -> Section:
    """Return the section on what the deconvnet knows about the image, with its pictures in two networks."""
    galleries = []
    for number, pair in enumerate(pairs):
        tiles = []
        for place, (image, signed) in enumerate(zip(pair.images, pair.pictures, strict=True)):
            name = f"limit-{number}-{place}"
            tiles.append(album.tile(f"{name}-image", image, alt="An image", label="image"))
            tiles.append(album.tile(name, diverging(signed), alt="Its deconvolution", label="deconvnet"))
        pools = "with" if pair.switches else "without"
        galleries.append(
            Gallery(
                tuple(tiles),
                f"`{pair.network}`, {pools} max-pools: one unit of `{pair.layer}` in two images. The cosine between "
                f"the two pictures is {pair.correlation:.3f}.",
            )
        )
    return Section(
        "What a deconvnet cannot show",
        (
            Text(
                "The deconvnet rectifies what passes back, whatever the image was. So the maxima of the pools are all "
                "that it knows about the image. A residual network for CIFAR-10 has no max-pool: its pictures of one "
                "unit differ in strength only, and show the weights instead of the image."
            ),
            *galleries,
        ),
    )
