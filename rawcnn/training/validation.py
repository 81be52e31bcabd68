"""The held-out images of a run: those that choose, and those that are only looked at.

With a validation split, each epoch evaluates that split. Plateaus and the choice of the best epoch use it, and the test
images are evaluated once, at the end. Otherwise an accuracy that chose its own schedule would be reported.

Without one, nothing is chosen, and each epoch evaluates the test images for monitoring only. A recipe whose learning
rate drops on plateaus needs a validation split; if the data has none, a tenth of the training images becomes one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import compress

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.dataset import Split
from rawcnn.data.records import PackedSplit
from rawcnn.data.splits import check_held_out, held_out, name_key
from rawcnn.training.recipes import Recipe

SHARE = 0.1  # of the training images


@dataclass(frozen=True)
class Best:
    """The epoch, from 1, with the highest validation accuracy so far; of equal ones the first."""

    epoch: int
    accuracy: float


@dataclass
class BestVariables:
    """A copy of the evaluated variables after the best epoch, by path; empty before there is one."""

    copies: dict[str, tf.Variable] = field(default_factory=dict)

    def allocate(self, variables: Mapping[str, tf.Variable]) -> None:
        """Create the copies if they do not exist yet. Call this in the scope of the run's devices."""
        self.copies = self.copies or {path: tf.Variable(v, trainable=False) for path, v in variables.items()}

    def copy_from(self, variables: Mapping[str, tf.Variable]) -> None:
        """Assign the values of these variables to the copies."""
        for path, variable in variables.items():
            self.copies[path].assign(variable)

    def copy_to(self, variables: Mapping[str, tf.Variable]) -> None:
        """Assign the values of the copies to these variables."""
        for path, variable in variables.items():
            variable.assign(self.copies[path])


def follows_plateaus(recipe: Recipe) -> bool:
    """Say whether the recipe's learning rate depends on the number of plateaus."""
    return any(
        recipe.schedule(epoch, recipe.epochs, 0) != recipe.schedule(epoch, recipe.epochs, 1)
        for epoch in range(recipe.epochs)
    )


def watched_split(data: DataSet) -> str:
    """Return the split that a new run evaluates after each epoch."""
    return "validation" if "validation" in data.splits else "test"


def with_validation(data: DataSet, reason: str, report: Callable[[str], object]) -> DataSet:
    """Return a data set with a validation split: its own, or a tenth of the training images, which is reported.

    Args:
        data: The data set.
        reason: The beginning of a sentence that ends "their error stops falling".
        report: Called with a message if the split is cut.

    Raises:
        ValueError: It cannot be cut: no class has two training images.
    """
    if "validation" in data.splits:
        return data
    cut = cut_validation(data)
    count, before = cut.count("validation"), data.count("train")
    report(f"{count} of {before} training images are the validation split: {reason} their error stops falling")
    return cut


def cut_validation(data: DataSet, share: float = SHARE) -> DataSet:
    """Move a share of the training images of each class to the split "validation".

    Args:
        data: A data set without a validation split.
        share: The share, between 0 and 1. A hash of the images' names decides, as in `rawcnn.data.load`.

    Raises:
        ValueError: No class has two training images.
    """
    train = data.splits["train"]
    chosen = held_out(_keys(train), train.labels, share)
    check_held_out(data.name, chosen)
    parts = {"train": _rows(train, ~chosen, "train"), "validation": _rows(train, chosen, "validation")}
    return replace(data, splits={**data.splits, **parts})


def _keys(split: Split) -> list[bytes]:
    """The names of the images, of packed records those of the files; of arrays their indices."""
    if isinstance(split.items, PackedSplit):
        return split.items.keys()
    if not split.items or isinstance(split.items[0].source, np.ndarray):
        return [str(number).encode() for number in range(len(split.labels))]
    return [name_key(item.name) for item in split.items]


def _rows(split: Split, rows: np.ndarray, name: str) -> Split:
    """The images of a split in these rows, bool [N], as the split `name`."""
    with tf.device("CPU:0"):  # where the images are
        images = None if split.images is None else tf.gather(split.images, np.flatnonzero(rows))
    items = split.items
    kept = items.only(rows, name) if isinstance(items, PackedSplit) else tuple(compress(items, rows))
    return Split(split.labels[rows], images, kept)
