"""Training: one step against a computation by hand, and complete runs."""

from __future__ import annotations

import dataclasses
import errno
import math
import os

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import make_substitute
from rawcnn.data.augmentation import Augmentation, augment
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.nn.layers import dense
from rawcnn.nn.network import Network
from rawcnn.nn.weight_decay import decays
from rawcnn.plots import figures as plots
from rawcnn.training.rate_range import find_rate
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, TrainStep
from rawcnn.training.trainer import Training, TrainingFailed
from tests import references
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, RMSPROP, state

PLAIN = Recipe("plain", "ours", batch=16, epochs=1, rate=0.5, weight_decay=0.01)
IMAGES = references.random((16, 8, 8, 3), 0, low=0.0)
LABELS = tf.constant(np.arange(16) % 10, tf.int32)


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 256, 64)


def one_step(network, recipe, seed=(0, 0), images=IMAGES):
    """Return the values after a step: (variables, slots, averages, metrics)."""
    before = State.begin(network, recipe).tensors()
    rate = tf.constant(recipe.rate)
    new, metrics = TrainStep(network, recipe).update(before, images, LABELS, tf.constant(seed), rate)
    return *new.groups, metrics


# One step ----------------------------------------------------------------------------------------------------


def test_two_steps_of_softmax_regression_by_hand():
    """dL/dW = xᵀ(p − y)/B + λW, dL/db = mean(p − y) without λ; v ← .9·v + η·g; w ← w − v. In float64 NumPy."""
    net = Network("linear", lambda net, images: dense(net, "fc", images, 10), size=8, classes=10, seed=1)
    net.variables["fc/bias"].assign(np.linspace(-1, 1, 10, dtype=np.float32))
    x = IMAGES.numpy().reshape(16, -1).astype(np.float64)
    y = np.eye(10)[LABELS.numpy()]
    w, b = (net.variables[f"fc/{leaf}"].numpy().astype(np.float64) for leaf in ("weights", "bias"))
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    training = Training(net, PLAIN, compile="graph")
    for step, rate in enumerate((0.5, 0.2)):
        powers = np.exp(x @ w + b)
        p = powers / powers.sum(1, keepdims=True)
        loss, right = -np.log((p * y).sum(1)).mean(), (p.argmax(1) == LABELS.numpy()).mean()
        gw, gb = x.T @ (p - y) / 16 + 0.01 * w, (p - y).mean(0)
        vw, vb = 0.9 * vw - rate * gw, 0.9 * vb - rate * gb
        w, b = w + vw, b + vb
        metrics = training._step(IMAGES, LABELS, tf.constant([0, step]), tf.constant(rate))
        references.close(metrics["loss"], loss)
        references.close(metrics["accuracy"], right)
        references.close(metrics["gradient_norm"], np.sqrt((gw**2).sum() + (gb**2).sum()), "gradient")
    references.close(net.variables["fc/weights"], w, "gradient")
    references.close(net.variables["fc/bias"], b, "gradient")
    references.close(training.state.slots["fc/weights/velocity"], vw, "gradient")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_of_a_network_by_a_tape(smoothing):
    """Loss, weight decay and update are computed again with a tape; batch-norm averages are assigned."""
    recipe = dataclasses.replace(PLAIN, label_smoothing=smoothing)
    net = small.network(seed=1)
    new, slots, averages, _ = one_step(net, recipe, seed=(3, 7))
    with tf.GradientTape() as tape:
        forward = net.forward(IMAGES, train=True, seed=tf.constant([3, 7]))
        targets = tf.one_hot(LABELS, 10) * (1 - smoothing) + smoothing / 10
        loss = -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(forward.logits), axis=1))
    gradients = tape.gradient(loss, net.trained_variables)
    assert set(new) == set(net.variables) and averages == {}
    for path, gradient in gradients.items():
        w = net.variables[path]
        decay = 0.01 * w if path in ("conv1/filters", "conv2/filters", "classifier/weights") else 0.0
        references.close(new[path], w - 0.5 * (gradient + decay), "gradient")
        references.close(slots[f"{path}/velocity"], -0.5 * (gradient + decay), "gradient")
    for path, value in forward.statistics.items():
        references.close(new[path], value)


