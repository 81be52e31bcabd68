"""The filters of the first layer as small color pictures, and the activations of a layer as gray maps.

Krizhevsky et al. 2012, figure 3. The filters of later layers read many channels that have no color; `top_inputs` and
`optimize` show what those detect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.visualize.input_images import one_image
from rawcnn.visualize.layer_maps import check_channels
from rawcnn.visualize.pictures import grid, normalize


def filter_grid(network: Network, layer: str | None = None, *, columns: int | None = None, gap: int = 1) -> np.ndarray:
    """Draw the filters of a convolution that reads the image, as RGB tiles.

    Each filter is stretched to [0,1] separately, so zero is a different gray in each. The weights are those of the
    image's pixels: the network's preprocessing is multiplied in.

    Args:
        network: The network.
        layer: A convolution that reads the image; by default the first.
        columns: Tiles per row; by default as many as there are rows, or a few more.
        gap: Pixels between and around the tiles.

    Returns:
        A picture [H,W,3] in [0,1].

    Raises:
        ValueError: For a layer that does not read the image.

    Source:
        Krizhevsky et al. 2012, figure 3.
    """
    layer = image_convolution(network, layer)
    filters = over_rgb(network.preprocessing, network.variables[f"{layer}/filters"].numpy())
    return grid([normalize(one) for one in filters], columns, gap)


def image_convolution(network: Network, layer: str | None = None) -> str:
    """Return the name of a convolution that reads the image, by default of the first.

    Args:
        network: The network.
        layer: Its name, or None.

    Raises:
        ValueError: The layer does not read the image.
    """
    layer = layer or first_layers(network)[0]
    operation = network.operation(layer)
    if operation.kind != "conv" or operation.inputs != ("images",):
        raise ValueError(
            f"{layer} is a {operation.kind} layer that reads {operation.input_shapes[0][-1]} channels of "
            f"{operation.inputs[0]}; filters over RGB, which can be drawn, are those of "
            f"{', '.join(first_layers(network))}"
        )
    return layer


def over_rgb(preprocessing: str, filters: np.ndarray) -> np.ndarray:
    """Return the weights of the image's RGB values: the preprocessing is multiplied into the filters.

    Args:
        preprocessing: The network's first step.
        filters: The filters of a layer that reads the image, [kh,kw,3,C].

    Returns:
        One picture for each filter, [C,kh,kw,3].
    """
    return np.einsum("rc,hwco->ohwr", _pixel_weights(preprocessing), filters)


def first_layers(network: Network) -> list[str]:
    """List the convolutions that read the image.

    Args:
        network: The network.

    Returns:
        Their names.
    """
    return [o.name for o in network.operations if o.kind == "conv" and o.inputs == ("images",)]


def _pixel_weights(preprocessing: str) -> np.ndarray:
    """[3,3]: the derivative of what the network reads (columns) by RGB (rows); preprocessing is affine."""
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
    """Draw the maps of a layer for one image, one gray tile per channel.

    Each map is stretched to [0,1] separately: its smallest value is black, its largest white. A constant map, such as
    that of a ReLU that is nowhere active, is black.

    Args:
        network: The network.
        image: [H,W,3] in [0,1].
        layer: The name of the layer.
        channels: The channels to draw; by default all.
        columns: Tiles per row; by default as many as there are rows, or a few more.
        gap: Pixels between and around the tiles.

    Returns:
        A picture [H,W,3] in [0,1].

    Raises:
        ValueError: For an unknown layer or channel, a layer without maps, and anything but one finite image in [0,1].
    """
    values = tf.cast(network.activations(one_image(image), [layer])[layer], tf.float32).numpy()[0]  # [h,w,C]
    if values.ndim != 3:
        spatial = [o.name for o in network.operations if len(o.output_shape) == 4]
        raise ValueError(f"{layer} gives {values.shape}, no maps; expected a layer such as {', '.join(spatial[-3:])}")
    chosen = check_channels(channels, layer, values.shape[-1])
    return grid([normalize(values[..., channel]) for channel in chosen], columns, gap, background=0.5)
