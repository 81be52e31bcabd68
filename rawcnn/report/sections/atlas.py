"""The section on the activation atlas of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Figure, Section, Text
from rawcnn.report.sections.optimization import Effort
from rawcnn.visualize import activation_atlas, enlarge, fit
from rawcnn.visualize.atlas import Atlas, Level
from rawcnn.visualize.regularization import ROBUST

ICON = 32  # pixels on a side of a cell, at least
GAP = 4  # pixels between cells
SHEET = 640  # pixels: the atlas is enlarged to about this, by a whole factor


def find_atlas(
    network: Network, data: DataSet, layer: str, cells: int, minimum: int, effort: Effort, *, gray: bool, seed: int
) -> Atlas | None:
    """Compute an atlas of `cells`×`cells` cells with at least `minimum` images; None if too few excite the layer."""
    regularization = replace(ROBUST, grey=gray)
    try:
        return activation_atlas(
            network, data, layer, grids=(cells,), minimum=minimum, size=effort.size, steps=effort.steps,
            regularization=regularization, seed=seed,
        )  # fmt: skip
    except ValueError:
        return None


def count_cells(atlas: Atlas | None) -> int:
    """Count the cells of all levels."""
    return sum(len(level.cells) for level in atlas.levels) if atlas else 0


def section(atlas: Atlas | None, labels: Sequence[str], album: Album) -> Section:
    """Return the section. `labels` names the classes; it is empty for a network without a classifier."""
    title = "A small activation atlas"
    lead = Text(
        "An activation atlas (Carter et al. 2019) takes one activation vector of every image and places similar "
        "vectors near each other. It divides the plane into cells, and shows for each cell the image that excites the "
        "mean of its vectors most. `rawcnn visualize atlas` makes a page that can be zoomed."
    )
    if atlas is None:
        return Section(title, (lead, Text("Too few of these images excite the layer for an atlas.")))
    level = atlas.levels[-1]
    file = album.picture("atlas", _sheet(level))
    caption = (
        f"{len(level.cells)} cells of `{atlas.layer}` over {level.counts.sum():,} images, "
        f"{level.counts.min()} to {level.counts.max()} in each."
    )
    if labels:
        found = ", ".join(dict.fromkeys(labels[number] for number in level.classes))
        caption += f" The classes whose logits they raise most are {found}."
    return Section(title, (lead, Figure(file, "Icons of cells, similar ones near each other", caption)))


def _sheet(level: Level) -> np.ndarray:
    """Draw the icons in their cells, RGBA [H,W,4]. Empty cells and gaps are transparent."""
    side = max(ICON, *level.icons.shape[1:3])
    times = max(1, round(SHEET / (level.grid * side)))
    cell = times * side + GAP
    sheet = np.zeros((level.grid * cell - GAP, level.grid * cell - GAP, 4), np.float32)
    for (column, row), icon in zip(level.cells, level.icons, strict=True):
        place = sheet[row * cell :, column * cell :][: times * side, : times * side]
        place[..., :3], place[..., 3] = enlarge(fit(icon, side), times), 1
    return sheet
