"""Downloaded data sets of Keras and TensorFlow Datasets, and the messages without a network."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawcnn import data


def save(file: Path, value=0, size=(8, 8), mode="RGB") -> Path:
    """An image of one color."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], value).save(file)
    return file


def epoch_labels(batches) -> list[int]:
    return [int(y) for _, labels in batches for y in labels]


def images_of(batches) -> np.ndarray:
    return np.concatenate([images.numpy() for images, _ in batches])


# Downloads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, shape", [("cifar10", (32, 32, 3)), ("mnist", (28, 28)), ("fashion_mnist", (28, 28))])
def test_keras_sets(monkeypatch, capsys, name, shape):
    import keras

    def load_data():
        print("Downloading data")
        arrays = [
            np.full((4, *shape), 255, np.uint8),
            np.arange(4).reshape(4, 1) if len(shape) == 3 else np.arange(4),
        ]
        return arrays, arrays

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    loaded = data.load(name)
    images, labels = loaded.arrays("train")
    assert images.shape == (4, *shape[:2], 3) and images.min() == 1
    assert labels.dtype == np.int32 and labels.tolist() == [0, 1, 2, 3] and len(loaded.labels) == 10
    assert data.load(name, 8).arrays("test")[0].shape == (4, 8, 8, 3)
    assert capsys.readouterr().out == ""  # standard output is for results


def test_offline(monkeypatch):
    import keras

    def load_data():
        raise Exception("URL fetch failure on https://example.org:\n None")  # what Keras raises

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    with pytest.raises(ValueError, match=r"cifar10 could not be downloaded \(URL fetch.*folder:PATH") as error:
        data.load("cifar10")
    assert "\n" not in str(error.value)


def fake_tfds(monkeypatch, tmp_path, splits=("train", "validation"), features=("image", "label")) -> None:
    """The part of tensorflow_datasets that is used: encoded images, read in any order."""
    examples = [{"image": save(tmp_path / f"{k}.png", (k, k, k)).read_bytes(), "label": k % 2} for k in range(6)]
    described = {f: types.SimpleNamespace(names=["no", "yes"]) for f in features}
    builder = types.SimpleNamespace(
        info=types.SimpleNamespace(features=described, splits=dict.fromkeys(splits)),
        download_and_prepare=lambda: print("Downloading"),
        as_data_source=lambda part, decoders: examples[: 4 if part == "train" else 2],
    )
    module = types.ModuleType("tensorflow_datasets")
    module.builder = lambda name, file_format: builder
    module.decode = types.SimpleNamespace(SkipDecoding=lambda: None)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)


def test_tfds(monkeypatch, tmp_path, capsys):
    fake_tfds(monkeypatch, tmp_path)
    loaded = data.load("tfds:toy")
    assert loaded.labels == ("no", "yes") and (loaded.count("train"), loaded.count("test")) == (4, 2)
    images, labels = loaded.arrays("train")
    assert (images[:, 0, 0, 0] * 255).tolist() == [0, 1, 2, 3] and labels.tolist() == [0, 1, 0, 1]
    assert capsys.readouterr().out == ""


def test_tfds_without_labels(monkeypatch, tmp_path):
    fake_tfds(monkeypatch, tmp_path, features=("image",))
    with pytest.raises(ValueError, match="tfds:toy has splits train, validation and features image; expected"):
        data.load("tfds:toy")


def test_tfds_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'rawcnn\[tfds\]'"):
        data.load("tfds:mnist")


@pytest.mark.parametrize("name", ["imagenet", "", "folder:", "tfds:", "digits:8"])
def test_unknown_names(name):
    with pytest.raises(
        ValueError, match="expected one of digits, cifar10, mnist, fashion_mnist, folder:PATH, records:PATH, tfds:NAME"
    ):
        data.load(name)
