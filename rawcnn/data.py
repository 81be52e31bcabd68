"""Labelled images: scikit-learn's digits, the classics that Keras downloads, folders, TensorFlow Datasets.

    data = load("folder:photos", size=224)
    for images, labels in data.batches("train", 128, seed=0, epoch=3):
        ...                                              # float32 [B,H,W,3] in [0,1], int32 [B]

Images are kept as uint8, in memory where they take less than MEMORY bytes; else they are decoded anew in each
epoch, in parallel, in constant memory. The training order is a function of (seed, epoch) alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kernels.geometry import Pair, pair
from rawcnn.decode import SUFFIXES, Item, Progress, check, each, header, one_line, read

MEMORY = 2**30  # bytes of decoded images, both splits together
DIGITS = tuple("0123456789")
KERAS = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "mnist": DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
NAMES = ("digits", *KERAS, "folder:PATH", "tfds:NAME")

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # split → images uint8 [N,H,W] or [N,H,W,3], labels


@dataclass(frozen=True)
class Split:
    """The labels, the images where they are held in memory, and the items that they are decoded from, if any."""

    labels: np.ndarray  # int32 [N]
    images: tf.Tensor | None = None  # uint8 [N,H,W,3]
    items: tuple[Item, ...] = ()


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
    ) -> tf.data.Dataset:
        """One epoch of (images float32 [B,H,W,3] in [0,1], labels int32 [B]), shuffled if it is for training.

        `first` batches are left out at the start, undecoded: so one goes on in the middle of an epoch. Raises
        ValueError for an unknown split, a batch below 1, or with `drop_remainder` one larger than the split.
        """
        data, count = self._split(split), self.count(split)
        if batch < 1 or (drop_remainder and batch > count):
            raise ValueError(f"batch is {batch}; expected 1 to {count}, the {split} images of {self.name}")
        order = np.arange(count)
        if split == "train" if shuffle is None else shuffle:
            order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)

        with tf.device("CPU:0"):
            labels = tf.constant(data.labels)
            numbers = tf.data.Dataset.from_tensor_slices(order[first * batch :])

        def decode(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = tf.numpy_function(lambda i: read(data.items[i], self.size), [number], tf.uint8)
            return tf.ensure_shape(image, (*self.size, 3)), labels[number]

        def gather(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.gather(data.images, numbers), tf.gather(labels, numbers)

        def scale(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.cast(images, tf.float32) / self.white, labels

        if data.images is None:
            batches = numbers.map(decode, tf.data.AUTOTUNE).batch(batch, drop_remainder)
        else:
            batches = numbers.batch(batch, drop_remainder).map(gather, tf.data.AUTOTUNE)
        return batches.map(scale, tf.data.AUTOTUNE).prefetch(2)

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

    def is_uniform(self, split: str) -> bool:
        """Have the originals one size, as far as is known without opening files?"""
        data = self._split(split)
        return not data.items or all(isinstance(item.source, np.ndarray) for item in data.items)

    def _split(self, split: str) -> Split:
        if split not in self.splits:
            raise ValueError(f'split is {split!r}; expected "train" or "test"')
        return self.splits[split]


def load(
    name: str, size: Pair | None = None, *, skip_unreadable: bool = False, progress: Progress | None = None
) -> DataSet:
    """The data set of this name, one of NAMES, its images scaled to cover `size` and cropped in the middle.

    Without a size images stay as they are; where they differ, they get 224. `progress(done, total)` is told
    of each pass over the images. Raises ValueError for an unknown name, data that cannot be had, a folder
    that is no data set, and an unreadable image unless `skip_unreadable`.
    """
    wanted = None if size is None else pair(size, "size")
    kind, _, rest = name.partition(":")
    if name == "digits":
        return _from_arrays(name, DIGITS, _digits(), wanted, progress, white=240)
    if name in KERAS:
        return _from_arrays(name, KERAS[name], _keras(name), wanted, progress)
    if kind == "folder" and rest:
        return _from_items(name, *_folder(Path(rest).expanduser()), wanted, skip_unreadable, progress)
    if kind == "tfds" and rest:
        return _from_items(name, *_tfds(rest), wanted, skip_unreadable, progress)
    raise ValueError(f"data is {name!r}; expected one of {', '.join(NAMES)}")


# Arrays ----------------------------------------------------------------------------------------------------


def _digits() -> Arrays:
    """1797 handwritten digits, 8×8, levels 0 … 16 (Alpaydin & Kaynak 1998); a class's every fifth is a test.

    Levels are multiplied by 15, white being 240 then, to leave room between them for resizing.
    """
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    images = (levels * 15).astype(np.uint8).reshape(-1, 8, 8)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}


def _keras(name: str) -> Arrays:
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception where it cannot download
        raise ValueError(
            f"{name} could not be downloaded ({one_line(error)}); go online once, or unpack its images "
            "into folders and use folder:PATH"
        ) from error
    return {"train": train, "test": test}


def _from_arrays(
    name: str,
    labels: Sequence[str],
    arrays: Arrays,
    size: tuple[int, int] | None,
    progress: Progress | None,
    white: int = 255,
) -> DataSet:
    """As they are; or, at another size, as items to be resized."""
    height, width = arrays["train"][0].shape[1:3]
    if size not in (None, (height, width)):
        items = [
            Item(split, f"{name}/{split}/{i}", int(label), image)
            for split, (images, numbers) in arrays.items()
            for i, (image, label) in enumerate(zip(images, numbers.reshape(-1), strict=True))
        ]
        return _from_items(name, labels, items, size, False, progress, white)
    splits = {}
    for split, (images, numbers) in arrays.items():
        rgb = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)  # [N,H,W,3]
        with tf.device("CPU:0"):
            splits[split] = Split(numbers.reshape(-1).astype(np.int32), tf.constant(rgb))
    return DataSet(name, tuple(labels), (height, width), splits, white)


# Items -----------------------------------------------------------------------------------------------------


def _folder(root: Path) -> tuple[list[str], list[Item]]:
    """PATH/{train,test|val|validation}/CLASS/*, or PATH/CLASS/*, where a fifth of each class is for testing.

    Which fifth is decided by a hash of the file names: the same on every machine and in every run.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected one that holds a folder of images for each class")
    train = root / "train"
    if not train.is_dir() or _image_files(train):  # a class may be called train
        train = root
    test = next((root / name for name in ("test", "val", "validation") if (root / name).is_dir()), None)
    labels = _classes(train)
    files = {label: _image_files(train / label) for label in labels}
    if train == root or test is None:
        held_out = {label: _fifth(train / label, files[label]) for label in labels}
        files = {label: sorted({*files[label]} - {*held_out[label]}) for label in labels}
    else:
        if difference := {*labels} ^ {*_classes(test)}:
            raise ValueError(
                f"only one of {train} and {test} has {_some(difference)}; expected the same classes in both"
            )
        held_out = {label: _image_files(test / label) for label in labels}
    items = [
        Item(split, str(file.relative_to(root)), number, file)
        for split, classes in (("train", files), ("test", held_out))
        for number, label in enumerate(labels)
        for file in classes[label]
    ]
    return labels, items


def _classes(folder: Path) -> list[str]:
    """The names of the folders in it, sorted; each must hold images. Hidden ones do not count."""
    folders = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    labels = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
    if len(labels) < 2:
        found = f"one class, {labels[0]!r}" if labels else "no folders of images"
        raise ValueError(f"{folder} has {found}; expected a folder of images for each of two classes or more")
    for label in labels:
        if not _image_files(folder / label):
            raise ValueError(f"{folder / label} has no images ({', '.join(SUFFIXES)}); add some or remove it")
    return labels


def _image_files(folder: Path) -> list[Path]:
    files = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    return [folder / name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]


def _fifth(folder: Path, files: list[Path]) -> list[Path]:
    """The fifth of a class whose hashed names come first, at least one, in the order of their names."""
    if len(files) < 2:
        raise ValueError(f"{folder} has one image; expected two or more, one to train and one to test with")
    ranked = sorted(files, key=lambda f: hashlib.sha256(os.fsencode(f"{folder.name}/{f.name}")).digest())
    return sorted(ranked[: max(1, round(len(files) / 5))])


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")


def _tfds(name: str) -> tuple[list[str], list[Item]]:
    """A set of TensorFlow Datasets with the features "image" and "label"; images stay encoded until read."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(f"tfds:{name} needs TensorFlow Datasets; pip install 'rawcnn[tfds]'") from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            builder = tfds.builder(name, file_format="array_record")  # the format that is read in any order
            builder.download_and_prepare()
    except Exception as error:  # unknown names, no network, a full disk: each its own class
        raise ValueError(
            f"tfds:{name} cannot be had ({one_line(error)}); check its name, the network and the disk"
        ) from error
    features, parts = builder.info.features, builder.info.splits
    test = next((part for part in ("test", "validation") if part in parts), None)
    if "train" not in parts or test is None or not {"image", "label"} <= {*features}:
        raise ValueError(
            f"tfds:{name} has splits {', '.join(parts)} and features {', '.join(features)}; "
            "expected train and test (or validation), with image and label"
        )
    items = []
    for split, part in (("train", "train"), ("test", test)):
        source = builder.as_data_source(part, decoders={"image": tfds.decode.SkipDecoding()})
        items += [
            Item(split, f"{name}/{part}/{i}", int(source[i]["label"]), partial(_encoded, source, i))
            for i in range(len(source))
        ]
    return list(features["label"].names), items


def _encoded(source: Any, index: int) -> bytes:
    return source[index]["image"]


def _from_items(
    name: str,
    labels: Sequence[str],
    items: list[Item],
    size: tuple[int, int] | None,
    skip_unreadable: bool,
    progress: Progress | None,
    white: int = 255,
) -> DataSet:
    """Read every image once: to keep it; or, all being too large for that, to know that it can be read."""
    skipped: list[str] | None = [] if skip_unreadable else None
    if size is None:
        sizes = [*each(header, items, skipped, progress)]
        items, found = [item for item, _ in sizes], {found for _, found in sizes}
        size = found.pop() if len(found) == 1 else (224, 224)
    in_memory = len(items) * size[0] * size[1] * 3 < MEMORY
    images = np.empty((len(items) if in_memory else 0, *size, 3), np.uint8)
    kept: list[Item] = []
    for item, image in each(partial(read, size=size) if in_memory else check, items, skipped, progress):
        if in_memory:
            images[len(kept)] = image
        kept.append(item)

    splits, start = {}, 0
    for split in ("train", "test"):  # the order of the items
        part = tuple(item for item in kept if item.split == split)
        numbers = np.array([item.label for item in part], np.int32)
        empty = {*range(len(labels))} - {*numbers.tolist()}
        if empty and skipped:
            lost = _some({labels[k] for k in empty})
            raise ValueError(f"{name} has no readable {split} image of {lost}; repair some or remove the folder")
        if in_memory:
            with tf.device("CPU:0"):
                splits[split] = Split(numbers, tf.constant(images[start : start + len(part)]), part)
        else:
            splits[split] = Split(numbers, items=part)
        start += len(part)
    return DataSet(name, tuple(labels), size, splits, white, tuple(skipped or ()))
