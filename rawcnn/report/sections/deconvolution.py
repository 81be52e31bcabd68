"""The sections on deconvolution: parts of the top inputs that excite a channel, and what a deconvnet cannot show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Strip, Strips, Text
from rawcnn.report.pooled import NAME as POOLED
from rawcnn.report.pooled import has_switches
from rawcnn.visualize import TopInput, deconvolve, diverging, enlarge
from rawcnn.visualize.deconvolution import METHODS
from rawcnn.visualize.layer_maps import Box, operation_at_size
from rawcnn.visualize.pictures import scale_to

SHOWN = 96  # pixels: small images are enlarged to about this
TITLES = {"deconvnet": "deconvnet", "guided": "guided backpropagation", "gradient": "gradient"}
BRIGHT = 0.997  # share of a picture's values that its color scale covers; a few large values would hide the others


@dataclass(frozen=True)
class Group:
    """Images, and the deconvolution of one unit in each by every method."""

    title: str
    images: np.ndarray  # [N,H,W,3]
    pictures: Mapping[str, np.ndarray]  # method → signed [N,H,W,3]


@dataclass(frozen=True)
class Deconvolved:
    """The deconvolutions of a network's units."""

    network: str
    groups: Sequence[Group]
    switches: bool  # whether the network has a max-pool
    gray: bool  # whether all images are gray

    def to_dict(self) -> dict[str, object]:
        return {"network": self.network, "groups": [group.title for group in self.groups]}


def deconvolve_tops(network: Network, layer: str, tops: Mapping[int, list[TopInput]], *, gray: bool) -> Deconvolved:
    """Deconvolve channels of a layer in their top inputs."""
    groups = []
    for channel, inputs in tops.items():
        images, positions = np.stack([top.image for top in inputs]), [top.position for top in inputs]
        pictures = {m: deconvolve(network, images, layer, channel, positions, method=m).pictures for m in METHODS}
        groups.append(Group(f"channel {channel} of {layer}", images, pictures))
    return Deconvolved(network.name, groups, has_switches(network), gray)


def deconvolve_strongest(network: Network, layer: str, images: np.ndarray) -> Group:
    """Deconvolve the unit of a layer that is most active in each of the images [N,H,W,3]."""
    maps = network.activations(images, [layer])[layer].numpy()  # [N,h,w,C]
    channels = maps.max(axis=(1, 2)).argmax(axis=1).tolist()
    pictures = {m: deconvolve(network, images, layer, channels, method=m).pictures for m in METHODS}
    return Group(f"the most active units of {layer}, channels {', '.join(map(str, channels))}", images, pictures)


def deconvolve_parts(network: Network, layer: str, images: np.ndarray) -> Group:
    """Deconvolve the most active unit of each image [N,H,W,3] whose receptive field lies in the image, as crops.

    Units at the edges also see padding, which often excites them more than any part of the image.
    """
    operation = operation_at_size(network, layer, images.shape[1:3])
    _, height, width, _ = operation.output_shape
    boxes = {place: operation.receptive_field.box(place, images.shape[1:3]) for place in np.ndindex(height, width)}
    largest = max(bottom - top for top, _, bottom, _ in boxes.values())
    inner = [p for p, (top, left, bottom, right) in boxes.items() if bottom - top == right - left == largest]
    maps = network.activations(images, [layer])[layer].numpy()  # [N,h,w,C]
    values = np.stack([maps[:, row, column] for row, column in inner], axis=1)  # [N,P,C]
    places, channels = np.divmod(values.reshape(len(images), -1).argmax(axis=1), values.shape[-1])
    chosen, positions = channels.tolist(), [inner[place] for place in places]
    parts = [image[top:bottom, left:right] for image, (top, left, bottom, right) in _boxed(images, boxes, positions)]
    pictures = {m: deconvolve(network, images, layer, chosen, positions, method=m).crops for m in METHODS}
    title = f"parts that excite {layer}, channels {', '.join(map(str, chosen))}"
    return Group(title, np.stack(parts), {method: np.stack(crops) for method, crops in pictures.items()})


