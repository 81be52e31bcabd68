"""Networks that the tests of this folder share."""

from __future__ import annotations

import pytest

import rawcnn
from rawcnn.nn.network import Network
from tests.rawcnn.attacked import learn, small


@pytest.fixture(scope="session")
def trained(digits):
    """A small network that reads digits, and 64 test images."""
    network = Network("small", small, size=8, classes=10)
    learn(network, digits, 0.3, 40)
    return network, *(array[:64] for array in digits.arrays("test"))


@pytest.fixture(scope="session")
def digits_weights(tmp_path_factory):
    """A file of an untrained digits network, which says its own size and class names."""
    network = rawcnn.create("cifar_resnet20", size=8)
    network.labels = tuple("0123456789")
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    rawcnn.save_weights(network, path)
    return path


@pytest.fixture
def small_run(rawcnn_command, tmp_path):
    """A network trained for one epoch on the digits: the folder of its run."""
    folder = tmp_path / "run"
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--epochs", 1, "--output", folder, "--json")
    assert code == 0, err
    return folder
