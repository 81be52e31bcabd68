"""Packed images are the same data set as their folder, and a packing that was stopped resumes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from rawcnn import data
from rawcnn.data import decode, records
from rawcnn.data.folders import folder_items
from rawcnn.data.records import Records, pack
from rawcnn.files.locks import exclusive_folder
from rawcnn.training.run import prepare, run
from tests.rawcnn.folders import make_folder, save


@pytest.fixture
def folder(tmp_path):
    """Twenty images of two sizes, one of them larger; a test image each of them."""
    root = make_folder(tmp_path / "pets", (10, 10))
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(root / "train" / "a" / "large.png")
    return root


def packed(folder, **settings) -> Records:
    return pack(*folder_items(folder), folder.with_name("records"), **{"shard": 8, **settings})


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "streamed"])
@pytest.mark.parametrize("size", [None, 6])
def test_records_are_their_folder(folder, memory, size):
    """The same labels, counts, and batches to the bit, also from the middle of an epoch on."""
    kept = packed(folder)
    assert [len(shelf.shards) for shelf in kept.splits.values()] == [3, 3]
    ours, theirs = (
        data.load(name, size, memory=memory) for name in (f"records:{folder.with_name('records')}", f"folder:{folder}")
    )
    assert (ours.labels, ours.size) == (theirs.labels, theirs.size)
    for split in ("train", "test"):
        assert ours.count(split) == theirs.count(split)
        for first in (0, 2):
            pairs = zip(*(d.batches(split, 4, seed=1, epoch=3, first=first) for d in (ours, theirs)), strict=True)
            for (x, y), (u, v) in pairs:
                np.testing.assert_array_equal(x, u)
                np.testing.assert_array_equal(y, v)
    originals = zip(ours.originals("train"), theirs.originals("train"), strict=True)
    assert all(np.array_equal(a, b) for a, b in originals)


@pytest.mark.deeper
def test_a_run_on_records_is_the_run_on_the_folder(folder, tmp_path):
    """A run on the folder and one on the records are the same, and each can resume the other."""
    packed(folder)
    ends = {}
    for kind, root in (("folder", folder), ("records", folder.with_name("records"))):
        plan = prepare("cifar_resnet20", kind, "digits", epochs=1, batch=4, size=8)
        images = data.load(f"{kind}:{root}", plan.data_size)
        training = plan.training(images, tmp_path / kind, seed=0, precision="float32", compile="auto")
        run(training, images, tensorboard=False)
        ends[kind] = {path: v.numpy() for path, v in training.network.variables.items()}
    for path, value in ends["folder"].items():
        np.testing.assert_array_equal(value, ends["records"][path], path)
    shutil.copytree(tmp_path / "folder", tmp_path / "longer")
    plan = prepare("cifar_resnet20", "records", "digits", epochs=2, batch=4, size=8)
    images = data.load(f"records:{folder.with_name('records')}", plan.data_size)
    assert plan.training(images, tmp_path / "longer", seed=0, precision="float32", compile="auto").epoch == 1


def test_files_are_copied_and_only_large_ones_shrunk(folder):
    whole = packed(folder)
    number = next(n for n, size in enumerate(whole.splits["train"].sizes) if tuple(size) == (40, 60))
    assert whole.splits["train"][number].source() == (folder / "train" / "a" / "large.png").read_bytes()
    shutil.rmtree(folder.with_name("records"))
    small = packed(folder, size=20)
    assert tuple(small.splits["train"].sizes[number]) == (20, 30)
    with Image.open(folder / "train" / "a" / "large.png") as image:
        expected = np.asarray(image.resize((30, 20), Image.Resampling.BILINEAR), np.float32)
    found = decode.read(small.splits["train"][number]).astype(np.float32)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 5  # noise as JPEG
    assert small.size is None and whole.size is None


def test_any_reader_of_tfrecords_reads_them(folder):
    packed(folder)
    files = sorted(map(str, folder.with_name("records").glob("train-*.tfrecord")))
    described = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    described["name"] = tf.io.FixedLenFeature([], tf.string)
    found = [tf.io.parse_single_example(record, described) for record in tf.data.TFRecordDataset(files)]
    assert [os.fsdecode(f["name"].numpy()) for f in found] == [
        i.name for i in folder_items(folder)[1] if i.split == "train"
    ]
    assert {int(f["label"]) for f in found} == {0, 1}
    assert tf.io.decode_image(found[0]["image"]).shape == (8, 8, 3)


def test_a_stopped_packing_goes_on(folder, monkeypatch):
    """Shards that are whole are not read again; half of one is nothing."""
    whole = packed(folder)
    root = folder.with_name("records")
    expected = {path.name: path.read_bytes() for path in root.iterdir()}
    for name in ("manifest.json", "train-00001.npz", "test-00002.npz", "test-00002.tfrecord"):
        (root / name).unlink()
    with pytest.raises(ValueError, match=r"has no manifest\.json: its packing was stopped; pack images with"):
        Records.open(root)
    written, told = [], []
    original = records._write_shard
    monkeypatch.setattr(records, "_write_shard", lambda target, *w: (written.append(target.name), original(target, *w)))
    again = packed(folder, progress=lambda done, total: told.append((done, total)))
    assert written == ["train-00001.tfrecord", "test-00002.tfrecord"]
    assert {path.name: path.read_bytes() for path in root.iterdir()} == expected
    assert told[-1] == (41, 41) and told == sorted(told) and len(again.splits["train"]) == len(whole.splits["train"])


def test_other_images_or_settings_are_not_mixed_in(folder):
    packed(folder)
    with pytest.raises(ValueError, match="was begun with other images or settings; name another folder, or delete it"):
        packed(folder, size=20)
    save(folder / "train" / "a" / "new.png")
    with pytest.raises(ValueError, match="was begun with other images"):
        packed(folder)
    with pytest.raises(ValueError, match="holds something else; name a new folder"):
        pack(*folder_items(folder), folder)
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_an_image_that_changed_is_another_one(folder, stopped):
    """A changed image is recognized even if its file has as many bytes; records that are packed stay readable."""
    file = save(folder / "train" / "a" / "new.bmp", 10)
    before = file.read_bytes()
    packed(folder)
    root = folder.with_name("records")
    if stopped:
        for name in ("manifest.json", "train-00001.npz"):
            (root / name).unlink()
    save(file, 20)
    assert file.read_bytes() != before and file.stat().st_size == len(before)
    with pytest.raises(ValueError, match="was begun with other images or settings; name another folder, or delete it"):
        packed(folder)
    assert stopped or len(Records.open(root).splits["train"]) == 22


def test_two_processes_do_not_pack_into_one_folder(folder):
    """Each would write into the other's files. The lock is of an open file: a second one stands for it."""
    root = folder.with_name("records")
    for there in ({".lock"}, {".lock", ".plan.json.part"}):  # nothing yet, or the plan on its way
        for name in there:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).touch()
        with (
            exclusive_folder(root),
            pytest.raises(ValueError, match=r"another process writes in .*; wait for it, or name"),
        ):
            packed(folder)
        assert {file.name for file in root.iterdir()} == there - {".lock"}
    packed(folder)
    with exclusive_folder(root):
        with pytest.raises(ValueError, match="another process writes in"):
            packed(folder)
        assert len(Records.open(root).splits["test"]) == 20
    packed(folder)


