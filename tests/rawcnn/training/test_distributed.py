"""Several devices take the steps of one: each gets a part of each batch, and one process writes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from kernels.dispatch.replica import Replica, first_image, random_words, running_on
from rawcnn.attacks import Adversary
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.training.distributed import Cluster, WorkerLost, make_cluster
from rawcnn.training.trainer import Stopped, Training
from rawcnn.training.validation import cut_validation
from tests import references
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE, RMSPROP, assert_identical, state


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 256, 64)


@pytest.fixture(scope="module")
def cluster():
    """The two logical devices of the tests' process."""
    cluster = make_cluster("mirrored")
    assert (cluster.count, cluster.local, cluster.workers, cluster.worker, cluster.writes) == (2, 2, 1, 0, True)
    return cluster


def training(cluster: Cluster | None, recipe=RECIPE, precision="float32", network=small.network, **settings):
    if cluster is None:
        return Training(network(seed=5, precision=precision), recipe, seed=9, **settings)
    with cluster.scope():
        net = network(seed=5, precision=precision)
    return Training(net, recipe, seed=9, cluster=cluster, **settings)


def losses_of(run: Training, data) -> list[float]:
    found: list[float] = []
    run.fit(data, on_step=lambda step, steps, metrics: found.append(metrics["loss"]))
    return found


ADVERSARY = Adversary(epsilon=0.1, step=0.05, steps=2)


@pytest.mark.sample("nesterov")
@pytest.mark.parametrize(
    "recipe, settings", [(RECIPE, {}), (RMSPROP, {}), (RECIPE, {"adversary": ADVERSARY})],
    ids=["nesterov", "rmsprop-ema-clip", "adversarial"],
)  # fmt: skip
def test_two_devices_take_the_steps_of_one(cluster, data, recipe, settings):
    """With batch norm, dropout, augmentation and attacks, losses agree to 1e-4, and weights and averages agree."""
    one, two = training(None, recipe, **settings), training(cluster, recipe, **settings)
    expected, losses = losses_of(one, data), losses_of(two, data)
    assert len(losses) == 16
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for path, value in state(one).items():
        references.close(state(two)[path], value, "network")
    for mine, theirs in zip(two.history, one.history, strict=True):
        assert mine["test_accuracy"] == theirs["test_accuracy"]
        assert mine["train_accuracy"] == pytest.approx(theirs["train_accuracy"])


@pytest.mark.deeper
@pytest.mark.parametrize("precision, tolerance", [("float64", 1e-9), ("float32", 1e-4)])
def test_gradients_by_hand_are_shared_too(cluster, data, precision, tolerance):
    recipe = dataclasses.replace(RECIPE, epochs=1, gradients="hand")
    one = losses_of(training(None, dataclasses.replace(recipe, gradients="tape"), precision), data)
    two = losses_of(training(cluster, recipe, precision), data)
    np.testing.assert_allclose(two, one, rtol=tolerance)


@pytest.mark.deeper
def test_bfloat16_is_shared_too(cluster, data):
    expected, losses = (losses_of(training(c, precision="bfloat16"), data) for c in (None, cluster))
    np.testing.assert_allclose(losses, expected, rtol=2e-2)
    assert cluster.choose("auto", small.network(precision="bfloat16")).mode == "mixed"


def test_devices_hold_the_same_numbers(cluster, data):
    run = training(cluster)
    losses_of(run, data)
    for path, variable in {**run.network.variables, **run.state.slots}.items():
        first, second = cluster.strategy.experimental_local_results(variable)
        assert first.device != second.device
        np.testing.assert_array_equal(first, second, path)


@pytest.mark.deeper
def test_a_run_goes_on_on_more_devices_and_on_fewer(cluster, data, tmp_path):
    """Checkpoints do not depend on the number of devices."""
    through = training(None)
    expected = losses_of(through, data)
    found: list[float] = []
    for epochs, devices in ((1, None), (3, cluster), (4, None)):
        run = training(devices, dataclasses.replace(RECIPE, epochs=4), folder=tmp_path)
        run.restore()

        def stop(step, steps, metrics, run=run, epochs=epochs):
            found.append(metrics["loss"])

        def ended(summary, run=run, epochs=epochs):
            if summary["epoch"] == epochs < 4:
                raise Stopped

        with suppress(Stopped):
            run.fit(data, on_step=stop, on_epoch=ended)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.deeper
