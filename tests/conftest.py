"""What tests share: real images beside the project where they are to be had, and quiet TensorFlow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

from rawcnn.cli import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf

# A cache of their own: neither the user's table of kernels nor what is known of files counts;
# plots keep the fonts that they found.
cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rawcnn-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)  # two logical devices, so that splitting a network over devices can be tested anywhere


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images and weights: $RAWCNN_DATA, or shared/data beside the project."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("RAWCNN_DATA", root.parent / "shared" / "data"))
    if not (folder / "cifar10-jpeg.zip").is_file():
        pytest.skip(f"needs real images: {folder} has no cifar10-jpeg.zip; set RAWCNN_DATA to the folder that has")
    return folder


@pytest.fixture(scope="session")
def cifar10_folder(data_folder, tmp_path_factory) -> Path:
    """CIFAR-10 as JPEG files, cifar10/{train,test}/{class}/NNNN.jpg, unpacked once."""
    folder = tmp_path_factory.mktemp("cifar")
    with zipfile.ZipFile(data_folder / "cifar10-jpeg.zip") as archive:
        archive.extractall(folder)
    return folder / "cifar10"


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's handwritten digits, 8×8."""
    from rawcnn.data import load

    return load("digits")


@pytest.fixture
def rawcnn_command(capsys):
    """Run the command line in this process → (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run