def test_only_filters_and_weights_decay():
    assert [path for path in small.network().variables if decays(path)] == [
        "conv1/filters",
        "conv2/filters",
        "classifier/weights",
    ]


def test_auxiliary_loss_counts():
    """With weight 0 the head gets no gradient; otherwise head and trunk move in proportion to the weight."""

    def moved(weight):
        net = small.network(seed=1, auxiliary=True)
        new, *_ = one_step(net, dataclasses.replace(PLAIN, weight_decay=0.0, auxiliary_weight=weight))
        return {
            path: (new[path] - net.variables[path]).numpy() for path in ("head/weights", "conv1/filters", "conv2/bias")
        }

    without, some, twice = moved(0.0), moved(0.3), moved(0.6)
    assert not np.any(without["head/weights"]) and np.any(some["head/weights"])
    references.close(twice["head/weights"], 2 * some["head/weights"], "gradient")
    trunk = "conv1/filters"
    references.close(twice[trunk] - without[trunk], 2 * (some[trunk] - without[trunk]), "network")
    references.close(some["conv2/bias"], without["conv2/bias"])  # behind the head


@pytest.mark.parametrize("smoothed", [True, False])
def test_auxiliary_loss_has_smoothed_labels(smoothed):
    """dL/db = weight · mean(p − q) for the head's bias, where q is (1 − ε)·y + ε/K, or y in runs of before."""
    recipe = dataclasses.replace(
        PLAIN, weight_decay=0.0, label_smoothing=0.2, auxiliary_weight=0.4, auxiliary_smoothing=smoothed
    )
    net = small.network(seed=1, auxiliary=True)
    (head,) = net.auxiliary
    logits = net.forward(IMAGES, train=True, seed=tf.constant([0, 0])).activations[head].numpy().astype(np.float64)
    powers = np.exp(logits)
    p, y = powers / powers.sum(1, keepdims=True), np.eye(10)[LABELS.numpy()]
    q = 0.8 * y + 0.2 / 10 if smoothed else y
    new, slots, *_ = one_step(net, recipe)
    expected = 0.4 * (p - q).mean(0)
    references.close(slots["head/bias/velocity"], -0.5 * expected, "gradient")
    references.close(new["head/bias"], net.variables["head/bias"] - 0.5 * expected, "gradient")


@pytest.mark.parametrize("decay_all", [True, False])
def test_weight_decay_of_all_variables(decay_all):
    """The difference to a step without any is −η·λ·w for each of them; or zero for biases and batch norm."""
    net = small.network(seed=1)
    for v in net.trained_variables.values():
        v.assign(v + 0.1)
    without, *_ = one_step(net, dataclasses.replace(PLAIN, weight_decay=0.0))
    decayed, *_ = one_step(net, dataclasses.replace(PLAIN, weight_decay=0.1, decay_all=decay_all))
    for path, v in net.trained_variables.items():
        if decay_all or path.endswith(("/filters", "/weights")):
            references.close(decayed[path] - without[path], -0.5 * 0.1 * v, "network", dtype="float32")
        else:
            assert np.any(v) and np.array_equal(decayed[path], without[path])


