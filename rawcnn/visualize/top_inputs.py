"""Which images a unit likes best: the largest activations over a data set, with the part of the image that it saw.

Zeiler & Fergus 2014, figure 2, right; Girshick et al. 2014, figure 3. The part is the unit's receptive field, which
the network's ledger knows, cut off at the border of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from rawcnn.augment import center_crop
from rawcnn.compile import choose, compiled
from rawcnn.data import DataSet
from rawcnn.field import Field
from rawcnn.network import Network, draw, find_operation
from rawcnn.visualize.filters import check_channels
from rawcnn.visualize.picture import draw_box, fit, grid

Progress = Callable[[int, int], None]
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
    by row, is taken. The data pass once; kept are the best so far and their images, which channels share. Images
    larger than the network's are cropped. ValueError for an unknown layer or channel, or a count below 1.
    """
    operation = network.operation(layer)
    chosen = check_channels(channels, layer, operation.output_shape[-1])
    if count < 1:
        raise ValueError(f"count is {count}; expected 1 or more")
    best = tf.fill((len(chosen), count), -np.inf), *(tf.fill((len(chosen), count), -1) for _ in range(2))
    update = _updating_step(network, layer, chosen, data, compile)
    images: dict[int, np.ndarray] = {}  # by index: those among the best so far
    done, total = 0, data.count(split)
    for pixels, _ in data.batches(split, batch, shuffle=False):
        if min(pixels.shape[1:3]) > network.input_size:
            pixels = center_crop(pixels, network.input_size)
        best = update(*best, pixels, tf.constant(done))
        for index in set(best[1].numpy().ravel().tolist()) - {-1} - images.keys():
            images[index] = pixels[index - done].numpy()
        done += len(pixels)
        if progress:
            progress(done, total)
        images = {index: images[index] for index in set(best[1].numpy().ravel().tolist()) - {-1}}
    size = next(iter(images.values())).shape[:2]
    shape, receptive = _seen(network, layer, size)
    return {
        channel: [
            TopInput(channel, int(index), float(value), position, receptive.box(position, size), images[int(index)])
            for value, index, place in zip(*row, strict=True)
            if index >= 0
            for position in [divmod(int(place), shape[2] if len(shape) == 4 else 1)]
        ]
        for channel, row in zip(chosen, zip(*(b.numpy() for b in best), strict=True), strict=True)
    }


def _updating_step(network: Network, layer: str, channels: list[int], data: DataSet, compile: str) -> Callable:
    """The compiled step (values, indices, places [C,count], images, number of the first) → the three, anew."""

    def update(values, indices, places, images, first):
        maps = tf.cast(network.forward(images).activations[layer], tf.float32)  # [B,h,w,C] or [B,C]
        maps = tf.gather(maps, channels, axis=-1)
        maps = tf.reshape(maps, (tf.shape(maps)[0], -1, len(channels)))  # [B,h·w,C]
        there = tf.argmax(maps, axis=1, output_type=tf.int32)  # [B,C]
        numbers = tf.broadcast_to(first + tf.range(tf.shape(maps)[0])[:, None], tf.shape(there))
        pairs = (values, tf.reduce_max(maps, axis=1)), (indices, numbers), (places, there)
        all_values, *others = (tf.concat([old, tf.transpose(new)], axis=1) for old, new in pairs)  # [C,count+B]
        kept, order = tf.math.top_k(all_values, tf.shape(values)[1])  # of equals the first: the older
        return kept, *(tf.gather(other, order, batch_dims=1) for other in others)

    size = network.input_size
    shape = (size, size) if min(data.size) > size else data.size
    state = [tf.TensorSpec((len(channels), None), dtype) for dtype in (tf.float32, tf.int32, tf.int32)]
    signature = [*state, tf.TensorSpec((None, *shape, 3), tf.float32), tf.TensorSpec((), tf.int32)]
    return compiled(update, choose(compile, network.devices), signature)


def _seen(network: Network, layer: str, size: tuple[int, int]) -> tuple[tuple[int, ...], Field]:
    """Output shape and receptive field of a layer over images of `size`, whose "SAME" padding may differ."""
    if size == (network.input_size, network.input_size):
        operation = network.operation(layer)
    else:
        operation = find_operation(draw(network.model, (1, *size, 3)).ledger, layer)
    return operation.output_shape, operation.field


def contact_sheet(
    inputs: Sequence[TopInput],
    *,
    columns: int | None = None,
    tile: int = 64,
    gap: int = 8,
    color: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> np.ndarray:
    """A sheet of the crops, each `tile` pixels large, with the whole image and the box in it beside: RGB in [0,1].

    For a row of each channel: `contact_sheet([t for top in tops.values() for t in top], columns=count)`.
    """
    if not inputs:
        raise ValueError("there are no inputs to show; expected one or more")
    cells = []
    for shown in inputs:
        height, width = shown.image.shape[:2]
        scale = max(1, tile // max(height, width))
        large = shown.image.repeat(scale, axis=0).repeat(scale, axis=1)
        thickness = max(1, max(large.shape) // tile)  # still a pixel wide after shrinking
        boxed = draw_box(large, tuple(scale * edge for edge in shown.box), color, thickness)
        cells.append(np.concatenate([fit(shown.crop, tile), np.ones((tile, 2, 3)), fit(boxed, tile)], axis=1))
    return grid(cells, columns, gap)
