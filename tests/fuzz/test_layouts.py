"""Folders of images as people have them: every image is read once, as its class and split, or reported as left out."""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawcnn import data
from rawcnn.data.decode import FORMATS, SUFFIXES
from rawcnn.data.folders import folder_items
from rawcnn.data.records import pack
from tests.rawcnn.folders import save

NAMES = {
    "train": ("train", "Train", "TRAIN", "training", "Training", "training_set", "train-images", "Train Dataset"),
    "test": ("test", "Test", "TEST", "testing", "Testing", "test_set", "test images", "evaluation"),
    "validation": ("val", "Val", "valid", "VALID", "validation", "Validation", "dev", "Dev", "validation_set"),
}
LAYOUTS = (
    ("train", "test"), ("train", "validation"), ("train", "test", "validation"), ("train",), ("test",), ("validation",),
    ("test", "validation"), (),
)  # fmt: skip
CLASSES = (
    *("cat", "dog", "Great White Shark", "naïve", "日本", "100%", "a.b", "it's", "-dash", "x" * 100, "emoji 🐈"),
    *("0", "1", "2", "10", "007", "n01440764", "train2", "testing ground", "all", "validate", "#1", "[x]", "{y}"),
)
OTHERS = (".txt", ".csv", ".json", ".xml", ".mp4", ".heic", ".svg", ".npy", "")  # files that are no images
JUNK = (".DS_Store", "Thumbs.db", "desktop.ini", "._photo.jpg", ".hidden.png", "THUMBS.DB")
JUNK_FOLDERS = ("__MACOSX", ".git", ".ipynb_checkpoints", "@eaDir", "__macosx")
WRITABLE = tuple(
    ending for ending in SUFFIXES if ending not in (".mpo", ".avif", ".rgba", ".pfm", ".jpc", ".jpx", ".bw")
)


@dataclass
class Written:
    """What a layout has: the images of each (split, class), and how many other files of each ending."""

    images: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    nested: int = 0
    links: int = 0


def pick(generator, options):
    return options[int(generator.integers(len(options)))]


def make_layout(root: Path, seed: int) -> tuple[tuple[str, ...], Written]:
    """Write a random data set; return its kinds of splits and what it has."""
    generator, written = np.random.default_rng(seed), Written()
    layout = LAYOUTS[seed % len(LAYOUTS)]
    classes = [CLASSES[int(k)] for k in generator.choice(len(CLASSES), int(generator.integers(2, 6)), replace=False)]
    source = root.parent / f"source of {root.name}"
    source.mkdir(parents=True)
    for split in layout or ("",):
        folder = root / pick(generator, NAMES[split]) if split else root
        for label in classes:
            decomposed = unicodedata.normalize("NFD" if generator.random() < 0.5 else "NFC", label)
            write_class(folder / decomposed, root, source, generator, written, (split, label))
        (folder / pick(generator, JUNK)).write_bytes(b"junk")
        (folder / pick(generator, JUNK_FOLDERS)).mkdir(exist_ok=True)
        save(folder / pick(generator, JUNK_FOLDERS) / "x.png")
    return layout, written


def write_class(folder: Path, root: Path, source: Path, generator, written: Written, key: tuple[str, str]) -> None:
    """Write a class of 2 to 6 images, some of them nested or linked, and other files."""
    names = written.images.setdefault(key, [])
    for k in range(int(generator.integers(2, 7))):
        inside = pick(generator, ("", "", "", "sub", "sub/deeper", "été", "test"))
        ending = pick(generator, WRITABLE)
        ending = ending.upper() if generator.random() < 0.3 else ending
        file = folder / inside / f"{pick(generator, ('img', 'IMG ', 'ü', '(1)'))}{k}{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        target = source / f"{len(os.listdir(source))}{ending}" if generator.random() < 0.2 else file
        kind = next(kind for kind, endings in FORMATS.items() if ending.lower() in endings)
        Image.new("L" if kind == "PPM" and ending.lower() == ".pgm" else "RGB", (4, 4)).save(target, kind)
        if target != file:
            file.symlink_to(target)
        names.append(str(file.relative_to(root)))
        written.nested += inside != ""
    for _ in range(int(generator.integers(0, 3))):
        ending = pick(generator, OTHERS)
        (folder / f"other{generator.integers(10**9)}{ending}").write_bytes(b"no image")
        written.others[ending] += 1
    if generator.random() < 0.2:
        (folder / "lost.png").symlink_to(folder / "nowhere.png")
        written.links += 1
    if generator.random() < 0.2:
        (folder / "circle").symlink_to(folder, target_is_directory=True)
    (folder / pick(generator, JUNK)).write_bytes(b"junk")


def expected_splits(layout: tuple[str, ...], written: Written) -> dict[str, Counter]:
    """The (class, file) pairs of each split; a part that is divided by a hash has the key "train+test"."""
    renamed = {"train": "train", "test": "test", "validation": "validation" if "test" in layout else "test"}
    divided = layout in ((), ("train",))
    splits: dict[str, Counter] = {}
    for (split, label), names in written.images.items():
        key = "train+test" if divided else renamed[split]
        splits.setdefault(key, Counter()).update((unicodedata.normalize("NFC", label), name) for name in names)
    return splits


