"""The splits of a data set, and the share of training images that is held out. A hash of the names decides which."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from math import isfinite

import numpy as np

from rawcnn.data.decode import Item

WHOLE = "all"  # the one split of a data set whose splits were joined
SPLITS = ("train", "test", "validation", WHOLE)  # the order in which items are listed

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]  # split → images uint8 [N,H,W] or [N,H,W,3], labels


def check_share(share: float | None) -> None:
    """Raise ValueError unless `share` is None or a number between 0 and 1."""
    if share is None:
        return
    number = isinstance(share, (int, float, np.number)) and not isinstance(share, bool)
    if not number or not isfinite(share) or not 0 < share < 1:
        raise ValueError(
            f"validation is {share!r}; expected a share of the training images between 0 and 1, such as 0.1"
        )


def held_out(keys: Sequence[bytes], labels: Sequence[int] | np.ndarray, share: float) -> np.ndarray:
    """Choose a share of each class, at least one image: those whose hashed keys come first.

    Args:
        keys: One key for each of the N images, different within a class.
        labels: int [N].
        share: The share to hold out, between 0 and 1.

    Returns:
        bool [N], true for the images that are held out. A class of a single image keeps it.
    """
    numbers, chosen = np.asarray(labels), np.zeros(len(keys), bool)
    for label in np.unique(numbers):
        members = np.flatnonzero(numbers == label).tolist()
        ranked = sorted(members, key=lambda member: hashlib.sha256(keys[member]).digest())
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[ranked[:count]] = True
    return chosen


def name_key(name: str) -> bytes:
    """Return the key of an image's name, with / between folders on every system."""
    return os.fsencode(name.replace(os.sep, "/"))


def share_to_cut(name: str, splits: Collection[str], share: float | None, notes: list[str]) -> float | None:
    """Return the share to cut from the training images: None, with a note, if there is a validation split already.

    Raises:
        ValueError: The data has no training images.
    """
    if share is not None and "validation" in splits:
        notes.append(f"{name} has a validation split of its own; none is cut from its training images")
        return None
    if share is not None and "train" not in splits:
        raise ValueError(f"{name} has no training images from which a validation split could be cut")
    return share


def check_held_out(name: str, chosen: np.ndarray) -> None:
    """Raise ValueError if no image could be held out: each class has a single training image."""
    if not chosen.any():
        raise ValueError(f"{name} has one training image per class; a validation split needs two or more of a class")


def cut_items(name: str, items: Sequence[Item], share: float) -> list[Item]:
    """Return the items with a share of the training images in the split "validation"."""
    train = [item for item in items if item.split == "train"]
    chosen = held_out([name_key(item.name) for item in train], [item.label for item in train], share)
    check_held_out(name, chosen)
    kept = [item for item, out in zip(train, chosen, strict=True) if not out]
    cut = [replace(item, split="validation") for item, out in zip(train, chosen, strict=True) if out]
    return [*kept, *(item for item in items if item.split != "train"), *cut]


def cut_arrays(name: str, arrays: Arrays, share: float) -> Arrays:
    """Return the arrays with a share of the training images in the split "validation"; their indices are the keys."""
    images, labels = arrays["train"]
    chosen = held_out([str(number).encode() for number in range(len(images))], labels.reshape(-1), share)
    check_held_out(name, chosen)
    return {**arrays, "train": (images[~chosen], labels[~chosen]), "validation": (images[chosen], labels[chosen])}


def join_arrays(arrays: Arrays) -> Arrays:
    """Return the arrays of all splits as the one split WHOLE."""
    images, labels = (np.concatenate([part[k] for part in arrays.values()]) for k in (0, 1))
    return {WHOLE: (images, labels)}
