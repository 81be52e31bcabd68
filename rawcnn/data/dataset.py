"""Labeled images, in memory or decoded on request, in an order that is a function of (seed, epoch) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from kernels.geometry import is_integer, shown
from rawcnn.data.decode import Item, each, read, stored, unreadable
from rawcnn.nn.arguments import listed, whole_number

MARKS = 16  # images of a split that its fingerprint reads

Batches = Iterator[tuple[tf.Tensor, tf.Tensor]]


def array_text(values: object) -> str:
    """Return the type and shape of an array or a tensor for a message, such as "float32 (4, 10)"."""
    if not hasattr(values, "dtype") or not hasattr(values, "shape"):
        return f"a {type(values).__name__}"
    return f"{tf.as_dtype(values.dtype).name} {tuple(values.shape)}"


def _are_images(values: object) -> bool:
    """Return whether they are uint8 [N,H,W,3]."""
    shape = tuple(getattr(values, "shape", ()))
    return len(shape) == 4 and shape[-1] == 3 and tf.as_dtype(values.dtype) == tf.uint8  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
        labels: int32 [N].
        images: uint8 [N,H,W,3]; None if they are not kept in memory.
        items: What the images are decoded from; empty if there are only arrays.

    Raises:
        ValueError: The labels or images have another type or shape, or there are more of one than of the other.
    """

    labels: np.ndarray
    images: tf.Tensor | None = None
    items: Sequence[Item] = ()

    def __post_init__(self) -> None:
        numbers = isinstance(self.labels, np.ndarray) and self.labels.ndim == 1
        if not numbers or not np.issubdtype(self.labels.dtype, np.integer):
            found = array_text(self.labels)
            raise ValueError(f"the labels of a split are {found}; expected class numbers, an int32 array [N]")
        if self.images is not None and not _are_images(self.images):
            found = array_text(self.images)
            raise ValueError(
                f"the images of a split are {found}; expected uint8 [N,H,W,3]: multiply those in [0,1] by 255 and round"
            )
        for what, values in (("images", self.images), ("items", self.items or None)):
            if values is not None and len(values) != len(self.labels):
                raise ValueError(
                    f"a split has {len(values)} {what} and {len(self.labels)} labels; expected one label for each image"
                )


