"""The microscope: its values against NumPy loops, and its file through kills and resumed runs."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.attacks import Adversary
from rawcnn.data.augmentation import augment
from rawcnn.training.depth_gradients import first_over_last, gradient_norms
from rawcnn.training.distributed import make_cluster
from rawcnn.training.microscope import SAMPLE, Microscope, dead, layers_of, observe
from rawcnn.training.observations import FILE, read_observations
from rawcnn.training.plain_vs_residual import counterpart
from rawcnn.training.run import run
from rawcnn.training.step import State, by_tape
from rawcnn.training.trainer import Training
from tests import references
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, RMSPROP, assert_identical, state

WEIGHTS = ("conv1/filters", "conv2/filters", "classifier/weights")


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 128, 64)


def length(values: np.ndarray) -> float:
    """√Σv², value by value."""
    total = 0.0
    for value in np.asarray(values, np.float64).flat:
        total += float(value) ** 2
    return total**0.5


def dead_reference(outputs: np.ndarray) -> tuple[float, float]:
    """The shares of units and channels that are zero in every image, of [B,…,C], value by value."""
    outputs = outputs.reshape(len(outputs), -1, outputs.shape[-1])  # [B,positions,C]
    _, positions, channels = outputs.shape
    silent = [[all(image[p, c] == 0 for image in outputs) for c in range(channels)] for p in range(positions)]
    units = sum(sum(row) for row in silent) / (positions * channels)
    return units, sum(all(row[c] for row in silent) for c in range(channels)) / channels


def batch(count: int = 6):
    images = references.random((count, 8, 8, 3), 3, "float64", low=0.0)
    return images, tf.range(count) % 10, tf.constant([3, 7])


def nesterov(w, g, velocity, rate, momentum):
    velocity = momentum * velocity - rate * g
    return w + momentum * velocity - rate * g


def test_values_of_a_network_against_loops():
    """Of a step with weight decay, clipping, augmentation, dropout, an auxiliary head and a velocity."""
    recipe = dataclasses.replace(RECIPE, auxiliary_weight=0.5, clip=0.5, weight_decay=0.01)
    network = small.network(precision="float64", auxiliary=True)
    beginning = State.begin(network, recipe)
    for number, slot in enumerate(beginning.slots.values()):
        slot.assign(references.random(slot.shape, number, "float64") * 0.01)
    images, labels, seed = batch()
    found = observe(network, recipe, beginning, images, labels, seed, tf.constant(0.05))
    layers = layers_of(network)
    assert layers.weights == ("conv1/filters", "head/weights", *WEIGHTS[1:]) and layers.first == "conv1/filters"
    assert layers.outputs == ("conv1", "conv1/bn/relu", "head", "conv2", "conv2/relu", "classifier")

    variables = {path: tf.convert_to_tensor(v) for path, v in network.variables.items()}
    seen = augment(images, seed, recipe.augmentation)
    forward, _, gradients = by_tape(network, recipe, variables, seen, labels, seed)
    for place, name in enumerate(layers.outputs):
        references.close(found["activation_norm"][place], length(forward.activations[name]), "gradient", "float64")
    for place, name in enumerate(layers.relus):
        units, channels = dead_reference(forward.activations[name].numpy())
        assert float(found["dead_units"][place]) == pytest.approx(units) and units > 0
        assert float(found["dead_channels"][place]) == pytest.approx(channels)

    rate = float(np.float32(0.05))
    decayed = {p: np.asarray(g) + 0.01 * (p in layers.weights) * variables[p].numpy() for p, g in gradients.items()}
    total = sum(length(g) ** 2 for g in decayed.values()) ** 0.5
    for place, path in enumerate(layers.weights):
        w, g = variables[path].numpy(), decayed[path] * min(1.0, 0.5 / total)
        after = nesterov(w, g, beginning.slots[f"{path}/velocity"].numpy(), rate, recipe.momentum)
        references.close(found["weight_norm"][place], length(w), "gradient", "float64")
        references.close(found["weight_gradient_norm"][place], length(gradients[path]), "gradient", "float64")
        references.close(found["update_ratio"][place], length(after - w) / length(w), "gradient", "float64")
    assert total > 0.5, "the gradients should be clipped"
    np.testing.assert_array_equal(found["filters"], variables["conv1/filters"])


def test_gradients_of_outputs_against_central_differences():
    """‖∂L/∂y‖ of the logits, value by value: L is the mean cross-entropy of logits + a change of one of them."""
    network, recipe = small.network(precision="float64"), dataclasses.replace(RECIPE, label_smoothing=0.0)
    images, labels, seed = batch(3)
    found = observe(network, recipe, State.begin(network, recipe), images, labels, seed, tf.constant(0.1))
    seen = augment(images, seed, recipe.augmentation)
    logits = network.forward(seen, train=True, seed=seed).logits.numpy()

    def loss(z: np.ndarray) -> float:
        largest = z.max(axis=1)
        return float(np.mean(np.log(np.exp(z - largest[:, None]).sum(axis=1)) + largest - z[range(3), labels]))

    squares = 0.0
    for place in np.ndindex(logits.shape):
        above, below = logits.copy(), logits.copy()
        above[place], below[place] = above[place] + 1e-5, below[place] - 1e-5
        squares += ((loss(above) - loss(below)) / 2e-5) ** 2
    last = layers_of(network).outputs.index("classifier")
    references.close(found["gradient_norm"][last], squares**0.5, "difference", "float64")
    assert float(found["loss"]) == pytest.approx(loss(logits))


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (6, 7)])
def test_dead_units_and_channels(shape):
    generator = np.random.default_rng(1)
    outputs = generator.random(shape) * (generator.random(shape) < 0.3)
    outputs[..., 1] = 0
    units, channels = dead_reference(outputs)
    assert [float(share) for share in dead(tf.constant(outputs))] == pytest.approx([units, channels])
    assert 1 > units >= channels > 0


def begin(folder, epochs: int, recipe=RECIPE, **settings) -> Training:
    training = Training(small.network(seed=5), dataclasses.replace(recipe, epochs=epochs), folder=folder, **settings)
    folder.mkdir(exist_ok=True)
    training.restore()
    return training


def measured(training, data) -> dict[str, np.ndarray]:
    """Train to the end, and return the arrays of the file."""
    run(training, data, tensorboard=False, microscope=True)
    with np.load(training.folder / FILE) as file:
        return {name: file[name] for name in file.files}


class Killed(BaseException):
    """Raised by a test to end a run at once."""


@pytest.mark.deeper
@pytest.mark.parametrize("recipe", [RECIPE, RMSPROP], ids=["nesterov", "rmsprop-ema-clip"])
def test_a_run_is_the_same_under_the_microscope(tmp_path, data, recipe):
    seen, alone = begin(tmp_path / "seen", 2, recipe), begin(tmp_path / "alone", 2, recipe)
    values = measured(seen, data)
    run(alone, data, tensorboard=False)
    assert_identical(state(seen), state(alone))
    assert values["epochs"].tolist() == [0, 1, 2] and values["dead_units"].shape == (3, 2)
    assert values["filters"].shape == (3, 3, 3, 3, 8) and np.isfinite(values["update_ratio"]).all()
    assert not (tmp_path / "alone" / FILE).exists()


@pytest.mark.deeper
def test_a_killed_run_continues_its_file(tmp_path, data, monkeypatch):
    """Killed after the checkpoint of epoch 2 but before its row; within epoch 3; then resumed twice."""
    expected = measured(begin(tmp_path / "through", 4), data)
    folder, look = tmp_path / "killed", Microscope.look

    def killed(microscope):
        if microscope.training.epoch == 2:
            raise Killed
        look(microscope)

    monkeypatch.setattr(Microscope, "look", killed)
    with pytest.raises(Killed):
        measured(begin(folder, 4), data)
    assert read_observations(folder / FILE).epochs == (0, 1)
    monkeypatch.setattr(Microscope, "look", look)
    resumed = begin(folder, 4, save_every=0)
    take_step = resumed.take_step

    def step(batches, index, *arguments):
        if resumed.epoch == 2 and index == 1:
            raise Killed
        return take_step(batches, index, *arguments)

    resumed.take_step = step
    with pytest.raises(Killed):
        measured(resumed, data)
    assert read_observations(folder / FILE).epochs == (0, 1, 2)
    for _ in range(2):  # a complete run adds nothing
        found = measured(begin(folder, 4), data)
        assert list(found) == list(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, name)


@pytest.mark.deeper
def test_rows_of_epochs_that_are_repeated_are_replaced(tmp_path, data):
    """After a damaged checkpoint a run resumes from the one before; a fresh run begins a new file."""
    values = measured(begin(tmp_path, 3), data)
    training = begin(tmp_path, 3)
    training.progress.at.epoch = 1
    assert Microscope(training, data).observations.epochs == (0, 1)
    training.progress.at.epoch = 0
    assert Microscope(training, data).observations.epochs == ()
    training.progress.at.steps = 1
    assert Microscope(training, data).observations.epochs == (0,)
    assert values["epochs"].tolist() == [0, 1, 2, 3]


@pytest.mark.deeper
def test_a_damaged_or_foreign_file_is_refused_before_training(tmp_path, data):
    measured(begin(tmp_path, 1), data)
    content, checkpoints = (tmp_path / FILE).read_bytes(), sorted((tmp_path / "checkpoints").iterdir())
    for damaged in (content[:-40], b"", b"no file", b"PK\x03\x04" + bytes(60)):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"microscope.npz is damaged \(\w+\); delete it"):
            measured(begin(tmp_path, 2), data)
    foreign = dataclasses.replace(
        (seen := Microscope(begin(tmp_path / "other", 1), data)).observations,
        layers=dataclasses.replace(seen.observations.layers, first="another"),
    )
    values = {name: value.numpy() for name, value in seen._measure(*seen._sample(), seen._rate()).items()}
    foreign.adding(0, 0.1, values).write(tmp_path / FILE)
    with pytest.raises(ValueError, match="holds values of another network; delete it"):
        measured(begin(tmp_path, 2), data)
    assert sorted((tmp_path / "checkpoints").iterdir()) == checkpoints


def test_a_file_of_other_images_is_refused(tmp_path, data):
    """Earlier versions measured a device's part of a batch of any size, and clean images in adversarial training."""
    values = {"loss": np.float32(1.5)}
    begun = Training(small.network(), RECIPE, folder=tmp_path)
    current = Microscope(begun, data).observations
    current.adding(0, 0.1, values).write(tmp_path / FILE)
    begun.progress.at.epoch = 1
    assert Microscope(begun, data).observations.epochs == (0,)
    for measured in ({}, {**current.measured, "images": 1}, {**current.measured, "adversarial": 1}):
        dataclasses.replace(current, measured=measured).adding(0, 0.1, values).write(tmp_path / FILE)
        with pytest.raises(ValueError, match=r"other images, so new rows .*; delete it, and the run measures from its"):
            Microscope(begun, data)


