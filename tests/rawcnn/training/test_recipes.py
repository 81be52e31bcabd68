"""The printed values of the recipes, the rate of each of their steps, and the schedules at their corners."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import Augmentation
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.layers import dense
from rawcnn.nn.network import Network
from rawcnn.optim.schedules import OnPlateau
from rawcnn.training import trainer
from rawcnn.training.recipes import RECIPES, learning_rate
from rawcnn.training.trainer import Training
from tests.rawcnn import small

AREA = (0.08, 1.0)
ZERO = {"weight_decay": 0.0, "label_smoothing": 0.0, "clip": None, "average": None, "auxiliary_weight": 0.0}
SLIM = {"optimizer": "rmsprop", "decay": 0.9, "epsilon": 1.0, "label_smoothing": 0.1, "clip": 2.0, "average": 0.9999}

# name: batch, epochs, largest rate, optimizer, weight decay, other values than those of ZERO, augmentation
PRINTED = {
    "alexnet2012": (128, 90, 0.01, "momentum", 5e-4, {}, {"flip": True, "crop": 224, "lighting": 0.1}),
    "vgg2014": (
        256, 74, 0.01, "momentum", 5e-4, {}, {"flip": True, "crop": 224, "jitter": (256, 512), "lighting": 0.1}
    ),
    "googlenet2014": (
        32, 250, 0.01, "momentum", 2e-4, {"average": 0.9999, "auxiliary_weight": 0.3},
        {"flip": True, "crop": 224, "area": AREA},
    ),
    "bn_inception2015": (32, 150, 0.045, "momentum", 4e-5, {}, {"flip": True, "crop": 224, "area": AREA}),
    "inception_v3_2015": (
        32, 100, 0.045, "rmsprop", 4e-5, {**SLIM, "auxiliary_weight": 0.4}, {"flip": True, "crop": 299, "area": AREA}
    ),
    "resnet2015": (
        256, 120, 0.1, "momentum", 1e-4, {}, {"flip": True, "crop": 224, "jitter": (256, 480), "lighting": 0.1}
    ),
    "resnet2015_cifar": (128, 164, 0.1, "momentum", 1e-4, {}, {"flip": True, "pad": 4}),
    "resnet2015_cifar110": (128, 164, 0.1, "momentum", 1e-4, {}, {"flip": True, "pad": 4}),
    "resnext2016": (
        256, 100, 0.1, "nesterov", 1e-4, {"decay_all": True},
        {"flip": True, "crop": 224, "area": AREA, "lighting": 0.1, "color_jitter": 0.4},
    ),
    "senet2017": (1024, 100, 0.6, "momentum", 1e-4, {}, {"flip": True, "crop": 224, "area": AREA}),
    "nasnet2017": (
        32, 100, 0.045, "rmsprop", 4e-5, {**SLIM, "auxiliary_weight": 0.4}, {"flip": True, "crop": 331, "area": AREA}
    ),
    "onecycle": (128, 15, 0.2, "nesterov", 5e-4, {"label_smoothing": 0.1}, {"flip": True, "pad": 4}),
    "digits": (64, 30, 0.1, "nesterov", 5e-4, {"label_smoothing": 0.1}, {"shift": 1}),
}  # fmt: skip
# The switches of an augmentation, off
OFF = {
    "flip": False, "pad": 0, "shift": 0, "crop": None, "area": None, "jitter": None, "lighting": 0.0,
    "color_jitter": 0.0,
}  # fmt: skip


def test_every_recipe_is_in_the_table():
    assert set(RECIPES) == set(PRINTED)


@pytest.mark.parametrize("name", RECIPES)
def test_printed_values(name):
    """Every field of every recipe but the schedule, which `test_every_rate_by_hand` checks."""
    batch, epochs, rate, optimizer, weight_decay, others, augmentation = PRINTED[name]
    expected = {
        "name": name, "batch": batch, "epochs": epochs, "rate": rate, "optimizer": optimizer, "momentum": 0.9,
        "decay": 0.9, "epsilon": 1.0, **ZERO, "weight_decay": weight_decay, "average_statistics": True,
        "auxiliary_smoothing": True, "decay_all": False, "gradients": "tape", **others,
        "augmentation": {**OFF, **augmentation},
    }  # fmt: skip
    found = dataclasses.asdict(RECIPES[name])
    assert found.pop("source")
    del found["schedule"]
    assert {*found} == {*expected}
    for field, value in expected.items():
        assert found[field] == (pytest.approx(value) if isinstance(value, float) else value), field


@pytest.mark.parametrize("name", RECIPES)
def test_rates_are_positive_and_at_most_the_largest(name):
    r = RECIPES[name]
    rates = [learning_rate(r, r.epochs * i / 500) for i in range(500)]
    assert all(0 < rate <= r.rate * (1 + 1e-9) for rate in rates)
    assert max(rates) == pytest.approx(r.rate)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_be_saved(name):
    saved = dataclasses.asdict(RECIPES[name])
    assert json.loads(json.dumps(saved))["batch"] == RECIPES[name].batch


def test_digits_are_not_mirrored():
    assert RECIPES["digits"].augmentation.shift == 1 and not RECIPES["digits"].augmentation.flip


# Learning rates ----------------------------------------------------------------------------------------------


def plateaus(rate: float, epochs: int) -> list[float]:
    """The rate of each epoch if the error falls in ten epochs and then stays: it drops after 3, 6 and 9 more."""
    return [rate] * 13 + [rate / 10] * 3 + [rate / 100] * 3 + [rate / 1000] * (epochs - 19)


def halves(rate: float, epochs: int, top: float) -> list[float]:
    """One cycle, two steps per epoch: from a tenth of the rate up to it at epoch `top`, then down to 0 at the end."""
    steps = [step / 2 for step in range(2 * epochs)]
    return [
        rate * (0.1 + 0.9 * epoch / top) if epoch < top else rate * (epochs - epoch) / (epochs - top) for epoch in steps
    ]


# The rate of each epoch, or of both of its steps
BY_HAND = {
    "alexnet2012": plateaus(0.01, 90),
    "vgg2014": plateaus(0.01, 74),
    "googlenet2014": [0.01 * 0.96**drops for drops in range(31) for _ in range(8)] + [0.01 * 0.96**31] * 2,
    "bn_inception2015": [0.045 * 0.96 ** (3 * step // 8) for step in range(300)],  # a drop every 4/3 epochs
    "inception_v3_2015": [0.045 * 0.94**drops for drops in range(50) for _ in range(2)],
    "resnet2015": plateaus(0.1, 120),
    "resnet2015_cifar": [0.1] * 82 + [0.01] * 41 + [0.001] * 41,
    "resnet2015_cifar110": [0.01] + [0.1] * 81 + [0.01] * 41 + [0.001] * 41,
    "resnext2016": [0.1] * 30 + [0.01] * 30 + [0.001] * 30 + [0.0001] * 10,
    "senet2017": [0.6] * 30 + [0.06] * 30 + [0.006] * 30 + [0.0006] * 10,
    "nasnet2017": [0.045 * 0.94**drops for drops in range(50) for _ in range(2)],
    "onecycle": halves(0.2, 15, 3.75),
    "digits": halves(0.1, 30, 7.5),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_rate_by_hand(name, digits, monkeypatch):
    """The rate that each step gets, in a run of the whole recipe in which steps and evaluations compute nothing."""
    recipe = dataclasses.replace(RECIPES[name], batch=4, augmentation=Augmentation())
    data = small.part(digits, 8, 8)
    data = dataclasses.replace(data, splits={**data.splits, "validation": data.splits["test"]})
    network = Network("linear", lambda net, images: dense(net, "fc", images, 10), size=8, classes=10)
    training, rates = Training(network, recipe, compile="graph"), []
    batch = [tf.constant(part) for part in data.arrays("train")]
    metrics = {name: tf.constant(1.0) for name in ("loss", "accuracy", "gradient_norm")}

    def step(images, labels, seed, rate):
        rates.append(float(rate))
        return metrics

    def evaluate(network, data, split, **_):
        correct = min(training.epoch, 9) + 1  # of 100
        return Evaluation(100, correct, correct, 1.0, np.zeros(100, np.int32), np.zeros(100, np.int32))

    monkeypatch.setattr(DataSet, "batches", lambda self, *_, **settings: iter([batch, batch]))
    monkeypatch.setattr(training, "_step", step)
    monkeypatch.setattr(trainer, "evaluate", evaluate)
    training.fit(data)
    per_epoch = len(rates) // len(BY_HAND[name])
    expected = [rate for rate in BY_HAND[name] for _ in range(per_epoch)]
    assert len(rates) == 2 * recipe.epochs == len(expected)
    assert rates == pytest.approx(expected, rel=1e-6)
    assert [summary["rate"] for summary in training.history] == pytest.approx(expected[1::2], rel=1e-6)


def test_rates_between_two_and_many_steps():
    """CIFAR's drops are at 32,000 and 48,000 of 64,000 steps, and an epoch has 390."""
    r = RECIPES["resnet2015_cifar"]
    steps = (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    rates = [learning_rate(r, step / 64_000 * r.epochs) for step in steps]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert r.epochs * 50_000 / r.batch == pytest.approx(64_000, rel=2e-3)
    assert [learning_rate(RECIPES["resnet2015_cifar110"], e) for e in (0.99, 1)] == pytest.approx([0.01, 0.1])
    assert [learning_rate(RECIPES["senet2017"], e) for e in (29.99, 30)] == pytest.approx([0.6, 0.06])
    assert learning_rate(RECIPES["onecycle"], 15) == learning_rate(RECIPES["onecycle"], 16) == 0


def test_on_plateau_drops_as_often_as_it_may():
    rates = [OnPlateau(0.5, most=2)(7.5, 10, drops) for drops in range(4)]
    assert rates == [1, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    "field, value",
    [
        ("batch", 0),
        ("batch", 1.5),
        ("epochs", 0),
        ("rate", math.nan),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("label_smoothing", 1.0),
        ("clip", 0.0),
        ("average", 1.0),
        ("optimizer", "adam"),
    ],
)
def test_numbers_that_cannot_be(field, value):
    with pytest.raises(ValueError, match=f"{field} of the recipe onecycle is .*; expected"):
        dataclasses.replace(RECIPES["onecycle"], **{field: value})
