"""Weights without their head, or with another one: head="skip" loads all but the classifier."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import rawcnn
from rawcnn.weights import Misfit, load_weights, save_weights
from tests.rawcnn import small
from tests.rawcnn.weights.test_checkpoints import pytorch_names, values_for
from tests.rawcnn.weights.test_weights import assert_equal, values

CLASSIFIER = ("classifier/weights", "classifier/bias")


def assert_skipped(network, before, loaded, skipped) -> None:
    """Assert that the skipped variables kept their values, and that the others have those of the file."""
    for path, variable in network.variables.items():
        np.testing.assert_array_equal(variable, before[path] if path in skipped else loaded[path], path)


def test_another_number_of_classes(tmp_path):
    source, network = small.network(seed=1, classes=7), small.network(seed=2, classes=10)
    save_weights(source, tmp_path / "w.npz")
    before = values(network)
    message = r"classifier/weights is \(16, 7\), .*; create it with classes=7 \(--classes 7\), or load all but the "
    with pytest.raises(Misfit, match=message + r'classifier with head="skip" \(--head skip\)$'):
        load_weights(network, tmp_path / "w.npz")
    assert_equal(network, before)
    assert load_weights(network, tmp_path / "w.npz", head="skip") == CLASSIFIER
    assert_skipped(network, before, values(source), CLASSIFIER)


@pytest.mark.parametrize("head", ["none", "same", "renamed", "sequence"])
def test_pytorch_files(tmp_path, head):
    """Without a classifier, with one that fits (it is skipped, too), with one of another name or of two layers."""
    network = rawcnn.create("cifar_resnet20", classes=3, size=8, seed=1)
    before, loaded = values(network), values_for(network)
    state = {f"backbone.{name}": value for name, value in pytorch_names(loaded).items()}
    weights, bias = state.pop("backbone.linear.weight"), state.pop("backbone.linear.bias")
    state |= {
        "none": {},
        "same": {"backbone.linear.weight": weights, "backbone.linear.bias": bias},
        "renamed": {"backbone.head.weight": np.ones((5, 64), np.float32), "backbone.head.bias": np.ones(5, np.float32)},
        "sequence": {"backbone.fc.0.weight": np.ones((9, 64), np.float32), "fc.2.weight": np.ones((5, 9), np.float32)},
    }[head]
    save_file(state, tmp_path / "w.safetensors")
    if head != "same":
        with pytest.raises(Misfit, match=r'missing .*; load all but the classifier with head="skip" \(--head skip\)$'):
            load_weights(network, tmp_path / "w.safetensors")
        assert_equal(network, before)
    assert load_weights(network, tmp_path / "w.safetensors", head="skip") == CLASSIFIER
    assert_skipped(network, before, loaded, CLASSIFIER)


def test_only_the_head_may_differ(tmp_path):
    """A part of a deeper network is refused with head="skip", too, and so is a backbone that lacks a tensor."""
    network = rawcnn.create("cifar_resnet20", classes=3, size=8)
    deeper = pytorch_names(values_for(rawcnn.create("cifar_resnet32", classes=3, size=8)))
    save_file(deeper, tmp_path / "w.safetensors")
    with pytest.raises(Misfit, match=r"unexpected layer1\.3\.conv1\.weight"):
        load_weights(network, tmp_path / "w.safetensors", head="skip")
    state = pytorch_names(values_for(network))
    del state["layer2.0.bn1.bias"]
    save_file(state, tmp_path / "w.safetensors")
    for head in ("load", "skip"):
        with pytest.raises(Misfit, match=r"nothing was loaded: missing layer2\.0\.bn1\.bias for \S+ \(32,\)$"):
            load_weights(network, tmp_path / "w.safetensors", head=head)
    with pytest.raises(ValueError, match=r"head is 'drop'; expected 'load' or 'skip'"):
        load_weights(network, tmp_path / "w.safetensors", head="drop")


@pytest.mark.deeper
def test_fully_connected_layers_before_the_classifier(tmp_path):
    """VGG's are loaded if they fit, and skipped if the file lacks them or was made for another image size."""
    large, network = (rawcnn.create("vgg_a", classes=3, size=size, seed=size) for size in (32, 64))
    save_weights(network, tmp_path / "same.safetensors")
    save_weights(large, tmp_path / "other.safetensors")
    state = load_file(tmp_path / "same.safetensors")
    save_file({name: v for name, v in state.items() if not name.startswith("fc")}, tmp_path / "headless.safetensors")
    classifier = ("fc8/weights", "fc8/bias")
    hidden = ("fc6/weights", "fc6/bias", "fc7/weights", "fc7/bias")
    assert load_weights(network, tmp_path / "same.safetensors", head="skip") == classifier
    assert load_weights(network, tmp_path / "headless.safetensors", head="skip") == hidden + classifier
    assert load_weights(network, tmp_path / "other.safetensors", head="skip") == hidden + classifier
    np.testing.assert_array_equal(network.variables["conv5_2/filters"], large.variables["conv5_2/filters"])


def test_auxiliary_heads(tmp_path):
    source = small.network(seed=1, classes=7, auxiliary=True)
    network = small.network(seed=2, classes=10, auxiliary=True)
    save_weights(source, tmp_path / "w.npz")
    skipped = load_weights(network, tmp_path / "w.npz", head="skip")
    assert {*skipped} == {*CLASSIFIER, "head/weights", "head/bias"}


def test_the_command_line(tmp_path, rawcnn_command):
    """Settings and the size come from the file, its class names do not."""
    source = rawcnn.create("cifar_resnet20", classes=7, size=8, seed=1)
    source.labels = tuple(f"class {n}" for n in range(7))
    save_weights(source, tmp_path / "w.npz")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / "a.png")
    words = ("predict", "cifar_resnet20", tmp_path / "a.png", "--weights", tmp_path / "w.npz", "--classes", 3)
    code, out, err = rawcnn_command(*words, "--json")
    assert code == 2 and out == "" and "--head skip" in err and "Traceback" not in err
    code, out, err = rawcnn_command(*words, "--head", "skip", "--json")
    assert code == 0, err
    assert "classifier keeps its random values" in err
    assert len(json.loads(out)[0]["guesses"]) == 3
    code, _, err = rawcnn_command(*words, "--head", "drop")
    assert code == 2 and "expected 'load' or 'skip'" in err
    made = rawcnn.create("cifar_resnet20", classes=3, weights=tmp_path / "w.npz", head="skip", seed=4)
    fresh = values(rawcnn.create("cifar_resnet20", classes=3, size=8, seed=4))
    assert made.labels is None and made.input_size == 8
    assert_skipped(made, fresh, values(source), CLASSIFIER)