def test_a_file_of_version_1_can_be_read(tmp_path, data):
    """The page of an earlier run stays possible, but no run continues it."""
    begun = Training(small.network(), RECIPE, folder=tmp_path)
    current = Microscope(begun, data).observations
    names = json.dumps({"version": 1, "layers": dataclasses.asdict(current.layers), "counterpart": {}})
    np.savez(tmp_path / FILE, names=names, epochs=[0, 1], rates=[0.1, 0.1], loss=[2.0, 1.0])
    assert read_observations(tmp_path / FILE).table("loss").tolist() == [2.0, 1.0]
    begun.progress.at.epoch = 1
    with pytest.raises(ValueError, match="holds values of an earlier version, which measured other images"):
        Microscope(begun, data)


@pytest.mark.deeper
def test_two_devices_measure_what_one_measures(tmp_path, data):
    """Before training up to rounding of the form that runs; after an epoch up to the order of the devices' sums."""
    cluster = make_cluster("mirrored")
    with cluster.scope():
        network = small.network(seed=5)
    two = Training(network, dataclasses.replace(RECIPE, epochs=1), folder=tmp_path / "two", cluster=cluster)
    (tmp_path / "two").mkdir()
    found, expected = measured(two, data), measured(begin(tmp_path / "one", 1), data)
    assert found["epochs"].tolist() == expected["epochs"].tolist() == [0, 1]
    for name in ("loss", "dead_units", "dead_channels", "activation_norm", "gradient_norm", "update_ratio", "filters"):
        for row in (0, 1):
            references.close(found[name][row], expected[name][row], "network", "float32")


