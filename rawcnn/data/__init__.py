"""Labeled images: scikit-learn's digits, the classics that Keras downloads, folders, records, TensorFlow Datasets.

    data = load("folder:photos", size=224)
    for images, labels in data.batches("train", 128, seed=0, epoch=3):
        ...                                              # float32 [B,H,W,3] in [0,1], int32 [B]

Decoded images are kept in memory as uint8 if they take less than MEMORY bytes. Otherwise they are decoded again in each
epoch, in parallel and in constant memory. The training order is a function of (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from rawcnn.data.checked import note_path, read_note, write_note
from rawcnn.data.dataset import DataSet, Split
from rawcnn.data.decode import Item, check, each, header, read
from rawcnn.data.downloads import DIGITS, KERAS, digits_arrays, keras_arrays, tfds_items
from rawcnn.data.folders import folder_items
from rawcnn.data.records import Records
from rawcnn.data.scan import some_of
from rawcnn.data.splits import SPLITS, Arrays, check_share, cut_arrays, cut_items, join_arrays, share_to_cut
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import Size, image_size, real

__all__ = ["DIGITS", "KERAS", "MEMORY", "NAMES", "DataSet", "Split", "load"]

MEMORY = 2**30  # bytes of decoded images, all splits together
NAMES = ("digits", *KERAS, "folder:PATH", "records:PATH", "tfds:NAME")


def load(
    name: str,
    size: Size | None = None,
    *,
    validation: float | None = None,
    whole: bool = False,
    skip_unreadable: bool = False,
    memory: int | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """Load a data set.

    Args:
        name: One of NAMES.
        size: Images are scaled to cover this height and width in pixels, and cropped at the center. None keeps their
            size if all have the same, and otherwise scales them to 224.
        validation: The share of the training images of each class, between 0 and 1, that becomes the split
            "validation". A hash of their names, or of their indices in arrays, decides which. None cuts nothing; a
            validation split that the data has is kept in both cases.
        whole: Join all splits to one, "all".
        skip_unreadable: Leave out images that cannot be read.
        memory: Keep decoded images in memory if they take less than this many bytes; None: MEMORY.
        progress: Called as progress(done, total) for each image that is read.

    Returns:
        The data set, with the splits "train" and "test", and "validation" if it has one. A folder of test images alone
        has the split "test" alone. `notes` says which choices were made.

    Raises:
        ValueError: The name is unknown, the data cannot be downloaded, the folder is not a data set, or an image
            cannot be read; or `validation` is not between 0 and 1, or there is nothing to cut it from.
    """
    check_share(validation)
    sides = None if size is None else image_size(size)
    memory = MEMORY if memory is None else int(real("memory", memory))
    notes: list[str] = []
    labels: Sequence[str]
    source, _, rest = name.partition(":")
    if name in ("digits", *KERAS):
        labels, white = (DIGITS, 240) if name == "digits" else (KERAS[name], 255)
        arrays = digits_arrays() if name == "digits" else keras_arrays(name)
        if whole:
            arrays = join_arrays(arrays)
        elif share := share_to_cut(name, arrays, validation, notes):
            arrays = cut_arrays(name, arrays, share)
        data = _from_arrays(name, labels, arrays, sides, memory, progress, white)
    elif source == "records" and rest:
        records = Records.open(Path(rest).expanduser())
        if whole:
            records = records.joined()
        elif share := share_to_cut(name, records.splits, validation, notes):
            records = records.cut(name, share)
        data = _from_records(name, records, sides, memory, progress)
    elif source in ("folder", "tfds") and rest:
        if source == "folder":
            labels, items = folder_items(Path(rest).expanduser(), whole=whole, notes=notes)
        else:
            labels, items = tfds_items(rest, whole=whole, notes=notes)
        if not whole and (share := share_to_cut(name, {item.split for item in items}, validation, notes)):
            items = cut_items(name, items, share)
        data = _from_items(name, labels, items, sides, memory, skip_unreadable, progress)
    else:
        raise ValueError(f"data is {name!r}; expected one of {', '.join(NAMES)}")
    return replace(data, notes=tuple(notes))


def _from_arrays(
    name: str,
    labels: Sequence[str],
    arrays: Arrays,
    size: tuple[int, int] | None,
    memory: int,
    progress: Progress | None,
    white: int = 255,
) -> DataSet:
    """A data set of arrays. At another size than `size` they become items, which are resized as they are read."""
    height, width = next(iter(arrays.values()))[0].shape[1:3]
    if size not in (None, (height, width)):
        items = [
            Item(split, f"{name}/{split}/{i}", int(label), image)
            for split, (images, numbers) in arrays.items()
            for i, (image, label) in enumerate(zip(images, numbers.reshape(-1), strict=True))
        ]
        return _from_items(name, labels, items, size, memory, False, progress, white)
    splits = {}
    for split, (images, numbers) in arrays.items():
        rgb = images if images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)  # [N,H,W,3]
        with tf.device("CPU:0"):
            splits[split] = Split(numbers.reshape(-1).astype(np.int32), tf.constant(rgb))
    return DataSet(name, tuple(labels), (height, width), splits, white)


def _from_items(
    name: str,
    labels: Sequence[str],
    items: list[Item],
    size: tuple[int, int] | None,
    memory: int,
    skip_unreadable: bool,
    progress: Progress | None,
    white: int = 255,
) -> DataSet:
    """A data set of items. Every image is read once: to keep it in memory, or else to check that it can be read."""
    skipped: list[str] | None = [] if skip_unreadable else None
    classes = {split: {item.label for item in items if item.split == split} for split in SPLITS}
    if size is None:
        headers = [*each(header, items, skipped, progress)]
        items, sizes = [item for item, _ in headers], {found for _, found in headers}
        size = sizes.pop() if len(sizes) == 1 else (224, 224)
    in_memory = len(items) * size[0] * size[1] * 3 < memory
    if in_memory:
        images = np.empty((len(items), *size, 3), np.uint8)
        readable: list[Item] = []
        for item, image in each(partial(read, size=size), items, skipped, progress):
            images[len(readable)] = image
            readable.append(item)
    else:
        readable = _readable(items, skipped, progress)

    splits, start = {}, 0
    for split in (split for split in SPLITS if classes[split]):  # the order of the items
        part = tuple(item for item in readable if item.split == split)
        numbers = np.array([item.label for item in part], np.int32)
        if empty := classes[split] - {*numbers.tolist()}:
            lost = some_of(labels[k] for k in empty)
            raise ValueError(f"{name} has no readable {split} image of {lost}; repair one or remove the folder")
        if in_memory:
            with tf.device("CPU:0"):
                splits[split] = Split(numbers, tf.constant(images[start : start + len(part)]), part)
        else:
            splits[split] = Split(numbers, items=part)
        start += len(part)
    return DataSet(name, tuple(labels), size, splits, white, tuple(skipped or ()))


def _readable(items: list[Item], skipped: list[str] | None, progress: Progress | None) -> list[Item]:
    """The items that can be decoded. Files that have not changed since an earlier check are not decoded again."""
    note = note_path(items)
    unreadable = read_note(note)
    unchecked = [item for item in items if unreadable is None or item.name in unreadable]
    readable = {item.name for item, _ in each(check, unchecked, skipped, progress)}
    names = {item.name for item in unchecked}
    if unreadable is None:
        write_note(note, names - readable)
    return [item for item in items if item.name not in names or item.name in readable]


def _from_records(
    name: str, records: Records, size: tuple[int, int] | None, memory: int, progress: Progress | None
) -> DataSet:
    """A data set of packed records. Images that are not kept in memory are not read: packing has checked them."""
    size = size or records.size or (224, 224)
    total, splits = sum(map(len, records.splits.values())), {}
    in_memory, done = total * size[0] * size[1] * 3 < memory, 0
    for split, packed in records.splits.items():
        if not len(packed):
            raise ValueError(f"{name} has no {split} images: none of them could be read; repair them and pack again")
        if not in_memory:
            splits[split] = Split(packed.labels, items=packed)
            continue
        images = np.empty((len(packed), *size, 3), np.uint8)
        for number, (_, image) in enumerate(each(partial(read, size=size), packed)):
            images[number] = image
            done += 1
            if progress:
                progress(done, total)
        with tf.device("CPU:0"):
            splits[split] = Split(packed.labels, tf.constant(images), packed)
    return DataSet(name, records.labels, size, splits, skipped=records.skipped)
