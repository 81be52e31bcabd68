"""Training by gradients that are written out: the same steps as with the tape's gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.nn.execution import Choice
from rawcnn.training.recipes import find_recipe
from rawcnn.training.step import State, TrainStep, make_step
from rawcnn.training.trainer import Training
from tests import references
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, assert_identical, state

STEPS = 20
AGREE = {"float64": 1e-9, "float32": 1e-4}  # of each loss


def first_losses(network, recipe, data, mode: str) -> np.ndarray:
    """The losses of the first steps, with the recipe's augmentation."""
    step = make_step(network, recipe, State.begin(network, recipe), Choice(mode, ""))
    losses = []
    for number, (images, labels) in zip(range(STEPS), endless(data, recipe.batch), strict=False):
        metrics = step(images, labels, tf.constant([0, number]), tf.constant(recipe.rate / 10))
        losses.append(float(metrics["loss"]))
    return np.array(losses)


def endless(data, batch):
    for epoch in range(STEPS):
        yield from data.batches("train", batch, epoch=epoch, drop_remainder=True)


@pytest.mark.sample("^float64$")
@pytest.mark.parametrize("precision", AGREE)
def test_first_losses_on_digits_agree(precision, digits):
    recipe = replace(find_recipe("digits"), batch=32, weight_decay=1e-3, label_smoothing=0.1, auxiliary_weight=0.3)
    tape, hand = (
        first_losses(
            small.network(precision=precision, auxiliary=True), replace(recipe, gradients=gradients), digits, "graph"
        )
        for gradients in ("tape", "hand")
    )
    assert len(tape) == STEPS and tape[-5:].mean() < tape[:5].mean()
    assert np.max(np.abs(hand - tape) / tape) <= AGREE[precision]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_first_losses_of_a_residual_network_on_digits_agree(mode, digits):
    """In float64 alone: at this rate, 20 layers of batch norm turn float32 rounding into percents in 20 steps."""
    recipe = find_recipe("digits")
    tape, hand = (
        first_losses(
            rawcnn.create("cifar_resnet20", classes=10, size=8, precision="float64"),
            replace(recipe, gradients=gradients),
            digits,
            mode,
        )
        for gradients in ("tape", "hand")
    )
    assert np.max(np.abs(hand - tape) / tape) <= AGREE["float64"]


def test_a_step_has_the_values_of_the_tape():
    """Variables, statistics, slots and averages, of a network with batch norm, dropout and an auxiliary head."""
    images = references.random((16, 8, 8, 3), 0, "float64", low=0.0)
    results = []
    for gradients in ("tape", "hand"):
        recipe = replace(RECIPE, gradients=gradients, auxiliary_weight=0.5, average=0.9, clip=0.1)
        network = small.network(precision="float64", auxiliary=True)
        before = State.begin(network, recipe).tensors()
        arguments = tf.range(16) % 10, tf.constant([3, 7]), tf.constant(0.1)
        results.append(TrainStep(network, recipe).update(before, images, *arguments))
    (tape, tape_metrics), (hand, hand_metrics) = results
    for group, expected in zip(hand.groups, tape.groups, strict=True):
        assert group.keys() == expected.keys()
        for path, value in group.items():
            references.close(value, expected[path], "gradient")
    for name, value in hand_metrics.items():
        references.close(value, tape_metrics[name], "gradient")


@pytest.mark.slow
def test_a_run_resumes_with_its_own_gradients(tmp_path, digits):
    data, recipe = small.part(digits, 128, 64), replace(RECIPE, gradients="hand", epochs=2)
    complete = Training(small.network(), recipe)
    complete.fit(data)
    Training(small.network(), replace(recipe, epochs=1), folder=tmp_path).fit(data)
    resumed = Training(small.network(), recipe, folder=tmp_path)
    assert resumed.restore() and resumed.epoch == 1
    resumed.fit(data)
    assert resumed.history[-1]["epoch"] == 2 and set(state(resumed)) == set(state(complete))
    other = Training(small.network(), replace(recipe, gradients="tape"), folder=tmp_path)
    with pytest.raises(ValueError, match=r"was started with gradients 'hand', not 'tape'; resume it with its own"):
        other.restore()
    again = Training(small.network(), recipe, folder=tmp_path)
    again.restore()
    assert_identical(state(again), state(resumed))


def test_a_recipe_names_its_gradients():
    with pytest.raises(ValueError, match="gradients of the recipe test is 'numeric'; expected 'tape' or 'hand'"):
        replace(RECIPE, gradients="numeric")


@pytest.mark.slow
def test_the_command_line_trains_by_hand(tmp_path, rawcnn_command):
    words = ("train", "cifar_resnet20", "--gradients", "hand", "--epochs", 1, "--batch", 512, "--no-tensorboard")
    code, _, err = rawcnn_command(*words, "--output", tmp_path / "run")
    assert code == 0 and "gradients=hand" in err and (tmp_path / "run" / "weights.safetensors").exists()


def test_the_command_line_refuses_other_gradients(tmp_path, rawcnn_command):
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--gradients", "numeric", "--output", tmp_path / "run")
    assert code == 2 and len(err.strip().splitlines()) == 1 and "expected 'tape' or 'hand'" in err
    assert not (tmp_path / "run").exists()
