"""Weight files: round trips, published names, and files that do not fit, which must not change the network."""

from __future__ import annotations

import errno
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from safetensors.numpy import load_file, save_file

import rawcnn
from rawcnn import models
from rawcnn.data import load
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.weights import describe, load_weights, save_weights
from rawcnn.weights.arrays import DESCRIPTION
from rawcnn.weights.readers import open_tensors
from rawcnn.weights.torch_names import sources
from tests import references
from tests.rawcnn import small

IMAGES = references.random((2, 8, 8, 3), 0, low=0.0)


@pytest.fixture(scope="module")
def published(data_folder):
    path = data_folder / "cifar-resnet20-torch.safetensors"
    if not path.is_file():
        pytest.skip(f"needs published weights: {path} is absent")
    return path


def values(network):
    return {path: v.numpy() for path, v in network.variables.items()}


def assert_equal(network, expected):
    assert list(network.variables) == list(expected)
    for path, value in expected.items():
        np.testing.assert_array_equal(network.variables[path], value, path)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_round_trip(tmp_path, ending):
    net, other = small.network(seed=1), small.network(seed=2)
    net.variables["conv1/bn/mean"].assign_add(tf.range(8.0))
    path = tmp_path / f"weights.{ending}"
    save_weights(net, path)
    load_weights(other, str(path))
    assert_equal(other, values(net))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file is left


@pytest.fixture
def short_resnet50(monkeypatch):
    """A state dict with PyTorch's names for a ResNet-50 of two blocks: small, but still of version v1 or v1.5."""
    function = partial(models.resnet.resnet, blocks=(1, 1), bottleneck=True, residual=True)
    monkeypatch.setitem(models.MODELS, "resnet50", models.ModelEntry(function, "small", 32, 3, "caffe"))
    network = rawcnn.create("resnet50", version="v1.5", preprocessing="torch", shortcut="C", classes=4)
    state = {}
    for number, source in enumerate(sources(network, "resnet", ()).values()):
        (name,), (shape,) = source.names, source.shapes
        norm = name.endswith(("running_var", "running_mean")) or len(shape) == 1
        state[name] = (
            references.random(shape, number, low=0.5).numpy() if norm else references.random(shape, number).numpy()
        )
        state[name] *= np.float32(1 if norm else np.prod(shape[1:]) ** -0.5)
    return state


