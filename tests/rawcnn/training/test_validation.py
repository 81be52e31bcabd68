"""Which images choose: plateaus and the best epoch follow the validation images; the test images are looked at once."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.data import load
from rawcnn.data.dataset import DataSet
from rawcnn.data.folders import folder_items
from rawcnn.data.records import pack
from rawcnn.optim.schedules import Constant, OnPlateau, Step, WarmUp
from rawcnn.plots import figures
from rawcnn.training import trainer as train
from rawcnn.training.resume import former
from rawcnn.training.run import run as write_run
from rawcnn.training.trainer import Stopped, Training
from rawcnn.training.validation import cut_validation, follows_plateaus
from tests import references
from tests.rawcnn import small
from tests.rawcnn.folders import make_folder
from tests.rawcnn.runs import RECIPE, RMSPROP, assert_identical, state

FORMER = Path(__file__).parent / "former_run"  # the first epoch of a run, written before validation splits existed
PLATEAU = dataclasses.replace(RMSPROP, auxiliary_weight=0.3, schedule=OnPlateau(), epochs=2)


@pytest.fixture(scope="module")
def whole(digits):
    """Without a validation split."""
    return small.part(digits, 256, 64)


@pytest.fixture(scope="module")
def data(whole):
    return cut_validation(whole, 0.25)


class Killed(BaseException):
    """Raised by a test to end a run at once."""


@pytest.fixture
def looks(monkeypatch):
    """The splits that are evaluated, and the accuracies that their evaluations return where a test gives some."""
    found: list[str] = []
    accuracies: list[float] = []
    original = train.evaluate

    def evaluate(network, data, split, **settings):
        found.append(split)
        result = original(network, data, split, **settings)
        if split == "test" or not accuracies:
            return result
        return dataclasses.replace(result, correct=accuracies.pop(0) * result.count)

    monkeypatch.setattr(train, "evaluate", evaluate)
    return found, accuracies


def run(recipe, folder=None, **settings):
    network = small.network(seed=5, auxiliary=bool(recipe.auxiliary_weight))
    return Training(network, recipe, seed=9, folder=folder, compile="graph", **settings)


def values(training):
    return {path: v.numpy().copy() for path, v in training.evaluation_variables.items()}


# What is evaluated when --------------------------------------------------------------------------------------


def test_the_test_images_are_looked_at_once_at_the_end(data, looks):
    training = run(dataclasses.replace(RECIPE, epochs=3))
    epochs: list[dict[str, float]] = []
    result = training.fit(data, on_epoch=lambda summary: epochs.append(dict(summary)))
    assert looks[0] == ["validation"] * 3 + ["test"]
    assert result is training.result and result.count == 64
    for summary in epochs:
        assert {"validation_loss", "validation_accuracy"} <= {*summary}
        assert not [name for name in summary if name.startswith("test")]
    assert training.history[-1]["test_accuracy"] == result.accuracy
    assert training.history[-1]["test_loss"] == result.loss
    assert [name for name in training.history[0] if name.startswith("test")] == []


def test_without_a_validation_split_the_test_images_are_monitored(whole, looks):
    """Nothing is chosen then: the variables are those of the last epoch."""
    training = run(dataclasses.replace(RECIPE, epochs=2))
    training.fit(whole)
    assert looks[0] == ["test", "test"] and training.progress.best is None
    assert {"test_loss", "test_accuracy"} <= {*training.history[0]}


def test_the_result_is_that_of_the_best_epoch(data, looks):
    """Of equal accuracies the first counts."""
    after = []
    training = run(dataclasses.replace(RMSPROP, epochs=4))
    looks[1][:] = [0.25, 0.5, 0.375, 0.5]
    result = training.fit(data, on_epoch=lambda summary: after.append(values(training)))
    assert training.progress.best.epoch == 2 and training.progress.best.accuracy == 0.5
    assert_identical(values(training), after[1])
    assert any(np.any(after[1][path] != after[3][path]) for path in after[1])
    logits = training.network.trace(training.evaluation_variables, data.arrays("test")[0]).logits.numpy()
    assert result.correct == (logits.argmax(1) == data.arrays("test")[1]).sum()


@pytest.mark.sample(3)
@pytest.mark.parametrize("ends", [3, 2, 4])
def test_a_resumed_run_knows_its_best_epoch(tmp_path, data, looks, ends):
    """Also if it resumes after its last epoch."""
    recipe, accuracies = dataclasses.replace(RECIPE, epochs=4), [0.25, 0.5, 0.375, 0.25]
    whole_run = run(recipe)
    looks[1][:] = accuracies
    whole_run.fit(data)

    def kill(summary):
        if summary["epoch"] == ends:
            raise Killed

    looks[1][:] = accuracies
    with pytest.raises(Killed):
        run(recipe, tmp_path).fit(data, on_epoch=kill)
    resumed = Training(small.network(seed=1), recipe, seed=9, folder=tmp_path, compile="graph")
    assert resumed.restore() and resumed.progress.best.epoch == 2
    resumed.fit(data)
    assert_identical(values(resumed), values(whole_run))
    for mine, theirs in zip(resumed.history, whole_run.history, strict=True):
        assert {**mine, "images_per_second": 0} == {**theirs, "images_per_second": 0}


@pytest.mark.deeper
def test_a_run_with_a_best_epoch_can_be_made_longer(tmp_path, data, looks):
    """It continues from its last epoch, not from the best."""
    looks[1][:] = [0.5, 0.25, 0.75]
    short = run(dataclasses.replace(RECIPE, epochs=2, schedule=Constant()), tmp_path)
    last = []
    short.fit(data, on_epoch=lambda summary: last.append(state(short)))
    longer = run(dataclasses.replace(RECIPE, epochs=3, schedule=Constant()), tmp_path)
    assert longer.restore()
    assert_identical(state(longer), last[1])
    longer.fit(data)
    assert longer.progress.best.epoch == 3


def test_a_stop_at_the_test_images_saves_nothing_and_resumes_there(tmp_path, data, looks, monkeypatch):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    looks[1][:] = [0.5, 0.25]
    training, last = run(recipe, tmp_path), []
    watched = train.evaluate

    def evaluate(network, data, split, **settings):
        if split == "test":
            training.stop()
        return watched(network, data, split, **settings)

    monkeypatch.setattr(train, "evaluate", evaluate)
    with pytest.raises(Stopped):
        training.fit(data, on_epoch=lambda summary: last.append(state(training)))
    again = run(recipe, tmp_path)
    assert again.restore()
    assert_identical(state(again), last[1])
    monkeypatch.setattr(train, "evaluate", watched)
    assert again.fit(data).count == 64


# Plateaus ----------------------------------------------------------------------------------------------------


def test_plateaus_follow_the_validation_error(data, looks):
    """Patience 3: the rate drops after three epochs without a lower error, and again after three more."""
    recipe = dataclasses.replace(RECIPE, rate=0.1, schedule=OnPlateau(0.1, most=1), epochs=8)
    rates: list[tuple[int, float]] = []
    looks[1][:] = [0.25, 0.5, 0.5, 0.25, 0.375, 0.375, 0.25, 0.125]
    training = run(recipe)
    training.fit(data, on_step=lambda step, steps, m: rates.append((int(m["step"]) // steps, m["rate"])))
    expected = {0: 0.1, 1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1, 5: 0.01, 6: 0.01, 7: 0.01}
    assert len(rates) == 8 * 3
    for epoch, rate in rates:
        assert rate == pytest.approx(expected[epoch]), epoch
    assert [s["rate"] for s in training.history] == pytest.approx([*expected.values()])
    assert training.plateau.drops == 2  # of which the schedule takes one


@pytest.mark.deeper
def test_a_recipe_with_plateaus_holds_out_a_tenth(whole, looks, caplog):
    training, told = run(PLATEAU), []
    training.fit(whole, report=told.append)
    assert told == [
        "25 of 256 training images are the validation split: the recipe rms lowers its learning rate where their error "
        "stops falling"
    ]
    assert looks[0] == ["validation", "validation", "test"]
    assert training.progress.data["training images"] == "231" and training.progress.data["validation images"] == "25"
    with caplog.at_level(logging.WARNING):
        run(dataclasses.replace(PLATEAU, epochs=1)).fit(whole)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("rawcnn")] == told


def test_a_validation_split_of_its_own_is_kept(data, looks):
    training, told = run(PLATEAU), []
    training.fit(data, report=told.append)
    assert told == [] and training.progress.data["validation images"] == str(data.count("validation"))


@pytest.mark.parametrize(
    "schedule, follows",
    [
        (OnPlateau(), True),
        (WarmUp(OnPlateau(), length=1), True),
        (OnPlateau(most=0), False),
        (Constant(), False),
        (Step(at=(0.5,)), False),
        (lambda epoch, epochs, drops=0: 1.0 if epoch < 1 else 0.5**drops, True),
    ],
)
def test_schedules_that_follow_plateaus(schedule, follows):
    assert follows_plateaus(dataclasses.replace(RECIPE, schedule=schedule)) == follows


def test_the_cut_takes_a_share_of_each_class(digits):
    cut = cut_validation(digits)
    assert isinstance(cut, DataSet)
    assert cut.count("train") + cut.count("validation") == digits.count("train")
    assert cut.count("test") == digits.count("test")
    for label in range(10):
        count = (digits.splits["train"].labels == label).sum()
        assert (cut.splits["validation"].labels == label).sum() == round(0.1 * count)
    together = np.concatenate([cut.arrays(split)[0] for split in ("train", "validation")])
    assert sorted(x.tobytes() for x in together) == sorted(x.tobytes() for x in digits.arrays("train")[0])
    references.close(cut.arrays("validation")[0], cut_validation(digits).arrays("validation")[0])


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("name", ["digits", "digits of 6", "folder", "records"])
def test_the_cut_is_that_of_load(tmp_path, name, memory):
    """Also for packed records, wherever they lie: a run on them is that on their folder."""
    folder = make_folder(tmp_path / "pets", (13, 21))
    pack(*folder_items(folder), tmp_path / "records", shard=8)
    source, _, size = name.partition(" of ")
    source = {"folder": f"folder:{folder}", "records": f"records:{tmp_path / 'records'}"}.get(source, source)
    settings = {"size": int(size) if size else None, "memory": memory}
    expected, found = load(source, validation=0.1, **settings), cut_validation(load(source, **settings))
    for split in ("train", "validation", "test"):
        assert len(found.splits[split].items) == len(expected.splits[split].items)
        for mine, theirs in zip(found.batches(split, 64), expected.batches(split, 64), strict=True):
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])
    assert found.fingerprint() == expected.fingerprint()
    if name == "records":
        on_folder = cut_validation(load(f"folder:{folder}"))
        assert found.fingerprint() == on_folder.fingerprint()


# What a run writes -------------------------------------------------------------------------------------------


def test_files_of_a_run_with_a_validation_split(tmp_path, data, looks):
    looks[1][:] = [0.5, 0.25]
    training, curves = run(dataclasses.replace(RECIPE, epochs=2), tmp_path), []
    result = write_run(training, data, images=True, draw_curves=lambda history, file: curves.append(len(history)))
    history = json.loads((tmp_path / "history.json").read_text())
    assert [summary["validation_accuracy"] for summary in history] == [0.5, 0.25]
    assert history[-1]["test_accuracy"] == result.accuracy and "test_accuracy" not in history[0]
    assert curves == [1, 2, 2]
    tags: dict[str, list[int]] = {}
    for file in (tmp_path / "events").glob("events.out.tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append(event.step)
    assert tags["validation_accuracy"] == [1, 2] and tags["test_accuracy"] == tags["test_loss"] == [2]
    assert [*dict.fromkeys(tags["images/wrong"])] == [1, 2]
    chosen = small.network(seed=1)
    rawcnn.load_weights(chosen, tmp_path / "weights.safetensors")
    images, labels = data.arrays("test")
    assert (chosen(images).numpy().argmax(1) == labels).sum() == result.correct
    figures.training_curves(history)


@pytest.mark.slow
def test_validation_on_the_command_line(rawcnn_command, tmp_path, digits):
    words = ("train", "cifar_resnet20", "--epochs", 2, "--output", tmp_path, "--validation", 0.2, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    first, second, last = (json.loads(line) for line in out.splitlines())
    assert "test_accuracy" not in first and "validation_accuracy" in second
    assert last["best_epoch"] in (1, 2) and last["result"]["images"] == digits.count("test")
    code, out, err = rawcnn_command(*words[:-3], "--json")
    count = cut_validation(digits, 0.2).count
    different = f"training images {count('train')}, not {digits.count('train')}, validation images"
    assert code == 2 and f"was trained on {different} {count('validation')}, not unset" in " ".join(err.split())


@pytest.mark.parametrize("share", ["0", "1", "-0.1", "nan", "2"])
def test_a_share_that_is_none(rawcnn_command, tmp_path, share):
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--output", tmp_path / "run", "--validation", share)
    assert code == 2 and len(err.strip().splitlines()) == 1 and "--validation is" in err
    assert not (tmp_path / "run").exists()


# Runs of before ----------------------------------------------------------------------------------------------


def test_a_run_of_before_keeps_the_rules_that_it_began_with(tmp_path, whole, looks):
    """The expected figures are those of the version that wrote the checkpoint."""
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    training = run(PLATEAU, tmp_path)
    assert training.restore() and training.epoch == 1 and training.recipe == former(PLATEAU)
    training.fit(whole)
    assert looks[0] == ["test"]
    assert {*training.state.averages} == {*training.network.trained_variables}
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    expected = [2.3065887093544006, 0.1015625, 2.30129337310791, 0.109375]
    references.close([training.history[1][name] for name in names], expected, "network", dtype="float32")
    again = run(PLATEAU, tmp_path)
    assert again.restore() and again.epoch == 2 and again.recipe == former(PLATEAU)


def test_a_run_of_before_with_other_settings_is_refused(tmp_path, whole):
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=r"was started with rate 0.1, not 0.2; resume it with its own settings"):
        run(dataclasses.replace(PLATEAU, rate=0.2), tmp_path).restore()


def test_a_run_of_before_ignores_a_validation_split(tmp_path, whole, digits, looks):
    """The fingerprint of its data is that of the training and test images."""
    shutil.copytree(FORMER, tmp_path, dirs_exist_ok=True)
    training = run(PLATEAU, tmp_path)
    assert training.restore()
    splits = {**whole.splits, "validation": digits.splits["test"]}
    training.fit(dataclasses.replace(whole, splits=splits))
    assert looks[0] == ["test"]
