"""Files are complete or unchanged, also after a power failure: content and name reach the disk in this order."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from rawcnn.files import atomic
from rawcnn.files.atomic import atomic_files, write_atomic


@pytest.fixture
def recorded(monkeypatch) -> list[tuple[str, str]]:
    """The calls of os.fsync and os.replace, each with the path that it concerns."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(("fsync", os.readlink(f"/proc/self/fd/{fd}"))), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append(("replace", str(new))), replace(old, new)))
    return calls


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux says which file a descriptor is")


@linux
@pytest.mark.parametrize("before", [None, b"old"])
def test_content_is_on_the_disk_before_the_name(tmp_path, recorded, before):
    file = tmp_path.resolve() / "file.txt"
    if before:
        file.write_bytes(before)
    write_atomic(file, b"new")
    part = str(file.with_name(".file.txt.part"))
    assert recorded == [("fsync", part), ("replace", str(file)), ("fsync", str(file.parent))]
    assert file.read_bytes() == b"new" and [*tmp_path.iterdir()] == [tmp_path / "file.txt"]


@linux
def test_each_of_several_files(tmp_path, recorded):
    folder = tmp_path.resolve() / "result"
    with atomic_files(folder, last=("page.html",)) as hidden:
        for name in ("page.html", "a.npz"):
            (hidden / name).write_text(name)
    moves = [(call, Path(path).name) for call, path in recorded]
    expected = []
    for name in ("a.npz", "page.html"):
        expected += [("fsync", name), ("replace", name), ("fsync", "result")]
    assert moves == expected


def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "file.txt"
    file.write_bytes(b"old")

    def fails(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match=r"Input/output error.*file\.txt"):
        write_atomic(file, b"new")
    assert file.read_bytes() == b"old" and [*tmp_path.iterdir()] == [file]


def test_a_file_system_that_does_not_synchronize_folders(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuses_folders(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuses_folders)
    assert write_atomic(tmp_path / "file.txt", b"new").read_bytes() == b"new"


def test_a_missing_file_is_not_synchronized(tmp_path):
    with pytest.raises(FileNotFoundError):
        atomic.synchronize(tmp_path / "nothing")
