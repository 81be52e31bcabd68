"""Data sets of other libraries: scikit-learn's digits, Keras's downloads, TensorFlow Datasets."""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from typing import Any

import numpy as np

from rawcnn.data.decode import Item
from rawcnn.data.splits import SPLITS, WHOLE, Arrays
from rawcnn.files.errors import one_line

DIGITS = tuple("0123456789")
KERAS = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "mnist": DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def digits_arrays() -> Arrays:
    """Return 1797 handwritten digits of 8×8 pixels; every fifth of a class is a test image.

    The levels 0 … 16 are multiplied by 15, so that resizing has levels in between; white is then 240.

    Source: Alpaydin & Kaynak 1998, from scikit-learn.
    """
    from sklearn.datasets import load_digits

    levels, labels = load_digits(return_X_y=True)
    images = (levels * 15).astype(np.uint8).reshape(-1, 8, 8)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return {"train": (images[~test], labels[~test]), "test": (images[test], labels[test])}


def keras_arrays(name: str) -> Arrays:
    """Return one of KERAS. Raises ValueError if it cannot be downloaded."""
    import keras

    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception if it cannot download
        raise ValueError(
            f"{name} could not be downloaded ({one_line(error)}); go online once, or unpack its images "
            "into folders and use folder:PATH"
        ) from error
    return {"train": train, "test": test}


def tfds_items(name: str, *, whole: bool = False, notes: list[str] | None = None) -> tuple[list[str], list[Item]]:
    """Return (labels, items) of a set of TensorFlow Datasets; images stay encoded until they are read.

    Args:
        name: Its name. It must have the features "image" and "label", and the splits train and test or validation.
            Its validation split is the test split if it has no other.
        whole: Put all images into one split, "all".
        notes: Receives a sentence if the validation split is used as the test split.

    Raises:
        ValueError: TensorFlow Datasets is not installed, or the set cannot be downloaded or has other features.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(f"tfds:{name} needs TensorFlow Datasets; pip install 'rawcnn[tfds]'") from error
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            builder = tfds.builder(name, file_format="array_record")  # the format that can be read in any order
            builder.download_and_prepare()
    except Exception as error:  # unknown names, no network and a full disk raise different kinds
        raise ValueError(
            f"tfds:{name} cannot be loaded ({one_line(error)}); check its name, the network and the disk"
        ) from error
    features, parts = builder.info.features, builder.info.splits
    chosen = {split: split for split in SPLITS if split in parts}
    if "test" not in chosen and "validation" in chosen:
        chosen["test"] = chosen.pop("validation")
        if notes is not None:
            notes.append(f"the validation split of tfds:{name} is the test split, because it has no other")
    if not {"train", "test"} <= {*chosen} or not {"image", "label"} <= {*features}:
        raise ValueError(
            f"tfds:{name} has splits {', '.join(parts)} and features {', '.join(features)}; "
            "expected train and test (or validation), with image and label"
        )
    items = []
    for split, part in chosen.items():
        source = builder.as_data_source(part, decoders={"image": tfds.decode.SkipDecoding()})
        items += [
            Item(WHOLE if whole else split, f"{name}/{part}/{i}", int(source[i]["label"]), partial(_encoded, source, i))
            for i in range(len(source))
        ]
    return list(features["label"].names), items


def _encoded(source: Any, index: int) -> bytes:
    return source[index]["image"]
