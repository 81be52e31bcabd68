"""Data sets from real files: the images that are read, their order, and the messages about unreadable ones."""

from __future__ import annotations

import re
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from rawcnn import data
from rawcnn.data import DataSet, Split
from tests.rawcnn.folders import epoch_labels, make_folder, save


def images_of(batches) -> np.ndarray:
    return np.concatenate([images.numpy() for images, _ in batches])


# Digits --------------------------------------------------------------------------------------------------


def test_digits():
    digits = data.load("digits")
    assert digits.size == (8, 8) and digits.labels == tuple("0123456789")
    assert (digits.count("train"), digits.count("test")) == (1442, 355)
    images, labels = digits.arrays("train")
    assert images.dtype == np.float32 and labels.dtype == np.int32
    assert images.shape == (1442, 8, 8, 3) and np.ptp(images, axis=-1).max() == 0
    np.testing.assert_array_equal(np.unique(images), np.arange(17) / 16)  # 17 levels, exactly
    for split in ("train", "test"):
        share = np.bincount(digits.arrays(split)[1]) / digits.count(split)
        np.testing.assert_allclose(share, 0.1, atol=0.01)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    parts = [data.load("digits").arrays(split) for split in ("train", "test")]
    ours = sorted(
        (int(y), *x[..., 0].ravel().tolist()) for images, labels in parts for x, y in zip(images, labels, strict=True)
    )
    levels, labels = load_digits(return_X_y=True)
    assert ours == sorted((int(y), *(x / 16).tolist()) for x, y in zip(levels, labels, strict=True))


def test_digits_enlarged():
    large, small = data.load("digits", 16), data.load("digits")
    images, labels = large.arrays("test")
    assert large.size == (16, 16) and images.shape == (355, 16, 16, 3) and images.max() <= 1
    np.testing.assert_array_equal(labels, small.arrays("test")[1])
    back = images.reshape(355, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(back - small.arrays("test")[0]).mean() < 0.1


# Batches -------------------------------------------------------------------------------------------------


def test_training_order_is_a_function_of_seed_and_epoch():
    digits = data.load("digits")
    orders = {(s, e): images_of(digits.batches("train", 500, seed=s, epoch=e)) for s, e in ((0, 0), (0, 1), (1, 0))}
    again = images_of(data.load("digits").batches("train", 7, seed=0, epoch=1))
    np.testing.assert_array_equal(orders[0, 1], again)  # whatever the batch
    expected = np.random.Generator(np.random.PCG64([0, 1])).permutation(1442)
    np.testing.assert_array_equal(again, digits.arrays("train")[0][expected])
    assert np.any(orders[0, 0] != orders[0, 1]) and np.any(orders[0, 0] != orders[1, 0])


def test_test_order_is_fixed():
    digits = data.load("digits")
    for epoch in (0, 1):
        np.testing.assert_array_equal(images_of(digits.batches("test", 100, epoch=epoch)), digits.arrays("test")[0])
    assert epoch_labels(digits.batches("train", 100, shuffle=False)) == digits.arrays("train")[1].tolist()
    assert epoch_labels(digits.batches("test", 100, shuffle=True)) != digits.arrays("test")[1].tolist()


def test_batch_shapes():
    digits = data.load("digits")
    sizes = [len(labels) for _, labels in digits.batches("train", 128)]
    assert sizes == [128] * 11 + [1442 - 11 * 128]
    dropped = list(digits.batches("train", 128, drop_remainder=True))
    assert len(dropped) == 11
    for images, labels in dropped:
        assert (images.shape, images.dtype) == ([128, 8, 8, 3], tf.float32)
        assert (labels.shape, labels.dtype) == ([128], tf.int32)


def test_first_goes_on_in_the_middle_of_an_epoch():
    digits = data.load("digits")
    whole = list(digits.batches("train", 200, epoch=3))
    rest = list(digits.batches("train", 200, epoch=3, first=5))
    assert len(rest) == len(whole) - 5
    for (x, y), (u, v) in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "decoded again"])
def test_originals_keep_their_sizes(tmp_path, monkeypatch, memory):
    shapes = [(8, 8), (5, 9), (30, 10)]
    for split in ("train", "test"):
        for label in "ab":
            for k, shape in enumerate(shapes):
                save(tmp_path / split / label / f"{k}.png", (10 * k, 0, ord(label)), shape)
    monkeypatch.setattr(data, "MEMORY", memory)
    folder = data.load(f"folder:{tmp_path}", 8)
    assert (folder.splits["test"].images is None) == (memory == 0)
    images = list(folder.originals("test"))
    assert [image.shape for image in images] == [(*shape, 3) for shape in shapes * 2]
    assert [(image[0, 0, 0], chr(image[0, 0, 2])) for image in images] == [(10 * k, c) for c in "ab" for k in range(3)]
    assert {image.dtype.name for image in images} == {"uint8"}
    with pytest.raises(ValueError, match="split is 'valid'"):
        folder.originals("valid")


