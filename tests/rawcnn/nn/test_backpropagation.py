"""Backpropagation by hand against the tape.

In float64 the reference is a tape through TensorFlow's own operations, which the committed fingerprint of a model
names; nothing of rawcnn computes it. In float32 it is the tape through the network's own forward pass, as in training.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.attacks.common import loss_gradient
from rawcnn.explain import Backward, backpropagate
from rawcnn.nn import backpropagation, layers
from rawcnn.nn.backpropagation import GRADIENT_RULES
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import COEFFICIENTS, PREPROCESSING, PREPROCESSING_GRADIENT
from tests import references
from tests.benchmarks import toys
from tests.rawcnn.conformance import TABLE, Case
from tests.rawcnn.models import replay
from tests.rawcnn.models.fingerprints import CASES as FINGERPRINTS

SEED = 4
CASES = [pytest.param(case, id=case.id, marks=case.marks) for case in TABLE if not case.only_counted]
FAMILIES = [pytest.param(case, id=case.id) for case in TABLE if case.representative]  # XLA takes minutes: only .ci/full
QUICK = "^cifar_resnet20-(inference|recipe)$"  # the toys have all kinds of operations, and are quick, too
SAMPLE = 2**16  # of the entries of a large gradient, which are compared one by one


@dataclass(frozen=True)
class Recipe:
    """What a recipe adds to the loss; larger than recipes have it, so that each part shows."""

    label_smoothing: float = 0.1
    weight_decay: float = 1e-2
    decay_all: bool = False
    auxiliary_weight: float = 0.3
    auxiliary_smoothing: bool = True


# name → (training, recipe)
MODES = {"inference": (False, None), "training": (True, None), "recipe": (True, Recipe())}


def batch(network: Network, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    images = references.random((count, *network.image_size, 3), 1, network.wide.name, low=0.0)
    return images, tf.range(count) % network.classes


def agree(actual: dict[str, tf.Tensor], expected: dict[str, tf.Tensor], tolerance: float, each: float | None) -> None:
    """Assert that all gradients agree, relative to the largest entry of each, and per entry.

    The gradient to a bias before a batch norm is zero but for rounding; there the largest of all gradients counts.
    """
    assert actual.keys() <= expected.keys()
    noise = 1e-3 * tolerance * max(float(np.max(np.abs(gradient))) for gradient in expected.values())
    for name, gradient in expected.items():
        if name not in actual:
            assert not np.any(gradient), f"{name} has a gradient, but not by hand"
            continue
        if np.max(np.abs(gradient)) <= noise and np.max(np.abs(actual[name])) <= noise:
            continue
        found = references.error(actual[name], gradient)
        assert found <= tolerance, f"{name} differs by {found:.1e} of its largest gradient"
        if each is not None and np.any(gradient):
            step = gradient.shape.num_elements() // SAMPLE + 1
            found, entries = (np.ravel(values)[::step] for values in (actual[name], gradient))
            meaningful = np.abs(entries) >= 1e-6 * np.max(np.abs(gradient))  # smaller ones are sums that cancel
            if meaningful.any():
                references.close_each(found[meaningful], entries[meaningful], each)


# In float64, through TensorFlow's own operations ----------------------------------------------------------------------


def reference(case: Case, network: Network, images, labels, train: bool, recipe: Recipe | None) -> Backward:
    """The loss and its gradients by a tape through the operations of the fingerprint."""
    trained = {path: tf.convert_to_tensor(v) for path, v in network.trained_variables.items()}
    with tf.GradientTape() as tape:
        tape.watch([images, trained])
        preprocessed = PREPROCESSING[network.preprocessing](images)
        values = replay.activations(
            case.id, {**network.variables, **trained}, preprocessed, (SEED, 0) if train else None
        )
        loss = smoothed_loss(values[replay.head(case.id)], labels, recipe)
        if recipe:
            for name in network.auxiliary:
                loss += recipe.auxiliary_weight * smoothed_loss(values[name], labels, recipe)
            decayed = [v for path, v in trained.items() if path.rsplit("/", 1)[1] in ("filters", "weights")]
            loss += recipe.weight_decay * sum(tf.reduce_sum(v**2) / 2 for v in decayed)
    sources = trained, {**values, "images": images}
    return Backward(loss, *tape.gradient(loss, sources, unconnected_gradients="zero"))


def smoothed_loss(logits: tf.Tensor, labels: tf.Tensor, recipe: Recipe | None) -> tf.Tensor:
    smoothing, classes = (recipe.label_smoothing if recipe else 0.0), logits.shape[-1]
    targets = (1 - smoothing) * tf.one_hot(labels, classes, dtype=logits.dtype) + smoothing / classes
    return -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=-1))


@pytest.mark.sample(QUICK)
@pytest.mark.parametrize("mode", [pytest.param(mode, id=mode) for mode in MODES])
@pytest.mark.parametrize("case", CASES)
def test_float64_gradients_are_the_tapes(case, mode):
    train, recipe = MODES[mode]
    network = case.create(seed=3, precision="float64")
    images, labels = batch(network, 8 if train else 2)  # moments of fewer values lose more digits
    back = backpropagate(network, images, labels, train=train, seed=SEED, recipe=recipe)
    expected = reference(case, network, images, labels, train, recipe)
    references.close_each(back.loss, expected.loss, 1e-9)
    assert list(back.parameters) == list(network.trained_variables)
    agree(back.parameters, expected.parameters, 1e-9, 1e-6)
    activations = expected.activations
    if not train:  # fingerprints are of the training graph; NASNet drops paths, and has their operations, only there
        applied = {"images", *(operation.name for operation in network.operations)}
        activations = {name: gradient for name, gradient in activations.items() if name in applied}
    agree(back.activations, activations, 1e-9, 1e-6)


def test_the_reference_finds_a_wrong_gradient(monkeypatch):
    """A rule that is wrong by a millionth of one entry."""
    right = GRADIENT_RULES["relu"]

    def wrong(op, g):
        (gradient,), nothing = right(op, g)
        return [gradient + 1e-6 * tf.reduce_max(gradient)], nothing

    monkeypatch.setitem(GRADIENT_RULES, "relu", wrong)
    case = next(case for case in TABLE if case.id == "cifar_resnet20")
    with pytest.raises(AssertionError, match="differs by"):
        test_float64_gradients_are_the_tapes(case, "inference")


# Toys: all kinds of operations, by differences, by the tape, by XLA ---------------------------------------------------


def with_head(net, images):
    """A classifier, an auxiliary head in training, drop path, and a map that both read."""
    x = layers.relu(net, layers.conv(net, "conv1", images, 8, 3, stride=2))
    if net.train:
        net.auxiliary.append(layers.dense(net, "auxiliary/classifier", layers.average_pool(net, "p", x, 3, 3), 5))
    branch = layers.drop_path(net, "drop", layers.conv(net, "conv2", x, 8, 3), 0.5)
    x = layers.residual_sum(net, "sum", branch, x)
    return layers.dense(net, "classifier", layers.global_average_pool(net, "pool", x), 5)


TOYS = [toys.everything, with_head]
by_toy = pytest.mark.parametrize("model", TOYS, ids=lambda model: model.__name__)
by_mode = pytest.mark.parametrize("mode", MODES)


def loss_of(network, values, images, labels, train, recipe) -> tf.Tensor:
    """The loss as a function of the variables and the images, without a gradient by hand."""
    forward = network.trace({**network.variables, **values}, images, train=train, seed=SEED if train else None)
    loss = smoothed_loss(forward.logits, labels, recipe)
    if recipe:
        heads = [forward.activations[name] for name in network.auxiliary]
        loss += sum(recipe.auxiliary_weight * smoothed_loss(logits, labels, recipe) for logits in heads)
        decayed = [v for path, v in values.items() if path.endswith(("filters", "weights")) or recipe.decay_all]
        loss += recipe.weight_decay * sum(tf.reduce_sum(v**2) / 2 for v in decayed)
    return loss


@by_toy
@by_mode
def test_gradients_are_the_differences(model, mode):
    train, recipe = MODES[mode]
    network = toys.toy(model, "float64", "torch")
    images, labels = batch(network, 6)
    back = backpropagate(network, images, labels, train=train, seed=SEED, recipe=recipe)
    paths = list(network.trained_variables)

    def loss(images, *values):
        return loss_of(network, dict(zip(paths, values, strict=True)), images, labels, train, recipe)

    values = [tf.convert_to_tensor(v) for v in network.trained_variables.values()]
    references.close(loss(images, *values), back.loss)
    gradients = [back.activations["images"], *back.parameters.values()]
    references.central_difference(loss, gradients, images, *values, step=1e-6)


@pytest.mark.sample("^inference-with_head$")
@by_toy
@by_mode
def test_compiled_gradients_are_the_eager_ones(model, mode):
    train, recipe = MODES[mode]
    network = toys.toy(model, "float64")
    images, labels = batch(network, 6)

    def run(images, labels):
        back = backpropagate(network, images, labels, train=train, seed=SEED, recipe=recipe)
        return back.loss, back.parameters, back.activations

    loss, parameters, activations = run(images, labels)
    unknown = [tf.TensorSpec((None, *images.shape[1:]), tf.float64), tf.TensorSpec((None,), tf.int32)]
    for settings in ({"jit_compile": True}, {"input_signature": unknown}):
        compiled = tf.function(run, autograph=False, **settings)(images, labels)
        references.close(compiled[0], loss)
        agree(parameters, compiled[1], 1e-9, 1e-6)
        agree(activations, compiled[2], 1e-9, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", FAMILIES)
def test_xla_gives_the_same_gradients(case):
    """With a recipe alone, because XLA keeps the memory of all that it compiled; the toys compile inference, too."""
    train, recipe = MODES["recipe"]
    network = case.create(seed=3, precision="float64")
    images, labels = batch(network, 8)  # moments of fewer values lose more digits

    def run(images):
        back = backpropagate(network, images, labels, train=train, seed=SEED, recipe=recipe)
        return back.parameters, back.activations

    for eager, compiled in zip(run(images), tf.function(run, jit_compile=True, autograph=False)(images), strict=True):
        agree(compiled, eager, 1e-9, 1e-6)


# In float32, through the network's own forward pass -------------------------------------------------------------------


def by_tape(network, images, labels, train, recipe=None) -> Backward:
    """The loss and its gradients as training computes them."""
    trained = {path: tf.convert_to_tensor(v) for path, v in network.trained_variables.items()}
    with tf.GradientTape() as tape:
        tape.watch([images, trained])
        loss = loss_of(network, trained, images, labels, train, recipe)
    to_trained, to_images = tape.gradient(loss, [trained, images], unconnected_gradients="zero")
    return Backward(loss, to_trained, {"images": to_images})


@pytest.mark.sample("^cifar_resnet20-training$")
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("case", CASES)
def test_float32_gradients_are_the_tapes(case, mode):
    train, recipe = MODES[mode]
    network = case.create(seed=3)
    images, labels = batch(network, max(case.images, 4) if train else 2)
    back = backpropagate(network, images, labels, train=train, seed=SEED, recipe=recipe)
    expected = by_tape(network, images, labels, train)
    assert {g.dtype for g in (back.loss, *back.parameters.values())} == {tf.float32}
    tolerance = references.TOLERANCE["float32", case.comparison]
    agree(back.parameters, expected.parameters, tolerance, None)
    assert references.error(back.activations["images"], expected.activations["images"]) <= tolerance


@by_toy
def test_bfloat16_gradients_are_near_the_tapes(model):
    network = toys.toy(model, "bfloat16")
    images, labels = batch(network, 6)
    back, expected = backpropagate(network, images, labels), by_tape(network, images, labels, train=False)
    assert {g.dtype for g in back.parameters.values()} == {tf.float32}
    agree(back.parameters, expected.parameters, 2 * references.TOLERANCE["bfloat16", "gradient"], None)


@pytest.mark.parametrize("preprocessing", PREPROCESSING)
def test_the_gradient_to_the_images_is_that_of_the_attacks(preprocessing):
    network = toys.toy(toys.everything, preprocessing=preprocessing)
    images, labels = batch(network, 3)
    expected, _ = loss_gradient(network, images, labels, targeted=False)  # of the sum over the batch
    references.close(3 * backpropagate(network, images, labels).activations["images"], expected, "network")


def test_each_preprocessing_has_a_gradient_by_hand():
    assert PREPROCESSING_GRADIENT.keys() == PREPROCESSING.keys()
    images, upstream = (references.random((2, 3, 4, 3), k, "float64", low=0.0) for k in (0, 1))
    for name, function in PREPROCESSING.items():
        gradient = PREPROCESSING_GRADIENT[name](upstream)
        references.central_difference(lambda x, f=function: tf.reduce_sum(upstream * f(x)), [gradient], images)


def test_each_preprocessing_has_its_coefficients():
    assert COEFFICIENTS.keys() == PREPROCESSING.keys()
    images = references.random((2, 3, 4, 3), 0, "float64", low=0.0)
    for name, (channels, scale, mean, deviation) in COEFFICIENTS.items():
        expected = (np.array(scale) * images.numpy()[..., channels] - mean) / deviation
        references.close(PREPROCESSING[name](images), expected)


def test_decay_of_all_variables():
    network = toys.toy(with_head, "float64")
    images, labels = batch(network, 6)
    recipe = Recipe(decay_all=True, auxiliary_smoothing=False, label_smoothing=0.0)
    back = backpropagate(network, images, labels, train=True, seed=SEED, recipe=recipe)
    expected = by_tape(network, images, labels, True, recipe)
    references.close(back.loss, expected.loss)
    agree(back.parameters, expected.parameters, 1e-12, 1e-9)


def test_heads_without_smoothed_labels():
    """With a weight of 1, and the classifier's own gradient removed, a head's logits have the plain gradient."""
    network = toys.toy(with_head, "float64")
    images, labels = batch(network, 6)
    recipe = Recipe(auxiliary_smoothing=False, auxiliary_weight=1.0, weight_decay=0.0)
    found = backpropagate(network, images, labels, train=True, seed=SEED, recipe=recipe).activations
    forward = network.forward(images, train=True, seed=SEED)
    for name, smoothing in (("classifier", 0.1), ("auxiliary/classifier", 0.0)):
        targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
        references.close(found[name], (tf.nn.softmax(forward.activations[name]) - targets) / 6)


def test_without_a_recipe_heads_have_no_gradient():
    network = toys.toy(with_head, "float64")
    back = backpropagate(network, *batch(network, 6), train=True, seed=SEED)
    assert "auxiliary/classifier" not in back.activations
    assert list(back.parameters) == list(network.trained_variables)
    assert not np.any(back.parameters["auxiliary/classifier/weights"])
    assert np.any(back.parameters["conv1/filters"])


def test_levels_have_no_gradient():
    network = rawcnn.create("cifar_resnet20", size=8, discretize="thermometer", precision="float64", classes=5)
    images, labels = batch(network, 2)
    back, expected = backpropagate(network, images, labels), by_tape(network, images, labels, train=False)
    assert back.activations["images"].shape == images.shape and not np.any(back.activations["images"])
    agree(back.parameters, expected.parameters, 1e-9, 1e-6)


@pytest.mark.deeper
def test_a_network_on_several_devices():
    one, two = (
        rawcnn.create("alexnet", classes=5, size=67, precision="float64", devices=devices)
        for devices in ((), ("CPU:0", "CPU:1"))
    )
    images, labels = batch(one, 2)
    agree(backpropagate(two, images, labels).parameters, backpropagate(one, images, labels).parameters, 1e-12, 1e-9)


# Rules ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_every_model_has_rules(name):
    assert {step.kind for step in replay.read(name).values()} <= GRADIENT_RULES.keys()


def kinds_of_layers() -> set[str]:
    """The kinds of operation that the layers apply, read from their source."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(layers))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("net.apply", "_pool"):
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            found |= {str(word) for word in words}
    return found


