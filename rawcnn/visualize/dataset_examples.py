"""The images of a data set that activate a unit most and least, examples between them, and a histogram of all.

Zeiler & Fergus 2014, figure 2, right; Girshick et al. 2014, figure 3; Olah et al. 2017, "Dataset examples". Each image
is shown with its receptive field, the part that the unit sees, clipped to the image.

The search reads the data once, in memory that does not grow with the data set (`streaming_top_k.py`). The few images
that are shown are read again at the end, by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import map_position, whole_number
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop
from rawcnn.visualize.input_images import size_read
from rawcnn.visualize.layer_maps import Box, check_channels, operation_at_size
from rawcnn.visualize.pictures import draw_box, fit, grid, picture
from rawcnn.visualize.streaming_top_k import SAMPLE, Sample, Scan, TopK, UnitSelection, sample_indices, stream_top_k

BINS = 40


@dataclass(frozen=True)
class TopInput:
    """An image, and the position at which a channel is most active in it.

    Attributes:
        channel: The number of the channel.
        index: The number of the image in its split.
        activation: The channel's value at this position.
        position: (row, column) in the layer's map.
        box: (top, left, bottom, right) of the receptive field, in pixels of `image`.
        image: float32 [H,W,3] in [0,1], as the network reads it.
    """

    channel: int
    index: int
    activation: float
    position: tuple[int, int]
    box: Box
    image: np.ndarray = field(repr=False)

    @property
    def crop(self) -> np.ndarray:
        """The receptive field."""
        top, left, bottom, right = self.box
        return self.image[top:bottom, left:right]


class InputsByChannel(dict[int, list[TopInput]]):
    """The inputs of each channel: a dict with a name of its own, by which notebooks know how to show it."""


@dataclass(frozen=True)
class Excitation:
    """The activations of a channel, or of one of its units, over the images of a data set.

    The activation of an image is that of its best position. Only `bottom` ranks images by their lowest position, which
    inhibits the channel most.

    Attributes:
        channel: The number of the channel.
        top: The images that activate it most, the largest activation first.
        bottom: The images that activate it least, the smallest activation first.
        quantiles: Pairs of a quantile and the image whose activation is nearest to it.
        counts: int64 [BINS], the number of images between two edges.
        edges: float64 [BINS + 1], of the histogram of activations.
        images: The number of images in the split.
        sampled: The number of images in the histogram and in the quantiles.
    """

    channel: int
    top: tuple[TopInput, ...]
    bottom: tuple[TopInput, ...]
    quantiles: tuple[tuple[float, TopInput], ...]
    counts: np.ndarray = field(repr=False)
    edges: np.ndarray = field(repr=False)
    images: int
    sampled: int

    @property
    def largest(self) -> float:
        """The largest activation."""
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
) -> InputsByChannel:
    """Find the images that activate each channel most.

    An image counts once, with its best position. Of equal activations the first is taken: by image, then row by row.
    Images that are larger than the network's are cropped.

    Args:
        network: The network.
        data: The data set.
        layer: The name of the layer.
        channels: Channels of the layer; by default all.
        count: Images per channel.
        split: "train" or "test".
        batch: Images at a time.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (images done, images in total).

    Returns:
        The images of each channel, a dict, the largest activation first.

    Raises:
        ValueError: For an unknown layer or channel, a count below 1, and activations that are not finite.

    Source:
        Girshick et al. 2014, section 3.1; Zeiler & Fergus 2014, section 4.
    """
    units = _select_units(network, data, split, layer, channels, None)
    scan = Scan(data, split, whole_number("batch", batch), compile, progress)
    (best,), _ = stream_top_k(units, scan, _check_count(count, data, split), signs=(1,), sampled=sample_indices(0))
    images = _read_images(units, scan, best)
    inputs = (list(_examples(units, best, row, images)) for row in range(len(units.channels)))
    return InputsByChannel(zip(units.channels, inputs, strict=True))


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
    """Describe the activations of each channel over a split: both extremes, examples between them, and a histogram.

    A class is a channel of `network.head`. Of equal activations the first is taken. The memory grows with sample ×
    channels and with the images that are shown, so name a few channels of a wide layer over large images.

    Args:
        network: The network.
        data: The data set.
        layer: The name of the layer.
        channels: Channels of the layer; by default all.
        count: Images at each extreme.
        position: (row, column) of one unit in the map; by default the best position of each image.
        quantiles: Quantiles of the activations at which an example is shown.
        split: "train" or "test".
        batch: Images at a time.
        sample: The largest number of images for histogram and quantiles; drawn at random from a larger split.
        seed: The seed of that sample.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (images done, images in total).

    Returns:
        The activations of each channel.

    Raises:
        ValueError: For an unknown layer, channel or position, a quantile outside [0,1], a count or a sample below 1,
            and activations that are not finite.

    Source:
        Olah et al., "Feature Visualization", Distill 2017, appendix.
    """
    units = _select_units(network, data, split, layer, channels, position)
    count = _check_count(count, data, split)
    if wrong := [quantile for quantile in quantiles if not 0 <= quantile <= 1]:
        raise ValueError(f"quantiles are {wrong}; expected numbers from 0, the lowest image, to 1, the highest")
    sample, seed = whole_number("sample", sample), whole_number("seed", seed, least=0, most=None)
    scan = Scan(data, split, whole_number("batch", batch), compile, progress)
    sampled = sample_indices(data.count(split), sample, seed)
    (best, worst), drawn = stream_top_k(units, scan, count, signs=(1, -1), sampled=sampled)
    between = _at_quantiles(drawn, quantiles)
    images = _read_images(units, scan, best, worst, between)
    found = {}
    for row, channel in enumerate(units.channels):
        top, bottom, middle = (tuple(_examples(units, part, row, images)) for part in (best, worst, between))
        examples = tuple(zip(map(float, quantiles), middle, strict=True))
        counts, edges = np.histogram(drawn.activations[:, row].astype(np.float64), BINS)
        found[channel] = Excitation(channel, top, bottom, examples, counts, edges, data.count(split), len(sampled))
    return found


# Arguments -------------------------------------------------------------------------------------------------------


def _select_units(
    network: Network, data: DataSet, split: str, layer: str, channels, position: tuple[int, int] | None
) -> UnitSelection:
    """The units to search for, checked."""
    if not isinstance(data, DataSet):
        raise ValueError(f"data is {type(data).__name__}; expected a data set, such as rawcnn.data.load gives")
    chosen = check_channels(channels, layer, network.operation(layer).output_shape[-1])
    if not data.count(split):
        raise ValueError(f"{data.name} has no {split} images; expected one or more")
    size = size_read(network, data)
    operation = operation_at_size(network, layer, size)
    shape = operation.output_shape  # [1,h,w,C] or [1,C]
    if position is not None:
        position = map_position(position, shape, layer)
    columns = shape[2] if len(shape) == 4 else 1
    return UnitSelection(network, layer, chosen, position, size, columns, operation.receptive_field)


def _check_count(count: int, data: DataSet, split: str) -> int:
    """The count, or the number of images if there are fewer."""
    return min(whole_number("count", count), data.count(split))


# Examples --------------------------------------------------------------------------------------------------------


def _at_quantiles(sample: Sample, quantiles: Sequence[float]) -> TopK:
    """The image of each channel that is nearest to each of Q quantiles, of equally near ones the first: [C,Q]."""
    rows = np.empty((sample.activations.shape[1], len(quantiles)), np.int64)  # [C,Q], in the sample
    for channel, values in enumerate(sample.activations.T.astype(np.float64)):
        levels = np.quantile(values, quantiles)
        rows[channel] = [np.abs(values - level).argmin() for level in levels]
    activations, places = (np.take_along_axis(of, rows.T, 0).T for of in (sample.activations, sample.places))
    return TopK(activations, sample.indices[rows], places)


def _read_images(units: UnitSelection, scan: Scan, *shown: TopK) -> dict[int, np.ndarray]:
    """The images that are shown, by index, each once, as the network reads them."""
    indices = np.unique(np.concatenate([part.indices.ravel() for part in shown]))
    images: dict[int, np.ndarray] = {}
    for some in np.split(indices, range(256, len(indices), 256)):  # few at a time, because they are not cropped yet
        taken = scan.data.take(scan.split, some.tolist())
        images |= zip(some.tolist(), np.asarray(center_crop(taken, units.size)), strict=True)
    return images


def _examples(units: UnitSelection, best: TopK, row: int, images: dict[int, np.ndarray]) -> Iterator[TopInput]:
    """The images of one channel; `row` is its row in `best`."""
    for activation, index, place in zip(*(part[row].tolist() for part in best), strict=True):
        position = units.position or divmod(place, units.columns)
        box = units.receptive_field.box(position, units.size)
        yield TopInput(units.channels[row], index, activation, position, box, images[index])


# Sheets ----------------------------------------------------------------------------------------------------------


def contact_sheet(
    inputs: Sequence[TopInput],
    *,
    labels: Sequence[str] | None = None,
    columns: int | None = None,
    tile: int = 64,
    gap: int = 8,
    color: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> np.ndarray:
    """Draw a sheet of the receptive fields, each next to the complete image with the field's box in it.

    One row per channel: `contact_sheet([t for top in tops.values() for t in top], columns=count)`.

    Args:
        inputs: Results of `top_inputs`, or of `excitations`.
        labels: A line of text above each input.
        columns: Inputs per row; by default as many as there are rows, or a few more.
        tile: Side of each picture in pixels.
        gap: Pixels between and around the inputs.
        color: RGB of the boxes.

    Returns:
        A picture [H,W,3].

    Raises:
        ValueError: For no inputs, and for another number of labels than inputs.
    """
    if not inputs:
        raise ValueError("there are no inputs to show; expected one or more")
    if labels is not None and len(labels) != len(inputs):
        raise ValueError(f"there are {len(labels)} labels for {len(inputs)} inputs; expected one for each")
    tile = whole_number("tile", tile)
    cells = [_cell(shown, tile, color) for shown in inputs]
    if labels is not None:
        cells = [np.concatenate([_line(text, 2 * tile + 2), cell]) for text, cell in zip(labels, cells, strict=True)]
    return grid(cells, columns, gap)


def _cell(shown: TopInput, tile: int, color: tuple[float, float, float]) -> np.ndarray:
    """The receptive field, and to its right the image with the box: [tile, 2·tile + 2, 3]."""
    height, width = shown.image.shape[:2]
    scale = max(1, tile // max(height, width))
    large = shown.image.repeat(scale, axis=0).repeat(scale, axis=1)
    thickness = max(1, max(large.shape) // tile)  # still one pixel wide after shrinking
    boxed = draw_box(large, tuple(scale * edge for edge in shown.box), color, thickness)
    return np.concatenate([fit(shown.crop, tile), np.ones((tile, 2, 3)), fit(boxed, tile)], axis=1)


def _line(text: str, width: int) -> np.ndarray:
    """A line of text, black on white, cut off at `width` pixels: [14,width,3]."""
    line = Image.new("L", (width, 14), 255)
    ImageDraw.Draw(line).text((0, 0), text, fill=0, font=ImageFont.load_default())
    return picture(np.asarray(line) / 255)