def test_a_packing_beside_another_on_the_command_line(folder, rawcnn_command):
    root = folder.with_name("pets-records")
    imports = "from pathlib import Path; from rawcnn.files.locks import exclusive_folder"
    holding = f"{imports}\nwith exclusive_folder(Path({str(root)!r})):"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{holding} print('held', flush=True), input()"], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"
    code, _, err = rawcnn_command("data", "pack", folder)
    assert code == 2 and f"another process writes in {root}; wait for it, or name another folder" in err
    other.communicate("\n")
    code, _, err = rawcnn_command("data", "pack", folder)
    assert code == 0, err


def test_the_package_alone_reads_data(folder):
    """As the README does: no other import has made rawcnn.data known."""
    packed(folder)
    code = f"import rawcnn; print(rawcnn.data.load('records:{folder.with_name('records')}').count('test'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr


def test_what_is_lost_of_a_shard_is_named(folder):
    packed(folder)
    root = folder.with_name("records")
    shard = root / "train-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(
        ValueError, match=r"train-00001\.tfrecord has [\d,]+ bytes, expected [\d,]+; delete it and its \.npz"
    ):
        Records.open(root)
    shard.with_suffix(".npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-00001\.tfrecord or its index cannot be read"):
        Records.open(root)
    with pytest.raises(ValueError, match=r"nothing has no records; pack images with `rawcnn data pack FOLDER --output"):
        Records.open(folder / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "3",
        '{"labels": ["a"], "shards": 1}',
        '{"labels": ["a"], "shards": {"train": 1}}',
        '{"labels": 1, "shards": {"train": 1, "test": 1}}',
        '{"labels": [], "shards": {"train": 0, "test": 1}}',
    ],
)
def test_a_damaged_manifest_is_told_and_made_again(folder, text):
    whole = packed(folder)
    root = folder.with_name("records")
    (root / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged; delete it and pack again: complete shards are"):
        Records.open(root)
    assert len(packed(folder).splits["train"]) == len(whole.splits["train"])
    (root / "plan.json").write_text(text)
    with pytest.raises(ValueError, match="was begun with other images or settings"):
        packed(folder)


def test_an_index_that_lacks_a_part(folder):
    packed(folder)
    np.savez(folder.with_name("records") / "train-00001.npz", offsets=np.zeros(1, np.int64))
    with pytest.raises(ValueError, match=r"train-00001\.tfrecord or its index cannot be read"):
        Records.open(folder.with_name("records"))


@pytest.mark.parametrize("name, wrong", [
    ("offsets", lambda n: n.astype(str)), ("lengths", lambda n: n[:-1]), ("labels", lambda n: n + 77),
    ("labels", lambda n: n - 77), ("sizes", lambda n: n[:, :1]), ("offsets", lambda n: n - 10**9),
])  # fmt: skip
def test_an_index_that_is_whole_and_wrong(folder, name, wrong):
    """Such as no changed byte makes it, for the archive has a checksum."""
    packed(folder)
    path = folder.with_name("records") / "train-00000.npz"
    with np.load(path) as file:
        index = dict(file)
    np.savez(path, **{**index, name: wrong(index[name])})
    with pytest.raises(ValueError, match=r"train-00000\.tfrecord or its index cannot be read; delete both"):
        Records.open(folder.with_name("records"))


def test_unreadable_files_are_left_out_by_name(folder):
    (folder / "train" / "b" / "000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"000\.png cannot be read as an image .*--skip-unreadable"):
        packed(folder)
    found = packed(folder, skip_unreadable=True)
    assert found.skipped == (os.path.join("train", "b", "000.png"),)
    assert data.load(f"records:{folder.with_name('records')}").skipped == found.skipped


def test_a_packing_that_was_killed_before_its_plan_was_there_goes_on(folder):
    root = folder.with_name("records")
    root.mkdir()
    (root / ".plan.json.part").write_text("{")
    assert len(packed(folder).splits["test"]) == 20
    assert not list(root.glob(".*"))


@pytest.mark.deeper
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", ["records", "folder"])
def test_an_image_that_breaks_under_a_run(folder, rawcnn_command, tmp_path, monkeypatch, kind, split):
    """One line is printed; the same command resumes when the image is readable again."""
    from rawcnn.data import dataset

    packed(folder)
    original, broken = dataset.read, []

    def read(item, size=None):
        if item.split == split and len(broken) < 30:  # not yet when the first epoch begins
            broken.append(item)
        if item.split == split and len(broken) == 30:
            raise ValueError("its last bytes are missing")
        return original(item, size)

    monkeypatch.setattr(dataset, "read", read)
    root = folder if kind == "folder" else folder.with_name("records")
    words = ("train", "cifar_resnet20", "--data", f"{kind}:{root}", "--recipe", "digits", "--size", 8, "--batch", 4)
    words += ("--epochs", 3, "--memory", 0, "--output", tmp_path / "run")
    code, _, err = rawcnn_command(*words)
    remedy = "with --skip-unreadable" if kind == "folder" else "delete that file and its .npz, and pack again"
    assert code == 2 and "Traceback" not in err
    assert "cannot be read as an image (its last bytes are missing); " in err and remedy in err
    monkeypatch.undo()
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    # what was trained is not lost where only the evaluation after it broke
    assert f"resuming after epoch 1{' and 5 steps' if split == 'test' else ''}\n" in out


def test_records_without_a_readable_test_image(folder, rawcnn_command, tmp_path):
    for file in (folder / "test").rglob("*.png"):
        file.write_bytes(b"no image")
    packed(folder, skip_unreadable=True)
    words = ("train", "cifar_resnet20", "--data", f"records:{folder.with_name('records')}", "--recipe", "digits")
    code, _, err = rawcnn_command(*words, "--size", 8, "--batch", 4, "--output", tmp_path / "run")
    assert code == 2 and "has no test images: none of them could be read; repair them and pack again" in err


@pytest.mark.parametrize("name", [".", ".."])
def test_packing_the_folder_one_is_in(folder, rawcnn_command, monkeypatch, name):
    """The records are written next to the folder, not into it."""
    monkeypatch.chdir(folder if name == "." else folder / "train")
    code, out, err = rawcnn_command("data", "pack", name, "--json")
    assert code == 0, err
    assert json.loads(out)["output"] == str(folder.with_name("pets-records"))


@pytest.mark.deeper
def test_class_names_that_are_no_utf8(folder, rawcnn_command, tmp_path):
    for split in ("train", "test"):
        os.rename(folder / split / "b", os.fsencode(folder / split) + b"/\xff\xfe")
    words = ("train", "cifar_resnet20", "--data", f"folder:{folder}", "--recipe", "digits", "--size", 8, "--batch", 4)
    code, _, err = rawcnn_command(*words, "--epochs", 1, "--images", "--output", tmp_path / "run")
    assert code == 0, err


def test_on_the_command_line(folder, rawcnn_command, tmp_path):
    code, out, err = rawcnn_command("data", "pack", folder, "--shard", 8, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["images"] == {"train": 21, "test": 20} and told["output"].endswith("pets-records")
    words = ("train", "cifar_resnet20", "--data", f"records:{told['output']}", "--recipe", "digits", "--size", 8)
    code, out, err = rawcnn_command(*words, "--batch", 4, "--epochs", 1, "--output", tmp_path / "run")
    assert code == 0, err
    code, _, err = rawcnn_command("data", "pack", tmp_path / "nothing")
    assert code == 2 and "is not a folder; expected one that holds a folder of images for each class" in err


@pytest.mark.sample("0")
@pytest.mark.parametrize("memory", [0, 1])
def test_the_input_beside_the_step(folder, rawcnn_command, memory, monkeypatch):
    from rawcnn.training import throughput

    original = throughput.measure_throughput
    monkeypatch.setattr(
        throughput, "measure_throughput", lambda *words, **settings: original(*words, **settings, seconds=0.2)
    )
    words = ("train", "cifar_resnet20", "--data", f"folder:{folder}", "--recipe", "digits", "--size", 8, "--batch", 4)
    code, out, err = rawcnn_command(*words, "--profile-input", "--memory", memory, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["ratio"] == pytest.approx(told["input_images_per_second"] / told["step_images_per_second"])
    assert ("images=streamed" if memory == 0 else "images=in memory") in err and "the input gives" in err


LARGE = """
import sys
import numpy as np
from benchmarks.harness.timing import resident
from rawcnn import data

def held():  # the peak would tell nothing: importing TensorFlow took more
    return resident("VmRSS") // 1024

images = data.load(sys.argv[1], 160, memory=0)
for _ in images.batches("train", 16):
    pass
before, kept = held(), []
for epoch in range(3):
    for batch, _ in images.batches("train", 16, epoch=epoch):
        if sys.argv[2] == "leaking":
            kept.append((batch.numpy() * 255).astype("uint8"))
print(held() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the resident memory in /proc")
def test_epochs_take_constant_memory(tmp_path):
    """600 images of 400×400, 288 MB decoded; of an epoch that is kept, at 160×160 and a byte a number, 46 MB."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    for label in "ab":
        for number in range(300):
            file = tmp_path / "pets" / label / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(noise, number, 0)).save(file, quality=60)
    pack(*folder_items(tmp_path / "pets"), tmp_path / "records", shard=128)
    folder, records = f"folder:{tmp_path / 'pets'}", f"records:{tmp_path / 'records'}"
    for name, how in ((folder, "as it is"), (records, "as it is"), (records, "leaking")):
        done = subprocess.run([sys.executable, "-c", LARGE, name, how], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (int(done.stdout) < 60_000) == (how != "leaking"), f"{name}, {how}, took {int(done.stdout):,} KiB more"