def test_originals_of_arrays_whatever_the_size():
    as_they_are, enlarged = data.load("digits"), data.load("digits", 16)
    expected = as_they_are.arrays("test")[0]
    for digits in (as_they_are, enlarged):
        np.testing.assert_array_equal(np.stack([*digits.originals("test")]).astype(np.float32) / 240, expected)


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "decoded again"])
def test_images_are_taken_by_number(tmp_path, monkeypatch, memory):
    root = make_folder(tmp_path, (7, 5))
    expected = data.load(f"folder:{root}", size=6).arrays("test")[0]
    monkeypatch.setattr(data, "MEMORY", memory)
    folder = data.load(f"folder:{root}", size=6)
    assert (folder.splits["test"].images is None) == (memory == 0)
    for numbers in ([3, 11, 0, 3], range(12), np.array([6]), []):
        taken = folder.take("test", numbers)
        assert taken.dtype == np.float32 and taken.shape == (len(numbers), 6, 6, 3)
        np.testing.assert_array_equal(taken, expected[np.array(numbers, int)])
    for numbers, wrong in (([0, 12], "12"), ([-1], "-1")):
        with pytest.raises(ValueError, match=rf"has no test images \[{wrong}\]; expected numbers from 0 to 11"):
            folder.take("test", numbers)
    with pytest.raises(ValueError, match="split is 'valid'"):
        folder.take("valid", [0])


def test_white_is_one_in_what_is_taken():
    digits = data.load("digits")
    np.testing.assert_array_equal(digits.take("train", [5, 1]), digits.arrays("train")[0][[5, 1]])


def test_batches_that_cannot_be():
    digits = data.load("digits")
    with pytest.raises(ValueError, match="batch is 0; expected 1 to 1442"):
        digits.batches("train", 0)
    with pytest.raises(ValueError, match="batch is 356; expected 1 to 355, the test images of digits"):
        digits.batches("test", 356, drop_remainder=True)
    with pytest.raises(ValueError, match="split is 'val'"):
        digits.count("val")


# Streaming and progress ----------------------------------------------------------------------------------


def test_streamed_equals_in_memory(tmp_path, monkeypatch):
    root = make_folder(tmp_path, (20, 20))
    memory = data.load(f"folder:{root}", size=6)
    monkeypatch.setattr(data, "MEMORY", 0)
    streamed = data.load(f"folder:{root}", size=6)
    with pytest.raises(ValueError, match="too large to be kept in memory"):
        streamed.arrays("train")
    for split in ("train", "test"):
        for drop in (False, True):
            options = {"batch": 16, "seed": 1, "epoch": 2, "drop_remainder": drop}
            ours, theirs = (d.batches(split, **options) for d in (streamed, memory))
            for (x, y), (u, v) in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(x, u)
                np.testing.assert_array_equal(y, v)


def test_progress_counts_every_image(tmp_path):
    calls = []
    data.load(f"folder:{make_folder(tmp_path, (3, 2))}", size=8, progress=lambda *call: calls.append(call))
    assert calls == [(k, 10) for k in range(1, 11)]


# Real images ---------------------------------------------------------------------------------------------


def test_real_cifar_images(data_folder, tmp_path):
    with zipfile.ZipFile(data_folder / "cifar10-jpeg.zip") as zipped:
        zipped.extractall(tmp_path, [n for n in zipped.namelist() if re.search(r"/000\d\.jpg$", n)])
    cifar = data.load(f"folder:{tmp_path / 'cifar10'}")
    assert cifar.labels == data.KERAS["cifar10"] and cifar.size == (32, 32)
    assert (cifar.count("train"), cifar.count("test")) == (100, 100)
    images, labels = cifar.arrays("test")
    assert np.bincount(labels).tolist() == [10] * 10
    assert 0.3 < images.mean() < 0.6 and images.std() > 0.2
    file = tf.io.read_file(str(tmp_path / "cifar10" / "test" / "airplane" / "0000.jpg"))
    expected = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE").numpy() / 255
    np.testing.assert_allclose(images[0], expected, atol=1e-6)


LABELS, PIXELS = np.arange(4, dtype=np.int32), np.zeros((4, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "labels, images, message",
    [
        (LABELS[:3], PIXELS, "a split has 4 images and 3 labels; expected one label for each image"),
        (LABELS.astype(np.float32), PIXELS, r"the labels of a split are float32 \(4,\); expected class numbers"),
        (np.eye(4, dtype=np.int32), PIXELS, r"the labels of a split are int32 \(4, 4\); expected class numbers"),
        ([0, 1, 2, 3], PIXELS, "the labels of a split are a list; expected class numbers"),
        (LABELS, PIXELS[0], r"the images of a split are uint8 \(8, 8, 3\); expected uint8 \[N,H,W,3\]"),
        (LABELS, PIXELS[..., :1], r"the images of a split are uint8 \(4, 8, 8, 1\)"),
        (LABELS, PIXELS.astype(np.float32), r"the images of a split are float32 \(4, 8, 8, 3\); .*multiply those in"),
        (LABELS, "photos", "the images of a split are a str"),
    ],
)
def test_labels_and_images_that_do_not_fit_each_other(labels, images, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Split(labels, images)


def test_labels_that_are_no_classes_and_images_of_another_size():
    for wrong in (LABELS + 1, LABELS - 1):
        with pytest.raises(ValueError, match=r"the test images of few have the label (4|-1); expected 0 to 3"):
            DataSet("few", tuple("abcd"), (8, 8), {"test": Split(wrong, PIXELS)})
    with pytest.raises(ValueError, match="the test images of few have 8×8 pixels; expected 8×9"):
        DataSet("few", tuple("abcd"), (8, 9), {"test": Split(LABELS, PIXELS)})
