"""Images packed into TFRecords: a few large files instead of a million small ones. Each record can be read by itself.

PATH/.lock                    locked by the process that packs, because two would write the same files
PATH/plan.json                what is packed, and how; written first, so that nothing else is mixed in
PATH/manifest.json            labels, and the number of shards of each split; written last
PATH/train-00003.tfrecord     records of tf.train.Example: "image", the bytes of a file; "label"; "name"
PATH/train-00003.npz          the index: offsets, lengths, labels, sizes and names [N,…]; names of skipped files

A shard is written to a temporary file that is then renamed, and its index after it. A packing that was stopped
therefore resumes with the next shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import overload
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
from PIL import Image

from rawcnn.data.decode import Item, check, each, header, open_image, stored
from rawcnn.data.pixels import to_rgb
from rawcnn.data.splits import SPLITS, WHOLE, check_held_out, held_out, name_key
from rawcnn.files.atomic import replace_durably, temporary_path, write_atomic
from rawcnn.files.errors import remedy
from rawcnn.files.locks import exclusive_folder
from rawcnn.files.progress import Progress

SHARD = 1024  # images
QUALITY = 95  # of JPEGs that are made smaller
BEFORE, AFTER = 12, 4  # bytes of a record around its Example: length and checksum before, the Example's checksum after


@dataclass(frozen=True)
class PackedSplit(Sequence[Item]):
    """The images of a split in shards; each Item is created on access.

    Attributes:
        split: "train", "test", "validation" or "all".
        shards: The files.
        places: int64 [N,3]: shard, offset and length in bytes.
        labels: int32 [N].
        sizes: int32 [N,2]: height and width in pixels.
        names: bytes [N], the names of the images; None if a shard was packed without them.
    """

    split: str
    shards: tuple[Path, ...]
    places: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, number: int) -> Item: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Item]: ...
    def __getitem__(self, number):
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        shard, offset, _ = self.places[number]
        name = f"{self.shards[shard]}, the record at byte {offset}"
        remedy = "delete that file and its .npz, and pack again"
        return Item(self.split, name, int(self.labels[number]), partial(self._image, number), remedy)

    def _image(self, number: int) -> bytes:
        return self._stored(number, "image")

    def _stored(self, number: int, feature: str) -> bytes:
        shard, offset, length = (int(n) for n in self.places[number])
        with self.shards[shard].open("rb") as file:
            file.seek(offset)
            example = tf.train.Example.FromString(file.read(length))
        return example.features.feature[feature].bytes_list.value[0]

    def keys(self) -> list[bytes]:
        """Return the names of the images, as `splits.held_out` expects them; without an index of names, read each."""
        names = [self._stored(n, "name") for n in range(len(self))] if self.names is None else self.names.tolist()
        return [name_key(os.fsdecode(name)) for name in names]

    def only(self, rows: np.ndarray, split: str) -> PackedSplit:
        """Return the images of these rows, bool [N], as another split."""
        names = None if self.names is None else self.names[rows]
        return PackedSplit(split, self.shards, self.places[rows], self.labels[rows], self.sizes[rows], names)


@dataclass(frozen=True)
class Records:
    """The content of a folder that `pack` wrote.

    Attributes:
        labels: The names of the classes.
        splits: "train" and "test", and "validation" if the folder had one; or "test" or "all" alone.
        skipped: The names of unreadable files that were left out.
    """

    labels: tuple[str, ...]
    splits: dict[str, PackedSplit]
    skipped: tuple[str, ...]

    @staticmethod
    def open(root: Path) -> Records:
        """Read the indexes of a folder.

        Raises:
            ValueError: It holds no records, packing was not finished, or a shard is damaged or incomplete.
        """
        if not (root / "manifest.json").is_file():
            stopped = (root / "plan.json").is_file()
            problem = "has no manifest.json: its packing was stopped" if stopped else "has no records"
            raise ValueError(f"{root} {problem}; pack images with `rawcnn data pack FOLDER --output {root}`")
        names, counts = _read_manifest(root / "manifest.json")
        splits, skipped = {}, []
        for split in counts:
            shards = [root / f"{split}-{number:05}.tfrecord" for number in range(counts[split])]
            indexes = [_read_index(shard, len(names)) for shard in shards]
            places = [
                np.stack([np.full_like(x["offsets"], n), x["offsets"], x["lengths"]], 1) for n, x in enumerate(indexes)
            ]
            labels, sizes = (np.concatenate([x[key] for x in indexes]) for key in ("labels", "sizes"))
            file_names = [x["names"] for x in indexes if "names" in x]
            splits[split] = PackedSplit(
                split, tuple(shards), np.concatenate(places), labels, sizes,
                np.concatenate(file_names) if len(file_names) == len(indexes) else None,
            )  # fmt: skip
            skipped += [str(name) for x in indexes for name in x["skipped"]]
        return Records(names, splits, tuple(skipped))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of all images in pixels; None if they differ."""
        found = np.unique(np.concatenate([split.sizes for split in self.splits.values()]), axis=0)
        return tuple(int(n) for n in found[0]) if len(found) == 1 else None  # type: ignore[return-value]

    def cut(self, name: str, share: float) -> Records:
        """Return the records with a share of the training images in the split "validation".

        Args:
            name: The name of the data set, for messages.
            share: The share of each class, between 0 and 1.

        Raises:
            ValueError: No class has two training images.
        """
        train = self.splits["train"]
        chosen = held_out(train.keys(), train.labels, share)
        check_held_out(name, chosen)
        parts = {"train": train.only(~chosen, "train"), "validation": train.only(chosen, "validation")}
        return replace(self, splits={**self.splits, **parts})

    def joined(self) -> Records:
        """Return the records with all images in the split "all"."""
        parts = [*self.splits.values()]
        first = np.cumsum([0, *(len(part.shards) for part in parts)])  # of each part's shards among all
        places = [part.places + np.array([shard, 0, 0]) for part, shard in zip(parts, first, strict=False)]
        labels, sizes = (np.concatenate([getattr(part, key) for part in parts]) for key in ("labels", "sizes"))
        shards = tuple(shard for part in parts for shard in part.shards)
        return replace(self, splits={WHOLE: PackedSplit(WHOLE, shards, np.concatenate(places), labels, sizes)})