@pytest.mark.sample("safetensors")
@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_a_written_file_keeps_the_settings_of_its_network(short_resnet50, tmp_path, rawcnn_command, ending):
    """A file imported from PyTorch's names is used without options and gives the same answers, with class names."""
    published, ours = tmp_path / "tv.safetensors", tmp_path / f"ours.{ending}"
    save_file(short_resnet50, published)
    (tmp_path / "names.txt").write_text("cat\ndög\nnewt\nowl\n", encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")

    def predicted(*words):
        code, out, err = rawcnn_command("predict", "resnet50", tmp_path / "noise.png", "--json", *words)
        assert code == 0, err
        return {guess["label"]: guess["probability"] for guess in json.loads(out)[0]["guesses"]}

    form = ("--labels", tmp_path / "names.txt", "--classes", 4, "--option", "shortcut=C")
    code, _, err = rawcnn_command("weights", "import", "resnet50", published, "--output", ours, *form)
    assert code == 0, err
    expected = predicted("--weights", published, *form)
    assert set(expected) == {"cat", "dög", "newt", "owl"}
    assert predicted("--weights", ours) == expected
    settings = {"classes": 4, "preprocessing": "torch", "shortcut": "C", "version": "v1.5"}
    assert settings.items() <= describe(ours)["settings"].items()
    for other in ("preprocessing=caffe", "version=v1"):  # the answer for this image depends on them
        with pytest.warns(UserWarning, match="outputs will differ"):
            assert predicted("--weights", published, *form, "--option", other) != pytest.approx(expected, rel=1e-3)


def test_the_metadata_in_an_npz_is_no_tensor(tmp_path):
    """The metadata is another member, which NumPy reads without pickles. A plain .npz file has none."""
    net = small.network(seed=1)
    net.labels = tuple(f"class {n}" for n in range(10))
    save_weights(net, tmp_path / "w.npz")
    with open_tensors(tmp_path / "w.npz") as tensors:
        assert set(tensors) == set(net.variables)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as archive:
        assert json.loads(archive[DESCRIPTION].tobytes()) == describe(tmp_path / "w.npz")
    assert describe(tmp_path / "w.npz")["labels"] == list(net.labels)
    np.savez(tmp_path / "plain.npz", **values(net))
    assert describe(tmp_path / "plain.npz") == {}
    load_weights(small.network(seed=2), tmp_path / "plain.npz")


def test_other_variables_can_be_saved(tmp_path):
    """For example the moving averages of a training."""
    net = small.network(seed=1)
    doubled = {path: tf.Variable(2 * v) for path, v in net.variables.items()}
    save_weights(net, tmp_path / "w.npz", doubled)
    load_weights(net, tmp_path / "w.npz")
    assert_equal(net, {path: v.numpy() for path, v in doubled.items()})


def test_published_resnet20_loads(published):
    net = rawcnn.create("cifar_resnet20")
    load_weights(net, published)
    tensors = load_file(published)
    ours = net.variables
    np.testing.assert_array_equal(ours["conv1/filters"], tensors["conv1.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(ours["conv3_1/conv2/filters"], tensors["layer2.0.conv2.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(ours["conv4_3/bn2/variance"], tensors["layer3.2.bn2.running_var"])
    np.testing.assert_array_equal(ours["classifier/weights"], tensors["linear.weight"].T)


@pytest.mark.slow
def test_published_resnet20_evaluates_as_others_measured(published, cifar10_folder):
    """81.03 % of the 10,000 JPEG test images, by an independent evaluation."""
    net = rawcnn.create("cifar_resnet20")
    load_weights(net, published)
    result = evaluate(net, load(f"folder:{cifar10_folder}"))
    assert result.count == 10_000
    assert result.accuracy == pytest.approx(0.810, abs=0.003)


def test_torchvision_names():
    expected = {
        "conv1/filters": "conv1.weight",
        "conv1/bn/scale": "bn1.weight",
        "conv2_1/conv3/filters": "layer1.0.conv3.weight",
        "conv5_3/bn1/offset": "layer4.2.bn1.bias",
        "conv3_1/shortcut/filters": "layer2.0.downsample.0.weight",
        "conv3_1/shortcut/bn/mean": "layer2.0.downsample.1.running_mean",
        "classifier/weights": "fc.weight",
        "classifier/bias": "fc.bias",
    }
    found = sources(rawcnn.create("resnet50", size=32, classes=2), "resnet", ())
    assert {path: found[path].names for path in expected} == {path: (name,) for path, name in expected.items()}


def damage(arrays, tmp_path, ending="safetensors"):
    path = tmp_path / f"damaged.{ending}"
    if ending == "npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    return path


CHANGES = {
    "missing": (lambda a: a.pop("conv2/bias"), r"missing conv2/bias for conv2/bias \(16,\)"),
    "unexpected": (lambda a: a.update({"conv9/bias": np.ones(4, np.float32)}), r"unexpected conv9/bias \(4,\)"),
    "shape": (
        lambda a: a.update({"conv2/filters": np.ones((5, 5, 8, 16), np.float32)}),
        r"conv2/filters is \(5, 5, 8, 16\), expected \(3, 3, 8, 16\) for conv2/filters",
    ),
    "kind": (
        lambda a: a.update({"conv2/bias": np.ones(16, np.int32)}),
        "conv2/bias holds int32, expected floating point numbers",
    ),
}


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_does_not_fit_changes_nothing(tmp_path, change, ending):
    alter, message = CHANGES[change]
    arrays = values(small.network(seed=2))
    alter(arrays)
    net = small.network(seed=1)
    before = values(net)
    with pytest.raises(ValueError, match=f"does not fit small, nothing was loaded: {message}$"):
        load_weights(net, damage(arrays, tmp_path, ending))
    assert_equal(net, before)


def test_everything_that_does_not_fit_is_listed(tmp_path):
    arrays = values(small.network(seed=2))
    for alter, _ in CHANGES.values():
        alter(arrays)
    arrays.pop("conv1/bn/mean")
    with pytest.raises(ValueError) as error:
        load_weights(small.network(), damage(arrays, tmp_path))
    assert str(error.value).count(";") == 3  # conv2/bias is there again, with a wrong dtype
    assert len(str(error.value).splitlines()) == 1


def test_a_wrong_model_is_one_short_message(published):
    net = rawcnn.create("cifar_resnet32")
    before = values(net)
    with pytest.raises(ValueError, match=r"does not fit cifar_resnet32, nothing was loaded: .*and \d+ more$") as error:
        load_weights(net, published)
    assert "missing layer1.3.conv1.weight for conv2_4/conv1/filters (3, 3, 16, 16)" in str(error.value)
    assert_equal(net, before)
    with pytest.raises(ValueError, match=r"linear.weight is \(10, 64\), expected \(100, 64\) for classifier/weights"):
        load_weights(rawcnn.create("cifar_resnet20", classes=100), published)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
@pytest.mark.parametrize("left", [0, 5, 300, 4000])
def test_a_truncated_file(tmp_path, ending, left):
    net = small.network(seed=1)
    before = values(net)
    path = damage(values(small.network(seed=2)), tmp_path, ending)
    path.write_bytes(path.read_bytes()[:left])
    message = f"is damaged, or no {ending} file" if left else "is empty"
    with pytest.raises(ValueError, match=rf"damaged\.{ending} {message}"):
        load_weights(net, path)
    assert_equal(net, before)


def test_pickles_inside_npz_are_not_opened(tmp_path):
    path = tmp_path / "w.npz"
    arrays: dict[str, Any] = {"conv1/filters": np.array([{}], dtype=object)}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"holds pickled Python objects in conv1/filters\.npy; only plain arrays"):
        load_weights(small.network(), path)


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    net = small.network(seed=1)
    path = tmp_path / "w.npz"
    save_weights(net, path)

    original = Path.write_bytes

    def full_disk(self, content):
        original(self, b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(ValueError, match="No space left"):
        save_weights(small.network(seed=2), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]
    load_weights(net, path)


@pytest.mark.parametrize("ending", ["safetensors", "npz"])
def test_weights_that_cannot_be_written(tmp_path, ending, monkeypatch):
    path = tmp_path / "new" / f"w.{ending}"
    save_weights(small.network(seed=1), path)  # into a new folder
    before, plain = path.read_bytes(), tmp_path / "plain"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode  # as the umask sets it for any file

    def no_space(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(ValueError, match=rf"the weights .*w\.{ending} cannot be written: No space left on device"):
        save_weights(small.network(seed=2), path)
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == [path.name]
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"cannot be written: (Not a directory|File exists)"):
        save_weights(small.network(), tmp_path / "file" / f"w.{ending}")


def test_an_absent_file_and_a_wrong_ending(tmp_path):
    net = small.network()
    with pytest.raises(ValueError, match=r"gone\.npz does not exist; expected a weights file"):
        load_weights(net, tmp_path / "gone.npz")
    with pytest.raises(ValueError, match=r"folder/gone\.npz does not exist"):
        load_weights(net, tmp_path / "folder" / "gone.npz")
    with pytest.raises(ValueError, match=r"has the ending '\.txt'; expected \.safetensors or \.npz"):
        save_weights(net, tmp_path / "w.txt")
    assert not (tmp_path / "w.txt").exists()