def recorded(training, data) -> Microscope:
    """Look once, before any training."""
    training.folder.mkdir(exist_ok=True)
    microscope = Microscope(training, data)
    microscope.look()
    return microscope


def test_at_most_some_images_are_measured(tmp_path, digits):
    """The first of the batch, whatever the size of the batch is."""
    large = Training(small.network(), dataclasses.replace(RECIPE, batch=256), folder=tmp_path / "large")
    usual = Training(small.network(), dataclasses.replace(RECIPE, batch=SAMPLE), folder=tmp_path / "usual")
    (images, labels, seed), (others, _, _) = (Microscope(run, digits)._sample() for run in (large, usual))
    assert images.shape[0] == labels.shape[0] == SAMPLE == 128 and seed.numpy().tolist() == [0, 0]
    np.testing.assert_array_equal(images, others)


@pytest.mark.deeper
def test_a_row_has_the_rate_of_the_last_step(tmp_path, data):
    """Of a schedule that changes in each step; the ratio is proportional to the rate, without a velocity."""
    training = begin(tmp_path, 4)
    microscope = recorded(training, data)
    training.fit(data, on_epoch=lambda summary: microscope.look())
    rates = [row.rate for row in microscope.observations.rows]
    assert rates[0] == pytest.approx(0.01)  # OneCycle begins with a tenth
    assert rates[1:] == pytest.approx([row["rate"] for row in training.history]) and len(set(rates)) == 5


