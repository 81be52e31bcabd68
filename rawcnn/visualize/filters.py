"""What a layer has learned, looked at directly: the first filters as small pictures, activations as maps.

The first is figure 3 of Krizhevsky et al. 2012. Filters further in read dozens of channels that have no colours; for
them there are `top_inputs` and feature visualisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rawcnn.nn.network import Network, check_images
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.visualize.pictures import grid, normalize


def filter_grid(network: Network, layer: str | None = None, *, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """The filters of a convolution that reads the image, as RGB tiles: float [rows·.., columns·.., 3] in [0,1].

    Without a `layer`, those of the first. Each filter is stretched to [0,1] by itself, so zero is another grey in each.
    It is shown as it weighs the pixels of the image, with the network's preprocessing multiplied in. ValueError for a
    layer that does not read the image.
    """
    layer = layer or first_layers(network)[0]
    operation, able = network.operation(layer), ", ".join(first_layers(network))
    if operation.kind != "conv" or operation.inputs != ("images",):
        raise ValueError(
            f"{layer} is a {operation.kind} layer that reads {operation.input_shapes[0][-1]} channels of "
            f"{operation.inputs[0]}; filters over RGB, which can be drawn, are those of {able}"
        )
    filters = network.variables[f"{layer}/filters"].numpy()  # [kh,kw,3,C]
    seen = np.einsum("rc,hwco->ohwr", _pixel_weights(network.preprocessing), filters)  # [C,kh,kw,3]
    return grid([normalize(f) for f in seen], columns, gap)


def first_layers(network: Network) -> list[str]:
    """Names of the convolutions that read the image."""
    return [o.name for o in network.operations if o.kind == "conv" and o.inputs == ("images",)]


def _pixel_weights(preprocessing: str) -> np.ndarray:
    """[3,3]: by how much RGB (rows) moves what the network reads (columns), preprocessing being affine."""
    function = PREPROCESSING[preprocessing]
    return (function(tf.eye(3)) - function(tf.zeros((3, 3)))).numpy()


def activation_grid(
    network: Network,
    image,
    layer: str,
    *,
    channels: Sequence[int] | None = None,
    columns: int | None = None,
    gap: int = 1,
) -> np.ndarray:
    """The maps of a layer for one image [H,W,3] in [0,1], a grey tile for each of `channels` (all).

    Each map is stretched to [0,1] by itself: black is its smallest value, white its largest; a constant map, such as
    that of a ReLU that never fires, is black. ValueError for a layer without maps or a channel that it has not.
    """
    maps = network.forward(check_images(np.asarray(image)[None])).activations
    network.operation(layer)  # or a ValueError that names similar ones
    values = tf.cast(maps[layer], tf.float32).numpy()[0]
    if values.ndim != 3:
        spatial = [name for name, value in maps.items() if value.shape.rank == 4]
        raise ValueError(f"{layer} gives {values.shape}, no maps; expected a layer such as {', '.join(spatial[-3:])}")
    chosen = check_channels(channels, layer, values.shape[-1])
    return grid([normalize(values[..., channel]) for channel in chosen], columns, gap, background=0.5)


def check_channels(channels: Sequence[int] | None, layer: str, count: int) -> list[int]:
    """The channels as a list, all of them for None. ValueError if there are none, or one is not a channel."""
    chosen = list(range(count)) if channels is None else [int(channel) for channel in channels]
    wrong = [channel for channel in chosen if not 0 <= channel < count]
    if wrong or not chosen:
        raise ValueError(f"channels are {wrong or 'none'}; {layer} has channels 0 to {count - 1}")
    return chosen
