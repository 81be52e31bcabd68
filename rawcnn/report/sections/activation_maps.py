"""The section on the maps of one image by depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Strip, Strips, Text
from rawcnn.visualize import fit, normalize, picture

SHOWN = 6  # maps of a layer
SIDE = 112  # pixels: maps are scaled to this


@dataclass(frozen=True)
class Maps:
    """The maps of one image, one layer for each size of the map."""

    network: Network
    image: np.ndarray  # [H,W,3] in [0,1]
    layers: Mapping[str, np.ndarray]  # layer → maps [h,w,C]

    def strongest(self, layer: str, count: int = SHOWN) -> list[int]:
        """Return the channels with the largest values, the largest first."""
        return np.argsort(-self.layers[layer].max(axis=(0, 1)), kind="stable")[:count].tolist()

    def zeros(self, layer: str) -> float:
        """Return the share of values that are zero."""
        return float(np.mean(self.layers[layer] == 0))

    def to_dict(self) -> dict[str, object]:
        return {
            layer: {"shape": maps.shape, "channels": self.strongest(layer), "zeros": self.zeros(layer)}
            for layer, maps in self.layers.items()
        }


def layers_by_depth(network: Network) -> list[str]:
    """Return the last rectified map of each size, from the image on."""
    by_size = {o.output_shape[1:3]: o.name for o in network.operations if o.kind == "relu" and len(o.output_shape) == 4}
    return list(by_size.values())


def find_maps(network: Network, image: np.ndarray) -> Maps:
    """Run the network on an image [H,W,3] in [0,1]."""
    layers = layers_by_depth(network)
    found = network.activations(image[None], layers)
    return Maps(network, image, {layer: found[layer][0].numpy() for layer in layers})


def overview(maps: Maps, name: str, album: Album) -> Strips:
    """Return a strip of the image and the strongest map of each layer."""
    pictures = [fit(maps.image, SIDE)]
    pictures += [_drawn(maps, layer, maps.strongest(layer, 1)[0]) for layer in maps.layers]
    tile = album.strip("overview", pictures, alt=f"A photograph of a {name}, and one map of each depth")
    layers = ", ".join(f"`{layer}`" for layer in maps.layers)
    return Strips((Strip("", "", tile),), f"A photograph, and the strongest map of {layers}.")


def section(maps: Maps, album: Album) -> Section:
    """Return the section with a strip of maps for each layer."""
    strips = []
    for layer in maps.layers:
        operation, channels = maps.network.operation(layer), maps.strongest(layer)
        height, width, depth = operation.output_shape[1:]
        field = operation.receptive_field.size
        sees = f"a value sees {field}×{field} pixels" if field else "a value sees the whole image"
        tile = album.strip(
            f"maps-{layer.replace('/', '-')}",
            [_drawn(maps, layer, channel) for channel in channels],
            alt=f"The maps of channels {', '.join(map(str, channels))} of {layer}",
        )
        strips.append(
            Strip(layer, f"{height}×{width}×{depth}, {sees}, {maps.zeros(layer):.0%} of the values are zero", tile)
        )
    image, *shapes = ("×".join(map(str, shape)) for shape in (maps.image.shape[:2], *_shapes(maps)))
    return Section(
        "Activation maps by depth",
        (
            Text(
                f"The network reads {image} pixels. Each convolution computes one map for each of its filters, and the "
                "ReLU sets negative values to zero. With depth, a map has fewer values, and each depends on more "
                f"pixels. Here {shapes[0]} values become {shapes[-1]}."
            ),
            Strips(
                tuple(strips),
                f"The {SHOWN} channels with the largest values, of the last ReLU at each size. In each map the "
                "largest value is white. The brightness is the root of the value.",
            ),
        ),
    )


def _shapes(maps: Maps) -> list[tuple[int, ...]]:
    return [values.shape for values in maps.layers.values()]


def _drawn(maps: Maps, layer: str, channel: int) -> np.ndarray:
    """Draw a rectified map: zero is black, the largest value white, [SIDE,SIDE,3]. The root shows small values, too."""
    gray = normalize(np.sqrt(maps.layers[layer][..., channel]))
    if len(gray) >= SIDE:
        return fit(gray, SIDE)
    nearest = np.arange(SIDE) * len(gray) // SIDE
    return picture(gray[nearest][:, nearest])
