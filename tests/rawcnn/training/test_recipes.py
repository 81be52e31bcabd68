"""The printed numbers of the recipes, and their learning rates."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from rawcnn.training.recipes import RECIPES, learning_rate

# name: batch, rate at epoch 0, momentum, weight decay, label smoothing, clip, auxiliary weight
PRINTED = {
    "alexnet2012": (128, 0.01, 0.9, 5e-4, 0, None, 0),
    "vgg2014": (256, 0.01, 0.9, 5e-4, 0, None, 0),
    "googlenet2014": (32, 0.01, 0.9, 2e-4, 0, None, 0.3),
    "bn_inception2015": (32, 0.045, 0.9, 4e-5, 0, None, 0.3),
    "inception_v3_2015": (32, 0.045, 0.9, 4e-5, 0.1, 2.0, 0.4),
    "resnet2015": (256, 0.1, 0.9, 1e-4, 0, None, 0),
    "resnet2015_cifar": (128, 0.1, 0.9, 1e-4, 0, None, 0),
    "resnet2015_cifar110": (128, 0.01, 0.9, 1e-4, 0, None, 0),
    "resnext2016": (256, 0.1, 0.9, 1e-4, 0, None, 0),
    "senet2017": (1024, 0.6, 0.9, 1e-4, 0, None, 0),
    "nasnet2017": (32, 0.045, 0.9, 4e-5, 0.1, 2.0, 0.4),
    "onecycle": (128, 0.02, 0.9, 5e-4, 0.1, None, 0),
    "digits": (64, 0.01, 0.9, 5e-4, 0.1, None, 0),
}


def test_every_recipe_is_in_the_table():
    assert set(RECIPES) == set(PRINTED)


@pytest.mark.parametrize("name", RECIPES)
def test_printed_numbers(name):
    r = RECIPES[name]
    assert r.name == name and r.source
    batch, first_rate, momentum, weight_decay, smoothing, clip, auxiliary = PRINTED[name]
    assert (r.batch, r.momentum, r.clip) == (batch, momentum, clip)
    assert learning_rate(r, 0) == pytest.approx(first_rate)
    assert (r.weight_decay, r.label_smoothing) == pytest.approx((weight_decay, smoothing))
    assert r.auxiliary_weight == auxiliary


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


def test_plateau_recipes_drop_three_times():
    for name in ("alexnet2012", "vgg2014", "resnet2015"):
        rates = [learning_rate(RECIPES[name], 5.5, drops) / RECIPES[name].rate for drops in range(5)]
        assert rates == pytest.approx([1, 0.1, 0.01, 0.001, 0.001])


def test_cifar_drops_at_32k_and_48k_of_64k_steps():
    r = RECIPES["resnet2015_cifar"]
    steps = (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    rates = [learning_rate(r, step / 64_000 * r.epochs) for step in steps]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert r.epochs * 50_000 / r.batch == pytest.approx(64_000, rel=2e-3)


def test_cifar110_warms_up_for_an_epoch():
    r = RECIPES["resnet2015_cifar110"]
    assert [learning_rate(r, e) for e in (0, 0.99, 1, 100)] == pytest.approx([0.01, 0.01, 0.1, 0.01])


def test_senet_drops_every_30_epochs():
    r = RECIPES["senet2017"]
    assert [learning_rate(r, e) for e in (29.9, 30, 60, 90)] == pytest.approx([0.6, 0.06, 0.006, 0.0006])


def test_inception_stairs():
    r = RECIPES["inception_v3_2015"]
    rates = [learning_rate(r, e) / r.rate for e in (0, 1.99, 2, 5)]
    assert rates == pytest.approx([1, 1, 0.94, 0.94**2])
    r = RECIPES["googlenet2014"]
    assert learning_rate(r, 8) == pytest.approx(0.01 * 0.96)
    six_times_faster = RECIPES["bn_inception2015"].schedule
    assert six_times_faster(8.01, 150) == pytest.approx(0.96**6)


def test_one_cycle_rises_and_falls_to_nothing():
    r = RECIPES["onecycle"]
    top = r.epochs / 4
    assert learning_rate(r, top) == pytest.approx(r.rate)
    assert learning_rate(r, top / 2) == pytest.approx(r.rate * 0.55)
    assert learning_rate(r, (top + r.epochs) / 2) == pytest.approx(r.rate / 2)
    assert learning_rate(r, r.epochs) == learning_rate(r, r.epochs + 1) == 0


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