@pytest.mark.deeper
def test_the_images_of_adversarial_training_are_attacked(tmp_path, data):
    """What is measured is a step of the run, whose images are attacked."""
    attack = Adversary(epsilon=0.3, step=0.3, steps=1)
    training = Training(small.network(), RECIPE, folder=tmp_path / "attacked", adversary=attack)
    seen, plain = (recorded(t, data) for t in (training, begin(tmp_path / "plain", 1)))
    assert seen.observations.table("loss")[0] > plain.observations.table("loss")[0] + 0.01


@pytest.mark.deeper
@pytest.mark.parametrize(
    "precision, compile, tolerance",
    [
        ("float32", "graph", "network"), ("float32", "xla", "network"), ("float64", "graph", "network"),
        ("bfloat16", "mixed", None),
    ],
)  # fmt: skip
def test_all_modes_measure_the_same(tmp_path, data, precision, compile, tolerance):
    """As an eager measurement in float32; bfloat16 has two digits, and shares of zeros are counts."""

    def run(name: str, precision: str, compile: str) -> Microscope:
        network = small.network(seed=5, precision=precision)
        return recorded(Training(network, RECIPE, folder=tmp_path / name, compile=compile), data)

    found, expected = run("found", precision, compile).observations, run("expected", "float32", "eager").observations
    for name, value in found.rows[0].values.items():
        right = expected.table(name)[0]
        if tolerance:
            references.close(np.float32(value), right, tolerance, "float32")
        elif name == "dead_units" or name == "dead_channels":
            np.testing.assert_allclose(value, right, atol=0.02)
        else:
            np.testing.assert_allclose(value, right, rtol=0.1, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"compile": "xla"}, {"precision": "bfloat16"}, {"gradients": "hand"}], ids=str)
def test_killed_runs_of_all_modes_continue_their_files(tmp_path, data, settings):
    """A run that stops within its second epoch has the rows and the variables of one that does not."""
    recipe = dataclasses.replace(RECIPE, epochs=2, gradients=settings.get("gradients", "tape"))

    def start(name: str) -> Training:
        network = small.network(seed=5, precision=settings.get("precision", "float32"))
        compile = settings.get("compile", "auto")
        training = Training(network, recipe, folder=tmp_path / name, compile=compile, save_every=0)
        training.folder.mkdir(exist_ok=True)
        training.restore()
        return training

    through, stopped = start("through"), start("stopped")
    expected = measured(through, data)
    take_step = stopped.take_step

    def step(batches, index, *arguments):
        if stopped.epoch == 1 and index == 1:
            raise Killed
        return take_step(batches, index, *arguments)

    stopped.take_step = step
    with pytest.raises(Killed):
        measured(stopped, data)
    resumed = start("stopped")
    assert (resumed.epoch, resumed.at.steps) == (1, 1)
    found = measured(resumed, data)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
    assert_identical(state(resumed), state(through))


