"""Files as Keras and PyTorch publish them, with random values: each tensor is loaded, and the outputs are equal."""

from __future__ import annotations

import math
import re
from functools import cache
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

import kernels
import rawcnn
from rawcnn.models import MODELS
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.weights import Misfit, load_weights
from rawcnn.weights.detect import creation_settings, family_of
from rawcnn.weights.keras_names import EPSILON, RESNET_EPSILON, sources
from rawcnn.zoo import published_settings
from tests import references

# Keras ------------------------------------------------------------------------------------------------------------

APPLICATIONS = keras.applications
TWINS = {
    "vgg16": APPLICATIONS.VGG16,
    "vgg19": APPLICATIONS.VGG19,
    "resnet50": APPLICATIONS.ResNet50,
    "resnet101": APPLICATIONS.ResNet101,
    "resnet152": APPLICATIONS.ResNet152,
    "inception_v3": APPLICATIONS.InceptionV3,
    "inception_resnet_v2": APPLICATIONS.InceptionResNetV2,
    "nasnet_mobile": APPLICATIONS.NASNetMobile,
    "nasnet_large": APPLICATIONS.NASNetLarge,
}


def keras_network(name: str, dtype: str = "float32") -> keras.Model:
    """Build the application without softmax. Its weights and batch-norm statistics are random but fixed."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(dtype)
    try:
        model = TWINS[name](weights=None, classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")
    generator = np.random.default_rng(0)
    for variable in model.weights:
        leaf = variable.path.rsplit("/", 1)[1]
        if leaf in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape).astype(np.float32))
        elif leaf in ("beta", "bias", "moving_mean"):
            variable.assign(generator.normal(0, 0.1, variable.shape).astype(np.float32))
    return model


def hold_as_converted(wide: keras.Model, network: rawcnn.Network) -> None:
    """Copy the converted means and variances of rawcnn's float32 variables into a Keras ResNet in float64.

    Loading subtracts the bias from the mean and adds the larger ε to the variance, and so rounds both by less than
    10⁻⁷. Without this function, a ReLU whose input is that close to zero would switch.
    """
    there = {variable.path: variable for variable in wide.weights}
    for path, source in (sources(network, "resnet", there) or {}).items():
        ours = network.variables[path].numpy().astype(np.float64)
        if path.endswith("/mean"):
            mean, bias = (there[name] for name in source.names)
            np.testing.assert_allclose(mean.numpy() - bias.numpy(), ours, atol=1e-7)
            mean.assign(ours)
            bias.assign(np.zeros_like(ours))
        elif path.endswith("/variance"):
            (variance,) = (there[name] for name in source.names)
            np.testing.assert_allclose(variance.numpy() + RESNET_EPSILON, ours + EPSILON, rtol=1e-7)
            variance.assign(ours + EPSILON - RESNET_EPSILON)


def write_legacy(model: keras.Model, path: Path) -> None:
    """Write an .h5 file as keras.applications publishes it: a group for each layer, Keras 2's names with ":0"."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            variables = [*layer.trainable_weights, *layer.non_trainable_weights]
            names = [f"{layer.name}/{v.path.rsplit('/', 1)[1]}:0" for v in variables]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                group[name] = variable.numpy()


@cache
def photographs(size: int) -> tf.Tensor:
    """Return two real photographs, [2,size,size,3] in [0,1]."""
    from sklearn.datasets import load_sample_images

    images = [tf.image.resize(image / np.float32(255), (size, size)) for image in load_sample_images().images]
    return tf.stack(images)


