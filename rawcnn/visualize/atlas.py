"""Activation atlas: what a layer sees in a whole data set, as a map of images made by optimisation.

Carter, Armstrong, Schubert, Johnson, Olah: "Activation Atlas", Distill 2019.

    sample   of each image the activations [C] at one position of the layer's map, drawn at random
    layout   a point of the unit square for each, similar activations near each other
    grid     the mean v of the activations in each cell that holds enough of them
    icon     the image that excites W·v most in the middle of the map,  W = inv(E[aaᵀ] + ridge)
    label    the class whose logit the cell's activations raise most, by a·∂logit/∂a

W keeps the icons from all showing what every activation shares. The class is a linear estimate, that of
`rawcnn.visualize.class_attribution` at one position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.nn.trace import symbolic_trace
from rawcnn.visualize import objectives
from rawcnn.visualize.atlas_sample import Progress, Sample, sample
from rawcnn.visualize.optimization import Optimized, optimize
from rawcnn.visualize.projection import FEWEST, check_method
from rawcnn.visualize.projection import layout as lay_out
from rawcnn.visualize.regularization import ROBUST, Regularization

FILLED = 1 / 4  # of the coarsest grid's cells that the images must be able to fill
HELD = 1 / 2  # of the images that must lie in cells which hold enough
RIDGE = 1e-2  # of the mean square activation, added to E[aaᵀ]
SIZE = 80  # pixels of an icon at most, unless told
CHUNK = 4096  # activations whose products are summed at a time
Cells = tuple[int, np.ndarray, np.ndarray]  # (grid, cells [M,2] that are shown, the cell [N] of each point or −1)


@dataclass(frozen=True)
class Level:
    """The M cells of one grid that hold enough images, row by row."""

    grid: int  # cells along each side
    cells: np.ndarray = field(repr=False)  # int32 [M,2] (column, row), from the top left
    counts: np.ndarray = field(repr=False)  # int64 [M] images
    vectors: np.ndarray = field(repr=False)  # float32 [M,C] mean activation, not whitened
    classes: np.ndarray = field(repr=False)  # int32 [M] whose effect, summed over the cell's images, is largest
    attributions: np.ndarray = field(repr=False)  # float32 [M] that effect, a mean over the cell's images
    shares: np.ndarray = field(repr=False)  # float32 [M] of the cell's images that speak for this class most
    icons: np.ndarray = field(repr=False)  # float32 [M,H,W,3] in [0,1]
    values: np.ndarray = field(repr=False)  # float32 [M] objective that the icon reaches


@dataclass(frozen=True)
class Atlas:
    """A layer's atlas: where the images lie, and grids over them from coarse to fine."""

    layer: str
    points: np.ndarray = field(repr=False)  # float32 [N,2] (x, y) in [0,1], y downward
    indices: np.ndarray = field(repr=False)  # int32 [N]
    positions: np.ndarray = field(repr=False)  # int32 [N,2]
    levels: tuple[Level, ...]
    settings: dict[str, object]

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it but the settings by name, for `np.savez`; `points` spares a second run the layout."""
        own = {"points": self.points, "indices": self.indices, "positions": self.positions}
        for level in self.levels:
            own |= {f"grid{level.grid}_{name}": array for name, array in vars(level).items() if name != "grid"}
        return own


def activation_atlas(
    network: Network,
    data: DataSet,
    layer: str,
    *,
    images: int | None = None,
    split: str = "train",
    grids: Sequence[int] = (10, 20, 40),
    minimum: int = 8,
    layout: str = "auto",
    points: np.ndarray | None = None,
    whiten: bool = True,
    ridge: float = RIDGE,
    cosine_power: float = 2.0,
    steps: int = 128,
    size: int | None = None,
    regularization: Regularization = ROBUST,
    batch: int = 256,
    icon_batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> Atlas:
    """The atlas of a layer over a split, or over `images` of it drawn at random.

    A cell is shown if it holds `minimum` images or more. A finer grid is left out where such cells hold fewer than half
    of the images, or are no more than in the grid before. Icons have `size` pixels: 80, or the network's own size where
    that is smaller or where the layer takes no other. Images that do not excite the layer at all are left out. `points`
    are those of an atlas with the same sample.

    ValueError for an unknown layer, split or layout, numbers out of range, and too few images: they must suffice for
    `minimum` in each of a quarter of the coarsest grid's cells, and half of them must lie in cells with that many.
    """
    grids = _check(network, layer, grids, minimum, ridge)
    _check_enough(data.count(split) if images is None else min(images, data.count(split)), grids[0], minimum)
    if points is None:
        check_method(layout)
    found = sample(
        network, data, layer, images=images, split=split, batch=batch, seed=seed, compile=compile, progress=progress
    )
    awake = found.only(np.any(found.activations, axis=1))
    _check_enough(len(awake), grids[0], minimum, f" that excite {layer}")
    points, method = _points(awake, points, layout, seed, progress)
    shown = _gridded(points, grids, minimum)
    means = [_means(awake.activations, inside) for _, _, inside in shown]
    transform = whitening(awake.activations, ridge) if whiten else np.eye(awake.activations.shape[1])
    made = optimize(
        network,
        objectives.direction(
            network, layer, directions(np.concatenate(means), transform), cosine_power=cosine_power, position="middle"
        ),
        size=_icon_size(network, layer) if size is None else size,
        steps=steps,
        regularization=regularization,
        batch=icon_batch,
        seed=seed,
        compile=compile,
        progress=None if progress is None else lambda done, total: progress(done, total, "steps of the icons"),
    )
    levels = _levels(awake, shown, means, made)
    settings: dict[str, object] = {
        **made.settings,
        "layer": layer,
        "data": data.name,
        "split": split,
        "images": len(awake),
        "silent": len(found) - len(awake),  # images that do not excite the layer at their position
        "layout": method,
        "grids": [level.grid for level in levels],
        "left_out": sorted({*grids} - {level.grid for level in levels}),
        "minimum": minimum,
        "whiten": whiten,
        "ridge": ridge,
        "cosine_power": cosine_power,
    }
    return Atlas(layer, points, awake.indices, awake.positions, levels, settings)


def _levels(awake: Sample, shown: Sequence[Cells], means: Sequence[np.ndarray], made: Optimized) -> tuple[Level, ...]:
    """The grids with what is known of their cells; the icons of all of them were made together."""
    ends = np.cumsum([len(vectors) for vectors in means])[:-1]
    return tuple(
        Level(grid, cells, np.bincount(inside[inside >= 0]), vectors, *_labels(awake, inside), icons, values)
        for (grid, cells, inside), vectors, icons, values in zip(
            shown, means, np.split(made.images, ends), np.split(made.values, ends), strict=True
        )
    )


# Cells ---------------------------------------------------------------------------------------------------------


def cells_of(points: np.ndarray, grid: int, minimum: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells [M,2] (column, row) that hold `minimum` points or more, and the cell [N] of each point, −1 for none."""
    column, row = np.minimum((points * grid).astype(np.int64), grid - 1).T
    numbers, inverse, counts = np.unique(row * grid + column, return_inverse=True, return_counts=True)
    held = counts >= minimum
    renamed = np.where(held, np.cumsum(held) - 1, -1)
    return np.stack([numbers[held] % grid, numbers[held] // grid], axis=1).astype(np.int32), renamed[inverse]


def whitening(activations: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """inv(E[aaᵀ] + ridge·mean(a²)·1) of activations [N,C]: float64 [C,C]. It is not centred, as in the article."""
    channels = activations.shape[1]
    second = np.zeros((channels, channels))
    for first in range(0, len(activations), CHUNK):
        part = activations[first : first + CHUNK].astype(np.float64)
        second += part.T @ part
    second /= len(activations)
    return np.linalg.inv(second + ridge * np.trace(second) / channels * np.eye(channels))


def directions(means: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """W·v of each mean [M,C], its length made one, so that objectives compare: float32."""
    turned = means @ transform.T
    return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


def _means(activations: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Mean activation [M,C] of each cell."""
    held = inside >= 0
    sums = np.zeros((inside.max() + 1, activations.shape[1]))
    np.add.at(sums, inside[held], activations[held])
    return (sums / np.bincount(inside[held])[:, None]).astype(np.float32)


def _labels(found: Sample, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes, attributions, shares) [M] of each cell: of a Level."""
    held = inside >= 0
    cell, classes, effects = inside[held], found.classes[held], found.effects[held]
    known, code = np.unique(classes, return_inverse=True)
    key = (cell[:, None] * len(known) + code.reshape(classes.shape)).ravel()
    shape, total = (cell.max() + 1, len(known)), (cell.max() + 1) * len(known)
    sums = np.bincount(key, effects.ravel(), total).reshape(shape)  # [M,classes named]
    named = np.bincount(key, minlength=total).reshape(shape) > 0
    best = np.where(named, sums, -np.inf).argmax(axis=1)  # [M]
    counts = np.bincount(cell)
    spoken = np.take_along_axis(classes, effects.argmax(axis=1)[:, None], axis=1)[:, 0]  # each image's own
    shares = np.bincount(cell, spoken == known[best][cell]) / counts
    attributions = sums[np.arange(len(best)), best] / counts
    return known[best].astype(np.int32), attributions.astype(np.float32), shares.astype(np.float32)


def _gridded(points: np.ndarray, grids: Sequence[int], minimum: int) -> list[Cells]:
    """The grids worth showing, with their cells. ValueError where the coarsest is not."""
    needed = images_needed(points, grids[0], minimum)
    if needed > len(points):
        coarser = next((g for g in range(grids[0] - 1, 1, -1) if images_needed(points, g, minimum) <= len(points)), 0)
        raise ValueError(
            f"of {len(points)} images fewer than half lie in cells of a {grids[0]}×{grids[0]} grid with {minimum} or "
            f"more; spread as they are, it needs about {needed}: add images" + _or_coarser(coarser)
        )
    kept: list[Cells] = []
    for grid in grids:
        cells, inside = cells_of(points, grid, minimum)
        more = not kept or len(cells) > len(kept[-1][1])
        if more and images_needed(points, grid, minimum) <= len(points):
            kept.append((grid, cells, inside))
    return kept


def images_needed(points: np.ndarray, grid: int, minimum: int) -> int:
    """How many images, spread as these points are, put half of them into cells with `minimum` or more."""
    cells, inside = cells_of(points, grid, 1)
    counts = np.sort(np.bincount(inside, minlength=len(cells)))[::-1]
    last = counts[np.searchsorted(np.cumsum(counts), HELD * len(points))]  # of the fullest cells that hold half
    return ceil(len(points) * minimum / last)


# Checks --------------------------------------------------------------------------------------------------------


def _check(network: Network, layer: str, grids, minimum: int, ridge: float) -> list[int]:
    """The grids from coarse to fine; ValueError for what `activation_atlas` cannot take."""
    network.operation(layer)
    grids = sorted({int(grid) for grid in grids})
    if not grids or grids[0] < 2 or minimum < 1 or not ridge > 0:
        raise ValueError(
            f"grids are {grids}, minimum is {minimum}, ridge {ridge}; expected grids of 2 or more cells a side, a "
            "minimum of 1 or more images, a ridge above 0"
        )
    return grids


def _check_enough(count: int, grid: int, minimum: int, which: str = "") -> None:
    """ValueError where the images cannot fill a quarter of the grid, or cannot be laid out."""

    def needed(cells: int) -> int:
        return max(minimum * ceil(FILLED * cells**2), FEWEST)

    if count < needed(grid):
        coarser = next((g for g in range(grid - 1, 1, -1) if needed(g) <= count), 0)
        raise ValueError(
            f"an atlas of {count} images{which} has too few: a {grid}×{grid} grid needs {needed(grid)} or more, "
            f"{minimum} in each of a quarter of its cells; add images" + _or_coarser(coarser)
        )


def _or_coarser(grid: int) -> str:
    return f", or take a coarser grid (--grid {grid})" if grid else ""


def _points(found: Sample, points, layout: str, seed: int, progress) -> tuple[np.ndarray, str]:
    """The points of the sample and how they came about: given, or laid out."""
    if points is not None:
        points = np.asarray(points, np.float32)
        if points.shape != (len(found), 2) or not ((points >= 0) & (points <= 1)).all():
            raise ValueError(f"points have shape {points.shape}; expected [{len(found)},2] in [0,1], one an image")
        return points, "given"
    if progress:
        progress(0, 1, "layout")
    made = lay_out(found.activations, layout, seed)
    if progress:
        progress(1, 1, "layout")
    return made.points, made.method


def _icon_size(network: Network, layer: str) -> int:
    """SIZE pixels where the network is larger and the layer takes images of any size; else the network's own."""
    if network.input_size > SIZE:
        try:
            parameters = symbolic_trace(network.model, (1, SIZE, SIZE, 3), layers=(layer,)).parameters
        except ValueError:
            return network.input_size
        if all(p.shape == network.parameters[path].shape for path, p in parameters.items()):
            return SIZE
    return network.input_size