@pytest.mark.deeper
def test_a_plain_network_has_a_residual_counterpart():
    network = rawcnn.create("cifar_plain20", size=8, classes=3, shortcut="B")
    other = counterpart(network, 4)
    assert other and (other.name, other.settings["shortcut"], other.classes) == ("cifar_resnet20", "B", 3)
    assert "conv2_1/relu" in {op.name for op in other.operations}
    assert counterpart(small.network(), 0) is None


@pytest.mark.slow
def test_gradients_grow_through_plain_networks(digits):
    """With new variables: by more than 100 over 56 plain layers, by less than 10 over residual ones."""
    seen: list[tuple] = []
    norms = gradient_norms(digits, progress=lambda *words: seen.append(words))
    growth = {name: first_over_last(values) for name, values in norms.items()}
    assert growth["cifar_plain56"] > 100 and growth["cifar_plain56"] > 20 * growth["cifar_plain20"]
    assert growth["cifar_resnet56"] < 10 and growth["cifar_resnet20"] < 10
    assert len(norms["cifar_plain56"]) == len(norms["cifar_resnet56"]) == 56 and len(seen) == 4


def test_first_over_last():
    assert first_over_last({"a/filters": 6.0, "b/filters": 2.0, "classifier/weights": 9.0}) == 3.0
    assert first_over_last({"a/weights": 6.0, "b/weights": 3.0}) == 2.0
    assert first_over_last({"a/filters": 6.0}) == 1.0
    assert np.isnan(first_over_last({"a/filters": 6.0, "b/filters": 0.0}))


@pytest.mark.slow
def test_the_command_line_draws_a_page(tmp_path, rawcnn_command):
    """The page, its pictures and the file; the same command again adds no row; --fresh deletes them."""
    words = ("train", "cifar_resnet20", "--batch", 512, "--no-tensorboard", "--output", tmp_path / "run")
    code, out, err = rawcnn_command(*words, "--epochs", 1, "--microscope")
    assert code == 0 and "microscope/index.html" in out, err
    page = (tmp_path / "run" / "microscope" / "index.html").read_text(encoding="utf-8")
    for title in ("Dead ReLUs", "Update ratio", "Gradient norms through depth", "Filters of the first layer over time"):
        assert title in page
    assert "cifar_plain20" in page and "nan" not in page
    shown = {word.split('"')[0] for word in page.split('src="')[1:]}
    assert shown and all((tmp_path / "run" / "microscope" / name).exists() for name in shown)
    code, _, err = rawcnn_command(*words, "--epochs", 2, "--microscope")
    assert code == 0, err
    seen = read_observations(tmp_path / "run" / FILE)
    assert seen.epochs == (0, 1, 2) and len(seen.counterpart) == 20
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 2
    code, _, err = rawcnn_command(*words, "--epochs", 1, "--fresh")
    assert code == 0 and not {FILE, "microscope"} & set(os.listdir(tmp_path / "run")), err


RUN = """
import dataclasses, sys
from pathlib import Path
from rawcnn.data import load
from rawcnn.training.run import run
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE

folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
recipe = dataclasses.replace(RECIPE, batch=8, epochs=40)
training = Training(small.network(seed=5), recipe, seed=9, folder=folder, save_every=0)
training.restore()
run(training, small.part(load("digits"), 64, 16), tensorboard=False, microscope=True)
"""


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    """Kills in steps, checkpoints, measurements and writes do not change a bit of the file."""
    environment, chance = {**os.environ, "PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "3"}, random.Random(1)

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / name)], env=environment)

    seen = 0
    for _ in range(4):
        with start("killed") as process:
            while process.poll() is None and rows(tmp_path / "killed") <= seen:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.3))
            assert process.poll() is None, "the run is too short for so many kills"
            process.kill()
        seen = rows(tmp_path / "killed")
    for name in ("killed", "through"):
        with start(name) as process:
            assert process.wait() == 0
    with np.load(tmp_path / "killed" / FILE) as mine, np.load(tmp_path / "through" / FILE) as theirs:
        assert mine["epochs"].tolist() == list(range(41)) and list(mine) == list(theirs)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name], name)


def rows(folder) -> int:
    """The number of rows of a run's file; 0 without one."""
    return len(read_observations(folder / FILE).epochs) if (folder / FILE).exists() else 0
