"""The precision float64: variables, images, arithmetic, loss and updates have 53 significant bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn import attacks, export, visualize
from rawcnn.nn.execution import Choice, compiled
from rawcnn.nn.folding import folded
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.optim.optimizers import UPDATE_RULES
from rawcnn.training.recipes import find_recipe
from rawcnn.training.step import State, make_step
from tests import references
from tests.rawcnn import small
from tests.rawcnn.models import replay

IMAGES = references.random((3, 8, 8, 3), 1, "float64", low=0.0)


def network(precision: str = "float64", preprocessing: str = "torch") -> rawcnn.Network:
    net = rawcnn.create("cifar_resnet20", classes=5, size=8, precision=precision, preprocessing=preprocessing, seed=3)
    for path, variable in net.variables.items():
        if path.endswith(("/mean", "/variance", "/offset")):
            variable.assign(references.random(variable.shape, len(path), variable.dtype.name, low=0.1))
    return net


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def expected(net):
    """The logits that TensorFlow's own operations compute in float64."""
    return replay.logits("cifar_resnet20", net.variables, PREPROCESSING["torch"](IMAGES).numpy())


def test_variables_have_the_values_of_a_float32_network():
    """Of an initializer, each rounded to float32; so a float64 network shows what float32 rounds."""
    wide = rawcnn.create("cifar_resnet20", size=8, precision="float64", seed=1)
    narrow = rawcnn.create("cifar_resnet20", size=8, seed=1)
    assert {variable.dtype for variable in wide.variables.values()} == {tf.float64}
    for path, value in narrow.variables.items():
        np.testing.assert_array_equal(wide.variables[path], value, path)


def test_logits_are_exact(net, expected):
    logits = net(IMAGES)
    assert logits.dtype == tf.float64
    references.close_each(logits, expected, 1e-12)


def test_images_of_float32_are_widened(net):
    narrow = tf.cast(IMAGES, tf.float32)
    np.testing.assert_array_equal(net(narrow), net(tf.cast(narrow, tf.float64)))


@pytest.mark.parametrize("preprocessing", PREPROCESSING)
def test_preprocessing_is_exact(preprocessing):
    exact = PREPROCESSING[preprocessing](IMAGES)
    assert exact.dtype == tf.float64
    references.close(tf.cast(exact, tf.float32), PREPROCESSING[preprocessing](tf.cast(IMAGES, tf.float32)))


@pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.deeper)])
def test_programs_are_exact(net, expected, mode):
    logits = rawcnn.program(net, mode)(IMAGES)
    assert logits.dtype == tf.float64
    references.close_each(logits, expected, 1e-12)


def test_a_float64_program_of_a_float32_network_is_exact():
    narrow = network("float32")
    expected = replay.logits("cifar_resnet20", narrow.variables, PREPROCESSING["torch"](IMAGES).numpy())
    for logits in (folded(narrow, "float64")(IMAGES), rawcnn.program(narrow, "graph", "float64")(IMAGES)):
        assert logits.dtype == tf.float64
        references.close_each(logits, expected, 1e-12)


def test_files_of_weights_keep_all_digits(net, tmp_path):
    for variable in net.variables.values():
        assert variable.dtype == tf.float64
    net.variables["conv1/filters"].assign_add(references.random((3, 3, 3, 16), 5, "float64") * 1e-9)
    file = tmp_path / "weights.safetensors"
    rawcnn.save_weights(net, file)
    wide = rawcnn.create("cifar_resnet20", weights=file, precision="float64")
    narrow = rawcnn.create("cifar_resnet20", weights=file)
    for path, value in net.variables.items():
        np.testing.assert_array_equal(wide.variables[path], value, path)
        np.testing.assert_array_equal(narrow.variables[path], tf.cast(value, tf.float32), path)


@pytest.mark.sample(2)
@pytest.mark.parametrize("optimizer", UPDATE_RULES)
def test_training_updates_in_float64(optimizer):
    """TensorFlow's fused kernel of a rule and the rule as it is written take the same steps."""
    recipe = replace(find_recipe("digits"), optimizer=optimizer, weight_decay=1e-3, average=0.9, clip=1.0)
    images, labels = IMAGES, tf.constant([0, 1, 2])
    states, losses = [], []
    for mode in ("graph", "eager"):
        net = small.network(precision="float64")
        state = State.begin(net, recipe)
        assert {v.dtype for group in state.groups for v in group.values()} == {tf.float64}
        step = make_step(net, recipe, state, Choice(mode, ""))
        metrics = [step(images, labels, tf.constant([0, k]), tf.constant(0.1)) for k in range(3)]
        states.append(state)
        losses.append([m["loss"].numpy() for m in metrics])
        assert losses[-1][0].dtype == np.float64 and losses[-1][2] < losses[-1][0]
    references.close_each(np.array(losses[0]), np.array(losses[1]), 1e-12)
    for here, there in zip(*(state.groups for state in states), strict=True):
        for path, value in here.items():
            references.close(value, there[path], "gradient")
            rounded = np.asarray(value).astype(np.float32)
            assert np.any(value != rounded), f"{path} has the digits of float32"


def test_an_attack_takes_a_float64_network(net):
    result = attacks.fgsm(net, IMAGES, tf.argmax(net(IMAGES), axis=1).numpy(), epsilon=0.1, compile="eager")
    assert result.images.dtype == np.float32 and 0 < np.abs(result.images - IMAGES).max() <= 0.1 + 1e-6


def test_explanations_of_a_class_take_a_float64_network(net):
    image = tf.cast(IMAGES[:1], tf.float32)
    saliency = visualize.input_gradient(net, image, [1], compile="eager")
    attribution = visualize.attribution(net, image[0], "conv2_1", [1], compile="eager")
    for gradients in (saliency.maps, attribution.gradients):
        assert np.isfinite(gradients).all() and np.any(gradients)


@pytest.mark.slow
def test_attacks_and_pictures_compute_in_float64(net):
    labels = tf.argmax(net(IMAGES), axis=1).numpy()
    attacks.pgd(network("float32"), IMAGES, labels, epsilon=0.1, steps=2, precision="float64")
    assert np.isfinite(visualize.optimize(net, "conv2_1", channel=1, steps=2, size=8).values).all()


def test_an_export_says_what_it_computes_in(net, tmp_path, expected):
    manifest = export.export(net, tmp_path / "export")
    assert [result["dtype"] for result in manifest["results"]] == ["float64", "float64"]
    served = tf.saved_model.load(tmp_path / "export").signatures["serving_default"](tf.cast(IMAGES, tf.float32))
    references.close(served["logits"], expected, wobble=1e-5)  # images of an export are float32


def test_the_command_line_offers_it(rawcnn_command):
    code, out, _ = rawcnn_command("profile", "cifar_resnet20", "--precision", "float64", "--json")
    assert code == 0 and "float64" in out
    code, _, err = rawcnn_command("profile", "cifar_resnet20", "--precision", "half")
    assert code == 2 and "precision is 'half'; expected one of float32, bfloat16, float64" in err
    code, _, err = rawcnn_command("benchmark", "cifar_resnet20", "--precision", "float64")
    assert code == 2 and "precision is 'float64'; expected float32 or bfloat16" in err


def test_compiled_training_passes_agree(net):
    def logits(images):
        return net.forward(images, train=True, seed=4).logits

    eager = logits(IMAGES)
    references.close_each(compiled(logits, Choice("graph", ""))(IMAGES), eager, 1e-9)
