"""Damaged checkpoints are recognized, skipped, and deleted by the next save."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from pathlib import Path

import pytest
import tensorflow as tf

from rawcnn.training import checkpoints
from rawcnn.training.trainer import Training, TrainingFailed
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, assert_identical, state, trained


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 256, 64)


def short(file):
    file.write_bytes(file.read_bytes()[:100])


def flipped(file):
    """One bit, in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_note_with_any_bit_turned_is_passed_over(tmp_path, data, every):
    """A changed digit is valid JSON, too: without the checksum a run could skip an epoch."""
    training = trained(tmp_path, data)
    training.at.steps = 1
    training.save()
    newest = tmp_path / "checkpoints" / "ckpt-5" / "note.json"
    content, again = newest.read_bytes(), Training(small.network(), RECIPE, folder=tmp_path)
    for place in range(0, len(content), every):
        some = bytearray(content)
        some[place] ^= 1 << place % 8
        newest.write_bytes(some)
        again.restore()
        if again.damaged:
            assert (again.epoch, again.at.steps) == (1, 0)
        else:  # white space between words, of which another says the same
            assert (again.epoch, again.at.steps) == (1, 1) and again.history == training.history


def test_a_note_that_lacks_what_a_run_needs_is_passed_over(tmp_path, data):
    """A note with a valid checksum but other content, for instance of another version."""
    training = trained(tmp_path, data)
    training.at.steps = 1
    training.save()
    before = state(training)
    newest = tmp_path / "checkpoints" / "ckpt-5"
    note = checkpoints._checked((newest / "note.json").read_bytes())
    for wrong in ({**note, "at": {"epochs": 1}}, {k: v for k, v in note.items() if k != "plateau"}, [], {}):
        (newest / "note.json").write_bytes(checkpoints._with_checksum(wrong))
        again = Training(small.network(seed=1), RECIPE, folder=tmp_path)
        assert again.restore() and again.at.steps == 0 and list(again.damaged) == [newest]
        assert_identical(state(again), before)


@pytest.mark.deeper
def test_a_damaged_checkpoint_makes_room_for_sound_ones(tmp_path, data):
    """A damaged checkpoint is not named as the last good one, and does not count as one of the two newest."""
    training = trained(tmp_path, data, epochs=2)
    damage(tmp_path, 8, "note.json", flipped)
    again = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path)
    assert again.restore() and again.epoch == 1 and again.recovery.last_good().endswith("ckpt-4")
    again.at.steps = 2
    again.save()
    assert [path.name for path in again.recovery.checkpoints.all] == ["ckpt-4", "ckpt-6"]
    again.fit(data)
    assert [path.name for path in again.recovery.checkpoints.all] == ["ckpt-6", "ckpt-8"]
    assert training.epoch == again.epoch


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(tmp_path, data, monkeypatch):
    trained(tmp_path, data)

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(OSError, match=r"ckpt-4 cannot be read \(permission denied\); nothing was changed, try again"):
        Training(small.network(), RECIPE, folder=tmp_path).restore()


@pytest.mark.parametrize("error", [
    OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle"),
    tf.errors.ResourceExhaustedError(None, None, "too many open files"),
    tf.errors.UnavailableError(None, None, "the file server is gone"),
])  # fmt: skip
def test_what_the_system_does_not_give_is_no_damage(tmp_path, data, monkeypatch, error):
    """Otherwise the run would begin an epoch earlier, or delete a checkpoint that is complete."""
    training = trained(tmp_path, data)

    def fail(*_):
        raise error

    again = Training(small.network(), RECIPE, folder=tmp_path)
    monkeypatch.setattr(again.recovery.checkpoints, "_assign", fail)
    with pytest.raises(OSError, match=r"ckpt-4 cannot be read \(.*\); nothing was changed"):
        again.restore()
    monkeypatch.undo()
    assert again.restore() and again.damaged == {} and again.epoch == training.epoch


@pytest.mark.sample(5)
@pytest.mark.parametrize("part", ["note.json", "state.index", "state.data-*"])
@pytest.mark.parametrize("what", ["pipe", "device"])
def test_what_is_no_regular_file_is_damage(tmp_path, data, part, what):
    """Reading from a pipe would wait for a writer."""

    def replaced(file):
        file.unlink()
        os.mkfifo(file) if what == "pipe" else file.symlink_to(os.devnull)

    trained(tmp_path, data)
    damage(tmp_path, 4, part, replaced)
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 0
    ((path, why),) = again.damaged.items()
    assert path.name == "ckpt-4" and why.endswith("is not a regular file") and why.startswith(part.rstrip("*"))


def test_a_pipe_with_the_name_of_a_checkpoint_makes_room(tmp_path, data):
    (tmp_path / "checkpoints").mkdir()
    os.mkfifo(tmp_path / "checkpoints" / "ckpt-4")
    training = Training(small.network(), RECIPE, folder=tmp_path)
    with pytest.raises(ValueError, match=r"the checkpoints are damaged: .*ckpt-4 \(not a directory\)"):
        training.restore()
    training.use(data)
    training.at.epoch = 1
    training.save()
    assert Training(small.network(), RECIPE, folder=tmp_path).restore()


