"""Runs resume exactly where they stopped, refuse other runs' checkpoints, and keep the last good one."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.data.augmentation import Augmentation
from rawcnn.files.locks import exclusive_folder
from rawcnn.nn.layers import dense
from rawcnn.nn.network import Network
from rawcnn.optim.schedules import Constant, OnPlateau
from rawcnn.training import trainer as train
from rawcnn.training.trainer import Stopped, Training, TrainingFailed
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, RMSPROP, assert_identical, files_of, state, trained


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 256, 64)


pytestmark = pytest.mark.sample("^(?!.*nesterov)")  # the other recipe has all that this one has, and more


class Killed(BaseException):
    """Raised by a test to end a run at once."""


@pytest.fixture(scope="module", params=[RECIPE, RMSPROP], ids=["nesterov", "rmsprop-ema-clip"])
def through(request, data):
    """An uninterrupted run."""
    training = Training(small.network(seed=5), request.param, seed=9)
    training.fit(data)
    return training


def go_on(folder, through, data, epoch):
    """Resume the run in `folder` with another initial network, and compare its end with `through`."""
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
            raise Killed

    stopped = Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path)
    assert not stopped.restore()
    with pytest.raises(Killed):
        stopped.fit(data, on_epoch=stop)
    go_on(tmp_path, through, data, 1)


def test_a_run_killed_in_an_epoch_repeats_that_epoch(tmp_path, data, through):
    def kill(step, steps, metrics):
        if metrics["step"] == 9:  # the second of the third epoch
            raise Killed

    with pytest.raises(Killed):
        Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path).fit(data, on_step=kill)
    go_on(tmp_path, through, data, 2)


@pytest.mark.sample("rmsprop.*-7$")
@pytest.mark.parametrize("last", [0, 5, 7, 14])
def test_a_run_that_was_asked_to_stop_goes_on_in_the_epoch(tmp_path, data, through, last):
    """After the first step, in the middle, after an epoch's last step and near the end; no step is taken twice."""

    def ask(step, steps, metrics):
        taken.append(metrics["step"])
        if metrics["step"] == last:
            training.stop()

    taken: list[int] = []
    training = Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path, save_every=0)
    with pytest.raises(Stopped):
        training.fit(data, on_step=ask)
    assert taken[-1] in (last, last + 1)
    done = len(taken)
    resumed = Training(small.network(seed=6), through.recipe, seed=9, folder=tmp_path)
    assert resumed.restore() and 4 * resumed.epoch + resumed.at.steps == done
    resumed.fit(data, on_step=ask)
    assert taken == list(range(16))
    assert_identical(state(resumed), state(through))
    assert [{**h, "images_per_second": 0} for h in resumed.history] == [
        {**h, "images_per_second": 0} for h in through.history
    ]


def test_a_stop_while_the_epoch_is_evaluated(tmp_path, data, through, monkeypatch):
    training = Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path)
    original = train.evaluate

    def evaluate(*words, **settings):
        training.stop()
        return original(*words, **settings)

    monkeypatch.setattr(train, "evaluate", evaluate)
    with pytest.raises(Stopped):
        training.fit(data)
    monkeypatch.undo()
    resumed = Training(small.network(seed=6), through.recipe, seed=9, folder=tmp_path)
    assert resumed.restore() and (resumed.epoch, resumed.at.steps) == (0, 4)
    resumed.fit(data)
    assert_identical(state(resumed), state(through))


STAGES = ("mkdir", "write", "write_bytes", "rename", "rmtree")  # of a save, in their order


@pytest.mark.sample("rmsprop.*after-write_bytes")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_killed_in_a_save_has_a_whole_checkpoint(tmp_path, data, through, monkeypatch, stage, after):
    """Between any two system calls; as after SIGKILL, no cleanup runs."""
    owner = {"write": tf.train.Checkpoint, "rmtree": shutil}.get(stage, Path)
    original, calls = getattr(owner, stage), []

    def killed(*words, **settings):
        if "checkpoints" not in str(words):
            return original(*words, **settings)
        calls.append(words)
        last = len(calls) == 4 * (2 if stage == "rmtree" else 1)
        if last and not after:
            raise Killed
        result = original(*words, **settings)
        if last:
            raise Killed
        return result

    monkeypatch.setattr(owner, stage, killed)
    training = Training(small.network(seed=5), through.recipe, seed=9, folder=tmp_path, save_every=0)
    with pytest.raises(Killed):
        training.fit(data)
    monkeypatch.undo()
    resumed = Training(small.network(seed=6), through.recipe, seed=9, folder=tmp_path)
    assert resumed.restore() and resumed.damaged == {}
    resumed.fit(data)
    assert_identical(state(resumed), state(through))
    assert not list((tmp_path / "checkpoints").glob(".*")) or stage != "rename"


def test_a_run_can_be_made_longer(tmp_path, data):
    trained(tmp_path, data, epochs=1)
    longer = Training(small.network(), dataclasses.replace(RECIPE, epochs=2), folder=tmp_path)
    assert longer.restore()
    longer.fit(data)
    assert [summary["epoch"] for summary in longer.history] == [1, 2]


