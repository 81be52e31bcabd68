"""Locks: a second writer is refused while the first one writes, and nothing is left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rawcnn.files.locks import exclusive_folder, lock

LOCKING = "import sys; from pathlib import Path; from rawcnn.files.locks import lock; lock(Path(sys.argv[1]))"


def test_a_folder_has_one_writer(tmp_path):
    folder = tmp_path / "new" / "folder"
    with exclusive_folder(folder):
        with (
            pytest.raises(ValueError, match=r"another process writes in .*folder; wait for it"),
            exclusive_folder(folder),
        ):
            pass
        assert (folder / ".lock").exists()
    assert not list(folder.iterdir())
    with exclusive_folder(folder):
        pass


def test_a_folder_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), exclusive_folder(tmp_path):
        raise KeyError
    with exclusive_folder(tmp_path):
        pass


def test_a_file_has_one_writer(tmp_path):
    """The lock belongs to the process, so another process must ask for it."""
    file = tmp_path / "rows.jsonl"
    release = lock(file)
    other = [sys.executable, "-c", LOCKING, str(file)]
    refused = subprocess.run(other, capture_output=True, text=True)
    assert refused.returncode == 1 and f"another process writes {file}; wait for it" in refused.stderr
    release()
    assert not list(tmp_path.iterdir())
    assert subprocess.run(other, capture_output=True).returncode == 0
