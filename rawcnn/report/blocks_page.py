"""The building blocks of one image as a page: one HTML file that loads nothing and runs no script.

Every position of the semantic dictionary is a radio button, which mouse, keyboard and finger can choose. The channels
of the chosen position are shown next to the map. The file contains each icon once, as an SVG symbol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np

from rawcnn.report.blocks_sheet import effect_overlay, group_colors, group_overlay
from rawcnn.report.data_uri import data_uri
from rawcnn.report.html import render
from rawcnn.visualize.class_attribution import ranked_channels
from rawcnn.visualize.interpretability import BuildingBlocks

SIDE = 28  # positions along a side of the map that the page shows; of a larger map, the most active of each part


def blocks_page(blocks: BuildingBlocks, labels: Sequence[str] | None = None, title: str = "") -> str:
    """Render the page.

    Args:
        blocks: What was found in the image.
        labels: Names of all classes in order. By default classes are numbered.
        title: The page's title. By default it names the layer and the network.

    Returns:
        One HTML file.

    Raises:
        ValueError: A class that is shown has no label.
    """
    classes = blocks.attribution.classes.tolist()
    if labels is not None and len(labels) <= max(classes):
        raise ValueError(
            f"there are {len(labels)} labels, and class {max(classes)} is shown; expected one for each class"
        )
    names = [f"class {k}" if labels is None else str(labels[k]) for k in classes]
    filters = {"signed": signed, "percent": percent, "side": side, "uri": data_uri}
    return render(
        "blocks.html",
        styles=("blocks.css",),
        filters=filters | {"named": lambda values: list(zip(names, values, strict=True))},
        title=title or f"One image through {blocks.layer} of {blocks.network}",
        blocks=blocks,
        names=names,
        icons=set(blocks.channel_icons),
        cells=list(_cells(blocks)),
        shown=_parts(blocks.dictionary.map_shape),
        spatial=_spatial(blocks, names),
        ranks=list(zip(names, blocks.attribution.channels, ranked_channels(blocks.attribution), strict=True)),
        groups=_groups(blocks, names),
        together=group_overlay(blocks.image, blocks.groups.maps, group_colors(blocks.groups.count)),
    )


def signed(number: float) -> str:
    """Format a number with three digits and a sign. Zero has no sign."""
    return f"{number:+.3g}".replace("-", "−") if number else "0"


def side(effect: float) -> str:
    """Return the CSS class of an effect."""
    return "for" if effect > 0 else "against" if effect < 0 else "neither"


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%" if share >= 0.0005 else "<\u00a00.1\u00a0%"


def _parts(map_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the number of rows and columns that the page shows."""
    step = -(-max(map_shape) // SIDE)
    return -(-map_shape[0] // step), -(-map_shape[1] // step)


def _cells(blocks: BuildingBlocks) -> Iterator[dict]:
    """Yield what the page shows of each position, row by row."""
    dictionary, attribution = blocks.dictionary, blocks.attribution
    effects, spatial = attribution.effects, attribution.spatial
    strongest = dictionary.activations[..., 0]
    largest = max(float(strongest.max()), np.finfo(np.float32).tiny)
    chosen = np.unravel_index(strongest.argmax(), strongest.shape)
    step = -(-max(dictionary.map_shape) // SIDE)
    image_size, width = blocks.image.shape[:2], blocks.image.shape[1]
    for i, j in np.ndindex(_parts(dictionary.map_shape)):
        part = strongest[i * step : (i + 1) * step, j * step : (j + 1) * step]
        down, across = np.unravel_index(part.argmax(), part.shape)
        row, column = i * step + int(down), j * step + int(across)
        top, left, bottom, right = (int(edge) for edge in dictionary.boxes[row, column])
        yield {
            "row": row,
            "column": column,
            "chosen": (row, column) == tuple(chosen),
            "side": round(100 * sqrt(max(0.0, float(strongest[row, column])) / largest)),  # area ∝ activation
            "entries": [
                {"channel": int(c), "activation": float(a), "effects": effects[:, row, column, c].tolist()}
                for c, a in zip(dictionary.channels[row, column], dictionary.activations[row, column], strict=True)
            ],
            "effects": spatial[:, row, column].tolist(),
            "whole": (top, left, bottom, right) == (0, 0, *image_size),
            "box": [f"{edge / width:.4g}" for edge in (left, top, right - left, bottom - top)],  # of the image's width
        }


def _spatial(blocks: BuildingBlocks, names: Sequence[str]) -> list[dict]:
    attribution = blocks.attribution
    largest = float(np.abs(attribution.spatial).max())
    return [
        {"name": name, "picture": effect_overlay(blocks.image, effects, largest), "sum": float(effects.sum())}
        for name, effects in zip(names, attribution.spatial, strict=True)
    ]


def _groups(blocks: BuildingBlocks, names: Sequence[str]) -> list[dict]:
    """Return each group's color, its place in the image, and a bar for each class."""
    colors = group_colors(blocks.groups.count)
    largest = max(float(np.abs(blocks.group_effects).max()), np.finfo(np.float32).tiny)
    return [
        {
            "color": "#" + bytes(np.rint(255 * colors[g]).astype(np.uint8)).hex(),
            "picture": group_overlay(blocks.image, blocks.groups.maps[..., [g]], colors[[g]]),
            "bars": [
                {"name": name, "effect": float(effect), "length": f"{50 * abs(effect) / largest:.4g}"}
                for name, effect in zip(names, blocks.group_effects[:, g], strict=True)
            ],
            "channels": np.argsort(-direction, kind="stable")[:3].tolist(),
        }
        for g, direction in enumerate(blocks.groups.directions)
    ]
