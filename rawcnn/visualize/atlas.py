"""Activation atlas: everything that a layer detects in a data set, as a map of optimized images.

Carter, Armstrong, Schubert, Johnson, Olah: "Activation Atlas", Distill 2019.

    sample   the activations a [C] at one random position of each image
    project  a point of the unit square for each of them, with similar activations near each other
    grid     the mean v of the activations in each cell that holds enough of them
    icon     the image that maximizes the activation along W·v in the middle of the map,  W = inv(E[aaᵀ] + ridge)
    label    the class whose logit the cell's activations raise most, by a·∂logit/∂a

Without the whitening W, all icons would show what all activations have in common. The label is a linear estimate, that
of `rawcnn.visualize.attribution` at one position. Cells of a network without a classifier have no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rawcnn.data import DataSet
from rawcnn.data.dataset import check_data_set
from rawcnn.files.progress import StageProgress
from rawcnn.nn.arguments import Size
from rawcnn.nn.network import Network
from rawcnn.nn.trace import symbolic_trace
from rawcnn.visualize import objectives
from rawcnn.visualize.atlas_cells import (
    RIDGE,
    Grid,
    cell_classes,
    check_enough,
    choose_grids,
    mean_activations,
    whitened_directions,
    whitening,
)
from rawcnn.visualize.atlas_sample import AtlasSample, sample_activations
from rawcnn.visualize.optimization import AscentSettings, Optimized, maximize
from rawcnn.visualize.progress import stage
from rawcnn.visualize.projection import available_method, project
from rawcnn.visualize.regularization import ROBUST, Regularization

SIZE = 80  # default largest side of an icon in pixels


@dataclass(frozen=True)
class Level:
    """The M cells of one grid that hold enough images, row by row.

    Attributes:
        grid: Cells along each side.
        cells: int32 [M,2], (column, row), from the top left.
        counts: int64 [M], images per cell.
        vectors: float32 [M,C], mean activation, not whitened.
        classes: int32 [M], the class with the largest sum of effects in the cell; [0] for a network without a
            classifier, and so are the next two.
        attributions: float32 [M], mean effect on this class over the cell's images, in logits.
        shares: float32 [M], share of the images with their largest effect on this class.
        icons: float32 [M,H,W,3] in [0,1].
        values: float32 [M], objective that the icon reaches.
    """

    grid: int
    cells: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    vectors: np.ndarray = field(repr=False)
    classes: np.ndarray = field(repr=False)
    attributions: np.ndarray = field(repr=False)
    shares: np.ndarray = field(repr=False)
    icons: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Atlas:
    """The atlas of a layer: the points of the images, and grids over them from coarse to fine.

    Attributes:
        layer: The name of the layer.
        points: float32 [N,2], (x, y) in [0,1], y downward, one per image of the sample.
        indices: int32 [N], the number of each image in its split.
        positions: int32 [N,2], (row, column) of the activation in the layer's map.
        levels: One per grid, from coarse to fine.
        settings: The arguments, by name.
    """

    layer: str
    points: np.ndarray = field(repr=False)
    indices: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    levels: tuple[Level, ...]
    settings: dict[str, object]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for `np.savez`. `points` lets another run skip the projection."""
        arrays = {"points": self.points, "indices": self.indices, "positions": self.positions}
        for level in self.levels:
            arrays |= {f"grid{level.grid}_{name}": array for name, array in vars(level).items() if name != "grid"}
        return arrays


@dataclass(frozen=True)
class AtlasSettings:
    """What an atlas shows, and how its cells and directions are made: keywords of `activation_atlas`."""

    layer: str
    data: str  # name of the data set
    split: str
    grids: tuple[int, ...]  # cells along each side, from coarse to fine
    minimum: int  # images that a cell needs
    layout: str  # method of the projection
    whiten: bool
    ridge: float
    cosine_power: float

    def __post_init__(self) -> None:
        if not self.grids or self.grids[0] < 2 or self.minimum < 1 or not self.ridge > 0:
            raise ValueError(
                f"grids are {list(self.grids)}, minimum is {self.minimum}, ridge {self.ridge}; expected grids of 2 or "
                "more cells a side, a minimum of 1 or more images, a ridge above 0"
            )


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
    size: Size | None = None,
    regularization: Regularization = ROBUST,
    batch: int = 256,
    icon_batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: StageProgress | None = None,
) -> Atlas:
    """Make the activation atlas of a layer over a data set.

    Only cells with enough images are shown. A finer grid is left out if its shown cells contain fewer than half of the
    images, or if it shows no more cells than the grid before. Images that do not activate the layer at their position
    are left out.

    Args:
        network: The network.
        data: The data set.
        layer: The name of the layer.
        images: How many images to draw at random from the split; by default all.
        split: "train" or "test".
        grids: Cells along each side of each grid.
        minimum: Images that a cell needs to be shown.
        layout: Method of the projection, "umap", "tsne" or "auto".
        points: [N,2] in [0,1], the points of an atlas with the same sample; by default they are projected.
        whiten: Whether icons follow the whitened direction W·v or the mean v itself.
        ridge: Share of the mean square activation that is added to E[aaᵀ].
        cosine_power: Exponent of the cosine in the objective of the icons.
        steps: Steps of the optimization of icons.
        size: Side of an icon in pixels; by default 80, or the network's own size if that is smaller or if the layer
            accepts no other.
        regularization: That of the optimization of icons.
        batch: Images at a time in the pass over the data.
        icon_batch: Icons that are optimized at a time.
        seed: The seed of the sample, the projection and the icons.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (done, total, stage).

    Returns:
        The points of all images, and an optimized icon for each shown cell of each grid.

    Raises:
        ValueError: For an unknown layer, split or layout, a number out of range, and too few images: they must suffice
            for `minimum` in each of a quarter of the coarsest grid's cells, and half of them must lie in such cells.

    Source:
        Carter et al., "Activation Atlas", Distill 2019.
    """
    check_data_set(data)
    network.operation(layer)  # raises a ValueError that names similar layers
    sides = tuple(sorted({int(side) for side in grids}))
    settings = AtlasSettings(layer, data.name, split, sides, minimum, layout, whiten, ridge, cosine_power)
    check_enough(data.count(split) if images is None else min(images, data.count(split)), sides[0], minimum)
    if points is None:
        available_method(layout)
    icon_settings = AscentSettings(
        size=icon_size(network, layer) if size is None else size,
        steps=steps,
        regularization=regularization,
        seed=seed,
        batch=icon_batch,
        compile=compile,
    )
    sample = sample_activations(
        network, data, layer, images=images, split=split, batch=batch, seed=seed, compile=compile, progress=progress
    )
    return _make_atlas(network, sample, settings, icon_settings, points=points, progress=progress)