@pytest.mark.parametrize("kind", sorted(kinds_of_layers()))
def test_every_kind_of_operation_has_a_rule(kind):
    assert kind in GRADIENT_RULES


def test_every_rule_is_of_a_layer():
    assert GRADIENT_RULES.keys() == kinds_of_layers()


def test_an_operation_without_a_rule_is_named():
    def model(net, images):
        x = layers.global_average_pool(net, "pool", images)
        return layers.dense(net, "classifier", net.apply("curve", "tanh", tf.tanh, [x]), 5)

    network = Network("curved", model, size=4, classes=5)
    with pytest.raises(ValueError, match=r"curve is a tanh, which has no gradient by hand; conv, dense, .* have one"):
        backpropagate(network, *batch(network, 2))


def test_no_tape_takes_part(monkeypatch):
    source = Path(backpropagation.__file__).read_text(encoding="utf-8")
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    assert not names & {"GradientTape", "gradients", "custom_gradient", "ForwardAccumulator"}

    def refuse(*arguments, **settings):
        raise AssertionError("a tape")

    network = toys.toy(toys.everything)
    monkeypatch.setattr(tf, "GradientTape", refuse)
    monkeypatch.setattr(tf, "gradients", refuse)
    back = backpropagate(network, *batch(network, 4), train=True, seed=SEED, recipe=Recipe())
    assert all(np.isfinite(gradient).all() for gradient in back.parameters.values())


