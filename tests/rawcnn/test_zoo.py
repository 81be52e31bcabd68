"""rawcnn.create: numbers of every library, and networks with the weights of a file."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rawcnn
from rawcnn.export import export
from rawcnn.weights import describe, save_weights


def test_numbers_of_numpy(tmp_path):
    """They work as Python's do, also in files, which take no number of NumPy."""
    plain = rawcnn.create("cifar_resnet20", 4, 3, size=8, shortcut="B")
    numbers = (np.int64(4), np.uint8(3))
    network = rawcnn.create("cifar_resnet20", *numbers, size=np.int32(8), shortcut=np.str_("B"))
    assert network.settings == plain.settings and repr(network) == repr(plain) and network.digest() == plain.digest()
    assert not any(isinstance(value, np.generic) for value in network.settings.values())
    for ending in ("npz", "safetensors"):
        save_weights(network, tmp_path / f"w.{ending}")
        assert describe(tmp_path / f"w.{ending}")["settings"] == json.loads(json.dumps(plain.settings))
    export(network, tmp_path / "exported", format="savedmodel")
    coded = rawcnn.create("cifar_resnet20", size=8, preprocessing="none", discretize="onehot", levels=np.int64(4))
    assert type(coded.settings["levels"]) is int


OTHERS = (2.0, np.float64(2), "2", True, np.True_, -1, np.int8(-1), float("nan"), 2j)
PAIRS = ([2], np.array([2, 3]))  # no number of classes and no seed


@pytest.mark.parametrize(
    "name, value",
    [(name, value) for name in ("classes", "size", "seed") for value in (OTHERS if name == "size" else OTHERS + PAIRS)],
)
def test_other_numbers(name, value):
    expected = r"a side in pixels, 1 or more, or a pair .*" if name == "size" else r"a whole number, \d or more"
    with pytest.raises(ValueError, match=rf"^{name} is .*expected {expected}$") as error:
        rawcnn.create("cifar_resnet20", **{name: value})
    assert "\n" not in str(error.value)


def test_weights_of_another_network(tmp_path):
    """The settings in a file are those that `create` writes; an argument overrides them."""
    network = rawcnn.create("cifar_resnet20", classes=4, size=8, shortcut="B", seed=1)
    network.labels = ("a", "b", "c", "d")
    save_weights(network, tmp_path / "w.npz")
    made = rawcnn.create("cifar_resnet20", weights=tmp_path / "w.npz")
    assert made.settings == network.settings and made.labels == network.labels and made.digest() == network.digest()
    assert rawcnn.create("cifar_resnet20", weights=tmp_path / "w.npz", size=16).input_size == 16
    with pytest.raises(ValueError, match=r"w\.npz holds the weights of cifar_resnet20, not of cifar_resnet32"):
        rawcnn.create("cifar_resnet32", weights=tmp_path / "w.npz")
    with pytest.raises(ValueError, match=r"gone\.npz does not exist"):
        rawcnn.create("cifar_resnet20", weights=tmp_path / "gone.npz")
    for key in ("seed", "weights", "name"):
        network.settings = {key: "x"}
        save_weights(network, tmp_path / "w.npz")
        with pytest.raises(ValueError, match=f"metadata about its network that rawcnn never writes: {key}$"):
            rawcnn.create("cifar_resnet20", weights=tmp_path / "w.npz")


def test_a_network_is_refused_before_it_has_variables(monkeypatch):
    monkeypatch.setattr("rawcnn.nn.trace.Parameter.create", None)
    with pytest.raises(ValueError, match="there is no layer 'conv9'"):
        rawcnn.create("cifar_resnet20", check=lambda network: network.operation("conv9"))