def test_the_best_epoch_of_two_devices_resumes_on_one(cluster, data, tmp_path):
    """The copies of its variables are in the checkpoint."""
    held_out = cut_validation(data, 0.25)
    two = training(cluster, dataclasses.replace(RMSPROP, epochs=2), folder=tmp_path)
    result = two.fit(held_out)
    one = training(None, dataclasses.replace(RMSPROP, epochs=2), folder=tmp_path)
    assert one.restore() and one.progress.best == two.progress.best
    assert one.fit(held_out).correct == result.correct
    for path, variable in one.evaluation_variables.items():
        np.testing.assert_array_equal(variable.numpy(), two.evaluation_variables[path].numpy(), path)


def test_a_stop_is_of_all(cluster, data, tmp_path):
    """The run stops where metrics are read: after the fourth step, the last of an epoch."""
    run = training(cluster, folder=tmp_path)
    with pytest.raises(Stopped):
        run.fit(data, on_step=lambda *_: run.stop())
    assert run.at.steps == 4 or run.epoch == 1
    again = training(cluster, folder=tmp_path)
    assert again.restore()
    assert_identical(state(again), state(run))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_parts_are_the_whole(digits, count):
    """The parts of each batch, also of a last short one, are its rows in order."""
    for drop in (True, False):
        settings = {"seed": 3, "epoch": 1, "drop_remainder": drop, "first": 2}
        whole = list(digits.batches("train", 64, **settings))
        parts = [list(digits.batches("train", 64, part=(k, count), **settings)) for k in range(count)]
        assert {len(p) for p in parts} == {len(whole)}
        for number, (images, labels) in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([p[number][0] for p in parts]), images)
            np.testing.assert_array_equal(np.concatenate([p[number][1] for p in parts]), labels)


def replica(index: int, count: int = 2) -> Replica:
    return Replica(index, count, lambda tensors: [count * t for t in tensors])


def test_words_of_parts_are_those_of_the_whole():
    whole = random_words((6, 5), tf.constant([1, 2])).numpy()
    for index in range(3):
        with running_on(replica(index, 3)):
            np.testing.assert_array_equal(random_words((2, 5), tf.constant([1, 2])), whole[2 * index : 2 * index + 2])
            assert int(first_image(2)) == 2 * index
    assert first_image(2) == 0


def test_batch_norm_of_equal_parts_is_that_of_one(cluster):
    """If all parts are equal, sums over them are multiples: moments, y and gradients do not change."""
    x, scale, offset = references.random((4, 3, 3, 5), 1), references.random((5,), 2), references.random((5,), 3)
    upstream = references.random((4, 3, 3, 5), 4)

    def normalized(x, scale, offset):
        return kernels.batch_normalization_training(x, scale, offset, 1e-3, "explicit")[0]

    expected = references.tape_gradient(normalized, [x, scale, offset], upstream)
    y, mean, variance = kernels.batch_normalization_training(x, scale, offset, 1e-3, "explicit")
    with running_on(replica(1)):
        found = references.tape_gradient(normalized, [x, scale, offset], upstream)
        again = kernels.batch_normalization_training(x, scale, offset, 1e-3)
    for a, b in zip((*found, *again[:2]), (*expected, y, mean), strict=True):
        references.close(a, b, "gradient", dtype="float32")
    references.close(
        again[2] * (71 / 72), variance * (35 / 36), "gradient", dtype="float32"
    )  # unbiased, of twice as many


@pytest.mark.parametrize("told, wrong", [
    (None, "it is not set"), ("", "it is not set"), ("{", "it is not JSON"), ("[]", "it has no objects cluster and"),
    ('{"cluster": {"worker": ["localhost:1"]}}', "it has no task"),
    ('{"cluster": {"worker": ["localhost:1"]}, "task": {"index": 0}}', "it has no type"),
    ('{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}', r"its workers are \['a'\]"),
    ('{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}', "its workers are 'a:1', expected a"),
    ('{"cluster": {"worker": ["a:99999"]}, "task": {"type": "worker", "index": 0}}', "'99999' is not a port, expected"),
    ('{"cluster": {"worker": ["a:b", "c:1"]}, "task": {"type": "worker", "index": 0}}', "'b' is not a port"),
    ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "it names a worker twice"),
    ('{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 1}}', "its index is 1, expected 0"),
    ('{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": "0"}}', "its index is '0'"),
    ('{"cluster": {"worker": ["localhost:1"]}, "task": {"type": "chief", "index": 0}}', "its task is of type 'chief'"),
    ('{"cluster": {"worker": ["localhost:1"], "chief": ["localhost:2"]}, "task": {"type": "worker", "index": 0}}',
     "its cluster has chief, expected worker alone"),
])  # fmt: skip
def test_a_configuration_that_does_not_fit(monkeypatch, told, wrong):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if told is not None:
        monkeypatch.setenv("TF_CONFIG", told)
    with pytest.raises(ValueError, match=f"needs TF_CONFIG in the environment, such as .*; {wrong}"):
        make_cluster("multiworker")


