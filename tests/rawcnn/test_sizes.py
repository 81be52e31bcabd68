"""Images that are not square: counts by closed form and by Keras, logits by transposition, files, verbs, exports."""

from __future__ import annotations

import json
from functools import partial
from math import prod

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rawcnn
from benchmarks.harness.agreement import check_twin
from benchmarks.twins.keras import keras_twin
from benchmarks.twins.specification import model_of, read_model
from rawcnn import models
from rawcnn.nn.trace import symbolic_trace
from rawcnn.weights import describe
from tests import references
from tests.benchmarks.toys import batch, scramble
from tests.rawcnn.conformance import TABLE, Case

CASES = [pytest.param(case, id=case.id) for case in TABLE]
VALID = (
    "alexnet",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "nasnet",
)  # maps that are no 32nd of the image
ASYMMETRIC = ("inception_v3", "inception_v4", "inception_resnet_v2")  # 1×7 before 7×1


def counted(case: Case, height: int, width: int, train: bool = False):
    """(operations, trained parameters) at this size, with the model's own classes."""
    model = models.find_model(case.name)
    trace = symbolic_trace(model.configured(model.classes, **case.options), (1, height, width, 3), train=train)
    return trace.operations, sum(p.count for p in trace.parameters.values() if p.trained)


# Counts --------------------------------------------------------------------------------------------------------


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id) for case in TABLE if not case.name.startswith(VALID) and not case.heads]
)
def test_the_macs_of_convolutions_grow_with_the_area(case):
    """Where every map is a fixed share of the image, those of 7/7 × 5/7 of the area take 5/7 of the MACs."""
    side = models.find_model(case.name).size
    other = side * 5 // 7 if side == 224 else side * 3 // 4
    operations, parameters = counted(case, side, other)
    weights = {o.name: prod(o.parameters[0].shape) for o in operations if o.kind == "dense"}
    on_map = {o.name for o in operations if o.kind == "dense" and len(o.input_shapes[0]) == 4}
    flat = sum(count for name, count in weights.items() if name not in on_map)  # MACs, whatever the size
    square_map = sum(count * side // other for name, count in weights.items() if name in on_map)
    expected = (case.macs - flat) * other // side + flat
    assert sum(o.cost.macs for o in operations) == expected
    assert parameters == case.parameters - square_map + sum(weights[name] for name in on_map)


@pytest.mark.sample(19)
@pytest.mark.parametrize("case", CASES)
def test_rows_and_columns_are_counted_apart(case):
    """At 3/4 of the width, the maps have the rows of the square network and the columns of the narrow square one."""
    side = models.find_model(case.name).size
    narrow = side * 3 // 4
    (tall, parameters), (large, _), (small, _) = (
        counted(case, *s) for s in ((side, narrow), (side, side), (narrow,) * 2)
    )
    assert not any("fc6" in o.name for o in tall) or parameters < case.parameters
    if not case.heads and not any(o.kind == "dense" and len(o.input_shapes[0]) == 4 for o in tall):
        assert parameters == case.parameters
    for a, b, c in zip(tall, large, small, strict=True):
        if len(a.output_shape) == 4:
            assert a.output_shape == (1, b.output_shape[1], c.output_shape[2], b.output_shape[3]), a.name
        if a.kind == "conv":
            assert a.cost.macs * b.output_shape[2] == b.cost.macs * a.output_shape[2], a.name
        assert (
            a.receptive_field.rows == b.receptive_field.rows and a.receptive_field.columns == c.receptive_field.columns
        )


def keras_macs(model: keras.Model) -> int:
    """Multiply-accumulates of the convolutions and fully connected layers of a Keras model."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.SeparableConv2D):
            depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
            total += prod(layer.output.shape[1:3]) * (prod(depthwise) + prod(pointwise))
        elif isinstance(layer, keras.layers.Conv2D):
            total += prod(layer.output.shape[1:3]) * prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += prod(layer.kernel.shape)
    return total


@pytest.mark.sample("VGG16", "ResNet50")
@pytest.mark.parametrize(
    "ours, theirs, size, options",
    [
        ("vgg16", "VGG16", (64, 96), {}),
        ("resnet50", "ResNet50", (96, 64), {}),
        ("inception_v3", "InceptionV3", (107, 75), {}),
        ("inception_resnet_v2", "InceptionResNetV2", (75, 107), {}),
        ("nasnet_mobile", "NASNetMobile", (96, 64), {}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_macs_are_those_of_keras(ours, theirs, size, options):
    model = getattr(keras.applications, theirs)(weights=None, input_shape=(*size, 3))
    found = rawcnn.profile(ours, size=size, **options)
    assert found.totals["macs"] == keras_macs(model) and found.size == size
    keras.backend.clear_session()


def test_a_profile_of_a_square_pair_is_that_of_its_side():
    pair, side = rawcnn.profile("cifar_resnet20", size=(32, 32)), rawcnn.profile("cifar_resnet20", size=32)
    assert pair.size == side.size == 32 and pair.to_json() == side.to_json()


# Values --------------------------------------------------------------------------------------------------------


def transposed(network: rawcnn.Network) -> rawcnn.Network:
    """The network of the transposed images: all filters transposed, also those of a layer that reads a map."""
    height, width = network.image_size
    settings = {name: value for name, value in network.settings.items() if name != "size"}
    other = rawcnn.create(network.name, seed=0, size=(width, height), **settings)
    maps = {
        o.name: o.input_shapes[0][1:] for o in network.operations if o.kind == "dense" and len(o.input_shapes[0]) == 4
    }
    for path, variable in network.variables.items():
        name, leaf = path.rsplit("/", 1)
        value = variable.numpy()
        if leaf == "filters":
            value = value.swapaxes(0, 1)
        elif leaf == "weights" and name in maps:
            value = value.reshape(*maps[name], -1).swapaxes(0, 1).reshape(value.shape)
        other.variables[path].assign(value)
    return other


@pytest.mark.sample("^alexnet", "^vgg_a", "^cifar")
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.id) for case in TABLE if case.representative and not case.name.startswith(ASYMMETRIC)],
)
def test_logits_are_those_of_the_transposed_network(case):
    size = (case.small + 32, case.small) if case.name != "cifar_resnet20" else (12, 8)
    network = rawcnn.create(case.name, classes=5, seed=3, size=size, **case.options)
    images = references.random((2, *size, 3), 1, low=0.0)
    logits = network(images)
    assert logits.shape == (2, 5) and np.ptp(logits) > 0
    references.close(transposed(network)(tf.transpose(images, (0, 2, 1, 3))), logits, "gated network")


@pytest.mark.sample("^cifar")
@pytest.mark.parametrize("name, size", [("cifar_resnet20", (12, 8)), ("alexnet", (99, 67)), ("googlenet", (64, 96))])
def test_the_keras_twin(name, size):
    network = scramble(rawcnn.create(name, classes=10, size=size))
    assert read_model(model_of(network).to_json()) == model_of(network)
    agreement = check_twin(network, keras_twin(network), *batch(network, 2))
    assert agreement.logits <= 1e-4 and agreement.gradient <= 1e-3
    keras.backend.clear_session()


def test_receptive_fields_are_what_changes_an_activation():
    network = rawcnn.create("resnet18", classes=3, size=(96, 64))
    images = references.random((1, 96, 64, 3), 2, low=0.0)
    for layer, position in (("conv2_1", (3, 14)), ("conv3_2", (11, 0)), ("conv4_1", (0, 3))):
        with tf.GradientTape() as tape:
            tape.watch(images)
            value = tf.reduce_sum(network.activations(images, [layer])[layer][0, position[0], position[1]] ** 2)
        rows, columns = np.nonzero(np.abs(tape.gradient(value, images).numpy()[0]).sum(-1))
        top, left, bottom, right = network.operation(layer).receptive_field.box(position, (96, 64))
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == pytest.approx(
            (top, left, bottom, right),
            abs=2,  # a stride leaves some pixels at the edge unread
        )


# Files and verbs -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a network for digits of 12×8 pixels, which note the size."""
    network = rawcnn.create("cifar_resnet20", size=(12, 8), seed=1)
    path = tmp_path_factory.mktemp("weights") / "tall.safetensors"
    rawcnn.save_weights(network, path)
    return path


def test_weights_note_the_size(weights):
    settings = describe(weights)["settings"]
    assert settings["size"] == [12, 8]
    network = rawcnn.create("cifar_resnet20", **settings)
    rawcnn.load_weights(network, weights)
    assert network.input_size == network.image_size == (12, 8) and network.settings["size"] == (12, 8)
    assert "12×8" in repr(network)


@pytest.mark.sample("savedmodel")
@pytest.mark.parametrize("format", ["savedmodel", "stablehlo"])
def test_exports(weights, format, tmp_path):
    from rawcnn.export import export

    network = rawcnn.create("cifar_resnet20", size=(12, 8))
    rawcnn.load_weights(network, weights)
    manifest = export(network, tmp_path / "out", format)
    assert manifest["arguments"][-1]["shape"][1:] == [12, 8, 3]
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["size"] == [12, 8]
    if format == "savedmodel":
        images = references.random((2, 12, 8, 3), 4, low=0.0)
        served = tf.saved_model.load(tmp_path / "out").signatures["serving_default"](images=images)
        references.close(served["logits"], network(images), "network")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(path)
    return path


VERBS = {
    "evaluate": "evaluate cifar_resnet20 --data digits --weights WEIGHTS",
    "evaluate by crops": "evaluate cifar_resnet20 --data digits --weights WEIGHTS --protocol 10crop",
    "evaluate at a size": "evaluate cifar_resnet20 --data digits --size 12x8",
    "predict": "predict cifar_resnet20 PHOTO --size 12x8",
    "profile": "profile cifar_resnet20 --size 12x8",
    "export": "export cifar_resnet20 --size 12x8 --output OUT",
    "train": "train cifar_resnet20 --data digits --size 12x8 --epochs 1 --output OUT",
    "attack": "attack fgsm cifar_resnet20 --data digits --weights WEIGHTS --count 8 --epsilon 0.1 --output OUT",
    "saliency": "visualize saliency cifar_resnet20 PHOTO --size 12x8 --samples 2 --steps 2 --output OUT.png",
    "deconv": "visualize deconv cifar_resnet20 PHOTO --size 12x8 --layer conv2_1/relu --output OUT.png",
    "optimize": "visualize optimize cifar_resnet20 --size 12x8 --channel 1 --steps 2 --output OUT.png",
    "optimize with weights": "visualize optimize cifar_resnet20 --weights WEIGHTS --channel 1 --steps 2 "
    "--output OUT.png",
    "building blocks": "visualize building-blocks cifar_resnet20 PHOTO --size 12x8 --layer conv3_1/relu --steps 2 "
    "--icon-size 12x16 --output OUT.html",
    "top inputs": "visualize top-inputs cifar_resnet20 --weights WEIGHTS --channel 1 --count 2 --output OUT.png",
    "page": "visualize page cifar_resnet20 --weights WEIGHTS --layer conv3_1/relu --channel 1 --count 2 --steps 2 "
    "--output OUT.html",
    "atlas": "visualize atlas cifar_resnet20 --weights WEIGHTS --layer conv3_1/relu --steps 2 --grid 3,5 --layout tsne "
    "--split test --icon-size 12x8 --output OUT.html",
    "paper": "paper resnet --train --data digits --size 12x8 --epochs 1 --output OUT",
}
QUICK = ("evaluate", "predict", "profile", "optimize", "optimize with weights")


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, id=name, marks=[pytest.mark.deeper] * (name not in QUICK)) for name, words in VERBS.items()],
)
def test_verbs(rawcnn_command, weights, photo, words, tmp_path):
    replaced = {"WEIGHTS": str(weights), "PHOTO": str(photo), "OUT": str(tmp_path / "out")}
    for name, path in replaced.items():
        words = words.replace(name, path)
    code, out, err = rawcnn_command(*words.split(), "--json")
    assert code == 0, err
    if "--size" in words and "size=" in err:
        assert "size=12x8" in err
    if words.startswith("profile"):
        assert json.loads(out)["size"] == [12, 8]