@pytest.mark.parametrize("what", ["file", "link", "pipe"])
def test_something_else_in_place_of_the_folder_is_a_line(rawcnn_command, tmp_path, what):
    """The message comes before any training; --fresh deletes only checkpoints."""
    place = tmp_path / "checkpoints"
    {"file": place.touch, "link": lambda: place.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(place)}[what]()
    for fresh in ((), ("--fresh",)):
        code, _, err = rawcnn_command("train", "cifar_resnet20", "--size", 8, "--output", tmp_path, *fresh)
        last = err.strip().splitlines()[-1]
        assert code == 2 and last == (
            f"rawcnn: {place} is not a folder, expected one of checkpoints; move it away, or name another output folder"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"] and os.path.lexists(place)


def test_a_lock_that_is_no_file_is_a_line(tmp_path, data):
    """Opening a pipe for writing would wait for a reader."""
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(ValueError, match=r"\.lock is not a regular file; name another path"):
        Training(small.network(), RECIPE, folder=tmp_path).fit(data)


PATH = "ckpt-0.part/state.data-00000-of-00001"
WRITING = "Let this user write there and run the same command again"


@pytest.mark.parametrize(
    "error, told",
    [
        (OSError(errno.ENOSPC, "x"), "Free some space and run the same command again"),
        (OSError(errno.EDQUOT, "x"), "Free some space and run the same command again"),
        (tf.errors.ResourceExhaustedError(None, None, f"{PATH}; No space left on device"), "Free some space and run"),
        (tf.errors.ResourceExhaustedError(None, None, f"{PATH}; Disk quota exceeded"), "Free some space and run"),
        (OSError(errno.EACCES, "x"), WRITING),
        (tf.errors.PermissionDeniedError(None, None, f"{PATH}; Permission denied"), WRITING),
        (tf.errors.PermissionDeniedError(None, None, f"{PATH}; Read-only file system"), "Mount it for writing and run"),
        (tf.errors.OutOfRangeError(None, None, f"{PATH}; File too large"), "Raise the limit on a file's size"),
        (tf.errors.ResourceExhaustedError(None, None, f"{PATH}; Too many open files"), "Raise the limit on open files"),
        (OSError(errno.EIO, "x"), "Check the disk and the folder and run the same command again"),
        (tf.errors.UnknownError(None, None, f"{PATH}; Input/output error"), "Check the disk and the folder"),
    ],
)
def test_what_to_do_fits_what_went_wrong(tmp_path, monkeypatch, error, told):
    """Free space helps only if the disk is full."""
    training = Training(small.network(), RECIPE, folder=tmp_path)

    def fail(*_):
        raise error

    monkeypatch.setattr(tf.train.Checkpoint, "write", fail)
    with pytest.raises(TrainingFailed, match=rf"there is no checkpoint\. {re.escape(told)}"):
        training.save()


def test_too_little_memory_is_no_damage(tmp_path, data, monkeypatch):
    trained(tmp_path, data)
    again = Training(small.network(), RECIPE, folder=tmp_path)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(again.recovery.checkpoints, "_assign", fail)
    with pytest.raises(MemoryError):
        again.restore()


def test_all_of_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, data, monkeypatch):
    """Each file, its directory, and after the renaming the parent directory are forced to disk."""
    training = Training(small.network(), RECIPE, folder=tmp_path)
    done = []
    force, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda d: (done.append(Path(os.readlink(f"/proc/self/fd/{d}"))), force(d)))
    monkeypatch.setattr(Path, "rename", lambda a, b: (done.append("renamed"), rename(a, b))[1])
    training.use(data)
    training.save()
    beside, place = tmp_path / "checkpoints" / ".ckpt-0.part", done.index("renamed")
    files = {path.name for path in (tmp_path / "checkpoints" / "ckpt-0").iterdir()}
    assert {path.name for path in done[:place] if path.parent == beside} == files and len(files) >= 3
    assert done[place - 1] == beside and done[place + 1 :] == [tmp_path / "checkpoints"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_on_the_command_line(rawcnn_command, small_run):
    (newest,) = (small_run / "checkpoints").glob("ckpt-[1-9]*")
    flipped(newest / "note.json")
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--output", small_run, "--epochs", 2)
    assert code == 0 and f"skipped the damaged checkpoint {newest} (" in " ".join(err.split()), err


def damage(folder, number, part="state.data-*", how=short):
    (file,) = (folder / "checkpoints" / f"ckpt-{number}").glob(part)
    how(file)


@pytest.mark.sample("note.json-unlink")
@pytest.mark.parametrize(
    "part, how",
    [
        ("state.data-*", short), ("state.data-*", flipped), ("state.index", short), ("state.index", Path.unlink),
        ("state.index", flipped), ("note.json", short), ("note.json", Path.unlink), ("note.json", flipped),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, data, part, how):
    training = Training(small.network(), dataclasses.replace(RECIPE, epochs=1), folder=tmp_path)
    training.fit(data)
    good = state(training)
    longer = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path)
    longer.restore()
    longer.fit(data)
    damage(tmp_path, 8, part, how)
    again = Training(small.network(seed=1), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert [path.name for path in again.damaged] == ["ckpt-8"] and all(again.damaged.values())
    assert_identical(state(again), good)


def test_only_damaged_checkpoints(tmp_path, data):
    trained(tmp_path, data)
    damage(tmp_path, 0), damage(tmp_path, 4)
    fresh = Training(small.network(), RECIPE, folder=tmp_path)
    before = state(fresh)
    with pytest.raises(ValueError, match=r"the checkpoints are damaged: .*-4 \(.+\), .*-0 \(.+\); .*--fresh"):
        fresh.restore()
    assert fresh.epoch == 0
    assert_identical(state(fresh), before)