@pytest.mark.parametrize("statistics", [True, False])
def test_averages_by_hand(statistics):
    """a ← d·a + (1 − d)·w with d = min(average, (1 + n)/(10 + n)), of batch-norm statistics, too."""
    net = small.network(seed=1)
    recipe = dataclasses.replace(PLAIN, average=0.2, average_statistics=statistics)
    training = Training(net, recipe, compile="graph")
    averaged = net.variables if statistics else net.trained_variables
    expected = {path: v.numpy().astype(np.float64) for path, v in averaged.items()}
    assert {"conv1/bn/mean", "conv1/bn/variance"} <= {*net.variables} - {*net.trained_variables}
    for step, d in enumerate((0.1, 2 / 11, 0.2, 0.2)):
        training._step(IMAGES, LABELS, tf.constant([0, step]), tf.constant(0.1))
        expected = {path: d * a + (1 - d) * net.variables[path].numpy() for path, a in expected.items()}
    assert {*training.state.averages} == {*expected}
    for path, value in expected.items():
        references.close(training.state.averages[path], value, "gradient")
        assert training.evaluation_variables[path] is training.state.averages[path]
    if not statistics:
        assert training.evaluation_variables["conv1/bn/mean"] is net.variables["conv1/bn/mean"]


def test_the_constants_of_rmsprop_are_the_recipes():
    """Two steps of softmax regression by hand: s ← d·s + (1 − d)·g², v ← m·v + η·g/√(s + ε), w ← w − v, clipped."""
    net = Network("linear", lambda net, images: dense(net, "fc", images, 10), size=8, classes=10, seed=1)
    recipe = dataclasses.replace(
        PLAIN, optimizer="rmsprop", momentum=0.7, decay=0.8, epsilon=0.01, clip=0.3, weight_decay=0.0
    )
    x = IMAGES.numpy().reshape(16, -1).astype(np.float64)
    y = np.eye(10)[LABELS.numpy()]
    w = [net.variables[f"fc/{leaf}"].numpy().astype(np.float64) for leaf in ("weights", "bias")]
    s, v = [1.0, 1.0], [0.0, 0.0]
    training = Training(net, recipe, compile="graph")
    for step in range(2):
        powers = np.exp(x @ w[0] + w[1])
        difference = powers / powers.sum(1, keepdims=True) - y
        g = [x.T @ difference / 16, difference.mean(0)]
        norm = np.sqrt(sum((part**2).sum() for part in g))
        assert norm > 0.3
        g = [part * 0.3 / norm for part in g]
        s = [0.8 * old + 0.2 * part**2 for old, part in zip(s, g, strict=True)]
        v = [0.7 * old + 0.5 * part / np.sqrt(m + 0.01) for old, part, m in zip(v, g, s, strict=True)]
        w = [old - part for old, part in zip(w, v, strict=True)]
        training._step(IMAGES, LABELS, tf.constant([0, step]), tf.constant(0.5))
    for leaf, value in zip(("weights", "bias"), w, strict=True):
        references.close(net.variables[f"fc/{leaf}"], value, "gradient")


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True, pad=1),
        Augmentation(shift=1, lighting=0.1),
        Augmentation(crop=8, jitter=(8, 9), color_jitter=0.4),
    ],
)
def test_a_step_trains_on_augmented_images(augmentation):
    """It is the step of a recipe without augmentation on images that were distorted before."""
    net, seed = small.network(seed=1), (3, 7)
    new, *_ = one_step(net, dataclasses.replace(PLAIN, augmentation=augmentation), seed)
    distorted = augment(IMAGES, tf.constant(seed), augmentation)
    assert np.any(distorted.numpy() != IMAGES.numpy())
    expected, *_ = one_step(net, PLAIN, seed, distorted)
    for path, value in expected.items():
        references.close(new[path], value, "network", dtype="float32")


def test_clipping_scales_all_gradients_by_one_factor():
    free, *_, metrics = one_step(small.network(seed=1), PLAIN)
    norm = float(metrics["gradient_norm"])
    clipped, *_, clipped_metrics = one_step(small.network(seed=1), dataclasses.replace(PLAIN, clip=norm / 4))
    references.close(clipped_metrics["gradient_norm"], norm)  # as it was before
    for path, v in small.network(seed=1).trained_variables.items():
        references.close(4 * (clipped[path] - v), free[path] - v, "network", dtype="float32")


