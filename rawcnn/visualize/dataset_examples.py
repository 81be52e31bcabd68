"""What excites a unit, in real images: the largest activations over a data set, the smallest, and how all of them lie.

Zeiler & Fergus 2014, figure 2, right; Girshick et al. 2014, figure 3. Each image is shown with the part that the unit
saw: its receptive field, which the network's operations knows, cut off at the border of the image.

The search reads the data once, in memory that does not grow with the data set (`streaming_top_k.py`). The few images
that are shown are fetched at the end, by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.visualize.filters import check_channels
from rawcnn.visualize.layer_maps import seen_at
from rawcnn.visualize.pictures import draw_box, fit, grid, picture
from rawcnn.visualize.streaming_top_k import SAMPLE, Kept, Progress, Sample, Units, cropped, drawn, search

BINS = 40

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class TopInput:
    """An image and the position in it at which a channel is most active."""

    channel: int
    index: int  # of the image in its split
    activation: float
    position: tuple[int, int]  # (row, column) in the layer's map
    box: Box  # (top, left, bottom, right) of the receptive field, in pixels of `image`
    image: np.ndarray = field(repr=False)  # float32 [H,W,3] in [0,1], as the network read it

    @property
    def crop(self) -> np.ndarray:
        """What the unit saw."""
        top, left, bottom, right = self.box
        return self.image[top:bottom, left:right]


@dataclass(frozen=True)
class Excitation:
    """How the images of a data set excite a channel, or one unit of it. An image's activation is its best position's.

    Only `bottom` is of the images' lowest positions: what inhibits the channel most.
    """

    channel: int
    top: tuple[TopInput, ...]  # the best first
    bottom: tuple[TopInput, ...]  # the lowest first
    quantiles: tuple[tuple[float, TopInput], ...]  # the image whose activation is nearest to the quantile
    counts: np.ndarray = field(repr=False)  # int64 [BINS]: images between two edges
    edges: np.ndarray = field(repr=False)  # float64 [BINS + 1]
    images: int  # that were seen
    sampled: int  # of them, those in the histogram and in the quantiles

    @property
    def largest(self) -> float:
        """The activation that the best image reaches."""
        return self.top[0].activation


def top_inputs(
    network: Network,
    data: DataSet,
    layer: str,
    channels: Sequence[int] | None = None,
    count: int = 9,
    *,
    split: str = "train",
    batch: int = 256,
    compile: str = "auto",
    progress: Progress | None = None,
) -> dict[int, list[TopInput]]:
    """The `count` images of a split that activate each of `channels` (all) most, the best first.

    An image counts once, with its best position; of equals the first in the data set, and in the image the first row
    by row, is taken. Images larger than the network's are cropped. ValueError for an unknown layer or channel, a count
    below 1, and activations that are not finite.
    """
    units, count = _units(network, data, split, layer, channels, None), _count(count, data, split)
    (best,), _ = search(
        units, data, split, signs=(1,), count=count, numbers=drawn(0), batch=batch, compile=compile, progress=progress
    )
    images = _fetch(units, data, split, best)
    return {channel: list(_inputs(units, best, row, images)) for row, channel in enumerate(units.channels)}


def excitations(
    network: Network,
    data: DataSet,
    layer: str,
    channels: Sequence[int] | None = None,
    count: int = 9,
    *,
    position: tuple[int, int] | None = None,
    quantiles: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    split: str = "train",
    batch: int = 256,
    sample: int = SAMPLE,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> dict[int, Excitation]:
    """How a split excites each of `channels` (all): `count` images at either end, examples between, a histogram.

    With a `position` (row, column) of the map, of each channel the unit there alone. A class is a channel of
    `network.head`. Of equals the first is taken. A data set of more than `sample` images gives its histogram and its
    quantiles from as many, drawn by `seed`. Memory is of sample × channels numbers, and of the images that are shown:
    name a few channels of a wide layer over large images.

    ValueError for an unknown layer or channel, a position that the map has not, a quantile outside [0,1], a count or a
    sample below 1, and for activations that are not finite.
    """
    units, count = _units(network, data, split, layer, channels, position), _count(count, data, split)
    if wrong := [quantile for quantile in quantiles if not 0 <= quantile <= 1]:
        raise ValueError(f"quantiles are {wrong}; expected numbers from 0, the lowest image, to 1, the highest")
    if sample < 1:
        raise ValueError(f"sample is {sample}; expected 1 or more images to draw a histogram of")
    numbers = drawn(data.count(split), sample, seed)
    (best, worst), seen = search(
        units, data, split, signs=(1, -1), count=count, numbers=numbers, batch=batch, compile=compile, progress=progress
    )
    between = _nearest(seen, quantiles)
    images = _fetch(units, data, split, best, worst, between)
    found = {}
    for row, channel in enumerate(units.channels):
        top, bottom, middle = (tuple(_inputs(units, kept, row, images)) for kept in (best, worst, between))
        examples = tuple(zip(map(float, quantiles), middle, strict=True))
        counts, edges = np.histogram(seen.activations[:, row].astype(np.float64), BINS)
        found[channel] = Excitation(channel, top, bottom, examples, counts, edges, data.count(split), len(numbers))
    return found


# What is asked for -----------------------------------------------------------------------------------------


def _units(network, data: DataSet, split: str, layer: str, channels, position: tuple[int, int] | None) -> Units:
    """What is looked for, checked. A position must be one that the map has."""
    if not isinstance(data, DataSet):
        raise ValueError(f"data is {type(data).__name__}; expected a data set, such as rawcnn.data.load gives")
    chosen = check_channels(channels, layer, network.operation(layer).output_shape[-1])
    if not data.count(split):
        raise ValueError(f"{data.name} has no {split} images; expected one or more")
    side = network.input_size
    size = (side, side) if min(data.size) > side else data.size
    shape, receptive = seen_at(network, layer, size)
    if position is not None:
        if len(shape) != 4:
            raise ValueError(f"position is {tuple(position)}, but {layer} has no map, only channels; leave it out")
        (row, column), (height, width) = position, shape[1:3]
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"position is {(row, column)}; the map of {layer} is {height}×{width}, counted from 0")
        position = (int(row), int(column))
    return Units(network, layer, chosen, position, size, shape[2] if len(shape) == 4 else 1, receptive)


def _count(count: int, data: DataSet, split: str) -> int:
    """At most as many as there are images."""
    if count < 1:
        raise ValueError(f"count is {count}; expected 1 or more")
    return min(count, data.count(split))


# What is shown ---------------------------------------------------------------------------------------------


def _nearest(sample: Sample, quantiles: Sequence[float]) -> Kept:
    """Of each channel the image nearest to each quantile, of equals the first: activations, numbers, places [C,Q]."""
    rows = np.empty((sample.activations.shape[1], len(quantiles)), np.int64)  # in the sample
    for channel, values in enumerate(sample.activations.T.astype(np.float64)):
        levels = np.quantile(values, quantiles)
        rows[channel] = [np.abs(values - level).argmin() for level in levels]
    activations, places = (np.take_along_axis(of, rows.T, 0).T for of in (sample.activations, sample.places))
    return activations, sample.numbers[rows], places


def _fetch(units: Units, data: DataSet, split: str, *shown: Kept) -> dict[int, np.ndarray]:
    """The images that are shown, by number, each once, as the network read them."""
    numbers = np.unique(np.concatenate([kept[1].ravel() for kept in shown]))
    images: dict[int, np.ndarray] = {}
    for some in np.split(numbers, range(256, len(numbers), 256)):  # uncropped, only a few at a time
        taken = np.asarray(cropped(data.take(split, some.tolist()), units.size))
        images |= zip(some.tolist(), taken, strict=True)
    return images


def _inputs(units: Units, kept: Kept, row: int, images: dict[int, np.ndarray]) -> Iterator[TopInput]:
    """What was kept of one channel."""
    for activation, index, place in zip(*(part[row].tolist() for part in kept), strict=True):
        position = units.position or divmod(place, units.columns)
        box = units.field.box(position, units.size)
        yield TopInput(units.channels[row], index, activation, position, box, images[index])


def contact_sheet(
    inputs: Sequence[TopInput],
    *,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    tile: int = 64,
    gap: int = 8,
    color: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> np.ndarray:
    """A sheet of the crops, each `tile` pixels large, with the whole image and the box in it beside: RGB in [0,1].

    For a row of each channel: `contact_sheet([t for top in tops.values() for t in top], columns=count)`. `labels`, one
    for each input, stand above them.
    """
    if not inputs:
        raise ValueError("there are no inputs to show; expected one or more")
    if labels is not None and len(labels) != len(inputs):
        raise ValueError(f"there are {len(labels)} labels for {len(inputs)} inputs; expected one for each")
    cells = [_cell(shown, tile, color) for shown in inputs]
    if labels is not None:
        cells = [np.concatenate([_line(text, 2 * tile + 2), cell]) for text, cell in zip(labels, cells, strict=True)]
    return grid(cells, columns, gap)


def _cell(shown: TopInput, tile: int, color: tuple[float, float, float]) -> np.ndarray:
    """The crop, and right of it the image with the box: [tile, 2·tile + 2, 3]."""
    height, width = shown.image.shape[:2]
    scale = max(1, tile // max(height, width))
    large = shown.image.repeat(scale, axis=0).repeat(scale, axis=1)
    thickness = max(1, max(large.shape) // tile)  # still a pixel wide after shrinking
    boxed = draw_box(large, tuple(scale * edge for edge in shown.box), color, thickness)
    return np.concatenate([fit(shown.crop, tile), np.ones((tile, 2, 3)), fit(boxed, tile)], axis=1)


def _line(text: str, width: int) -> np.ndarray:
    """A line of text, black on white, cut off at `width` pixels: [14,width,3]."""
    line = Image.new("L", (width, 14), 255)
    ImageDraw.Draw(line).text((0, 0), text, fill=0, font=ImageFont.load_default())
    return picture(np.asarray(line) / 255)
