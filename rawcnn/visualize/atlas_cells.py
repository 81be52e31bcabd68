"""The cells of an activation atlas: which points they hold, their mean activation, their whitened direction and class.

Carter et al., "Activation Atlas", Distill 2019. Below, N is the number of points and M the number of shown cells of a
grid. `cell_of` [N] is the cell of each point, −1 for points outside the shown cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from rawcnn.visualize.atlas_sample import AtlasSample
from rawcnn.visualize.projection import MINIMUM

FILLED = 1 / 4  # share of the coarsest grid's cells that the images must be able to fill
HELD = 1 / 2  # share of the images that must lie in shown cells
RIDGE = 1e-2  # share of the mean square activation that is added to E[aaᵀ]
CHUNK = 4096  # activations whose products are summed at a time


@dataclass(frozen=True)
class Grid:
    """The cells of one grid that hold enough points, row by row."""

    side: int  # cells along each side
    cells: np.ndarray = field(repr=False)  # int32 [M,2] (column, row), from the top left
    cell_of: np.ndarray = field(repr=False)  # int64 [N]

    @property
    def counts(self) -> np.ndarray:
        """int64 [M]: points in each cell."""
        return np.bincount(self.cell_of[self.cell_of >= 0])


def grid_cells(points: np.ndarray, side: int, minimum: int) -> Grid:
    """The cells of a grid that hold `minimum` points [N,2] or more."""
    column, row = np.minimum((points * side).astype(np.int64), side - 1).T
    occupied, inverse, counts = np.unique(row * side + column, return_inverse=True, return_counts=True)
    shown = counts >= minimum
    cell_index = np.where(shown, np.cumsum(shown) - 1, -1)  # of each occupied cell
    cells = np.stack([occupied[shown] % side, occupied[shown] // side], axis=1)
    return Grid(side, cells.astype(np.int32), cell_index[inverse])


# What a cell shows -----------------------------------------------------------------------------------------------


def mean_activations(activations: np.ndarray, cell_of: np.ndarray) -> np.ndarray:
    """The mean v of the activations [N,C] in each cell: float32 [M,C]."""
    inside = cell_of >= 0
    sums = np.zeros((cell_of.max() + 1, activations.shape[1]))
    np.add.at(sums, cell_of[inside], activations[inside])
    return (sums / np.bincount(cell_of[inside])[:, None]).astype(np.float32)


def whitening(activations: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """W = inv(E[aaᵀ] + ridge·mean(a²)·1) of activations [N,C]: float64 [C,C]. It is not centered, as in the article."""
    channels = activations.shape[1]
    moment = np.zeros((channels, channels))
    for first in range(0, len(activations), CHUNK):
        part = activations[first : first + CHUNK].astype(np.float64)
        moment += part.T @ part
    moment /= len(activations)  # E[aaᵀ]
    return np.linalg.inv(moment + ridge * np.trace(moment) / channels * np.eye(channels))


def whitened_directions(means: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """W·v of each mean [M,C], normalized to length one so that objectives compare: float32 [M,C]."""
    turned = means @ transform.T
    return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


def cell_classes(sample: AtlasSample, cell_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the class that the images of each cell raise most.

    Args:
        sample: The effects of each image on its K most likely classes.
        cell_of: The cell of each image, [N].

    Returns:
        The class [M] whose effects sum to the most in the cell; the mean of this sum over the cell's images [M]; and
        the share of its images [M] that have their largest effect on this class. Three empty arrays if K is 0.
    """
    if sample.classes.shape[1] == 0:
        return np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32)
    inside = cell_of >= 0
    cell, classes, effects = cell_of[inside], sample.classes[inside], sample.effects[inside]  # [N'], [N',K], [N',K]
    names, column = np.unique(classes, return_inverse=True)  # all classes that occur
    place = cell[:, None], column.reshape(classes.shape)  # row and column in tables [M,len(names)]
    sums, occurs = np.zeros((cell.max() + 1, len(names))), np.zeros((cell.max() + 1, len(names)), bool)
    np.add.at(sums, place, effects)
    occurs[place] = True
    best = np.where(occurs, sums, -np.inf).argmax(axis=1)  # [M], column of the class with the largest sum
    strongest = np.take_along_axis(classes, effects.argmax(axis=1)[:, None], axis=1)[:, 0]  # [N'], of each image
    counts = np.bincount(cell)
    shares = np.bincount(cell, strongest == names[best][cell]) / counts
    attributions = sums[np.arange(len(best)), best] / counts
    return names[best].astype(np.int32), attributions.astype(np.float32), shares.astype(np.float32)


# Which grids -----------------------------------------------------------------------------------------------------


def choose_grids(points: np.ndarray, sides: Sequence[int], minimum: int) -> list[Grid]:
    """The grids that show half of the points [N,2] or more, and more cells than the grid before; coarsest first.

    Raises:
        ValueError: If the coarsest grid shows less than half of the points.
    """
    needed = images_needed(points, sides[0], minimum)
    if needed > len(points):
        coarser = next((g for g in range(sides[0] - 1, 1, -1) if images_needed(points, g, minimum) <= len(points)), 0)
        raise ValueError(
            f"of {len(points)} images fewer than half lie in cells of a {sides[0]}×{sides[0]} grid with {minimum} or "
            f"more; distributed as they are, it needs about {needed}: add images" + _or_coarser(coarser)
        )
    grids: list[Grid] = []
    for side in sides:
        grid = grid_cells(points, side, minimum)
        more = not grids or len(grid.cells) > len(grids[-1].cells)
        if more and images_needed(points, side, minimum) <= len(points):
            grids.append(grid)
    return grids


def images_needed(points: np.ndarray, side: int, minimum: int) -> int:
    """How many images, distributed as these points, put half of them into cells with `minimum` or more."""
    grid = grid_cells(points, side, 1)
    counts = np.sort(np.bincount(grid.cell_of, minlength=len(grid.cells)))[::-1]
    last = counts[np.searchsorted(np.cumsum(counts), HELD * len(points))]  # of the fullest cells that hold half
    return ceil(len(points) * minimum / last)


def check_enough(count: int, side: int, minimum: int, which: str = "") -> None:
    """ValueError if `count` images cannot fill a quarter of a grid, or cannot be projected."""
    if count < _fewest(side, minimum):
        coarser = next((g for g in range(side - 1, 1, -1) if _fewest(g, minimum) <= count), 0)
        raise ValueError(
            f"an atlas of {count} images{which} has too few: a {side}×{side} grid needs {_fewest(side, minimum)} or "
            f"more, {minimum} in each of a quarter of its cells; add images" + _or_coarser(coarser)
        )


def _fewest(side: int, minimum: int) -> int:
    """The fewest images for a grid: `minimum` in each of a quarter of its cells."""
    return max(minimum * ceil(FILLED * side**2), MINIMUM)


def _or_coarser(side: int) -> str:
    """The advice to take a coarser grid, if there is one that works."""
    return f", or take a coarser grid (--grid {side})" if side else ""
