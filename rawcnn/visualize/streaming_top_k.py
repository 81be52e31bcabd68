"""The k largest and smallest activations over a data set of any size, in one pass and in constant memory.

From batch to batch only the k best of each channel are kept, each as (activation, index of the image, place in the
map), and the activations of a random sample of the images. The images themselves are not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop
from rawcnn.nn.receptive_field import ReceptiveField

SAMPLE = 10_000  # images of which a histogram and its quantiles are made; drawn at random from a larger data set


class TopK(NamedTuple):
    """The k best images of each of C channels: tensors or arrays [C,k], the best first."""

    activations: Any  # float32
    indices: Any  # int32, of the images in their split
    places: Any  # int32, row·width + column in the map


@dataclass(frozen=True)
class UnitSelection:
    """Channels of a layer, at any position of its map or at one `position`, over images of `size`."""

    network: Network
    layer: str
    channels: list[int]
    position: tuple[int, int] | None  # (row, column)
    size: tuple[int, int]  # height and width to which images are cropped
    columns: int  # of the map; 1 if there is none
    receptive_field: ReceptiveField


@dataclass(frozen=True)
class Scan:
    """How a data set is read: its split, the batch size, how the step is compiled, and the progress callback."""

    data: DataSet
    split: str
    batch: int
    compile: str
    progress: Progress | None


@dataclass(frozen=True)
class Sample:
    """The activations of some images, each at the best place of a channel."""

    indices: np.ndarray  # int64 [S], of the images, ascending
    activations: np.ndarray  # float32 [S,C]
    places: np.ndarray  # int32 [S,C], row·width + column in the map


def sample_indices(total: int, count: int = SAMPLE, seed: int = 0) -> np.ndarray:
    """Draw `count` of the image indices 0 to total − 1 uniformly, in ascending order; all if there are no more."""
    if total <= count:
        return np.arange(total)
    generator = np.random.Generator(np.random.PCG64([seed]))
    return np.sort(generator.choice(total, count, replace=False, shuffle=False))


# The algorithm ---------------------------------------------------------------------------------------------------


def stream_top_k(
    units: UnitSelection, scan: Scan, k: int, *, signs: Sequence[int], sampled: np.ndarray
) -> tuple[list[TopK], Sample]:
    """Find the k largest values of sign · activation in one pass over a split.

    An image counts once per channel, with its best place. Of equal activations the first is kept: by image, then row
    by row.

    Args:
        units: The channels.
        scan: The images.
        k: How many images to keep per channel.
        signs: 1 for the largest and −1 for the smallest activations.
        sampled: Indices of images, ascending, whose activations are returned as well.

    Returns:
        The best images for each sign, and the sample.

    Raises:
        ValueError: For activations that are not finite.
    """
    channels, done, total = len(units.channels), 0, scan.data.count(scan.split)
    best = [empty_top_k(channels, k) for _ in signs]
    sample = Sample(sampled, *(np.empty((len(sampled), channels), dtype) for dtype in (np.float32, np.int32)))
    step = _compiled_step(units, signs, scan.compile)
    for images, _ in scan.data.batches(scan.split, scan.batch, shuffle=False):
        if tuple(images.shape[1:3]) != units.size:
            images = center_crop(images, units.size)
        best, activations, places = step(best, images, tf.constant(done))
        _fill(sample, done, activations, places)
        done += len(images)
        if scan.progress:
            scan.progress(done, total)
    ends = [TopK(sign * a.numpy(), b.numpy(), c.numpy()) for sign, (a, b, c) in zip(signs, best, strict=True)]
    if not all(np.isfinite(values).all() for values in (sample.activations, *(end.activations for end in ends))):
        raise ValueError(f"{units.layer} gives numbers that are not finite; check the network's weights")
    return ends, sample


def top_k_step(
    units: UnitSelection, signs: Sequence[int], best: Sequence[TopK], images: tf.Tensor, first: tf.Tensor
) -> tuple[list[TopK], tf.Tensor, tf.Tensor]:
    """Merge a batch into the best images.

    Args:
        units: C channels of a layer.
        signs: 1 for the largest and −1 for the smallest activations.
        best: The best images so far, for each sign.
        images: [B,H,W,3] in [0,1].
        first: Index of the first image.

    Returns:
        The new best images; and for the first sign the activation and place of each image, [B,C].
    """
    maps = tf.cast(units.network.activations(images, [units.layer])[units.layer], tf.float32)  # [B,h,w,·] or [B,·]
    maps = tf.gather(maps, units.channels, axis=-1)  # [B,h,w,C] or [B,C]
    if units.position:
        maps = maps[:, units.position[0], units.position[1]]  # [B,C]
    maps = tf.reshape(maps, (tf.shape(maps)[0], -1, len(units.channels)))  # [B,h·w,C]
    new = [best_place(sign * maps) for sign in signs]
    indices = first + tf.range(tf.shape(maps)[0])  # [B]
    return [merge(old, *found, indices) for old, found in zip(best, new, strict=True)], *new[0]


def best_place(maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Maps [B,h·w,C] → the largest value of each map and its place, both [B,C]."""
    return tf.reduce_max(maps, axis=1), tf.argmax(maps, axis=1, output_type=tf.int32)


def merge(best: TopK, activations: tf.Tensor, places: tf.Tensor, indices: tf.Tensor) -> TopK:
    """The k best of `best` [C,k] and of a batch: activations and places [B,C], indices [B]."""
    new = activations, tf.broadcast_to(indices[:, None], tf.shape(places)), places
    all_activations, *others = (tf.concat([old, tf.transpose(b)], axis=1) for old, b in zip(best, new, strict=True))
    largest, order = tf.math.top_k(all_activations, tf.shape(best[0])[1])  # of equal values the first, the older one
    return TopK(largest, *(tf.gather(other, order, batch_dims=1) for other in others))


# Around it -------------------------------------------------------------------------------------------------------


def empty_top_k(channels: int, k: int) -> TopK:
    """The best images before the first batch: activations −∞, indices and places −1."""
    return TopK(tf.fill((channels, k), -np.inf), *(tf.fill((channels, k), -1) for _ in range(2)))


def _compiled_step(units: UnitSelection, signs: Sequence[int], compile: str) -> Callable:
    """The compiled `top_k_step`: (best, images [B,H,W,3], index of the first) → (best, activations, places)."""

    def step(best, images, first):
        return top_k_step(units, signs, best, images, first)

    network, channels = units.network, len(units.channels)
    state = [TopK(*(tf.TensorSpec((channels, None), t) for t in (tf.float32, tf.int32, tf.int32))) for _ in signs]
    signature = [state, tf.TensorSpec((None, *units.size, 3), tf.float32), tf.TensorSpec((), tf.int32)]
    return compiled(step, choose(compile, network.devices, network.precision), signature)


def _fill(sample: Sample, first: int, activations: tf.Tensor, places: tf.Tensor) -> None:
    """Write the batch that begins with image `first`, [B,C], into the sample; only sampled rows leave the device."""
    low, high = np.searchsorted(sample.indices, (first, first + len(activations)))
    if high > low:
        rows = sample.indices[low:high] - first
        sample.activations[low:high] = tf.gather(activations, rows).numpy()
        sample.places[low:high] = tf.gather(places, rows).numpy()
