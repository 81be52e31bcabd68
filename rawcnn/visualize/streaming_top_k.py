"""The largest and the smallest activations over a data set of any size, in one pass and in constant memory.

Kept from batch to batch are three numbers (activation, image, place in the map) for each of the best so far, and the
activations of a random sample of the images. The images themselves pass by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop
from rawcnn.nn.receptive_field import ReceptiveField

SAMPLE = 10_000  # images that a histogram and its quantiles rest on, drawn at random where there are more

Progress = Callable[[int, int], None]
Kept = tuple[np.ndarray, np.ndarray, np.ndarray]  # activations, numbers of images, places in the map: [C,count]


@dataclass(frozen=True)
class Units:
    """Channels of a layer, wherever in its map or at one `position`, over images of `size`."""

    network: Network
    layer: str
    channels: list[int]
    position: tuple[int, int] | None  # (row, column)
    size: tuple[int, int]  # that images are cropped to
    columns: int  # of the map; 1 where there is none
    field: ReceptiveField


@dataclass(frozen=True)
class Sample:
    """The activations of some images, each at its best place of a channel."""

    numbers: np.ndarray  # int64 [S], of the images, in their order
    activations: np.ndarray  # float32 [S,C]
    places: np.ndarray  # int32 [S,C], in the map, row by row


def drawn(total: int, sample: int = SAMPLE, seed: int = 0) -> np.ndarray:
    """Numbers of `sample` images, each set of them as likely as another, in their order; of all if there are no more.

    How many images there are is known, so that they can be drawn ahead.
    """
    if total <= sample:
        return np.arange(total)
    generator = np.random.Generator(np.random.PCG64([seed]))
    return np.sort(generator.choice(total, sample, replace=False, shuffle=False))


def search(
    units: Units,
    data: DataSet,
    split: str,
    *,
    signs: Sequence[int],
    count: int,
    numbers: np.ndarray,
    batch: int,
    compile: str,
    progress: Progress | None,
) -> tuple[list[Kept], Sample]:
    """For each of `signs` the `count` largest of sign · activation, best first; and the sample of images `numbers`.

    An image counts once, with its best place. Of equals the first is kept: image by image, row by row. ValueError for
    activations that are not finite.
    """
    channels = len(units.channels)
    kept = [(tf.fill((channels, count), -np.inf), *(tf.fill((channels, count), -1) for _ in range(2))) for _ in signs]
    activations, places = (np.empty((len(numbers), channels), dtype) for dtype in (np.float32, np.int32))
    step, done, total = _step(units, signs, compile), 0, data.count(split)
    for pixels, _ in data.batches(split, batch, shuffle=False):
        kept, best, there = step(kept, cropped(pixels, units.size), tf.constant(done))
        low, high = np.searchsorted(numbers, (done, done + len(pixels)))
        if high > low:  # only the sample leaves the device
            rows = numbers[low:high] - done
            activations[low:high], places[low:high] = (tf.gather(found, rows).numpy() for found in (best, there))
        done += len(pixels)
        if progress:
            progress(done, total)
    ends = [(sign * a.numpy(), b.numpy(), c.numpy()) for sign, (a, b, c) in zip(signs, kept, strict=True)]
    if not all(np.isfinite(values).all() for values in (activations, *(end[0] for end in ends))):
        raise ValueError(f"{units.layer} gives numbers that are not finite; check the network's weights")
    return ends, Sample(numbers, activations, places)


def _step(units: Units, signs: Sequence[int], compile: str) -> Callable:
    """The compiled step (what is kept, images, number of the first) → what is kept anew, their best and its place."""
    network, layer, channels = units.network, units.layer, units.channels

    def step(kept, images, first):
        maps = tf.cast(network.activations(images, [layer])[layer], tf.float32)  # [B,h,w,C] or [B,C]
        maps = tf.gather(maps, channels, axis=-1)
        if units.position:
            maps = maps[:, units.position[0], units.position[1]]
        maps = tf.reshape(maps, (tf.shape(maps)[0], -1, len(channels)))  # [B,h·w,C]
        new = [_best(sign * maps) for sign in signs]
        numbers = first + tf.range(tf.shape(maps)[0])
        return [_merged(old, *its, numbers) for old, its in zip(kept, new, strict=True)], *new[0]

    state = [tuple(tf.TensorSpec((len(channels), None), t) for t in (tf.float32, tf.int32, tf.int32)) for _ in signs]
    signature = [state, tf.TensorSpec((None, *units.size, 3), tf.float32), tf.TensorSpec((), tf.int32)]
    return compiled(step, choose(compile, network.devices, network.precision), signature)


def _best(maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """[B,h·w,C] → the largest value of each map and its place, both [B,C]."""
    return tf.reduce_max(maps, axis=1), tf.argmax(maps, axis=1, output_type=tf.int32)


def _merged(kept, values: tf.Tensor, places: tf.Tensor, numbers: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The largest of those kept, [C,count], and those of a batch, [B,C]."""
    new = values, tf.broadcast_to(numbers[:, None], tf.shape(places)), places
    all_values, *others = (tf.concat([old, tf.transpose(its)], axis=1) for old, its in zip(kept, new, strict=True))
    largest, order = tf.math.top_k(all_values, tf.shape(kept[0])[1])  # of equals the first: the older
    return largest, *(tf.gather(other, order, batch_dims=1) for other in others)


def cropped(images, size: tuple[int, int]):
    """The middle of images [B,H,W,3], where they are larger than `size`."""
    return images if tuple(images.shape[1:3]) == size else center_crop(images, size)
