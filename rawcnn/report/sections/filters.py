"""The section on the filters of the first layer and their maps of one image."""

from __future__ import annotations

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Block, Gallery, Section, Text
from rawcnn.visualize import diverging, filter_grid, first_layers
from rawcnn.visualize.filters import over_rgb

MOST = 32  # filters that are shown, evenly spaced


def section(network: Network, album: Album, *, gray: bool) -> Section:
    """Return the section.

    Args:
        network: The network.
        album: The page's pictures.
        gray: The network was trained on gray images only, so that the filters' weights of gray are shown, too.
    """
    layer = first_layers(network)[0]
    count = network.operation(layer).output_shape[-1]
    chosen = np.linspace(0, count - 1, min(count, MOST), dtype=int)
    pictures = np.split(filter_grid(network, layer, columns=1, gap=0), count)
    tiles = tuple(album.tile(f"filter-{i}", pictures[i], alt=f"Filter {i} of {layer}", label=str(i)) for i in chosen)
    rows, columns = pictures[0].shape[:2]
    blocks: list[Block] = [
        Text(
            f"The {count} filters of `{layer}` have {rows}×{columns} RGB pixels, so they can be shown as pictures, as "
            "in figure 3 of AlexNet's paper. Each filter is stretched to the full range."
        ),
        Gallery(tiles, f"Weights of red, green and blue of {len(chosen)} filters."),
    ]
    if gray:
        blocks.append(_weights_of_gray(network, layer, chosen, album))
    return Section("The first filters", tuple(blocks))


def _weights_of_gray(network: Network, layer: str, chosen: np.ndarray, album: Album) -> Gallery:
    """Return the filters' weights of gray pixels: the sum of those of red, green and blue."""
    weights = over_rgb(network.preprocessing, network.variables[f"{layer}/filters"].numpy()).sum(axis=-1)  # [C,kh,kw]
    tiles = [
        album.tile(f"filter-{i}-gray", diverging(weights[i]), alt=f"Filter {i} of {layer} on gray", label=str(i))
        for i in chosen
    ]
    return Gallery(
        tuple(tiles),
        "The filters' weights of gray: red is positive, blue negative. All training images are gray, so the network "
        "uses only these weights. The tints above remain from the random initial values.",
    )