def test_bad_input():
    network = toys.toy()
    images, labels = batch(network, 3)
    for wrong, message in (
        (None, r"labels are None; expected a class number for each image, \[3\]"),
        (labels[:2], r"labels are int32 \(2,\); expected a class number for each image, \[3\]"),
        (tf.cast(labels, tf.float32), r"labels are float32 \(3,\); expected"),
        ([0, 5, -1], "labels are 5, -1; expected class numbers from 0 to 4"),
        (tf.one_hot(labels, 5), r"labels are float32 \(3, 5\); expected .* tf.argmax\(labels, 1\)"),
        (tf.one_hot(labels, 9, dtype=tf.int32), r"labels are int32 \(3, 9\); expected"),
        ([[0], [1, 2], []], r"labels are no array of numbers \(list\); expected"),
        (0, r"labels are int32 \(\); expected"),
        ("abc", r"labels are string \(\); expected"),
        ([], r"labels are float32 \(0,\); expected"),
    ):
        with pytest.raises(ValueError, match=f"^{message}") as error:
            backpropagate(network, images, wrong)
        assert "\n" not in str(error.value)
    for wrong in (images[0], images[None], tf.zeros(()), tf.cast(images, tf.uint8), "abc", [[1.0], []], None):
        with pytest.raises(ValueError, match=r"^images (have shape|are uint8|are no array)") as error:
            backpropagate(network, wrong, labels)
        assert "\n" not in str(error.value)
    for wrong in ("abc", 1.5, [1, 2, 3], [[1, 2]], [1.0, 2.0], {}):
        with pytest.raises(ValueError, match=r"the seed is .*; expected a whole number, or an int tensor"):
            backpropagate(network, images, labels, train=True, seed=wrong)
    with pytest.raises(ValueError, match="recipe is 'onecycle'; expected a training recipe"):
        backpropagate(network, images, labels, recipe="onecycle")
    with pytest.raises(ValueError, match="there are no images"):
        backpropagate(network, images[:0], labels[:0])
    with pytest.raises(ValueError, match="images have shape"):
        backpropagate(network, images[..., :2], labels)
    dropping = toys.toy(toys.dropping)
    with pytest.raises(ValueError, match=r"drop draws random numbers in training; pass .*seed"):
        backpropagate(dropping, *batch(dropping, 2), train=True)