@pytest.mark.filterwarnings("ignore:.* has pictures in formats that are not read")
@pytest.mark.parametrize("seed", range(80))
def test_every_image_is_read_once_or_reported(tmp_path, seed):
    layout, written = make_layout(tmp_path / "set", seed)
    notes: list[str] = []
    labels, items = folder_items(tmp_path / "set", notes=notes)
    found: dict[str, Counter] = {}
    for item in items:
        found.setdefault(item.split, Counter())[labels[item.label], item.name] += 1
    expected = expected_splits(layout, written)
    if "train+test" in expected:
        assert found["train"] + found["test"] == expected.pop("train+test")
        assert {label for label, _ in found["test"]} == {label for label, _ in found["train"]} == {*labels}
        assert any("a fifth of each class is the test split" in note for note in notes)
    else:
        assert found == expected
    text = "\n".join(notes)
    if total := written.others.total():
        assert f"left out {total} files" in text
        for ending, count in written.others.items():
            assert (f"{count} {ending}" if ending else f"{count} without an ending") in text
    else:
        assert "whose endings" not in text
    assert (f"left out {written.links} links" in text) == (written.links > 0)
    assert (f"read {written.nested} images from subfolders" in text) == (written.nested > 0)
    numbers = all(label.isdecimal() for label in labels)
    assert labels == sorted(labels, key=(lambda label: (int(label), label)) if numbers else None)


@pytest.mark.filterwarnings("ignore:.* has pictures in formats that are not read")
@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(n, marks=pytest.mark.deeper) for n in range(8, 40))])
def test_layouts_are_loaded_and_packed(tmp_path, seed):
    """The same images from the folder, from its records, from memory and from the disk, whole or with a validation."""
    root = tmp_path / "set"
    make_layout(root, seed)
    pack(*folder_items(root), tmp_path / "records", shard=5)
    loaded = [
        data.load(name, 4, memory=memory)
        for name in (f"folder:{root}", f"records:{tmp_path / 'records'}")
        for memory in (2**30, 0)
    ]
    counts = [{split: one.count(split) for split in one.splits} for one in loaded]
    assert all(found == counts[0] for found in counts)
    assert all(one.labels == loaded[0].labels for one in loaded)
    for split in loaded[0].splits:
        batches = [[(x.numpy(), y.numpy()) for x, y in one.batches(split, 4, seed=seed)] for one in loaded]
        for other in batches[1:]:
            for (x, y), (u, v) in zip(batches[0], other, strict=True):
                np.testing.assert_array_equal(x, u)
                np.testing.assert_array_equal(y, v)
    whole = data.load(f"folder:{root}", 4, whole=True)
    assert whole.count("all") == sum(counts[0].values())
    if "train" in counts[0]:
        cut = [data.load(name, 4, validation=0.3) for name in (f"folder:{root}", f"records:{tmp_path / 'records'}")]
        assert cut[0].fingerprint() == cut[1].fingerprint() and "validation" in cut[0].splits
        assert sum(cut[0].count(split) for split in cut[0].splits) == whole.count("all")


def put(root: Path, *paths: str) -> None:
    """Write an image at each path that ends in .png, a folder at one that ends in /, else a file that is no image."""
    for path in paths:
        if path.endswith(".png"):
            save(root / path)
        elif path.endswith("/"):
            (root / path).mkdir(parents=True)
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("no image")


DAMAGES = {
    "one class": ("a/0.png", "a/1.png"),
    "an empty class": ("a/0.png", "a/1.png", "b/"),
    "no classes": ("0.png", "1.png"),
    "nothing": ("./",),
    "a class without images": ("a/0.png", "a/1.png", "b/x/"),
    "a class of other files": ("a/0.png", "a/1.png", "b/x.cr2"),
    "one image": ("a/0.png", "b/0.png"),
    "two training folders": ("train/a/0.png", "train/b/0.png", "Training/a/0.png", "Training/b/0.png"),
    "two validation folders": tuple(f"{split}/{label}/0.png" for split in ("train", "val", "dev") for label in "ab"),
    "another class": ("train/a/0.png", "train/b/0.png", "test/a/0.png", "test/c/0.png"),
    "an empty test folder": ("train/a/0.png", "train/b/0.png", "test/"),
    "a set inside a folder": ("set/train/a/0.png", "set/train/b/0.png", "set/test/a/0.png", "set/test/b/0.png"),
    "a text with an image's ending": ("a/0.png", "a/1.png", "a/2.jpg", "b/0.png", "b/1.png"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_data_set_is_refused_in_one_line(tmp_path, damage, rawcnn_command):
    root = tmp_path / "set"
    put(root, *DAMAGES[damage])
    with pytest.raises(ValueError, match=re.escape(str(root))) as error:
        data.load(f"folder:{root}")
    assert "\n" not in str(error.value)
    evaluate = ("evaluate", "cifar_resnet20", "--size", 8, "--classes", 2, "--data", f"folder:{root}")
    for words in (evaluate, ("data", "pack", root)):
        code, _, err = rawcnn_command(*words)
        assert code == 2 and "Traceback" not in err and str(root) in err.splitlines()[-1]


def test_pictures_that_cannot_be_read_are_a_warning(tmp_path):
    """Files of text are only noted. Photographs that are missing without a word would be a fault."""
    for label in "ab":
        for k in range(3):
            save(tmp_path / label / f"{k}.png")
            (tmp_path / label / f"{k}.txt").write_text("a cat")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = data.load(f"folder:{tmp_path}")
    assert any("6 .txt" in note for note in loaded.notes)
    (tmp_path / "a" / "photo.HEIC").write_bytes(b"photo")
    with pytest.warns(UserWarning, match=r"has pictures in formats that are not read: 1 \.heic; convert them"):
        data.load(f"folder:{tmp_path}")
