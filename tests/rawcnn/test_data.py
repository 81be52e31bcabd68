"""Data sets through real files: what is read, in which order, and what is said about what cannot be read."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rawcnn import data, decode


def save(file: Path, value=0, size=(8, 8), mode="RGB") -> Path:
    """An image of one colour."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], value).save(file)
    return file


def make_folder(root: Path, counts=(10, 10), splits=("train", "test")) -> Path:
    """PNGs of 8×8; the k-th image of a class is of grey level 10·k, its blue channel the class."""
    for split in splits:
        for label, count in zip("abcdef", counts, strict=False):
            for k in range(count):
                save(root / split / label / f"{k:03}.png", (10 * k, 10 * k, ord(label)))
    return root


def epoch_labels(batches) -> list[int]:
    return [int(y) for _, labels in batches for y in labels]


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
    dropped = digits.batches("train", 128, drop_remainder=True)
    assert [spec.shape.as_list() for spec in dropped.element_spec] == [[128, 8, 8, 3], [128]]
    assert [spec.dtype for spec in dropped.element_spec] == [tf.float32, tf.int32]
    assert len(list(dropped)) == 11


def test_first_goes_on_in_the_middle_of_an_epoch():
    digits = data.load("digits")
    whole = list(digits.batches("train", 200, epoch=3))
    rest = list(digits.batches("train", 200, epoch=3, first=5))
    assert len(rest) == len(whole) - 5
    for (x, y), (u, v) in zip(whole[5:], rest, strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "decoded anew"])
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


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "decoded anew"])
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


# Folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", ["test", "val", "validation"])
def test_folder_with_splits(tmp_path, test):
    folder = data.load(f"folder:{make_folder(tmp_path, (3, 2), ('train', test))}")
    assert folder.labels == ("a", "b") and folder.size == (8, 8) and folder.skipped == ()
    for split in ("train", "test"):
        images, labels = folder.arrays(split)
        assert labels.tolist() == [0, 0, 0, 1, 1]
        np.testing.assert_allclose(
            images[:, 0, 0] * 255, [[0, 0, 97], [10, 10, 97], [20, 20, 97], [0, 0, 98], [10, 10, 98]]
        )


def test_folder_without_splits_holds_out_a_fifth_of_each_class(tmp_path):
    root = make_folder(tmp_path, (20, 10), ("",))
    first, second = (data.load(f"folder:{root}") for _ in range(2))
    assert (first.count("train"), first.count("test")) == (24, 6)
    assert np.bincount(first.arrays("test")[1]).tolist() == [4, 2]
    np.testing.assert_array_equal(first.arrays("test")[0], second.arrays("test")[0])
    both = np.concatenate([first.arrays(split)[0][:, 0, 0] for split in ("train", "test")])
    assert len(np.unique(both, axis=0)) == 30  # none twice, none lost
    levels = first.arrays("test")[0][:4, 0, 0, 0] * 255
    assert levels.tolist() != [0, 10, 20, 30]  # by hash, not the first ones


def test_hash_split_does_not_depend_on_the_place(tmp_path):
    roots = [make_folder(tmp_path / name, (20, 10), ("",)) for name in ("here", "there")]
    tests = [data.load(f"folder:{root}").arrays("test")[0] for root in roots]
    np.testing.assert_array_equal(*tests)


def test_folder_with_train_only_is_split(tmp_path):
    folder = data.load(f"folder:{make_folder(tmp_path, (10, 5), ('train',))}")
    assert (folder.count("train"), folder.count("test")) == (12, 3)


def test_a_class_may_be_called_train(tmp_path):
    for label in ("train", "test"):
        for k in range(5):
            save(tmp_path / label / f"{k}.png")
    assert data.load(f"folder:{tmp_path}").labels == ("test", "train")


def test_what_is_no_image_of_a_class_is_not_read(tmp_path):
    make_folder(tmp_path, (2, 2))
    for name in (".hidden/x.png", "__MACOSX/x.png", "a/._000.png", "a/notes.txt", "a/deeper/x.png"):
        file = tmp_path / "train" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("no image")
    folder = data.load(f"folder:{tmp_path}")
    assert folder.labels == ("a", "b") and folder.count("train") == 4


def test_names_of_classes_are_only_names(tmp_path):
    for split in ("train", "test"):
        for name in ("$(touch x)", "%s {0}", "a\nb"):
            save(tmp_path / split / name / "0.PNG")
    assert data.load(f"folder:{tmp_path}").labels == ("$(touch x)", "%s {0}", "a\nb")
    assert sorted(os.listdir(tmp_path)) == ["test", "train"]


def test_sizes(tmp_path):
    make_folder(tmp_path, (2, 2))
    assert data.load(f"folder:{tmp_path}", size=(4, 6)).arrays("train")[0].shape == (4, 4, 6, 3)
    save(tmp_path / "train" / "a" / "large.png", size=(9, 8))
    assert data.load(f"folder:{tmp_path}").size == (224, 224)


