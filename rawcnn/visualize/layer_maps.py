"""The activations of a layer as maps: their shape, their channels, and the pixels that each position sees."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from rawcnn.nn.arguments import indices, size_text
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Operation, find_operation, symbolic_trace

Box = tuple[int, int, int, int]  # (top, left, bottom, right) in pixels of the image


def as_map(activations: tf.Tensor) -> tf.Tensor:
    """Activations [B,h,w,C] as float32; a vector [B,C] as a map of one position, [B,1,1,C]."""
    activations = tf.cast(activations, tf.float32)
    return activations if len(activations.shape) == 4 else activations[:, None, None]


def check_channels(channels: int | Sequence[int] | None, layer: str, count: int) -> list[int]:
    """Return the channels as a list, by default all.

    Args:
        channels: One or several channels of the layer; None for all of them.
        layer: The layer's name, for the error message.
        count: How many channels the layer has.

    Raises:
        ValueError: If there are no channels, or if the layer does not have one of them.
    """
    return list(range(count)) if channels is None else indices("channels", channels, count, layer)


def check_classes(classes: int | Sequence[int], network: Network) -> list[int]:
    """Return one class or several as a list. Raises ValueError if there is none, or if the network lacks one."""
    network.check_classifier()
    return indices("classes", classes, network.classes, network.name)


def operation_at_size(network: Network, layer: str, size: tuple[int, int]) -> Operation:
    """Return a layer's operation for images of another size, with its output shape and its receptive field.

    The receptive field depends on the image size, because "SAME" padding does. The layers after this one are not
    traced, so they need not accept the size.

    Args:
        network: The network.
        layer: The name of the layer.
        size: (height, width) of the images.

    Returns:
        The operation; its output shape is [1,h,w,C] or [1,C].

    Raises:
        ValueError: For an unknown layer, for images that are too small for it, and for layers behind fully connected
            ones, which fix the size.
    """
    operation = network.operation(layer)
    if size == network.image_size:
        return operation
    trace = symbolic_trace(network.model, (1, *size, 3), layers=[layer])
    changed = [path for path, needed in trace.parameters.items() if needed.shape != network.parameters[path].shape]
    if changed:
        first = changed[0].rsplit("/", 1)[0]
        raise ValueError(
            f"{layer} needs images of {size_text(network.image_size)}, not {size_text(size)}, because the fully "
            f"connected layer {first} fixes the size; give images of that size, or name a layer before {first}"
        )
    return find_operation(trace.operations, layer)
