"""Which pixels of an image the positions of a layer see, in images of any size."""

from __future__ import annotations

from rawcnn.nn.network import Network
from rawcnn.nn.receptive_field import ReceptiveField
from rawcnn.nn.trace import find_operation, symbolic_trace


def seen_at(network: Network, layer: str, size: tuple[int, int]) -> tuple[tuple[int, ...], ReceptiveField]:
    """Output shape [1,h,w,C] or [1,C], and receptive field, of a layer over images of `size` (height, width).

    The field depends on the size, as "SAME" padding does. The layers after need not fit the images. ValueError for an
    unknown layer, and for images too small for it.
    """
    operation = network.operation(layer)
    if size != (network.input_size, network.input_size):
        operation = find_operation(symbolic_trace(network.model, (1, *size, 3), layers=[layer]).operations, layer)
    return operation.output_shape, operation.receptive_field
