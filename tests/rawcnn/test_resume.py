"""Runs that go on exactly where they stopped, what they refuse to go on with, and what is left when one fails."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.recipes import OnPlateau
from rawcnn.train import Training, TrainingFailed
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, RMSPROP, assert_identical, state


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 256, 64)


class Stopped(Exception):
    """What a test raises to stop a run."""


@pytest.fixture(scope="module", params=[RECIPE, RMSPROP], ids=["nesterov", "rmsprop-ema-clip"])
def through(request, data):
    """A run that nothing stopped."""
    training = Training(small.network(seed=5), request.param, seed=9)
    training.fit(data)
    return training


def go_on(folder, through, data, epoch):
    """Resume the run in `folder`, from network values that do not matter, and compare its end with `through`."""
    resumed = Training(small.network(seed=6), through.recipe, seed=9, folder=folder)
    assert resumed.restore() and resumed.epoch == epoch
    resumed.fit(data)
    assert_identical(state(resumed), state(through))
    assert resumed.plateau == through.plateau
    for mine, theirs in zip(resumed.history, through.history, strict=True):
        assert {**mine, "images_per_second": 0} == {**theirs, "images_per_second": 0}


def test_a_run_stopped_and_resumed_ends_bit_identical(tmp_path, data, through):
    def stop(summary):
        if summary["epoch"] == 1:
            raise Stopped

    stopped = Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path)
    assert not stopped.restore()
    with pytest.raises(Stopped):
        stopped.fit(data, on_epoch=stop)
    go_on(tmp_path, through, data, 1)


def test_a_run_killed_in_an_epoch_repeats_that_epoch(tmp_path, data, through):
    def kill(step, steps, metrics):
        if metrics["step"] == 9:  # the second of the third epoch
            raise Stopped

    with pytest.raises(Stopped):
        Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path).fit(data, on_step=kill)
    go_on(tmp_path, through, data, 2)


def test_a_run_can_be_made_longer(tmp_path, data):
    trained(tmp_path, data, epochs=1)
    longer = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path)
    assert longer.restore()
    longer.fit(data)
    assert [summary["epoch"] for summary in longer.history] == [1, 2]


def test_plateau_goes_through_a_checkpoint(tmp_path, data):
    """The drops of the rate so far are a part of the state."""
    recipe = dataclasses.replace(RECIPE, schedule=OnPlateau(0.1), epochs=1)
    training = Training(small.network(), recipe, folder=tmp_path)
    training.fit(data)
    training.plateau = dataclasses.replace(training.plateau, drops=2)
    training.save()
    again = Training(small.network(), recipe, folder=tmp_path)
    assert again.restore() and again.plateau == training.plateau


# Failures ----------------------------------------------------------------------------------------------------


def trained(folder, data, recipe=RECIPE, epochs=1):
    """A run of some epochs with its checkpoints in `folder`."""
    training = Training(small.network(), dataclasses.replace(recipe, epochs=epochs), folder=folder)
    training.fit(data)
    return training


@pytest.mark.parametrize(
    "network, recipe, seed, message",
    [
        ({}, RECIPE, 4, "was started with seed 0, not 4; go on with its settings, or start anew in another folder"),
        ({}, dataclasses.replace(RECIPE, rate=0.2, batch=32), 0, "with batch 64, not 32, rate 0.1, not 0.2;"),
        ({}, RMSPROP, 0, "optimizer 'nesterov', not 'rmsprop'"),
        ({"classes": 7}, RECIPE, 0, "classes 10, not 7"),
        ({"auxiliary": True}, RECIPE, 0, r"parameters [\d,]+, not [\d,]+;"),
        ({"precision": "bfloat16"}, RECIPE, 0, "precision 'float32', not 'bfloat16'"),
    ],
    ids=["seed", "recipe", "optimizer", "classes", "layers", "precision"],
)
def test_a_checkpoint_of_another_run(tmp_path, data, network, recipe, seed, message):
    trained(tmp_path, data)
    other = Training(small.network(seed=3, **network), recipe, seed=seed, folder=tmp_path)
    before = state(other)
    with pytest.raises(ValueError, match=message):
        other.restore()
    assert other.epoch == 0 and other.history == []
    assert_identical(state(other), before)


@pytest.mark.parametrize(
    "options, message",
    [({"zeros": "end"}, "zeros 'both', not 'end'"), ({"shortcut": "B"}, "shortcut 'A', not 'B'")],
)
def test_a_checkpoint_of_a_network_with_other_options(tmp_path, options, message):
    """Also where all variables have the same names and shapes."""
    trained_on = functools.partial(rawcnn.create, "cifar_resnet20", size=8)
    first = Training(trained_on(), dataclasses.replace(RECIPE, epochs=1), folder=tmp_path)
    first.save()
    with pytest.raises(ValueError, match=message):
        Training(trained_on(**options), RECIPE, folder=tmp_path).restore()


def test_a_run_on_other_images(tmp_path, data):
    trained(tmp_path, data)
    files = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    other = dataclasses.replace(data, labels=tuple("abcdefghij"))
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore()
    with pytest.raises(ValueError, match=r"was trained on classes 0, 1, 2, .*, not a, b, c, "):
        again.fit(other)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == files


def damage(folder, number):
    (file,) = (folder / "checkpoints").glob(f"ckpt-{number}.data-*")
    file.write_bytes(file.read_bytes()[:100])


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, data):
    training = Training(small.network(), dataclasses.replace(RECIPE, epochs=1), folder=tmp_path)
    training.fit(data)
    good = state(training)
    longer = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path)
    longer.restore()
    longer.fit(data)
    damage(tmp_path, 2)
    again = Training(small.network(seed=1), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert [path[-6:] for path in again.damaged] == ["ckpt-2"]
    assert_identical(state(again), good)


def test_only_damaged_checkpoints(tmp_path, data):
    trained(tmp_path, data)
    damage(tmp_path, 1)
    fresh = Training(small.network(), RECIPE, folder=tmp_path)
    before = state(fresh)
    with pytest.raises(ValueError, match=r"the checkpoints .*-1 are damaged; .*--fresh"):
        fresh.restore()
    assert fresh.epoch == 0
    assert_identical(state(fresh), before)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, data):
    good = {}

    def poison(summary):
        if summary["epoch"] == 2:
            good.update(state(training))
            training.network.variables["classifier/bias"].assign(tf.fill(10, math.nan))

    training = Training(small.network(), RECIPE, folder=tmp_path)
    with pytest.raises(TrainingFailed, match=r"loss is nan at step 8 \(epoch 3, .*last good checkpoint is .*-2"):
        training.fit(data, on_epoch=poison)
    again = Training(small.network(seed=1), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 2
    assert_identical(state(again), good)
    assert math.isfinite(again.fit(data).loss)


def test_a_variable_that_is_no_number_is_not_saved(tmp_path, data):
    """Whether or not the loss tells."""

    def poison(summary):
        training.network.variables["conv2/bias"].assign(tf.fill(16, math.nan))

    training = Training(small.network(), RECIPE, folder=tmp_path)
    with pytest.raises(TrainingFailed, match=r"(the loss is nan|conv2/bias holds numbers that) .*checkpoint is .*-1\."):
        training.fit(data, on_epoch=poison)
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert all(np.isfinite(value).all() for value in state(again).values())


def test_a_full_disk_names_the_last_checkpoint_and_loses_nothing(tmp_path, data, monkeypatch):
    training = trained(tmp_path, data)
    good = state(training)
    files = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}

    def no_space(*args, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "part-00; No space left on device")

    longer = Training(small.network(), RECIPE, folder=tmp_path)
    longer.restore()
    monkeypatch.setattr(longer._manager, "save", no_space)
    with pytest.raises(
        TrainingFailed,
        match=r"epoch 2 could not be written .*No space left.*last good checkpoint is .*-1\. Free some space",
    ):
        longer.fit(data)
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()} == files
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert_identical(state(again), good)