def test_plateau_goes_through_a_checkpoint(tmp_path, data):
    """The learning-rate drops so far are part of the state."""
    recipe = dataclasses.replace(RECIPE, schedule=OnPlateau(0.1), epochs=1)
    training = Training(small.network(), recipe, folder=tmp_path)
    training.fit(data)
    training.progress.plateau = dataclasses.replace(training.plateau, drops=2)
    training.save()
    again = Training(small.network(), recipe, folder=tmp_path)
    assert again.restore() and again.plateau == training.plateau


# Failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network, recipe, seed, message",
    [
        (
            {},
            RECIPE,
            4,
            "was started with seed 0, not 4; resume it with its own settings, or start a new run",
        ),
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
    """Also if all variables have the same names and shapes."""
    trained_on = functools.partial(rawcnn.create, "cifar_resnet20", size=8)
    first = Training(trained_on(), dataclasses.replace(RECIPE, epochs=1), folder=tmp_path)
    first.save()
    with pytest.raises(ValueError, match=message):
        Training(trained_on(**options), RECIPE, folder=tmp_path).restore()


def test_within_an_epoch_a_checkpoint_is_written_every_so_often(tmp_path, data, monkeypatch):
    """With the patched clock, a step takes a minute, and so does a save."""
    minutes = itertools.count()
    monkeypatch.setattr(train.time, "monotonic", lambda: 60.0 * next(minutes))
    recipe = dataclasses.replace(RECIPE, batch=16, epochs=1)
    training = Training(small.network(), recipe, folder=tmp_path, save_every=150)
    saved, save = [], training.recovery.checkpoints.save
    monkeypatch.setattr(
        training.recovery.checkpoints, "save", lambda number, *rest: (saved.append(number), save(number, *rest))
    )
    training.fit(data)
    assert saved == [0, 3, 6, 9, 12, 15, 16]  # 0 before the first step, 16 at the end of the epoch


def test_two_processes_do_not_train_in_one_folder(tmp_path, data):
    """Each would delete what the other is about to rename. Locks belong to open files, so one process can test this."""
    with (
        exclusive_folder(tmp_path),
        pytest.raises(ValueError, match=r"another process writes in .*; wait for it, or name"),
    ):
        Training(small.network(), RECIPE, folder=tmp_path).fit(data)
    assert not (tmp_path / "checkpoints").exists()
    Training(small.network(), dataclasses.replace(RECIPE, epochs=1), folder=tmp_path).fit(data)


def test_a_run_that_another_process_took_further(tmp_path, data):
    """The run was restored before the other run wrote newer checkpoints."""
    trained(tmp_path, data)
    late, other = (Training(small.network(), RECIPE, folder=tmp_path) for _ in range(2))
    assert late.restore() and late.epoch == 1 and other.restore()
    other.fit(data)
    files = files_of(tmp_path)
    with pytest.raises(ValueError, match=r"another process has trained in .* meanwhile; run the same command again"):
        late.fit(data)
    assert files_of(tmp_path) == files
    assert late.restore() and late.epoch == RECIPE.epochs
    late.fit(data)


def test_a_run_does_not_become_shorter(tmp_path, data):
    trained(tmp_path, data, epochs=2)
    files = files_of(tmp_path)
    shorter = [dataclasses.replace(RECIPE, epochs=epochs) for epochs in (1, 2, 3)]
    with pytest.raises(ValueError, match="is in its epoch 2, but only 1 are requested; give --epochs 2 or more"):
        Training(small.network(), shorter[0], folder=tmp_path).restore()
    assert Training(small.network(), shorter[1], folder=tmp_path).restore() and files_of(tmp_path) == files
    training = Training(small.network(), shorter[2], folder=tmp_path)
    assert training.restore()
    training.progress.at = dataclasses.replace(training.at, steps=1)
    training.save()
    with pytest.raises(ValueError, match="is in its epoch 3, but only 2 are requested; "):
        Training(small.network(), shorter[1], folder=tmp_path).restore()


def test_a_test_loss_that_is_no_number_is_told(tmp_path, data, monkeypatch):
    """All steps and variables are finite: the epoch is not saved, the one before stands."""
    training = Training(small.network(), RECIPE, folder=tmp_path)
    trained(tmp_path, data)
    assert training.restore()
    real = train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda *a, **k: dataclasses.replace(real(*a, **k), loss=math.inf))
    with pytest.raises(
        TrainingFailed, match=r"loss of the test images is inf after epoch 2.*last good checkpoint is .*-4"
    ):
        training.fit(data)


