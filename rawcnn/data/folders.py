"""Data sets in folders: one folder of images per class, with or without a folder for each split."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Mapping
from pathlib import Path

from rawcnn.data.decode import SUFFIXES, Item
from rawcnn.data.scan import (
    LeftOut,
    archives,
    counted,
    dead_links,
    image_files,
    is_archive,
    loose_images,
    some_of,
    subfolders,
)
from rawcnn.data.split_folders import innermost, split_folders, split_meant
from rawcnn.data.splits import SPLITS, WHOLE, held_out, name_key

Files = dict[str, list[Path]]  # name of a class → its images, in order; the classes are in order, too


def folder_items(root: Path, *, whole: bool = False, notes: list[str] | None = None) -> tuple[list[str], list[Item]]:
    """List the images of a folder that has a folder per split, or per class.

    A split's folder has one of the names in `split_folders.FOLDERS`, or one of the WORDS if the other folders show that
    it is a split. The classes may be in a single folder inside it. Next to a training folder, a validation folder is
    the test split if there is no test folder. If there is only a training folder, or none of these, then a fifth of
    each class becomes the test split. A hash of the file names decides which fifth, so that it is the same on every
    machine and in every run. A folder of classes that itself has the name of a test or validation folder is a test
    split as a whole.

    Args:
        root: The folder.
        whole: Put all images into one split, "all".
        notes: Receives a sentence about each choice that was made and about files that were left out.

    Returns:
        The names of the classes, and the images. Classes are in the order of their names; if all are whole numbers, in
        numeric order.

    Raises:
        ValueError: There is no such folder, it has fewer than two classes, a class has no images, the splits have
            different classes, two folders have a name of the same split, or these hold images instead of classes.
    """
    if not root.is_dir():
        unpack = "; unpack it first" if root.is_file() and is_archive(root.name) else ""
        raise ValueError(f"{root} is not a folder; expected one that holds a folder of images for each class{unpack}")
    notes, left_out = [] if notes is None else notes, LeftOut()
    folders = split_folders(root, left_out)
    splits = {split: _classes(folder, left_out) for split, folder in folders.items()}
    labels = _common_labels(folders, splits)
    if whole:
        splits = {WHOLE: {label: [file for files in splits.values() for file in files[label]] for label in labels}}
    elif "test" not in splits:
        splits = _with_test_split(root, folders, splits, notes)
    notes += left_out.sentences()
    if lost := left_out.pictures():
        warnings.warn(f"{root} has pictures in formats that are not read: {counted(lost)}; convert them", stacklevel=2)
    items = [
        Item(split, str(file.relative_to(root)), number, file)
        for split in SPLITS
        if split in splits
        for number, label in enumerate(labels)
        for file in splits[split][label]
    ]
    return labels, items


# Splits --------------------------------------------------------------------------------------------------------


def _with_test_split(
    root: Path, folders: Mapping[str, Path], splits: dict[str, Files], notes: list[str]
) -> dict[str, Files]:
    """The splits with a test split: the validation folder, the folder itself, or a fifth of each class."""
    if "validation" in splits:
        notes.append(f"{folders['validation']} is the test split, because {root} has no other")
        return {"test" if split == "validation" else split: files for split, files in splits.items()}
    train = folders["train"]
    if train == root and split_meant(Path(os.path.abspath(root)).name) in ("test", "validation"):
        notes.append(f"{root} is a test split as a whole, because of its name")
        return {"test": splits["train"]}
    kept, test = {}, {}
    for label, files in splits["train"].items():
        if len(files) < 2:
            raise ValueError(f"{train / label} has one image; expected two or more, one to train and one to test with")
        out = held_out([name_key(str(file.relative_to(train))) for file in files], [0] * len(files), 1 / 5)
        kept[label], test[label] = ([f for f, o in zip(files, out, strict=True) if o == part] for part in (False, True))
    held, total = (sum(map(len, files.values())) for files in (test, splits["train"]))
    notes.append(
        f"{root} has no folder of test images: a fifth of each class is the test split, {held:,} of {total:,} images; "
        f"--split {WHOLE} (in Python whole=True) takes all"
    )
    return {"train": kept, "test": test}


# Classes -------------------------------------------------------------------------------------------------------


def _classes(folder: Path, left_out: LeftOut) -> Files:
    """The images of each class folder. Raises ValueError for fewer than two folders, and for one without images."""
    # Systems store accents in two ways, and a class has the same name in both
    found: dict[str, Path] = {}
    for sub in subfolders(folder):
        label = unicodedata.normalize("NFC", sub.name)
        if label in found:
            raise ValueError(f"{folder} has two folders {label!r}, whose accents are stored in two ways; join them")
        found[label] = sub
    if len(found) < 2:
        expected = "expected a folder of images for each of two classes or more"
        raise ValueError(f"{folder} has {_too_few(folder, [*found.values()])}; {expected}")
    left_out.loose += loose_images(folder)
    left_out.links += dead_links(folder)
    files = {}
    for label in sorted(found, key=_order([*found])):
        before, links = left_out.endings.copy(), left_out.links
        files[label] = image_files(found[label], left_out)
        if not files[label]:
            others = counted(left_out.endings - before)
            others += ", links that lead nowhere" if left_out.links > links else ""
            only = f" but {others.removeprefix(', ')}" if others else ""
            raise ValueError(f"{found[label]} has no images ({', '.join(SUFFIXES)}){only}; add some or remove it")
    return files


def _too_few(folder: Path, found: list[Path]) -> str:
    """What a message says about a folder with fewer than two classes, with advice if the classes are further inside."""
    if not found:
        packed, loose = archives(folder), loose_images(folder)
        others = f" but {some_of(packed)} (unpack it)" if packed else f" but {loose:,} images" if loose else ""
        return f"no folders of images{others}"
    inside = f", whose own folders may be the classes: try folder:{innermost(found[0])}" if subfolders(found[0]) else ""
    return f"one class, {found[0].name!r}{inside}"


def _order(labels: list[str]):
    """The key by which classes are sorted: their names, or the numbers that they are."""
    numbers = all(label.isascii() and label.isdecimal() for label in labels)
    return (lambda label: (int(label), label)) if numbers else str


def _common_labels(folders: Mapping[str, Path], splits: Mapping[str, Files]) -> list[str]:
    """The classes of all splits, in order. Raises ValueError where they differ."""
    first, *others = splits
    for other in others:
        if difference := {*splits[first]} ^ {*splits[other]}:
            raise ValueError(
                f"only one of {folders[first]} and {folders[other]} has {some_of(difference)}; "
                "expected the same classes in both: add images, or remove or rename the folder"
            )
    return [*splits[first]]
