"""Folders of images: which folders are classes, which files are images, and the messages about unreadable ones."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawcnn import data
from rawcnn.data import decode
from tests.rawcnn.folders import epoch_labels, make_folder, save

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
    for label in ("train", "test", "bus"):
        for k in range(5):
            save(tmp_path / label / f"{k}.png")
    assert data.load(f"folder:{tmp_path}").labels == ("bus", "test", "train")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "val"), ("train", "valid", "test")])
def test_splits_of_images_without_classes_are_no_classes(tmp_path, names):
    """train/cat.0.jpg, as for competitions."""
    for name in names:
        for k in range(3):
            save(tmp_path / name / f"cat.{k}.png")
    with pytest.raises(ValueError, match=r"has images directly in .* and .*; expected a folder of images for each"):
        data.load(f"folder:{tmp_path}")


def test_what_is_no_image_of_a_class_is_not_read(tmp_path):
    make_folder(tmp_path, (2, 2))
    for name in (".hidden/x.png", "__MACOSX/x.png", "a/._000.png", "a/notes.txt", "a/.git/x.png"):
        file = tmp_path / "train" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("no image")
    folder = data.load(f"folder:{tmp_path}")
    assert folder.labels == ("a", "b") and folder.count("train") == 4
    assert folder.notes == ("left out 1 files whose endings are not those of images that are read: 1 .txt",)


def test_images_in_subfolders_of_a_class_are_read(tmp_path):
    """Six of fourteen lie directly in their class."""
    for split in ("train", "test"):
        for label in "ab":
            for k in range(6):
                save(tmp_path / split / label / f"{k}.png")
            for k in range(8):
                save(tmp_path / split / label / ("2019", "2020/may")[k % 2] / f"{k}.png")
    folder = data.load(f"folder:{tmp_path}")
    assert (folder.count("train"), folder.count("test")) == (28, 28)
    assert folder.notes == ("read 32 images from subfolders of the class folders",)
    names = [item.name for item in folder.splits["train"].items[:14]]
    assert names == sorted(names) and os.path.join("train", "a", "2020", "may", "1.png") in names


def test_all_endings_are_read(tmp_path):
    """22 images, of which those with .png were 8."""
    endings = [".png"] * 4 + [".tif", ".TIFF", ".ppm", ".jfif", ".jpe", ".Jpg", ".dib"]
    kinds = {".jfif": "JPEG", ".jpe": "JPEG"}
    for label in "ab":
        for k, ending in enumerate(endings):
            file = save(tmp_path / label / "x.png")
            Image.open(file).save(tmp_path / label / f"{k}{ending}", kinds.get(ending))
            file.unlink()
    folder = data.load(f"folder:{tmp_path}")
    assert folder.count("train") + folder.count("test") == 22 and len(folder.notes) == 1


def test_classes_that_are_numbers_are_in_numeric_order(tmp_path):
    names = ("0", "1", "2", "10", "11", "100")
    for name in names:
        save(tmp_path / "test" / name / "0.png")
    assert data.load(f"folder:{tmp_path}").labels == names
    save(tmp_path / "test" / "n10" / "0.png")
    assert data.load(f"folder:{tmp_path}").labels == ("0", "1", "10", "100", "11", "2", "n10")


def test_test_images_without_classes_are_no_split(tmp_path):
    make_folder(tmp_path, (10, 5), ("train",))
    for k in range(3):
        save(tmp_path / "test" / f"{k}.png")
    folder = data.load(f"folder:{tmp_path}")
    assert (folder.count("train"), folder.count("test")) == (12, 3)
    assert folder.notes[1] == "left out the folders test, which are not splits with folders of classes"


def test_an_image_next_to_class_folders_is_counted(tmp_path):
    make_folder(tmp_path, (3, 3))
    save(tmp_path / "train" / "preview.png")
    folder = data.load(f"folder:{tmp_path}")
    assert (folder.count("train"), folder.count("test")) == (6, 6)
    assert folder.notes == ("left out 1 images that are in no class folder",)


def test_a_class_stored_with_two_kinds_of_accents(tmp_path):
    for split, name in (("train", "caf\u00e9"), ("test", "cafe\u0301")):
        for label in ("tea", name):
            save(tmp_path / split / label / "0.png")
    assert data.load(f"folder:{tmp_path}").labels == ("caf\u00e9", "tea")
    save(tmp_path / "train" / "cafe\u0301" / "0.png")
    with pytest.raises(ValueError, match="has two folders 'caf\u00e9', whose accents are stored in two ways"):
        data.load(f"folder:{tmp_path}")


def test_links_are_followed_but_not_in_circles(tmp_path):
    make_folder(tmp_path / "real", (4, 4))
    for split in ("train", "test"):
        (tmp_path / "linked").mkdir(exist_ok=True)
        (tmp_path / "linked" / split).symlink_to(tmp_path / "real" / split, target_is_directory=True)
    (tmp_path / "real" / "train" / "a" / "again").symlink_to(tmp_path / "real" / "train" / "a")
    (tmp_path / "real" / "train" / "b" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    folder = data.load(f"folder:{tmp_path / 'linked'}")
    assert (folder.count("train"), folder.count("test")) == (8, 8)
    assert folder.notes == ("left out 1 links that lead nowhere",)


def test_a_set_in_another_folder_is_suggested(tmp_path):
    make_folder(tmp_path / "zip" / "pets", (2, 2))
    with pytest.raises(ValueError, match=r"one class, 'pets', whose own folders may be the classes: try folder:.*pets"):
        data.load(f"folder:{tmp_path / 'zip'}")


def test_what_is_there_instead_of_classes_is_named(tmp_path):
    make_folder(tmp_path / "a" / "b" / "pets", (2, 2))
    with pytest.raises(ValueError, match=r"try folder:.*a.b.pets;"):
        data.load(f"folder:{tmp_path / 'a'}")
    (tmp_path / "packed").mkdir()
    with zipfile.ZipFile(tmp_path / "packed" / "pets.ZIP", "w") as archive:
        archive.writestr("cat/0.png", b"")
    with pytest.raises(ValueError, match=r"has no folders of images but pets.ZIP \(unpack it\);"):
        data.load(f"folder:{tmp_path / 'packed'}")
    with pytest.raises(ValueError, match=r"pets.ZIP is not a folder; .*; unpack it first"):
        data.load(f"folder:{tmp_path / 'packed' / 'pets.ZIP'}")
    for k in range(3):
        save(tmp_path / "flat" / f"cat.{k}.png")
    with pytest.raises(ValueError, match="has no folders of images but 3 images;"):
        data.load(f"folder:{tmp_path / 'flat'}")


def test_links_to_classes_that_lead_nowhere(tmp_path):
    make_folder(tmp_path, (2, 2))
    (tmp_path / "train" / "c").symlink_to(tmp_path / "nowhere")
    assert data.load(f"folder:{tmp_path}").notes == ("left out 1 links that lead nowhere",)
    for split in ("train", "test"):
        (tmp_path / split / "d").mkdir()
        (tmp_path / split / "d" / "0.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"d has no images \(.*\) but links that lead nowhere; add some or remove it"):
        data.load(f"folder:{tmp_path}")


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
    assert np.ptp(decode.read(item, (8, 8))[2:-2, 2:-2].astype(int)) <= 8  # gray all over: no aliasing


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


def test_files_too_large_for_memory_are_checked_once(tmp_path, monkeypatch):
    """Files are checked again when one changes; unreadable files are reported each time; a damaged note is ignored."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make_folder(tmp_path / "images", (4, 4))
    broken = tmp_path / "images" / "train" / "b" / "003.png"
    broken.write_bytes(b"")
    looked: list[str] = []
    monkeypatch.setattr(data, "check", lambda item: (looked.append(item.name), decode.check(item)))

    def load():
        looked.clear()
        return data.load(f"folder:{tmp_path / 'images'}", 8, memory=0, skip_unreadable=True)

    first = load()
    assert len(looked) == 16 and first.skipped == ("train/b/003.png",)
    second = load()
    assert looked == ["train/b/003.png"] and second.skipped == first.skipped and second.count("train") == 7
    with pytest.raises(ValueError, match=r"003\.png cannot be read"):
        data.load(f"folder:{tmp_path / 'images'}", 8, memory=0)
    (note,) = (tmp_path / "cache" / "rawcnn" / "checked").iterdir()
    note.write_text("{")
    load()
    assert len(looked) == 16
    shutil.copy(broken.with_name("002.png"), broken)
    assert load().count("train") == 8 and len(looked) == 16
    assert load().count("train") == 8 and not looked
    monkeypatch.setenv("XDG_CACHE_HOME", str(broken))  # no folder: nothing can be written there
    assert load().count("train") == 8 and len(looked) == 16


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