def test_resizing_covers_then_crops_in_the_middle(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the middle third
    for split in ("train", "test"):
        for label in "ab":
            save(tmp_path / split / label / "0.png", size=(20, 60))
            Image.fromarray(wide).save(tmp_path / split / label / "0.png")
    images, _ = data.load(f"folder:{tmp_path}", size=10).arrays("train")
    assert images[:, :, 1:-1].min() > 0.99  # without the black thirds, but for a blurred edge


def test_shrinking_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    item = decode.Item("train", "checkers", 0, checkers.astype(np.uint8))
    assert np.ptp(decode.read(item, (8, 8))[2:-2, 2:-2].astype(int)) <= 8  # grey all over: no aliasing


@pytest.mark.parametrize(
    "name, image, expected",
    [
        ("grey.png", Image.new("L", (4, 4), 100), (100, 100, 100)),
        ("grey.jpg", Image.new("L", (4, 4), 100), (100, 100, 100)),
        ("two.bmp", Image.new("1", (4, 4), 1), (255, 255, 255)),
        ("deep.png", Image.fromarray(np.full((4, 4), 40_000, np.uint16)), (156, 156, 156)),
        ("cmyk.jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (254, 0, 0)),
        ("opaque.png", Image.new("RGBA", (4, 4), (10, 20, 30, 255)), (10, 20, 30)),
        ("clear.png", Image.new("RGBA", (4, 4), (10, 20, 30, 0)), (255, 255, 255)),
        ("grey-alpha.png", Image.new("LA", (4, 4), (50, 255)), (50, 50, 50)),
        ("palette.gif", Image.new("P", (4, 4), 0), (0, 0, 0)),
        ("lossless.webp", Image.new("RGB", (4, 4), (128, 128, 128)), (128, 128, 128)),
    ],
)
def test_every_kind_becomes_rgb(tmp_path, name, image, expected):
    image.save(tmp_path / name)
    pixels = decode.read(decode.Item("train", name, 0, tmp_path / name), (4, 4))
    assert pixels.shape == (4, 4, 3) and pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (4, 4, 3)), atol=2)


# Broken folders ------------------------------------------------------------------------------------------


def break_file(file: Path, how: str) -> None:
    if how == "empty":
        file.write_bytes(b"")
    elif how == "no image":
        file.write_text("<html>404</html>")
    else:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[:2000])


@pytest.mark.parametrize("memory", [2**30, 0])
@pytest.mark.parametrize("size", [None, 64])
@pytest.mark.parametrize("name, how", [("003.png", "empty"), ("003.png", "no image"), ("x.jpg", "truncated")])
def test_unreadable_file(tmp_path, monkeypatch, name, how, size, memory):
    monkeypatch.setattr(data, "MEMORY", memory)
    make_folder(tmp_path, (4, 4))
    broken = tmp_path / "train" / "b" / name
    break_file(broken, how)
    with pytest.raises(ValueError, match=re.escape(str(broken))) as error:
        data.load(f"folder:{tmp_path}", size)
    assert "--skip-unreadable" in str(error.value) and "\n" not in str(error.value)
    folder = data.load(f"folder:{tmp_path}", size, skip_unreadable=True)
    assert folder.skipped == (f"train/b/{name}",)
    assert folder.count("train") == 7 + (how == "truncated") and folder.count("test") == 8
    assert len(epoch_labels(folder.batches("train", 3))) == folder.count("train")


def test_a_file_is_judged_by_its_content(tmp_path):
    make_folder(tmp_path, (2, 2))
    (tmp_path / "train" / "a" / "000.png").rename(tmp_path / "train" / "a" / "000.jpg")
    assert data.load(f"folder:{tmp_path}").count("train") == 4
    script = tmp_path / "train" / "a" / "script.png"
    script.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"script\.png cannot be read as an image"):
        data.load(f"folder:{tmp_path}")


def test_nothing_readable_left(tmp_path):
    make_folder(tmp_path, (2, 2))
    for k in range(2):
        (tmp_path / "test" / "b" / f"00{k}.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no readable test image of b;"):
        data.load(f"folder:{tmp_path}", skip_unreadable=True)


def remove(root: Path, *folders: str) -> None:
    for folder in folders:
        shutil.rmtree(root / folder)


def empty(root: Path, *folders: str) -> None:
    remove(root, *folders)
    for folder in folders:
        (root / folder).mkdir()


@pytest.mark.parametrize(
    "breaking, message",
    [
        (lambda r: empty(r, "train"), "train has no folders of images"),
        (lambda r: empty(r, "test"), "test has no folders of images"),
        (lambda r: empty(r, "train/b"), "train/b has no images"),
        (lambda r: empty(r, "test/b"), "test/b has no images"),
        (lambda r: remove(r, "train/b", "test/b"), "train has one class, 'a'"),
        (lambda r: (r / "test" / "b").rename(r / "test" / "c"), "only one of .*train and .*test has b, c;"),
        (lambda r: save(r / "test" / "c" / "0.png"), "only one of .*train and .*test has c;"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, breaking, message):
    breaking(make_folder(tmp_path, (2, 2)))
    with pytest.raises(ValueError, match=message):
        data.load(f"folder:{tmp_path}")


def test_folders_that_are_not_there(tmp_path):
    for name in ("nowhere", save(tmp_path / "file.png").name):
        with pytest.raises(ValueError, match=f"{name} is not a folder"):
            data.load(f"folder:{tmp_path / name}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty has no folders of images"):
        data.load(f"folder:{tmp_path / 'empty'}")


def test_one_image_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match="b has one image"):
        data.load(f"folder:{make_folder(tmp_path, (3, 1), ('',))}")


# Streaming and progress ----------------------------------------------------------------------------------


def test_streamed_equals_in_memory(tmp_path, monkeypatch):
    root = make_folder(tmp_path, (20, 20))
    memory = data.load(f"folder:{root}", size=6)
    monkeypatch.setattr(data, "MEMORY", 0)
    streamed = data.load(f"folder:{root}", size=6)
    with pytest.raises(ValueError, match="too large to be held in memory"):
        streamed.arrays("train")
    for split in ("train", "test"):
        for drop in (False, True):
            options = {"batch": 16, "seed": 1, "epoch": 2, "drop_remainder": drop}
            ours, theirs = (d.batches(split, **options) for d in (streamed, memory))
            assert ours.element_spec == theirs.element_spec
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