def _read_manifest(file: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """(labels, number of shards of each split)."""
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        names, shards = tuple(map(str, manifest["labels"])), manifest["shards"]
        counts = {split: int(shards[split]) for split in SPLITS if split in shards or split == "test"}
        if min(counts.values()) < 1:
            raise ValueError("no shards")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is damaged; delete it and pack again: complete shards are kept") from error
    return names, counts


def _read_index(shard: Path, classes: int) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(shard.with_suffix(".npz").read_bytes()), allow_pickle=False) as file:
            index = {name: file[name] for name in ("offsets", "lengths", "labels", "sizes", "skipped")}
            if "names" in file:
                index["names"] = file["names"]
        present = shard.stat().st_size
        count = len(index["offsets"])
        for name, shape in {"offsets": (), "lengths": (), "labels": (), "sizes": (2,)}.items():
            numbers = index[name]
            if numbers.dtype.kind not in "iu" or numbers.shape != (count, *shape) or np.any(numbers < 0):
                raise ValueError(f"{name} are not counts of images")
        if "names" in index and (index["names"].dtype.kind != "S" or index["names"].shape != (count,)):
            raise ValueError("names are not names of images")
        if np.any(index["labels"] >= classes):
            raise ValueError("a label is not one of the classes")
    except (OSError, TypeError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{shard} or its index cannot be read; delete both and pack again") from error
    expected = int(np.max(index["offsets"] + index["lengths"], initial=-AFTER)) + AFTER
    if present != expected:
        found = f"{shard} has {present:,} bytes, expected {expected:,}"
        raise ValueError(f"{found}; delete it and its .npz, and pack again")
    return index


def pack(
    labels: Sequence[str],
    items: Sequence[Item],
    root: Path,
    *,
    size: int | None = None,
    shard: int = SHARD,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> Records:
    """Pack images into the shards of a folder.

    Every image is decoded once. Complete shards are kept, so the same call resumes after it was stopped.

    Args:
        labels: The names of the classes.
        items: The images.
        root: The folder; it is created.
        size: Images whose shorter side is longer than this many pixels are shrunk to it and stored as JPEG. Other
            files, and all files with None, are copied unchanged.
        shard: The number of images in a shard.
        skip_unreadable: Leave out images that cannot be read.
        progress: Called as progress(done, total).

    Returns:
        The content of the folder.

    Raises:
        ValueError: An image cannot be read, the folder holds something else or was begun with other images or
            settings, another process packs into it, or a shard cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    _refuse_another(root)
    with exclusive_folder(root):
        _begin(root, {"labels": list(labels), "size": size, "shard": shard, "items": _fingerprint(items)})
        counts = _write_shards(items, root, size, shard, skip_unreadable, progress)
        write_atomic(root / "manifest.json", json.dumps({"labels": list(labels), "shards": counts}, indent=1).encode())
    return Records.open(root)


def _refuse_another(root: Path) -> None:
    """Raise ValueError for a folder that holds something else. This comes before the lock, which would leave a file."""
    plan = root / "plan.json"
    # The folder is listed before the plan is looked for: another process that packs here writes its plan first
    if {*root.iterdir()} - {root / ".lock", temporary_path(plan)} and not plan.is_file():
        raise ValueError(f"{root} holds something else; name a new folder")


def _begin(root: Path, plan: dict[str, object]) -> None:
    """Write the plan of a packing. Raises ValueError if the folder has another one."""
    file = root / "plan.json"
    if file.is_file() and not _same_plan(file, plan):
        raise ValueError(f"{root} was begun with other images or settings; name another folder, or delete it")
    write_atomic(file, json.dumps(plan, indent=1).encode())


def _same_plan(file: Path, plan: dict[str, object]) -> bool:
    try:
        return json.loads(file.read_text(encoding="utf-8")) == plan
    except ValueError:
        return False


def _fingerprint(items: Sequence[Item]) -> str:
    """A SHA-256 of names, labels, sizes and times of files. The times matter: other pixels may take as many bytes."""
    digest = hashlib.sha256()
    for item in items:
        status = item.source.stat() if isinstance(item.source, Path) else None
        length, time = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        digest.update(f"{item.split} {item.label} {length} {time} ".encode() + os.fsencode(item.name) + b"\0")
    return digest.hexdigest()


def _write_shards(
    items: Sequence[Item], root: Path, size: int | None, shard: int, skip: bool, progress: Progress | None
) -> dict[str, int]:
    """Write the shards that do not exist yet; return the number of shards of each split."""
    done, counts = 0, {split: 0 for split in SPLITS if any(item.split == split for item in items)}
    for split in counts:
        of_split = [item for item in items if item.split == split]
        for start in range(0, len(of_split), shard):
            target = root / f"{split}-{counts[split]:05}.tfrecord"
            chunk = of_split[start : start + shard]
            if not target.with_suffix(".npz").is_file():
                _write_shard(target, chunk, size, skip, _of_all(progress, done, len(items)))
            done, counts[split] = done + len(chunk), counts[split] + 1
            if progress:
                progress(done, len(items))
    return counts


def _write_shard(target: Path, items: Sequence[Item], size: int | None, skip: bool, progress: Progress) -> None:
    skipped: list[str] | None = [] if skip else None
    temporary, end = temporary_path(target), 0
    index: list[tuple[int, int, int, int, int]] = []
    names: list[bytes] = []
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for item, (image, height, width) in each(partial(_encoded, size=size), items, skipped, progress, ahead=64):
                example = _example(image, item)
                writer.write(example)
                index.append((end + BEFORE, len(example), item.label, height, width))
                names.append(os.fsencode(item.name))
                end += BEFORE + len(example) + AFTER
    except tf.errors.OpError as error:
        temporary.unlink(missing_ok=True)
        reason = error.message.rsplit("; ", 1)[-1]
        raise ValueError(f"{target} could not be written ({reason}); {remedy(error)} and run the same again") from error
    replace_durably(temporary, target)
    table = np.array(index, np.int64).reshape(-1, 5)
    buffer = io.BytesIO()
    np.savez(
        buffer, allow_pickle=False, offsets=table[:, 0], lengths=table[:, 1], labels=table[:, 2].astype(np.int32),
        sizes=table[:, 3:].astype(np.int32), names=np.array(names, dtype=np.bytes_),
        skipped=np.array(skipped or [], dtype=np.str_),
    )  # fmt: skip
    write_atomic(target.with_suffix(".npz"), buffer.getvalue())


def _encoded(item: Item, size: int | None) -> tuple[bytes, int, int]:
    """(the bytes of an image file, height, width). The image is decoded, so that damage shows now."""
    height, width = header(item)
    if size is None or min(height, width) <= size:
        check(item)
        return _bytes(item), height, width
    with open_image(item) as image:
        shrunk = to_rgb(image).resize(
            (round(width * size / min(height, width)), round(height * size / min(height, width))),
            Image.Resampling.BILINEAR,
        )
    buffer = io.BytesIO()
    shrunk.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue(), shrunk.height, shrunk.width


def _bytes(item: Item) -> bytes:
    if not isinstance(item.source, np.ndarray):
        return stored(item)
    buffer = io.BytesIO()
    Image.fromarray(item.source).save(buffer, "PNG")
    return buffer.getvalue()


def _example(image: bytes, item: Item) -> bytes:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[item.label])),
        "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(item.name)])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _of_all(progress: Progress | None, before: int, total: int) -> Progress:
    """A shard's progress, counted in all images."""
    return lambda done, _: progress(before + done, total) if progress else None