SEVEN = """
from rawcnn.training.distributed import make_cluster
cluster = make_cluster("mirrored", 7)
assert cluster.local == 7
assert all(cluster.collectives.agree(number) for number in (0, 1, 3, 1_000_001, 2**26 + 1))
assert cluster.collectives.total([0.1, 1 / 3]).tolist() == [0.1, 1 / 3]
"""


@pytest.mark.parametrize("batch, count", [(39, 3), (64, 2), (64, 8)])
def test_parts_have_as_many_batches(data, batch, count):
    """Also if the remaining images would fill one part: a worker with one step more would wait forever."""
    some = data.only("train", range(4 * batch - 1))
    parts = [list(some.batches("train", batch, drop_remainder=True, part=(k, count))) for k in range(count)]
    assert {len(part) for part in parts} == {3} and {len(y) for part in parts for _, y in part} == {batch // count}


@pytest.mark.slow
def test_workers_agree_whatever_the_number_of_their_devices():
    """A number divided by seven is rounded; the sum over seven devices must still be exact."""
    done = subprocess.run([sys.executable, "-c", SEVEN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_shared(cluster, data):
    with pytest.raises(ValueError, match="strategy is 'parameter'; expected one of mirrored, multiworker"):
        make_cluster("parameter")
    with pytest.raises(ValueError, match=r'XLA compiles for one device.*; use "graph" instead'):
        training(cluster, compile="xla")
    with pytest.raises(ValueError, match="a batch of 63 has no 2 equal parts; give another --batch"):
        training(cluster, dataclasses.replace(RECIPE, batch=63)).fit(data)


@pytest.mark.slow
def test_on_the_command_line(rawcnn_command, tmp_path):
    """Two devices and one train on the digits, at a rate so low that rounding does not change which ReLUs are on."""
    ends = []
    for number, words in enumerate((("--strategy", "mirrored"), ())):
        code, out, err = rawcnn_command(
            "train",
            "cifar_resnet20",
            "--epochs",
            1,
            "--rate",
            1e-4,
            "--output",
            tmp_path / str(number),
            "--json",
            *words,
        )
        assert code == 0, err
        assert ("devices=2" in err) == bool(words)
        ends.append(json.loads(out.splitlines()[0]))
    assert ends[0]["train_loss"] == pytest.approx(ends[1]["train_loss"], rel=1e-4)
    assert rawcnn.weights.describe(tmp_path / "0" / "weights.safetensors")["network"] == "cifar_resnet20"


@pytest.mark.slow
def test_logical_devices_on_the_command_line(tmp_path):
    """This needs a process of its own: TensorFlow creates devices before it does anything else."""
    words = ["train", "cifar_resnet20", "--strategy", "mirrored", "--replicas", "4", "--epochs", "1", "--json"]
    command = [sys.executable, "-m", "rawcnn", *words, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "devices=4" in done.stderr, done.stderr
    assert json.loads(done.stdout.splitlines()[0])["epoch"] == 1


def test_more_workers_than_test_images(digits):
    """An empty part counts as zero images."""
    few, net = small.part(digits, 64, 2), small.network(seed=1)
    parts = [evaluate(net, few, part=(k, 3)) for k in range(3)]
    assert [p.count for p in parts] == [1, 1, 0] and sum(p.correct for p in parts) == evaluate(net, few).correct
    assert np.isfinite(parts[2].loss)


@pytest.mark.parametrize(
    "error, said",
    [
        (tf.errors.UnavailableError(None, None, "{{function_node f}} Connection reset\nmore"), "UnavailableError"),
        (tf.errors.InternalError(None, None, "{{function_node f}} Lost it\nmore [Op:X]"), "InternalError: Lost it"),
        (tf.errors.InternalError(None, None, "word " * 99), "InternalError: (word ){31}…"),
        (tf.errors.InternalError(None, None, ""), "InternalError"),
    ],
)
def test_a_lost_worker_is_told_without_names_of_tensorflow(monkeypatch, cluster, error, said):
    monkeypatch.setattr(cluster.collectives, "workers", 2)
    line = rf"^another worker has ended \({said}\); start all workers again to resume$"
    with pytest.raises(WorkerLost, match=line), cluster.collectives.lost_workers():
        raise error
