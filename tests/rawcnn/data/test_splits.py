"""Train, test and validation: which folder is which split, and the share of training images that is held out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from rawcnn import data
from rawcnn.data.folders import folder_items
from rawcnn.data.records import Records, pack
from rawcnn.data.splits import held_out
from tests.rawcnn.data.test_downloads import fake_tfds
from tests.rawcnn.folders import epoch_labels, make_folder, save


def counts(loaded: data.DataSet) -> dict[str, int]:
    return {split: loaded.count(split) for split in loaded.splits}


def rows(loaded: data.DataSet, split: str) -> set[tuple[float, ...]]:
    """The first pixel of each image, which differs between the images of make_folder."""
    return {tuple(pixel) for pixel in loaded.arrays(split)[0][:, 0, 0].tolist()}


# Folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "validation", ["val", "valid", "validation", "dev", "Val", "VALID", "validation_set", "val-images"]
)
def test_a_validation_folder_next_to_train_and_test(tmp_path, validation):
    make_folder(tmp_path, (4, 3), ("train", "test"))
    make_folder(tmp_path, (2, 1), (validation,))
    loaded = data.load(f"folder:{tmp_path}")
    assert counts(loaded) == {"train": 7, "test": 7, "validation": 3} and loaded.notes == ()
    images, labels = loaded.arrays("validation")
    assert labels.tolist() == [0, 0, 1] and images.shape == (3, 8, 8, 3)
    assert epoch_labels(loaded.batches("validation", 2)) == [0, 0, 1]  # in order


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "dev", "Validation"])
def test_a_validation_folder_is_the_test_split_if_there_is_no_other(tmp_path, validation):
    make_folder(tmp_path, (4, 3), ("train",))
    make_folder(tmp_path, (2, 1), (validation,))
    loaded = data.load(f"folder:{tmp_path}")
    assert counts(loaded) == {"train": 7, "test": 3}
    assert loaded.notes == (f"{tmp_path / validation} is the test split, because {tmp_path} has no other",)


@pytest.mark.parametrize(
    "train, test",
    [("Train", "Test"), ("TRAIN", "TEST"), ("training", "testing"), ("Training", "test"), ("training_set", "test_set")],
)
def test_usual_names_in_any_case(tmp_path, train, test):
    make_folder(tmp_path, (4, 3), (train,))
    make_folder(tmp_path, (2, 1), (test,))
    loaded = data.load(f"folder:{tmp_path}")
    assert counts(loaded) == {"train": 7, "test": 3} and loaded.notes == ()


@pytest.mark.parametrize(
    "folders, expected",
    [
        (("train", "eval"), ("train", "test")),
        (("Training", "Holdout"), ("train", "test")),
        (("train", "hold-out"), ("train", "test")),
        (("train", "val", "eval"), ("train", "test", "validation")),
        (("train", "development", "tests"), ("train", "test", "validation")),
        (("trn", "tst"), ("train", "test")),
        (("train", "validate"), ("train", "test")),  # there is no other
        (("seg_train", "seg_test"), ("train", "test")),
        (("images_train", "images_test", "images_val"), ("train", "test", "validation")),
        (("train2017", "val2017", "test2017"), ("train", "test", "validation")),
        (("ILSVRC2012_img_train", "ILSVRC2012_img_val"), ("train", "test")),
        (("train1", "Test 1"), ("train", "test")),
        (("holdout",), ("test",)),
    ],
)
def test_names_that_the_other_folders_make_clear(tmp_path, folders, expected):
    make_folder(tmp_path, (4, 3), folders)
    loaded = data.load(f"folder:{tmp_path}")
    assert counts(loaded) == dict.fromkeys(expected, 7) and loaded.labels == ("a", "b")


def test_classes_whose_names_look_like_those_of_splits(tmp_path):
    """bullet_train and testing ground are no splits; a class may hold folders of images."""
    for label in ("bullet_train", "test tube", "train2", "validate"):
        for k in range(5):
            save(tmp_path / label / ("2019" if label == "train2" else "") / f"{k}.png")
    assert data.load(f"folder:{tmp_path}").labels == ("bullet_train", "test tube", "train2", "validate")
    make_folder(tmp_path / "next", (4, 3), ("train", "test", "eval"))  # eval stays out: test is the test split
    loaded = data.load(f"folder:{tmp_path / 'next'}")
    assert counts(loaded) == {"train": 7, "test": 7} and "left out the folders eval" in loaded.notes[0]


def test_classes_in_a_single_folder_of_each_split(tmp_path):
    """seg_train/seg_train/CLASS, train/images/CLASS."""
    for outer, inner in (("one", ("seg_train/seg_train", "seg_test/seg_test")), ("two", ("train/images", "test/x/y"))):
        make_folder(tmp_path / outer, (4, 3), inner)
        loaded = data.load(f"folder:{tmp_path / outer}")
        assert counts(loaded) == {"train": 7, "test": 7} and loaded.labels == ("a", "b")


def test_folders_that_may_be_splits_of_other_names(tmp_path):
    make_folder(tmp_path, (4, 3), ("tr", "te"))
    loaded = data.load(f"folder:{tmp_path}")
    assert loaded.labels == ("te", "tr")
    assert "read te, tr as classes, although they hold the same folders; rename them train and test" in loaded.notes[2]


@pytest.mark.parametrize("name", ["test", "Testing", "val"])
def test_a_folder_with_a_test_folder_alone(tmp_path, name):
    make_folder(tmp_path, (4, 3), (name,))
    assert counts(data.load(f"folder:{tmp_path}")) == {"test": 7}
    with pytest.raises(ValueError, match="split is 'train'; expected \"test\": folder:"):
        data.load(f"folder:{tmp_path}").count("train")


def test_test_and_validation_without_training_images(tmp_path):
    make_folder(tmp_path, (4, 3), ("test", "dev"))
    assert counts(data.load(f"folder:{tmp_path}")) == {"test": 7, "validation": 7}


@pytest.mark.parametrize("name", ["test", "Val", "dev"])
def test_classes_in_a_folder_named_like_a_test_split(tmp_path, name):
    make_folder(tmp_path, (10, 10), ("train", name))
    loaded = data.load(f"folder:{tmp_path / name}")
    assert counts(loaded) == {"test": 20}
    assert loaded.notes == (f"{tmp_path / name} is a test split as a whole, because of its name",)
    assert counts(data.load(f"folder:{tmp_path / 'train'}")) == {"train": 16, "test": 4}


def test_a_folder_without_splits_says_what_it_holds_out(tmp_path):
    make_folder(tmp_path, (10, 10), ("",))
    loaded = data.load(f"folder:{tmp_path}")
    assert counts(loaded) == {"train": 16, "test": 4}
    assert "a fifth of each class is the test split, 4 of 20 images; --split all" in loaded.notes[0]


@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train", "val", "test")])
def test_the_whole_as_one_split(tmp_path, splits):
    root, records = make_folder(tmp_path / "pets", (5, 5), splits), tmp_path / "records"
    loaded = data.load(f"folder:{root}", whole=True)
    assert counts(loaded) == {"all": 10 * len(splits)}
    assert np.bincount(loaded.arrays("all")[1]).tolist() == [5 * len(splits)] * 2
    pack(*folder_items(root), records, shard=3)
    packed = data.load(f"records:{records}", whole=True)
    assert counts(packed) == counts(loaded) and rows(packed, "all") == rows(loaded, "all")


def test_two_folders_of_one_split(tmp_path):
    make_folder(tmp_path, (4, 3), ("train", "val", "dev"))
    with pytest.raises(ValueError, match="has two validation folders, dev and val; rename or move one of them"):
        data.load(f"folder:{tmp_path}")


def test_validation_folders_have_the_same_classes(tmp_path):
    make_folder(tmp_path, (4, 3), ("train", "test", "val"))
    save(tmp_path / "val" / "c" / "0.png")
    with pytest.raises(ValueError, match=r"only one of .*train and .*val has c; expected the same classes in both"):
        data.load(f"folder:{tmp_path}")


# A share of the training images ---------------------------------------------------------------------------------


def test_held_out_by_hand():
    """The first tenth of each class in the order of the SHA-256 of the names."""
    names = [f"{label}/{k:03}.png" for label in "ab" for k in range(20)]
    labels = [0] * 20 + [1] * 20
    chosen = held_out([name.encode() for name in names], labels, 0.1)
    expected = set()
    for label in "ab":
        ranked = sorted((n for n in names if n[0] == label), key=lambda n: hashlib.sha256(n.encode()).hexdigest())
        expected |= {*ranked[:2]}
    assert {name for name, out in zip(names, chosen, strict=True) if out} == expected


@pytest.mark.parametrize("share, held", [(0.1, [2, 1]), (0.5, [10, 5]), (0.01, [1, 1]), (0.99, [19, 9])])
@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val")])
def test_a_share_of_a_folder(tmp_path, splits, share, held):
    root = make_folder(tmp_path / "here", (20, 10), splits)
    whole, cut = data.load(f"folder:{root}"), data.load(f"folder:{root}", validation=share)
    assert counts(cut) == {"train": 30 - sum(held), "test": 30, "validation": sum(held)}
    assert np.bincount(cut.arrays("validation")[1]).tolist() == held
    assert rows(cut, "train") | rows(cut, "validation") == rows(whole, "train")
    assert not rows(cut, "train") & rows(cut, "validation")
    np.testing.assert_array_equal(cut.arrays("test")[0], whole.arrays("test")[0])
    elsewhere = make_folder(tmp_path / "there", (20, 10), splits)
    again = data.load(f"folder:{elsewhere}", validation=share)
    np.testing.assert_array_equal(cut.arrays("validation")[0], again.arrays("validation")[0])


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "streamed"])
def test_a_share_of_a_folder_without_splits(tmp_path, memory):
    root = make_folder(tmp_path, (20, 10), ("",))
    plain, cut = (data.load(f"folder:{root}", memory=memory, validation=share) for share in (None, 0.25))
    assert counts(cut) == {"train": 18, "test": 6, "validation": 6}  # a quarter of 24 training images
    assert [i.name for i in cut.splits["test"].items] == [i.name for i in plain.splits["test"].items]
    assert len(epoch_labels(cut.batches("validation", 4))) == 6


@pytest.mark.parametrize("named", [True, False], ids=["names in the index", "packed before there were names"])
def test_a_share_of_records_is_that_of_their_folder(tmp_path, named):
    root, records = make_folder(tmp_path / "pets", (20, 10), ("train", "test")), tmp_path / "records"
    pack(*folder_items(root), records, shard=7)
    if not named:
        for path in records.glob("*.npz"):
            with np.load(path) as file:
                index = {key: file[key] for key in file if key != "names"}
            np.savez(path, **index)
    ours, theirs = (data.load(name, validation=0.2) for name in (f"records:{records}", f"folder:{root}"))
    assert counts(ours) == counts(theirs) == {"train": 24, "test": 30, "validation": 6}
    for split in ours.splits:
        for ours_array, theirs_array in zip(ours.arrays(split), theirs.arrays(split), strict=True):
            np.testing.assert_array_equal(ours_array, theirs_array)
    assert ours.fingerprint() == theirs.fingerprint()


def test_records_keep_a_validation_split(tmp_path, rawcnn_command):
    root, records = make_folder(tmp_path / "pets", (4, 3), ("train", "test", "valid")), tmp_path / "pets-records"
    code, out, err = rawcnn_command("data", "pack", root)
    assert code == 0 and "packed 7 training and 7 test and 7 validation images of 2 classes" in out, err
    assert {split: len(part) for split, part in Records.open(records).splits.items()} == dict.fromkeys(
        ("train", "test", "validation"), 7
    )
    loaded = data.load(f"records:{records}", validation=0.5)
    assert counts(loaded) == {"train": 7, "test": 7, "validation": 7}
    assert "has a validation split of its own; none is cut" in loaded.notes[0]


def test_records_of_test_images_alone(tmp_path, rawcnn_command):
    root = make_folder(tmp_path / "pets", (4, 3), ("test",))
    code, out, err = rawcnn_command("data", "pack", root)
    assert code == 0 and "packed 7 test images of 2 classes\nevaluate them with `rawcnn evaluate MODEL --data" in out, (
        err
    )
    assert counts(data.load(f"records:{tmp_path / 'pets-records'}")) == {"test": 7}
    with pytest.raises(ValueError, match="has no training images from which a validation split could be cut"):
        data.load(f"records:{tmp_path / 'pets-records'}", validation=0.5)


def test_a_share_of_arrays_does_not_depend_on_their_size():
    whole, small, large = (
        data.load("digits", size, validation=v) for size, v in ((None, None), (None, 0.1), (16, 0.1))
    )
    assert counts(small) == counts(large) == {"train": 1299, "test": 355, "validation": 143}
    per_class = np.bincount(whole.arrays("train")[1])
    np.testing.assert_array_equal(np.bincount(small.arrays("validation")[1]), np.round(per_class * 0.1))
    np.testing.assert_array_equal(small.arrays("validation")[1], large.arrays("validation")[1])
    np.testing.assert_array_equal(
        np.stack([*small.originals("validation")]), np.stack([*large.originals("validation")])
    )
    keys = [hashlib.sha256(str(i).encode()).digest() for i in range(1442)]
    zeros = np.flatnonzero(whole.arrays("train")[1] == 0)
    ranked = sorted(zeros, key=lambda i: keys[i])[: round(len(zeros) / 10)]
    expected = whole.arrays("train")[0][sorted(ranked)]
    np.testing.assert_array_equal(small.arrays("validation")[0][small.arrays("validation")[1] == 0], expected)
    assert counts(data.load("digits", whole=True)) == {"all": 1797}


@pytest.mark.parametrize(
    "splits, expected",
    [
        (("train", "test"), {"train": 4, "test": 2}),
        (("train", "validation"), {"train": 4, "test": 2}),
        (("train", "test", "validation"), {"train": 4, "test": 2, "validation": 2}),
    ],
)
def test_splits_of_tfds(monkeypatch, tmp_path, splits, expected):
    fake_tfds(monkeypatch, tmp_path, splits)
    assert counts(data.load("tfds:toy")) == expected
    cut = expected if "validation" in expected else {"train": 2, "test": 2, "validation": 2}
    assert counts(data.load("tfds:toy", validation=0.5)) == cut
    assert counts(data.load("tfds:toy", whole=True)) == {"all": sum(expected.values())}


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "0.1", True])
def test_shares_that_cannot_be(share):
    with pytest.raises(ValueError, match=r"validation is .*; expected a share of the training images between 0 and 1"):
        data.load("digits", validation=share)


def test_nothing_to_cut_from(tmp_path):
    make_folder(tmp_path / "one", (1, 1))
    with pytest.raises(ValueError, match="has one training image per class; a validation split needs two or more"):
        data.load(f"folder:{tmp_path / 'one'}", validation=0.5)
    make_folder(tmp_path / "two", (1, 2))
    loaded = data.load(f"folder:{tmp_path / 'two'}", validation=0.5)
    assert counts(loaded) == {"train": 2, "test": 3, "validation": 1}


def test_the_fifth_is_that_of_earlier_versions(tmp_path):
    """A test split must not change, or networks would be tested on images that they were trained on."""
    root = make_folder(tmp_path, (15, 5), ("",))
    _, items = folder_items(root)
    for label, held in (("a", 3), ("b", 1)):
        names = sorted(path.name for path in Path(root, label).iterdir())
        ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(f"{label}/{name}")).digest())
        found = [Path(item.name).name for item in items if item.split == "test" and item.name.startswith(label)]
        assert found == sorted(ranked[:held])
