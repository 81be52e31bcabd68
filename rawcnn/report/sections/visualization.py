"""The sections on features: the first filters, their maps, and the inputs that activate channels most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.report.album import Album
from rawcnn.report.page import Gallery, Section, Strip, Strips, Text
from rawcnn.visualize import TopInput, activation_grid, diverging, draw_box, enlarge, filter_grid, top_inputs

COUNT = 8  # inputs for each channel
CHANNELS = 4  # channels that are shown of each layer
ENLARGED = 12  # factor of enlargement, before a box is drawn around the receptive field


@dataclass(frozen=True)
class TopInputs:
    """The most activating training images: {layer: {channel: inputs, most activating first}}."""

    layers: Mapping[str, Mapping[int, list[TopInput]]]

    def shown(self, layer: str) -> dict[int, list[TopInput]]:
        """Return CHANNELS channels of a layer, evenly spaced among those that are active for some image."""
        active = [channel for channel, inputs in self.layers[layer].items() if inputs and inputs[0].activation > 0]
        places = np.linspace(0, len(active) - 1, min(CHANNELS, len(active)), dtype=int)
        return {active[i]: self.layers[layer][active[i]] for i in places}

    def to_dict(self) -> dict[str, object]:
        return {
            layer: {
                str(channel): [{"image": t.index, "activation": t.activation, "position": t.position} for t in inputs]
                for channel, inputs in channels.items()
            }
            for layer, channels in self.layers.items()
        }


def layers_of(network: Network) -> list[str]:
    """Return the names of a network's first, middle and last rectified maps."""
    maps = [o.name for o in network.operations if o.kind == "relu" and len(o.output_shape) == 4]
    return list(dict.fromkeys(maps[place] for place in (0, len(maps) // 2, -1)))


def find_top_inputs(network: Network, data: DataSet, progress: Progress) -> TopInputs:
    """Find the most activating training images of every channel of three layers."""
    layers, found = layers_of(network), {}
    for number, layer in enumerate(layers):
        found[layer] = top_inputs(network, data, layer, count=COUNT)
        progress(number + 1, len(layers))
    return TopInputs(found)


def first_filters(network: Network, data: DataSet, album: Album) -> Section:
    """Return the section on the filters of the first layer, and on their maps of one digit."""
    images, labels = data.arrays("test")
    number = int(np.flatnonzero(labels == len(data.labels) // 2)[0])
    name = data.labels[labels[number]]
    filters = np.split(filter_grid(network, columns=1, gap=0), network.operation("conv1").output_shape[-1])
    maps = np.split(activation_grid(network, images[number], "conv1/bn/relu", columns=1, gap=0), len(filters))
    filter_tiles = [
        album.tile(f"filter-{i}", filter, alt=f"Filter {i} of conv1", label=str(i)) for i, filter in enumerate(filters)
    ]
    gain = PREPROCESSING[network.preprocessing](
        np.array([[0] * 3, [1] * 3], np.float32)
    ).numpy()  # of black and of white
    gray = np.einsum("hwco,c->hwo", network.variables["conv1/filters"].numpy(), gain[1] - gain[0])  # [kh,kw,C]
    gray_tiles = [
        album.tile(f"filter-{i}-grey", diverging(gray[..., i]), alt=f"Filter {i} of conv1 on gray", label=str(i))
        for i in range(len(filters))
    ]
    map_tiles = [album.tile("seen", images[number], alt=f"A handwritten {name}", label="image")] + [
        album.tile(f"map-{i}", map, alt=f"The map of filter {i}", label=str(i)) for i, map in enumerate(maps)
    ]
    side = filters[0].shape[0]
    return Section(
        "The first filters",
        (
            Text(
                f"The {len(filters)} filters of `conv1` have {side}×{side} RGB pixels, so they can be shown as "
                "pictures, as in figure 3 of AlexNet's paper. Each filter is stretched to the full range."
            ),
            Gallery(
                tuple(filter_tiles),
                "The filters' weights of red, green and blue.",
            ),
            Gallery(
                tuple(gray_tiles),
                "The filters' weights of gray: red is positive, blue negative. All training images are gray, so the "
                "network uses only these weights. The tints above remain from the random initial values.",
            ),
            Gallery(
                tuple(map_tiles),
                f"A test image, a {name}, and its maps after the ReLU. In each map the smallest value is black, the "
                "largest white.",
            ),
        ),
    )


def most_activating(tops: TopInputs, network: Network, data: DataSet, album: Album) -> Section:
    """Return the section on the training images that excite channels most, with the units' receptive fields."""
    labels = data.splits["train"].labels
    blocks = [_strips(tops, layer, network, data, labels, album) for layer in tops.layers]
    return Section(
        "Most activating inputs",
        (
            Text(
                "A simple way to find what a unit detects is to run all training images and to keep those that excite "
                "it most (Zeiler & Fergus 2014). A frame marks the unit's receptive field if it is smaller than the "
                "image. Early channels respond to simple structures at any position, the last channels to complete "
                "objects. The method has a limit: it does not show which part of an image excites the unit."
            ),
            *blocks,
        ),
    )


def _strips(tops: TopInputs, layer: str, network: Network, data: DataSet, labels: np.ndarray, album: Album) -> Strips:
    """Return a strip of top inputs for each channel that is shown."""
    field = network.operation(layer).receptive_field.size
    strips = []
    for channel, inputs in tops.shown(layer).items():
        names = [data.labels[labels[t.index]] for t in inputs]
        (common, times), *_ = Counter(names).most_common(1)
        tile = album.strip(
            f"top-{layer.replace('/', '-')}-{channel}",
            [_framed(t) for t in inputs],
            alt=f"The {len(inputs)} images that activate channel {channel} of {layer} most: {', '.join(names)}",
        )
        strips.append(Strip(f"channel {channel}", f"{times} of {len(inputs)} are of class {common}", tile))
    view = "A unit sees the whole image."
    if field is not None:
        whole = ", the whole image and its padding" if field >= max(data.size) else ""
        view = f"A unit sees {field}×{field} pixels{whole}."
    return Strips(tuple(strips), f"`{layer}`, the most activating input on the left. {view}")


def _framed(top: TopInput) -> np.ndarray:
    """Enlarge the image, and draw a frame around the receptive field if it is smaller than the image."""
    large = enlarge(top.image, ENLARGED)
    height, width = top.image.shape[:2]
    if top.box == (0, 0, height, width):
        return large
    y0, x0, y1, x1 = (ENLARGED * edge for edge in top.box)
    return draw_box(large, (y0, x0, y1, x1), (0.95, 0.45, 0.15), 2)