@pytest.mark.sample("nesterov")
@pytest.mark.parametrize("recipe", [RECIPE, RMSPROP], ids=["nesterov", "rmsprop"])
def test_xla_takes_the_step_of_the_graph(recipe):
    results = []
    for mode in ("graph", "xla", "eager"):
        training = Training(small.network(seed=1, auxiliary=True), recipe, compile=mode)
        metrics = training._step(IMAGES, LABELS, tf.constant([0, 0]), tf.constant(0.1))
        results.append({**state(training), **{name: value.numpy() for name, value in metrics.items()}})
    for other in results[1:]:
        for name, value in results[0].items():
            references.close(other[name], value, "network")


def test_bfloat16_steps_and_keeps_float32():
    net = small.network(seed=1, precision="bfloat16")
    training = Training(net, RMSPROP)
    before = state(training)
    metrics = training._step(IMAGES, LABELS, tf.constant([0, 0]), tf.constant(0.1))
    assert math.isfinite(float(metrics["loss"]))
    after = state(training)
    assert {value.dtype for value in after.values()} == {np.dtype("float32")}
    assert [path for path in after if np.array_equal(before[path], after[path])] == []


# Runs --------------------------------------------------------------------------------------------------------


def test_loss_falls_on_digits(data):
    recipe = dataclasses.replace(RECIPE, batch=16, epochs=6, label_smoothing=0.0, augmentation=Augmentation())
    training = Training(small.network(rate=0.0), recipe, compile="graph")
    steps: list[tuple] = []
    epochs: list[dict[str, float]] = []
    result = training.fit(data, on_step=lambda *told: steps.append(told), on_epoch=epochs.append)
    assert [told[:2] for told in steps] == [(i, 16) for i in range(1, 17)] * 6
    assert [told[2]["step"] for told in steps] == list(range(96))
    assert epochs == training.history and [summary["epoch"] for summary in epochs] == list(range(1, 7))
    assert epochs[-1]["train_loss"] < 0.6 * epochs[0]["train_loss"]
    assert result.accuracy == epochs[-1]["test_accuracy"] > 0.5  # chance is .1
    # One cycle of 96 steps: from .01 to .1 in the first quarter, then down to 0
    rates = [0.01 + 0.09 * n / 24 if n < 24 else 0.1 * (96 - n) / 72 for n in range(96)]
    assert [told[2]["rate"] for told in steps] == pytest.approx(rates)
    assert [summary["rate"] for summary in epochs] == pytest.approx(rates[15::16])


def test_each_epoch_has_an_order_and_each_step_a_seed_of_its_own(data, monkeypatch):
    orders, seeds = [], []
    original = type(data).batches

    def batches(self, split, batch, **settings):
        if split == "train":
            orders.append((settings["seed"], settings["epoch"]))
        return original(self, split, batch, **settings)

    training = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), seed=3)
    step = training._step

    def watched(images, labels, seed, rate):
        seeds.append(seed.numpy().tolist())
        return step(images, labels, seed, rate)

    monkeypatch.setattr(type(data), "batches", batches)
    monkeypatch.setattr(training, "_step", watched)
    training.fit(data)
    assert orders == [(3, 0), (3, 1)]
    assert seeds == [[3, i] for i in range(8)]


@pytest.mark.deeper
def test_different_seeds_train_differently(data):
    ends = []
    for seed in (1, 2):
        training = Training(small.network(seed=5), dataclasses.replace(RECIPE, epochs=1), seed=seed)
        training.fit(data)
        ends.append(state(training))
    assert any(np.any(ends[0][path] != ends[1][path]) for path in ends[0])


def test_rmsprop_with_averages_and_clipping_trains(data):
    training = Training(small.network(), dataclasses.replace(RMSPROP, rate=0.3, epochs=6), compile="graph")
    result = training.fit(data)
    assert training.history[-1]["train_loss"] < training.history[0]["train_loss"]
    for path, average in training.state.averages.items():
        assert np.any(average.numpy() != training.network.variables[path].numpy()), path
        assert training.evaluation_variables[path] is average
    assert result.accuracy > 0.2