@pytest.mark.parametrize("size", ["0", "12x", "x8", "12x8x3", "-4", "12x-8", "3.5", "12,8", "a", ""])
def test_sizes_that_are_none(rawcnn_command, size):
    for verb in (("profile",), ("export",), ("visualize", "optimize")):
        code, _, err = rawcnn_command(*verb, "cifar_resnet20", f"--size={size}")
        last = err.strip().splitlines()[-1]
        assert code == 2 and "'--size'" in last and "expected a side in pixels, such as 224, or HEIGHTxWIDTH" in last


@pytest.mark.parametrize("size", ["12x8", "12X8", "12×8"])
def test_ways_to_write_a_size(rawcnn_command, size):
    code, out, _ = rawcnn_command("profile", "cifar_resnet20", "--size", size, "--json")
    assert code == 0 and json.loads(out)["size"] == [12, 8]


def test_data_sets_are_scaled_to_a_size():
    data = rawcnn.data.load("digits", size=(12, 8))
    assert data.size == (12, 8) and next(iter(data.batches("test", 4, shuffle=False)))[0].shape == (4, 12, 8, 3)


def test_network_made_by_hand():
    network = rawcnn.Network(
        "by hand", partial(models.resnet.cifar_resnet, depth=8, classes=3), size=(8, 16), classes=3
    )
    assert network.image_size == (8, 16) and network(tf.zeros((1, 8, 16, 3))).shape == (1, 3)


@pytest.mark.deeper
def test_attacks_on_the_command_line(rawcnn_command, tmp_path):
    """--size makes the network and the data of that size; ε is printed with six digits and recorded with all."""
    words = "attack", "fgsm", "cifar_resnet20", "--data", "digits", "--size", "12x8", "--count", 4
    code, _, err = rawcnn_command(*words, "--epsilon", 8 / 255, "--output", tmp_path / "attack")
    assert code == 0 and "size=12x8" in err and "epsilons=[0.0313725]" in err, err
    record = json.loads((tmp_path / "attack" / "attack.json").read_text())
    assert record["size"] == [12, 8] and record["accuracy_against_epsilon"][0]["epsilon"] == 8 / 255
    assert np.load(tmp_path / "attack" / "examples.npz")["images"].shape[1:] == (12, 8, 3)
    evolve = "attack", "evolve", "cifar_resnet20", "--size", "12x8", "--set", "encoding=gradient", "--set", "steps=1"
    code, _, err = rawcnn_command(*evolve, "--output", tmp_path / "evolve")
    assert code == 0 and np.load(tmp_path / "evolve" / "fooling.npz")["images"].shape[1:] == (12, 8, 3), err
