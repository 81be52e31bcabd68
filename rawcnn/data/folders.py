"""Data sets in folders: one folder of images per class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rawcnn.data.decode import SUFFIXES, Item


def folder_items(root: Path) -> tuple[list[str], list[Item]]:
    """List the images of PATH/{train,test|val|validation}/CLASS/*, or of PATH/CLASS/*.

    In the second case a fifth of each class becomes the test split. A hash of the file names decides which fifth, so
    that it is the same on every machine and in every run.

    Args:
        root: The folder PATH.

    Returns:
        The names of the classes, and the images.

    Raises:
        ValueError: There is no such folder, it has fewer than two classes, a class has no images, or the splits have
            different classes.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; expected one that holds a folder of images for each class")
    train = root / "train"
    if not train.is_dir() or _image_files(train):  # a class may have the name train
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
                f"only one of {train} and {test} has {some_of(difference)}; expected the same classes in both"
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
    """The names of the class folders, sorted, without hidden ones. Raises ValueError for one without images."""
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
    """The fifth of a class, at least one image, whose hashed names come first; in the order of their names."""
    if len(files) < 2:
        raise ValueError(f"{folder} has one image; expected two or more, one to train and one to test with")
    ranked = sorted(files, key=lambda f: hashlib.sha256(os.fsencode(f"{folder.name}/{f.name}")).digest())
    return sorted(ranked[: max(1, round(len(files) / 5))])


def some_of(names: set[str]) -> str:
    """Return the first five names, for a message."""
    return ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