def test_a_run_on_other_images(tmp_path, data):
    trained(tmp_path, data)
    files = files_of(tmp_path)
    other = dataclasses.replace(data, labels=tuple("abcdefghij"))
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore()
    with pytest.raises(ValueError, match=r"was trained on classes 0, 1, 2, .*, not a, b, c, "):
        again.fit(other)
    other_images = r"was trained on other images, of fingerprint \w{16}, not \w{16}; "
    with pytest.raises(ValueError, match=other_images):  # as many, of as many classes
        again.fit(data.only("train", np.random.default_rng(0).permutation(data.count("train"))))
    assert files_of(tmp_path) == files


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path, data):
    good = {}

    def poison(summary):
        if summary["epoch"] == 2:
            good.update(state(training))
            training.network.variables["classifier/bias"].assign(tf.fill(10, math.nan))

    training = Training(small.network(), RECIPE, folder=tmp_path)
    with pytest.raises(TrainingFailed, match=r"loss is nan at step 8 \(epoch 3, .*last good checkpoint is .*-8"):
        training.fit(data, on_epoch=poison)
    again = Training(small.network(seed=1), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 2
    assert_identical(state(again), good)
    assert math.isfinite(again.fit(data).loss)


def test_a_variable_that_is_no_number_is_not_saved(tmp_path, data):
    """Also if the loss stays finite."""

    def poison(summary):
        training.network.variables["conv2/bias"].assign(tf.fill(16, math.nan))

    training = Training(small.network(), RECIPE, folder=tmp_path)
    with pytest.raises(TrainingFailed, match=r"(the loss is nan|conv2/bias has values that) .*checkpoint is .*-4\."):
        training.fit(data, on_epoch=poison)
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert all(np.isfinite(value).all() for value in state(again).values())


def test_no_checkpoint_within_an_epoch_is_of_a_broken_network(tmp_path, data):
    """The loss may stay finite although a variable is not; the checkpoint before that remains the last."""
    training = Training(small.network(), RECIPE, folder=tmp_path, save_every=0)

    def poison(step, steps, metrics):
        if metrics["step"] == 5:
            training.network.variables["conv1/bn/variance"].assign(tf.fill(8, math.inf))

    with pytest.raises(TrainingFailed, match=r"(variance has values|the loss is) .*last good checkpoint is .*-5\."):
        training.fit(data, on_step=poison)
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and all(np.isfinite(value).all() for value in state(again).values())


def test_the_step_is_found_where_a_variable_tells_and_the_loss_does_not(tmp_path, data):
    """The average of a batch norm's variance is not used in training."""
    training = Training(small.network(), RECIPE, folder=tmp_path)
    real = training._step

    def breaking(images, labels, seed, rate):
        metrics = real(images, labels, seed, rate)
        if int(seed[1]) == 6:
            training.network.variables["conv1/bn/variance"].assign(tf.fill(8, math.inf))
        return metrics

    training._step = breaking
    with pytest.raises(
        TrainingFailed,
        match=r"^conv1/bn/variance has values that are not finite in epoch 2, first after step 6: all activations "
        r"are finite, the largest is .*; the last good checkpoint is .*ckpt-4\.",
    ):
        training.fit(data)
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1


def test_a_full_disk_names_the_last_checkpoint_and_loses_nothing(tmp_path, data, monkeypatch):
    training = trained(tmp_path, data)
    good = state(training)
    files = files_of(tmp_path)

    def no_space(*args, **settings):
        raise tf.errors.ResourceExhaustedError(None, None, "part-00; No space left on device")

    longer = Training(small.network(), RECIPE, folder=tmp_path)
    longer.restore()
    monkeypatch.setattr(tf.train.Checkpoint, "write", no_space)
    with pytest.raises(
        TrainingFailed,
        match=r"ckpt-8 could not be written .*No space left.*last good checkpoint is .*-4\. Free some space",
    ):
        longer.fit(data)
    assert files_of(tmp_path) == files
    monkeypatch.undo()
    again = Training(small.network(), RECIPE, folder=tmp_path)
    assert again.restore() and again.epoch == 1
    assert_identical(state(again), good)


def deep(net, images):
    """A linear network of three layers: at a far too high learning rate it overflows within a few steps."""
    x = dense(net, "first", images, 16)
    return dense(net, "third", dense(net, "second", x, 16), 10)


@pytest.mark.parametrize("folder", [True, False])
def test_numbers_that_grow_beyond_all_bounds_name_step_layer_and_largest(tmp_path, data, folder):
    """The steps since the last checkpoint are repeated, up to the one that overflows."""
    recipe = dataclasses.replace(RECIPE, rate=1e4, weight_decay=0.0, schedule=Constant(), augmentation=Augmentation())
    training = Training(Network("deep", deep, size=8, classes=10), recipe, folder=tmp_path if folder else None)
    what = r"(the loss|the gradient norm) is (nan|inf) at step \d+ "
    with pytest.raises(TrainingFailed, match=what) as error:
        training.fit(data)
    layer = r"\): (first|second|third)[/\w]* .*(the largest before it is \d|not finite)"
    assert (re.search(layer, str(error.value)) is not None) == folder, error.value
    if folder:
        assert all(np.isfinite(value).all() for value in state(training).values())