# The stages ------------------------------------------------------------------------------------------------------


def _make_atlas(
    network: Network,
    sample: AtlasSample,
    settings: AtlasSettings,
    icon_settings: AscentSettings,
    *,
    points: np.ndarray | None,
    progress: StageProgress | None,
) -> Atlas:
    """Project the sample, divide it into cells, and give each cell an icon and a label."""
    layer = settings.layer
    active = sample.where(np.any(sample.activations, axis=1))
    check_enough(len(active), settings.grids[0], settings.minimum, f" that excite {layer}")
    points, method = _points(active, points, settings.layout, icon_settings.seed, progress)
    grids = choose_grids(points, settings.grids, settings.minimum)
    means = [mean_activations(active.activations, grid.cell_of) for grid in grids]  # [M,C] each
    channels = active.activations.shape[1]
    transform = whitening(active.activations, settings.ridge) if settings.whiten else np.eye(channels)
    directions = whitened_directions(np.concatenate(means), transform)
    objective = objectives.direction(network, layer, directions, cosine_power=settings.cosine_power, position="middle")
    icons = maximize(network, objective, icon_settings, stage(progress, "steps of the icons"))
    levels = _levels(active, grids, means, icons)
    record = {
        **icons.settings,
        "layer": layer,
        "data": settings.data,
        "split": settings.split,
        "images": len(active),
        "silent": len(sample) - len(active),  # images that do not activate the layer at their position
        "layout": method,
        "grids": [level.grid for level in levels],
        "left_out": sorted({*settings.grids} - {level.grid for level in levels}),
        "minimum": settings.minimum,
        "whiten": settings.whiten,
        "ridge": settings.ridge,
        "cosine_power": settings.cosine_power,
    }
    return Atlas(layer, points, active.indices, active.positions, levels, record)


def _points(
    sample: AtlasSample, points, layout: str, seed: int, progress: StageProgress | None
) -> tuple[np.ndarray, str]:
    """The points of the sample, [N,2], and their origin: "given", or the method of the projection."""
    if points is not None:
        points = np.asarray(points, np.float32)
        if points.shape != (len(sample), 2) or not ((points >= 0) & (points <= 1)).all():
            raise ValueError(
                f"points have shape {points.shape}; expected [{len(sample)},2] in [0,1], one point for each image"
            )
        return points, "given"
    if progress:
        progress(0, 1, "layout")
    projection = project(sample.activations, layout, seed)
    if progress:
        progress(1, 1, "layout")
    return projection.points, projection.method


def _levels(
    sample: AtlasSample, grids: Sequence[Grid], means: Sequence[np.ndarray], icons: Optimized
) -> tuple[Level, ...]:
    """The grids with labels and icons; the icons of all grids were optimized together."""
    ends = np.cumsum([len(vectors) for vectors in means])[:-1]
    levels = []
    for grid, vectors, images, values in zip(
        grids, means, np.split(icons.images, ends), np.split(icons.values, ends), strict=True
    ):
        classes, attributions, shares = cell_classes(sample, grid.cell_of)
        levels.append(Level(grid.side, grid.cells, grid.counts, vectors, classes, attributions, shares, images, values))
    return tuple(levels)


def icon_size(network: Network, layer: str) -> Size:
    """SIZE pixels if the network is larger and the layer accepts images of any size; otherwise the network's own."""
    if min(network.image_size) > SIZE:
        try:
            parameters = symbolic_trace(network.model, (1, SIZE, SIZE, 3), layers=(layer,)).parameters
        except ValueError:
            return network.input_size
        if all(p.shape == network.parameters[path].shape for path, p in parameters.items()):
            return SIZE
    return network.input_size
