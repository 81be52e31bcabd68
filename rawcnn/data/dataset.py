"""Labelled images, in memory or decoded as they are asked for, in an order that (seed, epoch) alone decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from rawcnn.data.decode import Item, each, read, stored, unreadable

MARKS = 16  # images by which a data set is known again

Batches = Iterator[tuple[tf.Tensor, tf.Tensor]]


@dataclass(frozen=True)
class Split:
    """The labels, the images where they are held in memory, and the items that they are decoded from, if any."""

    labels: np.ndarray  # int32 [N]
    images: tf.Tensor | None = None  # uint8 [N,H,W,3]
    items: Sequence[Item] = ()


@dataclass(frozen=True)
class DataSet:
    """Images of a `size` (height, width), each of one class of `labels`, in the splits "train" and "test"."""

    name: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    splits: dict[str, Split]
    white: int = 255  # the level that becomes 1.0
    skipped: tuple[str, ...] = ()  # names of the unreadable files that were left out

    def count(self, split: str) -> int:
        """Number of images. ValueError for an unknown split."""
        return len(self._split(split).labels)

    def batches(
        self,
        split: str,
        batch: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: bool | None = None,
        drop_remainder: bool = False,
        first: int = 0,
        part: tuple[int, int] = (0, 1),
    ) -> Batches:
        """One epoch of (images float32 [B,H,W,3] in [0,1], labels int32 [B]), shuffled if it is for training.

        `first` batches are left out at the start, undecoded: so one goes on in the middle of an epoch. `part`, as
        (1, 4), gives of each batch the second quarter alone: so workers share it. Raises ValueError for an unknown
        split, a batch below 1, or with `drop_remainder` one larger than the split; and on the way for an image that
        cannot be decoded.
        """
        data, count = self._split(split), self.count(split)
        if batch < 1 or (drop_remainder and batch > count):
            raise ValueError(f"batch is {batch}; expected 1 to {count}, the {split} images of {self.name}")
        order = np.arange(count)
        if split == "train" if shuffle is None else shuffle:
            order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
        if drop_remainder:
            order = order[: count // batch * batch]  # before it is parted: all parts have as many batches

        with tf.device("CPU:0"):
            labels = tf.constant(data.labels)
            numbers = tf.data.Dataset.from_tensor_slices(_part(order[first * batch :], batch, part))

        broken: list[ValueError] = []

        def pixels(number: int) -> np.ndarray:
            try:
                return read(data.items[number], self.size)
            except Exception as error:  # over broken bytes decoders raise anything
                broken.append(unreadable(data.items[number], error))
                raise

        def decode(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.numpy_function(pixels, [number], tf.uint8)
            return tf.ensure_shape(image, (*self.size, 3)), labels[number]

        def gather(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.gather(data.images, numbers), tf.gather(labels, numbers)

        def scale(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(images, tf.float32) / self.white, labels

        own = -(-batch // part[1])
        if data.images is None:
            batches = numbers.map(decode, tf.data.AUTOTUNE).batch(own, drop_remainder)
        else:
            batches = numbers.batch(own, drop_remainder).map(gather, tf.data.AUTOTUNE)
        return _told(batches.map(scale, tf.data.AUTOTUNE).prefetch(2), broken)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """A whole split in its fixed order: images float32 [N,H,W,3] in [0,1], labels int32 [N].

        Raises ValueError for an unknown split, and for data too large to be held in memory.
        """
        data = self._split(split)
        if data.images is None:
            raise ValueError(f"{self.name} at {self.size} is too large to be held in memory; use batches")
        return data.images.numpy().astype(np.float32) / np.float32(self.white), data.labels

    def take(self, split: str, indices: Sequence[int]) -> np.ndarray:
        """The images of these numbers in the split's fixed order: float32 [N,H,W,3] in [0,1].

        They are decoded where they are not held in memory. ValueError for an unknown split, and for a number that it
        has not.
        """
        data, count = self._split(split), self.count(split)
        numbers = [int(index) for index in indices]
        if wrong := [number for number in numbers if not 0 <= number < count]:
            raise ValueError(f"{self.name} has no {split} images {wrong[:5]}; expected numbers from 0 to {count - 1}")
        images = np.empty((len(numbers), *self.size, 3), np.float32)
        if data.images is None:
            decoded = each(partial(read, size=self.size), [data.items[number] for number in numbers])
            for place, (_, image) in enumerate(decoded):
                images[place] = image
        else:
            with tf.device("CPU:0"):  # where they lie: only what is taken is copied
                images[:] = tf.gather(data.images, tf.constant(numbers, tf.int64)).numpy()
        images /= self.white
        return images

    def only(self, split: str, indices: Sequence[int]) -> DataSet:
        """The same data set with these images of a split alone, in this order."""
        data, rows = self._split(split), np.asarray(indices)
        with tf.device("CPU:0"):
            images = None if data.images is None else tf.gather(data.images, tf.constant(rows, tf.int64))
        items = tuple(data.items[row] for row in rows) if data.items else ()
        return replace(self, splits={**self.splits, split: Split(data.labels[rows], images, items)})

    def originals(self, split: str) -> Iterator[np.ndarray]:
        """Each image in the split's fixed order at its own size, uint8 [H,W,3]: neither scaled nor cropped.

        They are decoded as they are asked for, a few ahead. Raises ValueError for an unknown split.
        """
        data = self._split(split)
        if data.images is not None and not data.items:
            return iter(data.images.numpy())
        return (image for _, image in each(read, data.items, ahead=16))

    def digest(self, split: str) -> str:
        """Of what can be known without decoding: labels, size, files' names, lengths and times, or else the pixels."""
        data = self._split(split)
        digest = hashlib.sha256(repr((self.labels, self.size, self.white)).encode() + data.labels.tobytes())
        for item in data.items:
            digest.update(item.name.encode(errors="surrogateescape"))
            if isinstance(item.source, Path):
                told = item.source.stat()
                digest.update(f"{told.st_size} {told.st_mtime_ns}".encode())
        if not data.items and data.images is not None:
            digest.update(data.images.numpy().tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Of the labels, and of `MARKS` images of each split as they are stored: the same in a folder and packed."""
        digest = hashlib.sha256(repr((self.labels, self.size, self.white)).encode())
        for data in self.splits.values():
            digest.update(data.labels.tobytes())
            for number in np.linspace(0, len(data.labels) - 1, MARKS).astype(int) if len(data.labels) else ():
                pixels = None if data.items or data.images is None else data.images[number].numpy()
                digest.update(stored(data.items[number]) if pixels is None else pixels.tobytes())
        return digest.hexdigest()

    def is_uniform(self, split: str) -> bool:
        """Have the originals one size, as far as is known without opening files?"""
        data = self._split(split)
        return not data.items or all(isinstance(item.source, np.ndarray) for item in data.items)

    def _split(self, split: str) -> Split:
        if split not in self.splits:
            raise ValueError(f'split is {split!r}; expected "train" or "test"')
        return self.splits[split]


def _told(batches: tf.data.Dataset, broken: list[ValueError]) -> Batches:
    """The batches; what was broken is raised in the place of TensorFlow's word for it, once they come to it."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        raise broken[0] if broken else error from error


def _part(order: np.ndarray, batch: int, part: tuple[int, int]) -> np.ndarray:
    """Of each batch of these numbers, part `index` of `count`."""
    index, count = part
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return np.concatenate([order[:0], *(np.array_split(b, count)[index] for b in batches)])
