"""Checkpoints as people have them: prefix × container × format × ending, for the names of each library."""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import pickle
import types
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import rawcnn
from rawcnn.weights import load_weights
from rawcnn.weights.keras_names import EPSILON, RESNET_EPSILON
from tests.rawcnn.weights import torch_files
from tests.rawcnn.weights.torch_files import Tensor

PREFIXES = ("", "module.", "_orig_mod.", "model.", "net.", "encoder.", "backbone.", "state_dict.", "student.network.")
PREFIXES += ("module._orig_mod.", "_orig_mod.module.model.", "model.net.encoder.backbone.")
CONTAINERS = ((), ("state_dict",), ("model_state_dict",), ("model",), ("net",), ("ema",), ("params",), ("weights",))
CONTAINERS += (("module",), ("model", "state_dict"), ("checkpoint", "ema", "module"), ("state", "net", "params"))
ENDINGS = (".pth", ".pt", ".pth.tar", ".th", ".bin", ".PTH", ".ckpt", ".h5", ".npz", ".weights", "")


@pytest.fixture(scope="module")
def network():
    return rawcnn.create("cifar_resnet20", classes=3, size=8, preprocessing="none")


def values_for(network, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random values for all variables; variances are above zero."""
    generator = np.random.default_rng(seed)
    random = {path: generator.standard_normal(p.shape, np.float32) for path, p in network.parameters.items()}
    return {path: abs(v) + 0.5 if path.endswith("variance") else v for path, v in random.items()}


def pytorch_names(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a state dict of a CIFAR ResNet, written down independently of rawcnn's naming scheme."""
    leaves = {"filters": "weight", "weights": "weight", "scale": "weight", "offset": "bias", "bias": "bias"}
    leaves |= {"mean": "running_mean", "variance": "running_var"}
    state = {}
    for path, value in values.items():
        operation, leaf = path.rsplit("/", 1)
        if operation.startswith("conv1"):
            module = {"conv1": "conv1", "conv1/bn": "bn1"}[operation]
        elif operation == "classifier":
            module = "linear"
        else:
            block, part = operation.split("/", 1)
            stage, number = block.removeprefix("conv").split("_")
            module = f"layer{int(stage) - 1}.{int(number) - 1}.{part}"
        turned = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        state[f"{module}.{leaves[leaf]}"] = np.ascontiguousarray(turned)
    return state


def keras_names(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the same network under keras.applications' names for a ResNet."""
    leaves = {"filters": "kernel", "weights": "kernel", "scale": "gamma", "offset": "beta", "bias": "bias"}
    leaves |= {"mean": "moving_mean", "variance": "moving_variance"}
    named = {}
    for path, value in values.items():
        operation, leaf = path.rsplit("/", 1)
        layer = {"conv1": "conv1_conv", "conv1/bn": "conv1_bn", "classifier": "predictions"}.get(operation, "")
        if not layer:
            block, part = operation.split("/")
            stage, number = block.removeprefix("conv").split("_")
            layer = f"conv{stage}_block{number}_{part[-1]}_{part[:-1]}"
        wide = np.float32(RESNET_EPSILON - EPSILON)
        named[f"{layer}/{leaves[leaf]}"] = value - wide if leaf == "variance" else value
    return named


SCHEMES = {"rawcnn": dict, "PyTorch": pytorch_names, "Keras": keras_names}

# The formats: each writes {name: array} inside containers to a file of any name, and returns the path to load ---------


def nested(content: object, containers: tuple[str, ...]) -> dict:
    """Return the content in containers, each next to what a training keeps."""
    for number, container in enumerate(reversed(containers)):
        content = {"epoch": number, container: content, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5)}
        content |= {
            "optimizer": {"state": {0: {"momentum_buffer": Tensor(np.ones(3, np.float32))}}, "param_groups": []}
        }
    return content  # type: ignore[return-value]


def flat(arrays: dict, containers: tuple[str, ...]) -> dict:
    """Return the arrays under the names of their containers, for formats that have none."""
    return {".".join((*containers, name)): array for name, array in arrays.items()}


def write_torch(arrays, containers, path):
    torch_files.write(nested({name: Tensor(array) for name, array in arrays.items()}, containers), path)
    return path


def write_torch_before_archives(arrays, containers, path):
    tensors = {name: Tensor(array) for name, array in arrays.items()}
    torch_files.write(nested(tensors, containers), path, archive=False)
    return path


def write_pickle(arrays, containers, path):
    content = arrays
    for container in reversed(containers):
        content = {container: content, "when": datetime.datetime(2026, 1, 1), "step": np.int64(3)}
    path.write_bytes(pickle.dumps(content, 2 + len(containers)))  # protocols 2 to 5 store arrays in three ways
    return path


def write_safetensors(arrays, containers, path):
    save_file(flat(arrays, containers), path)
    return path


def write_npz(arrays, containers, path):
    with path.open("wb") as file:
        np.savez(file, **flat(arrays, containers))
    return path


def write_h5(arrays, containers, path):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file["/".join((*containers, name))] = array
    return path


def write_checkpoint(arrays, containers, path):
    tf.train.Checkpoint(**{name: tf.Variable(array) for name, array in flat(arrays, containers).items()}).write(path)
    return path


def write_shards(arrays, containers, path):
    """Write Hugging Face's index and three files next to it."""
    named = flat(arrays, containers)
    files = {name: f"{path.name}-{number % 3}.part" for number, name in enumerate(named)}
    for file in set(files.values()):
        save_file({name: named[name] for name in named if files[name] == file}, path.with_name(file))
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    return path


FORMATS = {
    "torch": write_torch, "torch before archives": write_torch_before_archives, "pickle": write_pickle,
    "safetensors": write_safetensors, "npz": write_npz, "h5": write_h5, "checkpoint": write_checkpoint,
    "shards": write_shards,
}  # fmt: skip
CASES = [*itertools.product(SCHEMES, FORMATS, PREFIXES, CONTAINERS)]


@pytest.mark.sample(37)  # no common factor with the lengths of the lists
@pytest.mark.parametrize("scheme, format, prefix, containers", CASES)
def test_every_tensor_is_loaded(network, tmp_path, scheme, format, prefix, containers):
    number = CASES.index((scheme, format, prefix, containers))
    expected = values_for(network, number)
    separator = {"rawcnn": "/", "PyTorch": ".", "Keras": "/"}[scheme] if number % 2 else "."
    arrays = {prefix.replace(".", separator) + name: v for name, v in SCHEMES[scheme](expected).items()}
    path = FORMATS[format](arrays, containers, tmp_path / f"weights{ENDINGS[number % len(ENDINGS)]}")
    load_weights(network, path)
    tolerance = 1e-7 if scheme == "Keras" else 0  # the variance in a Keras file is rounded
    for name, value in expected.items():
        np.testing.assert_allclose(network.variables[name], value, atol=tolerance, rtol=0, err_msg=name)


def test_create_and_the_command_line_load_them_too(network, tmp_path, rawcnn_command):
    state = {f"module.{name}": Tensor(v) for name, v in pytorch_names(values_for(network)).items()}
    torch_files.write({"model": {"state_dict": state}, "epoch": 7}, tmp_path / "checkpoint.pth.tar")
    made = rawcnn.create("cifar_resnet20", classes=3, size=8, weights=tmp_path / "checkpoint.pth.tar")
    for name, value in values_for(network).items():
        np.testing.assert_array_equal(made.variables[name], value)
    words = ("cifar_resnet20", tmp_path / "checkpoint.pth.tar", "--classes", 3, "--size", 8)
    code, _, err = rawcnn_command("weights", "import", *words, "--output", tmp_path / "ours.npz")
    assert code == 0, err
    again = rawcnn.create("cifar_resnet20", weights=str(tmp_path / "ours.npz"))
    assert (again.classes, again.input_size) == (3, 8)
    np.testing.assert_array_equal(again.variables["conv1/filters"], made.variables["conv1/filters"])


def test_harmless_objects_around_the_tensors(network, tmp_path):
    """Only tensors are read; everything else becomes a placeholder."""
    state = {name: Tensor(v) for name, v in pytorch_names(values_for(network)).items()}
    around = {
        "args": argparse.Namespace(model="resnet", nested=argparse.Namespace(a=[1, {2}])),
        "when": datetime.datetime.now(), "best": np.float32(0.5), "path": Path("x"), "names": np.array(["a", "b"]),
        "objects": np.array([{}], object), "function": len, "type": dict, "complex": 1j, "set": {1, 2},
        "simple": types.SimpleNamespace(x=3), "rng": (3, (1, 2, 3), None), "number": 10**30, "bytes": b"x",
        "array": np.arange(3),
    }  # fmt: skip
    for archive in (True, False):
        torch_files.write({"state_dict": state, **around}, tmp_path / "w.pth", archive)
        load_weights(network, tmp_path / "w.pth")
        np.testing.assert_array_equal(network.variables["conv1/filters"], values_for(network)["conv1/filters"])
        torch_files.write({**state, **around}, tmp_path / "w.pth", archive)  # without a container
        load_weights(network, tmp_path / "w.pth")


def test_views_types_and_byte_order(network, tmp_path):
    """Tensors that share a storage, are transposed, of another type, or were written on another processor."""
    expected = values_for(network)
    state = {name: Tensor(v) for name, v in pytorch_names(expected).items()}
    filters = expected["conv1/filters"]  # [3,3,3,16], read as [16,3,3,3] without copying
    whole = np.concatenate([np.zeros(5, np.float32), filters.ravel(), np.zeros(7, np.float32)])
    state["conv1.weight"] = Tensor(whole, (16, 3, 3, 3), (1, 16, 144, 48), 5)
    shared = np.concatenate([expected["conv1/bn/scale"], expected["conv1/bn/offset"]])
    state["bn1.weight"], state["bn1.bias"] = Tensor(shared, (16,), (1,)), Tensor(shared, (16,), (1,), 16)
    state["linear.bias"] = Tensor(expected["classifier/bias"].astype(np.float64))
    state["bn1.num_batches_tracked"] = Tensor(np.array(9))
    for archive, order in itertools.product((True, False), ("little", "big")):
        torch_files.write(state, tmp_path / "w.pth", archive, order)
        load_weights(network, tmp_path / "w.pth")
        for name, value in expected.items():
            np.testing.assert_array_equal(network.variables[name], value, name)
    state["conv1.weight"] = Tensor(whole, (16, 3, 3, 3), (1, 16, 144, 48), 500)  # beyond its storage
    for archive in (True, False):
        torch_files.write(state, tmp_path / "w.pth", archive)
        with pytest.raises(ValueError, match=r"bytes for a tensor \(16, 3, 3, 3\) of float32; expected"):
            load_weights(network, tmp_path / "w.pth")


def test_averages_next_to_the_network(network, tmp_path):
    """The trained network is loaded, not its moving average. Two equal candidates are refused."""
    trained, averaged = values_for(network, 1), values_for(network, 2)

    def write(**states):
        named = {name: pytorch_names(values) for name, values in states.items()}
        torch_files.write({name: {k: Tensor(v) for k, v in s.items()} for name, s in named.items()}, tmp_path / "w.pth")

    for names in (("model", "ema"), ("state_dict", "state_dict_ema"), ("student", "teacher"), ("net", "model_ema")):
        write(**dict(zip(names, (trained, averaged), strict=True)))
        load_weights(network, tmp_path / "w.pth")
        np.testing.assert_array_equal(network.variables["conv1/filters"], trained["conv1/filters"])
    write(ema=averaged)
    load_weights(network, tmp_path / "w.pth")
    np.testing.assert_array_equal(network.variables["conv1/filters"], averaged["conv1/filters"])
    write(left=trained, right=averaged)
    with pytest.raises(ValueError, match=r"holds the network 2 times, under 'left\.', 'right\.'; write one of them"):
        load_weights(network, tmp_path / "w.pth")


def test_wrappers_around_parts(network, tmp_path):
    """Parts of a network that are parallel, compiled or recomputed, and the copy of the network in an attack."""
    expected = values_for(network)
    state = pytorch_names(expected)
    places = {
        "layer1.": "layer1.module.",
        "layer2.0.": "layer2.0._orig_mod.",
        "layer3.": "layer3._checkpoint_wrapped_module.",
    }
    wrapped = state
    for place, inner in places.items():
        wrapped = {name.replace(place, inner): value for name, value in wrapped.items()}
    copies = {f"module.{part}.{name}": v for part in ("model", "attacker.model") for name, v in state.items()}
    for content in (wrapped, {**copies, "module.normalizer.new_mean": np.ones((3, 1, 1), np.float32)}):
        save_file(content, tmp_path / "w.safetensors")
        network.variables["conv1/filters"].assign(np.zeros((3, 3, 3, 16), np.float32))
        load_weights(network, tmp_path / "w.safetensors")
        for name, value in expected.items():
            np.testing.assert_array_equal(network.variables[name], value)


def test_groups_for_the_parts_of_names(network, tmp_path):
    """file["model/layer1/0/conv1/weight"]: the groups of HDF5 instead of dots."""
    expected = values_for(network)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, value in pytorch_names(expected).items():
            file[f"model/{name.replace('.', '/')}"] = value
    load_weights(network, tmp_path / "w.h5")
    for name, value in expected.items():
        np.testing.assert_array_equal(network.variables[name], value)


def test_a_classifier_in_a_prefix(network, tmp_path):
    """A base without a prefix next to a classifier with one, as in checkpoints of a Keras model in another."""
    expected = values_for(network)
    named = keras_names(expected)
    state = {("sequential/" if name.startswith("predictions") else "") + name: v for name, v in named.items()}
    np.savez(tmp_path / "w.npz", **state)
    load_weights(network, tmp_path / "w.npz")
    np.testing.assert_array_equal(network.variables["classifier/weights"], expected["classifier/weights"])
    torch = pytorch_names(expected)
    del torch["bn1.weight"]  # layer1.0.bn1.weight does not stand in for it
    save_file(torch, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"nothing was loaded: missing bn1\.weight for conv1/bn/scale \(16,\)$"):
        load_weights(network, tmp_path / "w.safetensors")


def test_a_resnet_as_a_sequence(tmp_path):
    """nn.Sequential(*list(resnet.children())[:-2]), as fastai and many others cut off the head."""
    network = rawcnn.create("resnet18", classes=3, size=32, preprocessing="none")
    expected = values_for(network)
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state = {}
    for name, value in pytorch_names(expected).items():
        first, _, rest = name.replace("shortcut/bn", "downsample.1").replace("shortcut", "downsample.0").partition(".")
        if first in places:
            state[f"model.0.{places[first]}.{rest}"] = value
    state |= {"model.1.2.weight": np.ones(5, np.float32), "model.1.8.weight": np.ones((3, 5), np.float32)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r'missing fc\.weight .*head="skip"'):
        load_weights(network, tmp_path / "w.safetensors")
    assert load_weights(network, tmp_path / "w.safetensors", head="skip") == ("classifier/weights", "classifier/bias")
    for name, value in expected.items():
        if not name.startswith("classifier"):
            np.testing.assert_array_equal(network.variables[name], value, name)


def test_pruned_and_parametrized_weights(network, tmp_path):
    state = pytorch_names(values_for(network))
    state["conv1.weight_orig"] = state.pop("conv1.weight")
    save_file(state, tmp_path / "w.safetensors")
    for head in ("load", "skip"):
        with pytest.raises(ValueError, match=r"make pruned and parametrized weights permanent .*prune\.remove"):
            load_weights(network, tmp_path / "w.safetensors", head=head)


def test_a_classifier_outside_of_the_backbone(network, tmp_path):
    expected = values_for(network)
    state = {("" if k.startswith("linear") else "backbone.") + k: v for k, v in pytorch_names(expected).items()}
    save_file({**state, "loss.weight": np.ones(5, np.float32)}, tmp_path / "w.safetensors")
    load_weights(network, tmp_path / "w.safetensors")
    for name, value in expected.items():
        np.testing.assert_array_equal(network.variables[name], value)


def write_saver(arrays, path, version) -> str:
    """Write what tf.train.Saver wrote in TensorFlow 1, with the slots, averages and counters of a training."""
    first = next(iter(arrays))
    around = {
        f"{first}/{slot}": arrays[first] for slot in ("Momentum", "RMSProp_1", "Adam", "ExponentialMovingAverage")
    }
    around |= {"global_step": np.array(7, np.int64), "beta1_power": np.array(0.9, np.float32)}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = [tf.compat.v1.get_variable(name, initializer=value) for name, value in (arrays | around).items()]
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver(made, write_version=version).save(session, str(path), global_step=7)


@pytest.mark.parametrize("version", [tf.compat.v1.train.SaverDef.V1, tf.compat.v1.train.SaverDef.V2], ids=["v1", "v2"])
def test_savers_of_tensorflow_1(network, tmp_path, version):
    """The prefix, the folder, and the file of the graph next to it."""
    expected = values_for(network)
    prefix = Path(write_saver(expected, tmp_path / "model.ckpt", version))
    assert prefix.name == "model.ckpt-7" and prefix.is_file() == (version == tf.compat.v1.train.SaverDef.V1)
    for path in (prefix, tmp_path, prefix.with_name("model.ckpt-7.meta")):
        network.variables["conv1/filters"].assign(np.zeros((3, 3, 3, 16), np.float32))
        load_weights(network, path)
        for name, value in expected.items():
            np.testing.assert_array_equal(network.variables[name], value)


SLIM = {
    "conv1/filters": "resnet_v1_20/conv1/weights", "conv1/bn/scale": "resnet_v1_20/conv1/BatchNorm/gamma",
    "conv1/bn/offset": "resnet_v1_20/conv1/BatchNorm/beta", "conv1/bn/mean": "resnet_v1_20/conv1/BatchNorm/moving_mean",
    "conv1/bn/variance": "resnet_v1_20/conv1/BatchNorm/moving_variance",
    "classifier/weights": "resnet_v1_20/logits/weights", "classifier/bias": "resnet_v1_20/logits/biases",
}  # fmt: skip


@pytest.mark.parametrize("version", [tf.compat.v1.train.SaverDef.V1, tf.compat.v1.train.SaverDef.V2], ids=["v1", "v2"])
def test_names_of_slim_are_refused_in_one_line(network, tmp_path, rawcnn_command, version):
    values = values_for(network)
    prefix = write_saver({slim: values[path] for path, slim in SLIM.items()}, tmp_path / "model.ckpt", version)
    message = r"nothing was loaded: its names are TF-Slim's, such as resnet_v1_20/\S+, which are not read"
    with pytest.raises(ValueError, match=message):
        load_weights(network, prefix)
    with pytest.raises(ValueError, match=message):
        rawcnn.create("cifar_resnet20", classes=3, size=8, weights=prefix)
    code, _, err = rawcnn_command("predict", "cifar_resnet20", "a.png", "--weights", prefix)
    assert code == 2 and err.count("\n") == 1 and "its names are TF-Slim's" in err
