"""Labelled images: scikit-learn's digits, the classics that Keras downloads, folders, records, TensorFlow Datasets.

    data = load("folder:photos", size=224)
    for images, labels in data.batches("train", 128, seed=0, epoch=3):
        ...                                              # float32 [B,H,W,3] in [0,1], int32 [B]

Images are kept as uint8, in memory where they take less than MEMORY bytes; else they are decoded anew in each
epoch, in parallel, in constant memory. The training order is a function of (seed, epoch) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from kernels.geometry import Pair, pair
from rawcnn.data.checked import note_of, remember, unreadable_in
from rawcnn.data.dataset import DataSet, Split
from rawcnn.data.decode import Item, check, each, header, read
from rawcnn.data.downloads import DIGITS, KERAS, Arrays, digits_arrays, keras_arrays, tfds_items
from rawcnn.data.folders import folder_items, some_of
from rawcnn.data.records import Records
from rawcnn.files.progress import Progress

__all__ = ["DIGITS", "KERAS", "MEMORY", "NAMES", "DataSet", "Split", "load"]

MEMORY = 2**30  # bytes of decoded images, both splits together
NAMES = ("digits", *KERAS, "folder:PATH", "records:PATH", "tfds:NAME")


def load(
    name: str,
    size: Pair | None = None,
    *,
    skip_unreadable: bool = False,
    memory: int | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """The data set of this name, one of NAMES, its images scaled to cover `size` and cropped in the middle.

    Decoded images are kept where they take less than `memory` bytes, by default MEMORY. Without a size images stay as
    they are; where they differ, they get 224. `progress(done, total)` is told of each pass over the images.
    ValueError for an unknown name, data that cannot be had, a folder that is no data set, and an unreadable image
    unless `skip_unreadable`.
    """
    wanted, memory = None if size is None else pair(size, "size"), MEMORY if memory is None else memory
    kind, _, rest = name.partition(":")
    if name == "digits":
        return _from_arrays(name, DIGITS, digits_arrays(), wanted, memory, progress, white=240)
    if name in KERAS:
        return _from_arrays(name, KERAS[name], keras_arrays(name), wanted, memory, progress)
    if kind == "folder" and rest:
        return _from_items(name, *folder_items(Path(rest).expanduser()), wanted, memory, skip_unreadable, progress)
    if kind == "records" and rest:
        return _from_records(name, Records.open(Path(rest).expanduser()), wanted, memory, progress)
    if kind == "tfds" and rest:
        return _from_items(name, *tfds_items(rest), wanted, memory, skip_unreadable, progress)
    raise ValueError(f"data is {name!r}; expected one of {', '.join(NAMES)}")


def _from_arrays(
    name: str,
    labels: Sequence[str],
    arrays: Arrays,
    size: tuple[int, int] | None,
    memory: int,
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
    """Read every image once: to keep it; or, all being too large for that, to know that it can be read."""
    skipped: list[str] | None = [] if skip_unreadable else None
    if size is None:
        sizes = [*each(header, items, skipped, progress)]
        items, found = [item for item, _ in sizes], {found for _, found in sizes}
        size = found.pop() if len(found) == 1 else (224, 224)
    in_memory = len(items) * size[0] * size[1] * 3 < memory
    if in_memory:
        images = np.empty((len(items), *size, 3), np.uint8)
        kept: list[Item] = []
        for item, image in each(partial(read, size=size), items, skipped, progress):
            images[len(kept)] = image
            kept.append(item)
    else:
        kept = _readable(items, skipped, progress)

    splits, start = {}, 0
    for split in ("train", "test"):  # the order of the items
        part = tuple(item for item in kept if item.split == split)
        numbers = np.array([item.label for item in part], np.int32)
        empty = {*range(len(labels))} - {*numbers.tolist()}
        if empty and skipped:
            lost = some_of({labels[k] for k in empty})
            raise ValueError(f"{name} has no readable {split} image of {lost}; repair some or remove the folder")
        if in_memory:
            with tf.device("CPU:0"):
                splits[split] = Split(numbers, tf.constant(images[start : start + len(part)]), part)
        else:
            splits[split] = Split(numbers, items=part)
        start += len(part)
    return DataSet(name, tuple(labels), size, splits, white, tuple(skipped or ()))


def _readable(items: list[Item], skipped: list[str] | None, progress: Progress | None) -> list[Item]:
    """Those that can be decoded. Files that are as they were when that was found out are not decoded again."""
    note = note_of(items)
    unreadable = unreadable_in(note)
    doubtful = [item for item in items if unreadable is None or item.name in unreadable]
    readable = {item.name for item, _ in each(check, doubtful, skipped, progress)}
    names = {item.name for item in doubtful}
    if unreadable is None:
        remember(note, names - readable)
    return [item for item in items if item.name not in names or item.name in readable]


def _from_records(
    name: str, records: Records, size: tuple[int, int] | None, memory: int, progress: Progress | None
) -> DataSet:
    """In memory where they take little; nothing is looked at otherwise, for that was done when they were packed."""
    size = size or records.size or (224, 224)
    total, splits = sum(map(len, records.splits.values())), {}
    in_memory, done = total * size[0] * size[1] * 3 < memory, 0
    for split, shelf in records.splits.items():
        if not len(shelf):
            raise ValueError(f"{name} has no {split} images: none of them could be read; mend them, and pack again")
        if not in_memory:
            splits[split] = Split(shelf.labels, items=shelf)
            continue
        images = np.empty((len(shelf), *size, 3), np.uint8)
        for number, (_, image) in enumerate(each(partial(read, size=size), shelf)):
            images[number] = image
            done += 1
            if progress:
                progress(done, total)
        with tf.device("CPU:0"):
            splits[split] = Split(shelf.labels, tf.constant(images), shelf)
    return DataSet(name, records.labels, size, splits, skipped=records.skipped)
