"""Networks and runs that the tests of this folder share. Only the fixtures import TensorFlow, as above."""

from __future__ import annotations

import shutil

import pytest

import rawcnn
from rawcnn.cli import main


@pytest.fixture(scope="session")
def trained(digits):
    """A small network trained on digits, and 64 test images with labels."""
    from rawcnn.nn.network import Network
    from tests.rawcnn.attacked import learn, small

    network = Network("small", small, size=8, classes=10)
    learn(network, digits, 0.3, 40)
    return network, *(array[:64] for array in digits.arrays("test"))


@pytest.fixture(scope="session")
def digits_weights(tmp_path_factory):
    """A file of weights of an untrained network for digits, with its size and class names."""
    network = rawcnn.create("cifar_resnet20", size=8)
    network.labels = tuple("0123456789")
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    rawcnn.save_weights(network, path)
    return path


@pytest.fixture(scope="session")
def one_run(tmp_path_factory):
    """The folder of a run of one epoch on the digits; tests that change it use the copy below."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.raises(SystemExit) as stop:
        main(["train", "cifar_resnet20", "--epochs", "1", "--output", str(folder), "--json"])
    assert not stop.value.code
    return folder


@pytest.fixture
def small_run(one_run, tmp_path):
    """The folder of a run of one epoch on the digits, a copy for each test."""
    return shutil.copytree(one_run, tmp_path / "run")