def test_a_loss_that_is_no_number_without_a_checkpoint(data):
    net = small.network()
    net.variables["classifier/bias"].assign(tf.fill(10, math.nan))
    with pytest.raises(TrainingFailed, match=r"the loss is nan at step 0 \(epoch 1, .*there is no checkpoint"):
        Training(net, RECIPE).fit(data)


def test_fewer_images_than_a_batch(data):
    training = Training(small.network(), dataclasses.replace(RECIPE, batch=1000))
    with pytest.raises(ValueError, match="a part of digits has 256 training images, fewer than a batch of 1000"):
        training.fit(data)


@pytest.mark.parametrize(
    "changes, classes, message",
    [
        ({}, 7, "a part of digits has 10 classes, but linear was built for 7; give it --classes 10"),
        ({"size": 9}, 10, r"linear was built for images of 9×9 pixels; those of a part of digits have 8×8, and "),
        ({"crop": 9}, 10, r"a crop of \(9, 9\) does not fit into images of \(8, 8\)"),
        ({"crop": 7}, 10, "linear was built for images of 8×8 pixels; those of a part of digits have 7×7, and "),
        ({"splits": ("train",)}, 10, "a part of digits has no test images; a training needs training images and"),
        ({"splits": ("test",)}, 10, "a part of digits has no training images; a training needs training images and"),
    ],
    ids=["classes", "size", "large crop", "small crop", "no test", "no train"],
)
def test_data_that_does_not_suit_is_refused_before_the_work(tmp_path, data, changes, classes, message):
    size, folder = changes.get("size", 8), tmp_path / "run"
    net = Network("linear", lambda net, images: dense(net, "fc", images, classes), size=size, classes=classes)
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(crop=changes.get("crop")))
    splits = {name: data.splits[name] for name in changes.get("splits", data.splits)}
    with pytest.raises(ValueError, match=message):
        Training(net, recipe, folder=folder).fit(dataclasses.replace(data, splits=splits))
    assert not folder.exists()


def test_larger_images_are_cropped_to_the_network(digits):
    """In training by the recipe, in evaluation at the centre."""
    net = Network("linear", lambda net, images: dense(net, "fc", images, 10), size=6, classes=10)
    recipe = dataclasses.replace(RECIPE, epochs=1, augmentation=Augmentation(crop=6))
    assert Training(net, recipe).fit(small.part(digits, 64, 64)).count == 64


@pytest.mark.parametrize(
    "number, remedy", [(errno.ENOSPC, "free some space"), (errno.EACCES, "let this user write there")]
)
def test_curves_that_cannot_be_written_say_what_to_do(tmp_path, monkeypatch, number, remedy):
    def fail(path, content):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(plots, "write_atomic", fail)
    names = ("epoch", "rate", "train_loss", "test_loss", "train_accuracy", "test_accuracy")
    figure = plots.training_curves([dict.fromkeys(names, 1.0)])
    with pytest.raises(ValueError, match=rf"curves.png.*; {remedy} and run the same command again, or name another"):
        plots.save(figure, tmp_path / "curves.png")


def test_data_and_recipes_of_other_types_are_refused_in_one_line(digits):
    network, recipe = small.network(), RECIPE
    for data in ("digits", None, (np.zeros((2, 8, 8, 3)), [0, 1])):
        for call in (
            lambda data=data: Training(network, recipe).fit(data),
            lambda data=data: evaluate(network, data),
            lambda data=data: find_rate(network, recipe, data),
        ):
            with pytest.raises(ValueError, match=r"^the data is .*; expected a DataSet, such as") as error:
                call()
            assert "\n" not in str(error.value)
    for wrong in ("onecycle", None, {"rate": 0.1}):
        for call in (
            lambda wrong=wrong: Training(network, wrong),
            lambda wrong=wrong: find_rate(network, wrong, digits),
            lambda wrong=wrong: make_substitute(network, np.zeros((2, 8, 8, 3)), classes=10, recipe=wrong),
        ):
            with pytest.raises(ValueError, match=r"^recipe is .*; expected a Recipe, such as find_recipe"):
                call()