def gradient_of_loss(function, images: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:  # no gradients of the filters
        tape.watch(images)
        loss = tf.reduce_mean(kernels.cross_entropy(tf.cast(function(images), tf.float32), tf.constant([3])))
    return tape.gradient(loss, images)


@pytest.mark.slow  # test_keras_parity.py compares with a ResNet-50 of Keras layers by default
@pytest.mark.parametrize("name", TWINS)
def test_keras_applications(name, tmp_path, monkeypatch):
    """The logits agree to 1e-4 of the largest, the top five are equal, and the gradient of the image agrees to 1e-3.

    The gradient is computed in float64. In float32, Keras's own gradient changes by some percent if the image is
    rounded differently, because a few of ten million ReLUs switch.
    """
    model = keras_network(name)
    write_legacy(model, tmp_path / "published.h5")
    network = rawcnn.create(name)
    load_weights(network, tmp_path / "published.h5")
    images, preprocess = photographs(network.input_size), PREPROCESSING[network.preprocessing]
    logits, expected = network(images), model(preprocess(images), training=False)
    references.close(logits, expected, "network")
    np.testing.assert_array_equal(tf.math.top_k(logits, 5).indices, tf.math.top_k(expected, 5).indices)

    before = {path: v.numpy() for path, v in network.variables.items()}
    model.save_weights(tmp_path / "published.weights.h5")  # Keras 3's own format
    load_weights(network, tmp_path / "published.weights.h5")
    for path, value in before.items():
        np.testing.assert_array_equal(network.variables[path], value, path)

    values = model.get_weights()
    del model, before  # they are large
    wide = keras_network(name, "float64")
    wide.set_weights(values)
    if name.startswith("resnet"):
        hold_as_converted(wide, network)
    monkeypatch.setattr(network, "precision", "float64")

    def keras_logits(images):
        return wide(preprocess(tf.cast(images, tf.float64)), training=False)

    gradient, expected = (gradient_of_loss(function, images[:1]) for function in (network, keras_logits))
    assert references.error(gradient, expected) <= 1e-3


def test_keras_1_names(tmp_path):
    """VGG's file of 2016: `block1_conv1_W_1:0`."""
    network, path = rawcnn.create("vgg_a", classes=3, size=32), tmp_path / "old.h5"
    layers = {v.rsplit("/", 1)[0] for v in network.variables}
    called = {n: re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", n) for n in layers}
    called |= {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    expected = {}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in called.values()]
        for here, there in called.items():
            names = [f"{there}_W_1:0", f"{there}_b_1:0"]
            file.create_group(there).attrs["weight_names"] = [name.encode() for name in names]
            for name, leaf in zip(names, ("filters" if "conv" in here else "weights", "bias"), strict=True):
                value = references.random(network.variables[f"{here}/{leaf}"].shape, len(expected)).numpy()
                file[there][name] = expected[f"{here}/{leaf}"] = value
    load_weights(network, path)
    for name, value in expected.items():
        np.testing.assert_array_equal(network.variables[name], value)


# PyTorch ----------------------------------------------------------------------------------------------------------


def modules() -> dict[str, dict[str, tuple[int, ...]]]:
    """Return the modules of torchvision's and timm's networks with the shapes of their weights, as both list them."""
    networks: dict[str, dict[str, tuple[int, ...]]] = {}
    name = ""
    for line in (Path(__file__).parent / "pytorch_modules.txt").read_text().splitlines():
        if line.startswith(" "):
            module, shape = line.split()
            networks[name][module] = tuple(map(int, shape.split("×")))
        else:
            name = line
            networks[name] = {}
    return networks


MODULES = modules()
KERAS_LEAVES = {"filters": "kernel", "weights": "kernel", "bias": "bias", "scale": "gamma", "offset": "beta"}
KERAS_LEAVES |= {"mean": "moving_mean", "variance": "moving_variance"}


def state_dict(name: str, classes: int = 1000) -> dict[str, np.ndarray]:
    """Return a state dict of random values, including the batch norms that follow the convolutions."""
    state, generator = {}, np.random.default_rng(0)

    def random(*shape):
        return generator.standard_normal(shape, np.float32)

    for module, shape in MODULES[name].items():
        state[f"{module}.weight"] = random(*shape)
        norm = re.sub(r"(^|\.)conv(\d?)$", r"\1bn\2", module)
        norm = re.sub(r"downsample\.0$", "downsample.1", norm)
        if norm == module or "_module" in module or module.endswith("conv2d"):
            state[f"{module}.bias"] = random(shape[0])
            continue
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{norm}.{leaf}"] = abs(random(shape[0])) if leaf == "running_var" else random(shape[0])
        state[f"{norm}.num_batches_tracked"] = np.array(7)
    return state


def names(library: str) -> dict[str, dict[str, str]]:
    """Return network → operation → its module or layer, as they were when the logits agreed with the libraries'."""
    networks: dict[str, dict[str, str]] = {}
    name = ""
    for line in (Path(__file__).parent / f"{library}_names.txt").read_text().splitlines():
        if line.startswith(" "):
            operation, there = line.split()
            networks[name][operation] = there
        else:
            name = line
            networks[name] = {}
    return networks


PYTORCH_LEAVES = {"filters": "weight", "weights": "weight", "bias": "bias", "scale": "weight", "offset": "bias"}
PYTORCH_LEAVES |= {"mean": "running_mean", "variance": "running_var"}


@pytest.mark.sample("^resnet18$")
@pytest.mark.parametrize("name", MODULES)
def test_pytorch_names(name, tmp_path):
    """Every variable has the values of the tensor that the list names, in rawcnn's layout."""
    state, path = state_dict(name), tmp_path / "published.safetensors"
    save_file(state, path)
    network = rawcnn.create(name, weights=path)
    modules, left = names("pytorch")[name], {key for key in state if not key.endswith("tracked")}
    maps = {o.name: o.input_shapes[0][1:] for o in network.training_operations if o.kind == "dense"}
    for variable, value in network.variables.items():
        operation, leaf = variable.rsplit("/", 1)
        key = f"{modules[operation]}.{PYTORCH_LEAVES[leaf]}"
        expected = state[key]
        if leaf == "filters":
            expected = np.einsum("oihw->hwio", expected)
        elif leaf == "weights" and len(maps.get(operation, ())) == 3:
            height, width, channels = maps[operation]
            expected = np.einsum("ochw->hwco", expected.reshape(-1, channels, height, width)).reshape(value.shape)
        elif leaf == "weights":
            expected = expected.reshape(expected.shape[:2]).T
        np.testing.assert_array_equal(value, expected, variable)
        left.remove(key)
    assert left == set()


@pytest.mark.sample("^inception_v3$")
@pytest.mark.parametrize("name", names("keras"))
def test_keras_names(name, tmp_path):
    """Every variable has the values of the layer that the list names, as keras.applications publishes them."""
    size = {"nasnet_mobile": 32, "vgg16": 32}.get(name, 75)
    settings = creation_settings("Keras", name, family_of(MODELS[name].function), ())
    network, layers = rawcnn.create(name, classes=7, size=size, **settings), names("keras")[name]
    generator, named, expected = np.random.default_rng(0), {}, {}
    for variable, parameter in network.parameters.items():
        operation, leaf = variable.rsplit("/", 1)
        if leaf == "scale" and name.startswith("inception"):
            expected[variable] = np.ones(parameter.shape, np.float32)  # Keras leaves it out
            continue
        value = abs(generator.standard_normal(parameter.shape, np.float32))
        kind = next((k for k in ("depthwise", "pointwise") if k in operation and leaf == "filters"), "")
        key = f"{layers[operation]}/{kind + '_kernel' if kind else KERAS_LEAVES[leaf]}"
        assert key not in named
        named[key], expected[variable] = np.einsum("hwic->hwci", value) if kind == "depthwise" else value, value
        if name == "resnet50" and leaf == "mean":  # each convolution has a bias, which its norm's mean takes up
            bias = generator.standard_normal(parameter.shape, np.float32)
            named[f"{layers[operation].removesuffix('_bn')}_conv/bias"], expected[variable] = bias, value - bias
        elif name == "resnet50" and leaf == "variance":
            expected[variable] = value + np.float32(RESNET_EPSILON - EPSILON)
    save_file({key: np.ascontiguousarray(value) for key, value in named.items()}, tmp_path / "w.safetensors")
    load_weights(network, tmp_path / "w.safetensors")
    for variable, value in expected.items():
        np.testing.assert_array_equal(network.variables[variable], value, variable)


@pytest.mark.deeper
def test_pytorch_layouts(tmp_path):
    """Filters are OIHW, weights [out,in], maps flattened channels first, and SE layers are 1×1 convolutions."""
    state, path = state_dict("alexnet_one_tower"), tmp_path / "alexnet.safetensors"
    save_file(state, path)
    network = rawcnn.create("alexnet_one_tower")
    load_weights(network, path)
    ours = {k: v.numpy() for k, v in network.variables.items()}
    assert ours["conv2/filters"][1, 4, 30, 7] == state["features.3.weight"][7, 30, 1, 4]
    assert ours["fc7/weights"][5, 9] == state["classifier.4.weight"][9, 5]
    for h, w, c, unit in ((0, 0, 0, 0), (5, 5, 255, 4095), (2, 4, 77, 1234)):
        theirs = state["classifier.1.weight"].reshape(4096, 256, 6, 6)[unit, c, h, w]
        assert ours["fc6/weights"][(h * 6 + w) * 256 + c, unit] == theirs
    state, path = state_dict("se_resnext50"), tmp_path / "se.safetensors"
    save_file(state, path)
    network = rawcnn.create("se_resnext50", preprocessing="torch")
    load_weights(network, path)
    assert network.variables["conv3_1/se/fc1/weights"][11, 3] == state["layer2.0.se_module.fc1.weight"][3, 11, 0, 0]


@pytest.mark.deeper
@pytest.mark.parametrize("size", [100, 160])
def test_pools_to_one_size(size, tmp_path):
    """torchvision's AlexNet pools its last map to 6×6 pixels; here a map of 2×2 or 4×4 pixels, in NumPy."""
    state, path = state_dict("alexnet_one_tower"), tmp_path / "alexnet.safetensors"
    save_file(state, path)
    network = rawcnn.create("alexnet_one_tower", size=size, weights=path)
    activations = network.activations(references.random((1, size, size, 3), low=0.0), ["pool5", "fc6"])
    read = activations["pool5"].numpy()[0].astype(np.float64)
    length = len(read)
    pooled = np.zeros((256, 6, 6))
    for p in range(6):
        for q in range(6):
            rows = slice(math.floor(p * length / 6), math.ceil((p + 1) * length / 6))
            columns = slice(math.floor(q * length / 6), math.ceil((q + 1) * length / 6))
            pooled[:, p, q] = read[rows, columns].mean((0, 1))
    expected = state["classifier.1.weight"] @ pooled.ravel() + state["classifier.1.bias"]
    references.close(activations["fc6"][0], expected, dtype="float32")


@pytest.mark.deeper
@pytest.mark.parametrize(
    "name, other",
    [
        ("resnet50", {"preprocessing": "caffe", "version": "v1"}),
        ("inception_v3", {"count_padding": False, "auxiliary": True}),
    ],
)
def test_a_network_with_other_settings_causes_a_warning(name, other, tmp_path):
    path = tmp_path / "published.safetensors"
    save_file(state_dict(name), path)
    published = published_settings(name, path)
    differing = {k: v for k, v in other.items() if published[k] != v}
    with pytest.warns(UserWarning, match=", ".join(f"{k}={published[k]!r}" for k in differing)):
        load_weights(rawcnn.create(name, **other), path)
    load_weights(rawcnn.create(name, **{**published, "preprocessing": "none"}), path)  # the caller normalizes


@pytest.mark.sample("PyTorch")
@pytest.mark.parametrize("format, divisor", [("Keras", "pixels"), ("PyTorch", "window")])
def test_the_pools_of_inception_v3_at_the_border(format, divisor):
    """Compare all nine pools with NumPy. At the border Keras divides by the pixels in the window, torchvision by 9."""
    settings = creation_settings(format, "inception_v3", "inception_v3", ())
    network = rawcnn.create("inception_v3", classes=5, size=75, **settings)
    pools = [o for o in network.operations if o.kind == "average_pool"]
    assert len(pools) == 9
    maps = [name for pool in pools for name in (pool.inputs[0], pool.name)]
    activations = network.activations(references.random((1, 75, 75, 3), low=0.0), maps)
    for pool in pools:
        read = activations[pool.inputs[0]].numpy().astype(np.float64)
        side = read.shape[1]
        padded = np.pad(read, ((0, 0), (1, 1), (1, 1), (0, 0)))
        total = sum(padded[:, i : i + side, j : j + side] for i in range(3) for j in range(3))
        there = np.convolve(np.ones(side), np.ones(3), "same") if side > 1 else np.ones(1)  # pixels along one side
        count = np.outer(there, there)[None, :, :, None] if divisor == "pixels" else 9
        assert np.abs(total[0, 0, 0]).max() > 0
        references.close(activations[pool.name], total / count)


@pytest.mark.deeper
def test_the_settings_of_a_published_file(tmp_path):
    path = tmp_path / "published.safetensors"
    state = state_dict("googlenet")
    save_file(state, path)
    assert published_settings("googlenet", path) == {
        "preprocessing": "centered",
        "torchvision": True,
        "auxiliary": True,
    }
    with pytest.raises(ValueError, match=r"this googlenet; create it with torchvision=True, auxiliary=True$"):
        load_weights(rawcnn.create("googlenet"), path)
    save_file({k: v for k, v in state.items() if not k.startswith("aux")}, path)
    assert published_settings("googlenet", path)["auxiliary"] is False
    with pytest.raises(ValueError, match=r"its names are PyTorch's, such as .*, but PyTorch has no .* this alexnet$"):
        load_weights(rawcnn.create("alexnet"), path)


@pytest.mark.deeper
def test_a_numbered_layer_that_is_missing(tmp_path):
    """A file of Keras's Inception V3 without its classifier is refused, although its layers are numbered."""
    keras.backend.clear_session()
    model = APPLICATIONS.InceptionV3(weights=None, input_shape=(75, 75, 3), include_top=False)
    write_legacy(model, tmp_path / "no_top.h5")
    network = rawcnn.create("inception_v3", classes=5, size=75)
    with pytest.raises(Misfit) as error:
        load_weights(network, tmp_path / "no_top.h5")
    assert [p.split(" for ")[0] for p in error.value.problems] == [
        "missing predictions/kernel",
        "missing predictions/bias",
    ]
