"""The section on the inputs that activate channels most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Strip, Strips, Text
from rawcnn.visualize import TopInput, draw_box, enlarge, top_inputs
from rawcnn.visualize.pictures import scale_to

COUNT = 6  # inputs for each channel
CHANNELS = 4  # channels that are shown of each layer
SIDE = 96  # pixels: images are enlarged to about this, before a box is drawn around the receptive field


@dataclass(frozen=True)
class TopInputs:
    """The most activating training images: {layer: {channel: inputs, most activating first}}."""

    layers: Mapping[str, Mapping[int, list[TopInput]]]

    def shown(self, layer: str) -> dict[int, list[TopInput]]:
        """Return CHANNELS channels of a layer, evenly spaced among those that are active for some image."""
        active = [channel for channel, inputs in self.layers[layer].items() if inputs and inputs[0].activation > 0]
        places = np.linspace(0, len(active) - 1, min(CHANNELS, len(active)), dtype=int)
        return {active[i]: self.layers[layer][active[i]] for i in places}

    @property
    def gray(self) -> bool:
        """Whether all of these images are gray."""
        images = (t.image for channels in self.layers.values() for inputs in channels.values() for t in inputs)
        return not any(np.ptp(image, axis=-1).any() for image in images)

    def to_dict(self) -> dict[str, object]:
        return {
            layer: {
                str(channel): [{"image": t.index, "activation": t.activation, "position": t.position} for t in inputs]
                for channel, inputs in self.shown(layer).items()
            }
            for layer in self.layers
        }


def layers_of(network: Network) -> list[str]:
    """Return the names of a network's first, middle and last rectified maps."""
    maps = [o.name for o in network.operations if o.kind == "relu" and len(o.output_shape) == 4]
    return list(dict.fromkeys(maps[place] for place in (0, len(maps) // 2, -1)))


def find_top_inputs(network: Network, data: DataSet, layers: Sequence[str], progress: Progress) -> TopInputs:
    """Find the most activating training images of every channel of some layers."""
    found = {}
    for number, layer in enumerate(layers):
        found[layer] = top_inputs(network, data, layer, count=COUNT)
        progress(number + 1, len(layers))
    return TopInputs(found)


def section(tops: TopInputs, network: Network, data: DataSet, album: Album) -> Section:
    """Return the section on the training images that excite channels most, with the units' receptive fields."""
    labels = data.splits["train"].labels
    blocks = [_strips(tops, layer, network, data, labels, album) for layer in tops.layers]
    return Section(
        "Most activating inputs",
        (
            Text(
                "A simple way to find what a unit detects is to run all training images and to keep those that excite "
                "it most (Zeiler & Fergus 2014). A frame marks the unit's receptive field if it is smaller than the "
                "image. The method has a limit: it does not show which part of the framed pixels excites the unit."
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
    height, width = top.image.shape[:2]
    factor = scale_to(top.image, SIDE)
    large = enlarge(top.image, factor)
    if top.box == (0, 0, height, width):
        return large
    y0, x0, y1, x1 = (factor * edge for edge in top.box)
    return draw_box(large, (y0, x0, y1, x1), (0.95, 0.45, 0.15), 2)