def _boxed(images: np.ndarray, boxes: Mapping, positions: Sequence) -> Iterator[tuple[np.ndarray, Box]]:
    """Yield each image with the receptive field of its position."""
    return zip(images, (boxes[position] for position in positions), strict=True)


def section(found: Deconvolved, album: Album) -> Section:
    """Return the section with images, and one row below them for each method."""
    strips = []
    for number, group in enumerate(found.groups):
        rows = {"images": [_large(image) for image in group.images]}
        for method, title in TITLES.items():
            rows[title] = [_large(_signed(picture, found.gray)) for picture in group.pictures[method]]
        for name, pictures in rows.items():
            alt = f"{group.title}: {name}"
            tile = album.strip(f"deconvolution-{number}-{name.split()[0]}", pictures, alt=alt)
            strips.append(Strip(group.title if name == "images" else "", "" if name == "images" else name, tile))
    zero = "red above zero, blue below" if found.gray else "gray is zero"
    return Section(
        "Deconvolution",
        (
            Text(
                "Deconvolution shows which part of the input excites a unit. Zeiler & Fergus (2014) run the network "
                "backwards from one activation: they unpool to the positions of the maxima, rectify, and apply the "
                "transposed filters. The gradient and guided backpropagation pass rectifiers in other ways, and unlike "
                f"the deconvnet they also pass response normalization and gates. {_of_image(found)}\n\n"
                "Deconvolution and guided backpropagation must be read with caution. Both partly recover the image "
                "instead of explaining the decision (Nie et al. 2018), and guided backpropagation changes little if "
                "the weights of later layers are replaced by random values (Adebayo et al. 2018)."
            ),
            Strips(
                tuple(strips),
                f"Images that excite units, and the units' deconvolutions: {zero}. The color scale ends at the largest "
                f"values but {1 - BRIGHT:.1%}.",
            ),
        ),
    )


def _of_image(found: Deconvolved) -> str:
    """Say what ties the pictures to the image."""
    if found.network == POOLED:
        return f"The pictures are those of {found.network}, trained on the same images."
    if found.switches:
        return (
            f"`{found.network}` has max-pools, whose maxima tie the picture to the image. They also leave a grid in "
            "the deconvnet's pictures, because one pixel of each window receives everything."
        )
    return (
        f"`{found.network}` has no max-pool. So the deconvnet's pictures of a channel at one position differ in "
        "strength only, whatever the image; the other two methods see where the image was positive."
    )


def _signed(picture: np.ndarray, gray: bool) -> np.ndarray:
    """Show signed values around gray, or, for gray images, the sum of the channels: red above zero, blue below."""
    values = picture.sum(axis=-1) if gray else picture
    limit = float(np.quantile(np.abs(values), BRIGHT))
    return diverging(values, 1 / limit if limit > 0 else None)


def _large(picture: np.ndarray) -> np.ndarray:
    return enlarge(picture, scale_to(picture, SHOWN))


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
    blocks = []
    for number, pair in enumerate(pairs):
        pictures = []
        for image, signed in zip(pair.images, pair.pictures, strict=True):
            pictures += [_large(image), _large(_signed(signed, gray=False))]
        tile = album.strip(f"limit-{number}", pictures, alt=f"Two images and their deconvolutions by {pair.network}")
        pools = "with" if pair.switches else "without"
        strip = Strip(f"{pair.network}, {pools} max-pools", f"one unit of {pair.layer} in two images", tile)
        cosine = f"Each image, and what the deconvnet shows of it. The cosine of the two is {pair.correlation:.3f}."
        blocks.append(Strips((strip,), cosine))
    return Section(
        "What a deconvnet cannot show",
        (
            Text(
                "The deconvnet rectifies what passes back, whatever the image was. So the maxima of the pools are all "
                "that it knows about the image. A residual network for CIFAR-10 has no max-pool: its pictures of one "
                "unit differ in strength only, and show the weights instead of the image."
            ),
            *blocks,
        ),
    )