@dataclass(frozen=True)
class DataSet:
    """Labeled images of one size.

    Attributes:
        name: The name that it was loaded by.
        labels: The names of the classes.
        size: Height and width in pixels.
        splits: "train" and "test", and "validation" if the data has one; or one of them alone, or "all".
        white: The uint8 level that becomes 1.0.
        skipped: The names of the unreadable files that were left out.
        notes: Sentences about what was used as which split, and about files that were left out.

    Raises:
        ValueError: A split has labels that are no classes, or images of another size.
    """

    name: str
    labels: tuple[str, ...]
    size: tuple[int, int]
    splits: dict[str, Split]
    white: int = 255
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, split in self.splits.items():
            wrong = split.labels[(split.labels < 0) | (split.labels >= len(self.labels))]
            if len(wrong):
                count = len(self.labels)
                raise ValueError(
                    f"the {name} images of {self.name} have the label {wrong[0]}; expected 0 to {count - 1}, because "
                    f"there are {count} classes"
                )
            if split.images is not None and tuple(split.images.shape[1:3]) != tuple(self.size):
                height, width = split.images.shape[1:3]
                raise ValueError(
                    f"the {name} images of {self.name} have {height}×{width} pixels; expected {self.size[0]}×"
                    f"{self.size[1]}, the size of the data set"
                )

    def count(self, split: str) -> int:
        """Count the images of a split.

        Args:
            split: One of `splits`.

        Returns:
            The number of images.

        Raises:
            ValueError: The split is unknown.
        """
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
        """Yield one epoch of (images float32 [B,H,W,3] in [0,1], labels int32 [B]).

        Args:
            split: One of `splits`.
            batch: The number of images in a batch, B.
            seed: With `epoch`, the seed of the order.
            epoch: The number of the epoch.
            shuffle: Shuffle the images; None shuffles "train" alone.
            drop_remainder: Leave out the last batch if it is smaller.
            first: The number of batches to leave out at the start, without decoding them: a run resumes so.
            part: (index, count): yield part `index` of `count` equal parts of each batch, for workers that share it.

        Returns:
            An iterable over pairs of tensors.

        Raises:
            ValueError: The split is unknown, `batch` is below 1 or, with `drop_remainder`, larger than the split; or,
                while iterating, an image cannot be decoded.
        """
        data, count = self._split(split), self.count(split)
        if not is_integer(batch) or batch < 1 or (drop_remainder and batch > count):
            raise ValueError(f"batch is {batch!r}; expected 1 to {count}, the {split} images of {self.name}")
        batch, first = int(batch), whole_number("first", first, least=0)
        seed, epoch = whole_number("seed", seed, least=0, most=None), whole_number("epoch", epoch, least=0, most=None)
        order = np.arange(count)
        if split == "train" if shuffle is None else shuffle:
            order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
        if drop_remainder:
            order = order[: count // batch * batch]  # before it is divided, so that all parts have as many batches

        with tf.device("CPU:0"):
            labels = tf.constant(data.labels)
            numbers = tf.data.Dataset.from_tensor_slices(_part(order[first * batch :], batch, part))

        broken: list[ValueError] = []

        def pixels(number: int) -> np.ndarray:
            try:
                return read(data.items[number], self.size)
            except Exception as error:  # decoders raise many kinds for damaged files
                broken.append(unreadable(data.items[number], error))
                raise

        def decode(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.numpy_function(pixels, [number], tf.uint8)
            return tf.ensure_shape(image, (*self.size, 3)), labels[number]

        def gather(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.gather(data.images, numbers), tf.gather(labels, numbers)

        def scale(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(images, tf.float32) / self.white, labels

        local = -(-batch // part[1])  # images of a batch in this part
        if data.images is None:
            batches = numbers.map(decode, tf.data.AUTOTUNE).batch(local, drop_remainder)
        else:
            batches = numbers.batch(local, drop_remainder).map(gather, tf.data.AUTOTUNE)
        return _with_reasons(batches.map(scale, tf.data.AUTOTUNE).prefetch(2), broken)

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return all images of a split in its fixed order.

        Args:
            split: One of `splits`.

        Returns:
            (images float32 [N,H,W,3] in [0,1], labels int32 [N]).

        Raises:
            ValueError: The split is unknown, or its images are not kept in memory.
        """
        data = self._split(split)
        if data.images is None:
            raise ValueError(f"{self.name} at {self.size} is too large to be kept in memory; use batches")
        return data.images.numpy().astype(np.float32) / np.float32(self.white), data.labels

    def take(self, split: str, indices: Sequence[int]) -> np.ndarray:
        """Return some images as float32 [N,H,W,3] in [0,1]; decode them if they are not kept in memory.

        Args:
            split: One of `splits`.
            indices: Their numbers in the split's fixed order.

        Returns:
            float32 [N,H,W,3] in [0,1], in the order of `indices`.

        Raises:
            ValueError: The split is unknown, or it has no image of such a number.
        """
        data, count = self._split(split), self.count(split)
        numbers = listed(indices)
        if wrong := [number for number in numbers if not is_integer(number) or not 0 <= int(number) < count]:
            raise ValueError(f"{self.name} has no {split} images {wrong[:5]}; expected numbers from 0 to {count - 1}")
        numbers = [int(number) for number in numbers]
        images = np.empty((len(numbers), *self.size, 3), np.float32)
        if data.images is None:
            decoded = each(partial(read, size=self.size), [data.items[number] for number in numbers])
            for place, (_, image) in enumerate(decoded):
                images[place] = image
        else:
            with tf.device("CPU:0"):  # where the images are, so that only the requested ones are copied
                images[:] = tf.gather(data.images, tf.constant(numbers, tf.int64)).numpy()
        images /= self.white
        return images

    def only(self, split: str, indices: Sequence[int]) -> DataSet:
        """Keep only some images of a split, in this order.

        Args:
            split: One of `splits`.
            indices: Their numbers in the split's fixed order.

        Returns:
            The same data set otherwise.

        Raises:
            ValueError: The split is unknown.
        """
        data, rows = self._split(split), np.asarray(indices)
        with tf.device("CPU:0"):
            images = None if data.images is None else tf.gather(data.images, tf.constant(rows, tf.int64))
        items = tuple(data.items[row] for row in rows) if data.items else ()
        return replace(self, splits={**self.splits, split: Split(data.labels[rows], images, items)})

    def with_classes(self, labels: tuple[str, ...], numbers: Sequence[int]) -> DataSet:
        """Return the same images with other class numbers.

        Args:
            labels: The names of the classes in the new order.
            numbers: The new number of each class.

        Returns:
            A data set that shares the images with this one.
        """
        table = np.array(numbers, np.int32)
        splits = {name: replace(split, labels=table[split.labels]) for name, split in self.splits.items()}
        return replace(self, labels=labels, splits=splits)

    def originals(self, split: str) -> Iterator[np.ndarray]:
        """Yield each image in the split's fixed order at its own size, neither scaled nor cropped.

        Images are decoded a few ahead of the one that is yielded.

        Args:
            split: One of `splits`.

        Returns:
            An iterator over uint8 [H,W,3].

        Raises:
            ValueError: The split is unknown.
        """
        data = self._split(split)
        if data.images is not None and not data.items:
            return iter(data.images.numpy())
        return (image for _, image in each(read, data.items, ahead=16))

    def digest(self, split: str) -> str:
        """Compute a digest that changes if the data set does.

        Args:
            split: One of `splits`.

        Returns:
            The SHA-256 of labels, size, and the names, lengths and times of files; without files, of the pixels.

        Raises:
            ValueError: The split is unknown.
        """
        data = self._split(split)
        digest = hashlib.sha256(repr((self.labels, self.size, self.white)).encode() + data.labels.tobytes())
        for item in data.items:
            digest.update(item.name.encode(errors="surrogateescape"))
            if isinstance(item.source, Path):
                status = item.source.stat()
                digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        if not data.items and data.images is not None:
            digest.update(data.images.numpy().tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Return a SHA-256 of the labels and of MARKS stored images per split. Packing a folder does not change it."""
        digest = hashlib.sha256(repr((self.labels, self.size, self.white)).encode())
        for data in self.splits.values():
            digest.update(data.labels.tobytes())
            for number in np.linspace(0, len(data.labels) - 1, MARKS).astype(int) if len(data.labels) else ():
                pixels = None if data.items or data.images is None else data.images[number].numpy()
                digest.update(stored(data.items[number]) if pixels is None else pixels.tobytes())
        return digest.hexdigest()

    def is_uniform(self, split: str) -> bool:
        """Check, without opening files, whether the original images are known to have one size.

        Args:
            split: One of `splits`.

        Returns:
            True if they are known to.

        Raises:
            ValueError: The split is unknown.
        """
        data = self._split(split)
        return not data.items or all(isinstance(item.source, np.ndarray) for item in data.items)

    def _split(self, split: str) -> Split:
        if split not in self.splits:
            present = " or ".join(f'"{name}"' for name in self.splits)
            cut = split == "validation" and "train" in self.splits
            remedy = "; load it with validation=0.1 (rawcnn evaluate: --validation 0.1) to cut one" if cut else ""
            raise ValueError(f"split is {split!r}; expected {present}: {self.name} has no other images{remedy}")
        return self.splits[split]


def check_data_set(data: object) -> None:
    """Raise ValueError for anything but a data set."""
    if not isinstance(data, DataSet):
        raise ValueError(f"the data is {shown(data)}; expected a DataSet, such as rawcnn.data.load('digits')")


def _with_reasons(batches: tf.data.Dataset, broken: list[ValueError]) -> Batches:
    """The batches. The reason for an unreadable image is raised instead of TensorFlow's error, when its turn comes."""
    try:
        yield from batches
    except tf.errors.OpError as error:
        raise broken[0] if broken else error from error


def _part(order: np.ndarray, batch: int, part: tuple[int, int]) -> np.ndarray:
    """The numbers of part `index` of `count` of each batch."""
    index, count = part
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return np.concatenate([order[:0], *(np.array_split(b, count)[index] for b in batches)])
