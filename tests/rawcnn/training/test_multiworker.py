"""Several worker processes on this machine reach the losses of one device, and recover after a worker is lost."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from rawcnn.cli import supervise
from rawcnn.training.observations import FILE, read_observations
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.runs import RMSPROP

LIMIT = 900  # seconds that a test waits for a worker
RECIPE = dataclasses.replace(RMSPROP, batch=96, epochs=3)


def configurations(count: int) -> list[str]:
    """Return a TF_CONFIG for each worker, with free ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    return [json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": k}}) for k in range(count)]


def start(configuration: str, words: Sequence[object], err: Path) -> subprocess.Popen:
    """Start a Python process of the cluster; its stderr goes to a file."""
    environment = {**os.environ, "TF_CONFIG": configuration, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.getcwd()}
    with err.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=file, text=True, env=environment
        )


LOSSES = """
import json
from rawcnn.training.distributed import make_cluster
cluster = make_cluster("multiworker")  # before TensorFlow does anything
from rawcnn.data import load
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.training.test_multiworker import RECIPE

with cluster.scope():
    network = small.network(seed=5)
training, found = Training(network, RECIPE, seed=9, cluster=cluster), []
result = training.fit(small.part(load("digits"), 256, 64), on_step=lambda _, __, m: found.append(m["loss"]))
print(json.dumps({"losses": found, "accuracy": result.accuracy, "count": result.count}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_workers_take_the_steps_of_one_device(tmp_path, digits, count):
    """Batch norm, dropout and augmentation act on one global batch; each worker evaluates a part of the test images."""
    workers = [start(c, ("-c", LOSSES), tmp_path / str(k)) for k, c in enumerate(configurations(count))]
    alone, expected = Training(small.network(seed=5), RECIPE, seed=9), []
    result = alone.fit(small.part(digits, 256, 64), on_step=lambda _, __, m: expected.append(m["loss"]))
    for k, worker in enumerate(workers):
        out, _ = worker.communicate(timeout=LIMIT)
        assert worker.returncode == 0, (tmp_path / str(k)).read_text()
        told = json.loads(out.splitlines()[-1])
        np.testing.assert_allclose(told["losses"], expected, rtol=1e-4)
        assert (told["count"], told["accuracy"]) == (result.count, result.accuracy)


COMMAND = """
from rawcnn.cli import main
from rawcnn.models import MODELS, ModelEntry
from tests.rawcnn import small

MODELS["small"] = ModelEntry(small.model, "a test", 8, 10)
main()
"""


def begin(
    folder: Path, count: int, *more: object, last: Sequence[object] = (), command: str = COMMAND
) -> list[subprocess.Popen]:
    """Start `rawcnn train` in `count` workers; the last one gets the arguments `last` in addition."""
    words = ["-c", command, "train", "small", "--strategy", "multiworker"]
    words += ["--epochs", 20, "--batch", 48, "--output", folder / "run", "--json", *more]
    own = [()] * (count - 1) + [last]
    return [start(c, (*words, *own[k]), folder / str(k)) for k, c in enumerate(configurations(count))]


def after_an_epoch(worker: subprocess.Popen) -> None:
    """Wait until the first worker reports an epoch."""
    assert worker.stdout and json.loads(worker.stdout.readline())["epoch"]


def told_by(folder: Path, workers: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Wait until all workers have ended; return (exit code, stderr) of each."""
    for worker in workers:
        worker.communicate(timeout=LIMIT)
    return [(worker.returncode, (folder / str(k)).read_text()) for k, worker in enumerate(workers)]


def run(folder: Path, count: int, killed: int | None = None) -> dict[str, np.ndarray]:
    """Run a complete training, kill one worker after the first epoch, and return the final weights."""
    folder.mkdir()
    workers = begin(folder, count, "--fresh")
    if killed is not None:
        after_an_epoch(workers[0])
        os.kill(int(re.findall(r"worker is process (\d+)", (folder / str(killed)).read_text())[-1]), signal.SIGKILL)
    for k, (code, told) in enumerate(told_by(folder, workers)):
        assert code == 0, told
        if killed is not None:
            how = "signal 9" if k == killed else r"(code 75|signal \d+)"
            assert re.search(rf"the worker ended with {how}; restarting it \(1 of 10\)", told), told
            assert "resuming after epoch" in told
    return load_file(folder / "run" / "weights.safetensors")


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected) and len(found) == 9
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The weights of an uninterrupted run of two workers."""
    return run(tmp_path_factory.mktemp("workers") / "undisturbed", 2)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1], ids=["who writes", "another"])
def test_a_killed_worker_comes_back(tmp_path, undisturbed, killed):
    assert_same(run(tmp_path / "killed", 2, killed), undisturbed)


@pytest.mark.slow
def test_one_of_three_workers_comes_back(tmp_path):
    assert_same(run(tmp_path / "killed", 3, killed=2), run(tmp_path / "undisturbed", 3))


@pytest.mark.slow
def test_workers_that_are_asked_to_stop_go_on_later(tmp_path, undisturbed):
    """All workers get SIGTERM, as from a cluster; none saves more steps than all have done."""
    workers = begin(tmp_path, 2)
    after_an_epoch(workers[0])
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for code, told in told_by(tmp_path, workers):
        assert code == 0 and "stopped on request after" in told, told
    for code, told in told_by(tmp_path, begin(tmp_path, 2)):
        assert code == 0 and "resuming after" in told, told
    assert_same(load_file(tmp_path / "run" / "weights.safetensors"), undisturbed)


@pytest.mark.slow
def test_two_workers_under_the_microscope_have_the_numbers_of_one(tmp_path):
    """Through two epochs: the same rows, and one page, which the first worker writes."""
    words = ("--epochs", 2, "--microscope", "--no-tensorboard")
    for code, told in told_by(tmp_path, begin(tmp_path, 2, *words)):
        assert code == 0, told
    alone = ["-c", COMMAND, "train", "small", "--batch", 48, "--output", tmp_path / "alone", "--json", *words]
    ((code, told),) = told_by(tmp_path, [start("", alone, tmp_path / "0")])
    assert code == 0, told
    two, one = (read_observations(tmp_path / name / FILE) for name in ("run", "alone"))
    assert two.layers == one.layers and two.epochs == one.epochs == (0, 1, 2)
    for name in ("loss", "dead_units", "activation_norm", "gradient_norm", "weight_norm", "update_ratio"):
        np.testing.assert_allclose(two.table(name), one.table(name), rtol=1e-3, atol=1e-4, err_msg=name)
    assert (tmp_path / "run" / "microscope" / "index.html").is_file()


SLOW_EVALUATION = """
import sys, time
from functools import partial
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.training import trainer

def slow(*arguments, step, **settings):
    def slept(images, labels):
        print("evaluating", file=sys.stderr, flush=True)
        time.sleep(1.0)
        return step(images, labels)
    return evaluate(*arguments, step=slept, batch=8, **settings)

trainer.evaluate, trainer.BATCH = slow, 8
"""


@pytest.mark.slow
def test_slow_workers_stop_in_the_middle_of_an_evaluation(tmp_path):
    """The workers do not finish the evaluation, and the epoch is not lost."""
    workers = begin(tmp_path, 2, command=SLOW_EVALUATION + COMMAND)
    while "evaluating" not in (tmp_path / "0").read_text():
        time.sleep(0.1)
    asked = time.monotonic()
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for code, told in told_by(tmp_path, workers):
        assert code == 0 and re.search(r"stopped on request after epoch 0 and \d+ steps", told), told
    assert time.monotonic() - asked < 30  # the whole of it takes 45 seconds


@pytest.mark.slow
def test_a_worker_that_waits_for_others_ends_at_sigterm(tmp_path):
    """It ends at once: there is nothing to save, and TensorFlow would not handle the signal while it waits."""
    alone = start(configurations(2)[0], ("-c", COMMAND, "train", "small", "--strategy", "multiworker"), tmp_path / "0")
    while "worker is process" not in (tmp_path / "0").read_text():
        time.sleep(0.1)
    time.sleep(10)  # in which it begins to wait
    asked = time.monotonic()
    alone.send_signal(signal.SIGTERM)
    ((code, told),) = told_by(tmp_path, [alone])
    assert code == 0 and "stopped on request before the training started" in told
    assert time.monotonic() - asked < 10


@pytest.mark.slow
def test_nobody_waits_for_ever_for_a_worker_that_ended_for_good(tmp_path):
    """One worker has bad input and reports it; the others wait for their limit and report that."""
    workers = begin(tmp_path, 2, "--wait", 0.5, last=("--data", "folder:/nonexistent", "--recipe", "digits"))
    (waited, told), (ended, why) = told_by(tmp_path, workers)
    assert ended == 2 and "/nonexistent is not a folder" in why
    assert waited == 2 and "the other workers did not start within 0.5 minutes; read their last messages" in told


@pytest.mark.slow
def test_folders_that_are_not_one_are_told(tmp_path):
    """The message comes before any training; otherwise a restarted worker would begin a new run."""
    command = "from rawcnn.training import shared_folder\nshared_folder.WAIT = 2.0\n" + COMMAND
    for code, told in told_by(tmp_path, begin(tmp_path, 2, last=("--output", tmp_path / "other"), command=command)):
        assert code == 2 and "the workers do not share the folder" in told, told
    assert not any(tmp_path.glob("*/.worker-*")) and not any(tmp_path.glob("*/checkpoints/*"))


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--rate", "--epochs"])
def test_workers_with_other_settings_are_told(tmp_path, option):
    """Otherwise each worker would update its own copy at its own rate, without an error."""
    (one, first), (two, other) = told_by(tmp_path, begin(tmp_path, 2, last=(option, 2)))
    assert one == two == 2 and "in another process, which reports them" in first, first
    assert re.search(r"different settings than the first: (rate|schedule|epochs) is .* here, .* there", other), other


@pytest.mark.slow
def test_a_worker_ends_with_the_process_that_watches_it(tmp_path):
    """Otherwise it would hold the port that the next run needs."""
    workers = begin(tmp_path, 2)
    after_an_epoch(workers[0])
    children = [int(re.findall(r"worker is process (\d+)", (tmp_path / str(k)).read_text())[-1]) for k in range(2)]
    for worker in workers:
        worker.kill()
    until = time.monotonic() + 30
    while alive := [child for child in children if Path(f"/proc/{child}").exists()]:
        assert time.monotonic() < until, f"{alive} are still there"
        time.sleep(0.2)
    told_by(tmp_path, workers)


@pytest.mark.slow
def test_numbers_that_are_not_finite_end_all_workers(tmp_path):
    for code, told in told_by(tmp_path, begin(tmp_path, 2, "--rate", 1e30)):
        assert code == 2 and re.search(r"the (loss|gradient norm) is (nan|inf) at step \d+", told), told


LIMITED = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))\n" + COMMAND


@pytest.mark.slow
def test_a_full_disk_of_the_worker_that_writes(tmp_path):
    """It ends with one line, the others after their time limit."""
    words = ("train", "small", "--strategy", "multiworker", "--epochs", 2, "--batch", 48, "--wait", 0.5)
    words += ("--output", tmp_path / "run")
    both = enumerate(configurations(2))
    workers = [start(c, ("-c", (LIMITED, COMMAND)[k], *words), tmp_path / str(k)) for k, c in both]
    (full, why), (waited, told) = told_by(tmp_path, workers)
    assert full == 2 and "could not be written" in why and "(ulimit -f) and run the same command again" in why
    assert waited == 2 and "the other workers did not start within 0.5 minutes" in told, told


def test_a_worker_without_a_cluster_says_so(rawcnn_command, monkeypatch):
    monkeypatch.setenv("RAWCNN_WORKER", "1")  # as the process that is watched over
    monkeypatch.delenv("TF_CONFIG", raising=False)
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--strategy", "multiworker")
    assert code == 2 and "needs TF_CONFIG in the environment, such as" in err
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--replicas", 2)
    assert code == 2 and "--replicas belongs to --strategy mirrored; give that, too" in err


@pytest.mark.parametrize("signals", [1, 2])
def test_a_worker_that_does_not_end_is_killed(tmp_path, monkeypatch, signals):
    """A worker may be waiting in TensorFlow; it is killed after a time limit or at the second SIGTERM."""
    ready = tmp_path / "ready"
    deaf = f"""
import pathlib, signal, sys, time
from rawcnn.cli.supervise import report_met
signal.signal(signal.SIGTERM, signal.SIG_IGN)
report_met()
pathlib.Path(sys.argv[1]).touch()
time.sleep({LIMIT})
"""
    monkeypatch.setattr(supervise, "STOP_LIMIT", 1.0 if signals == 1 else LIMIT)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", deaf, str(ready)])

    def send():
        while not ready.exists():
            time.sleep(0.1)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    told: list[str] = []
    threading.Thread(target=send).start()
    assert supervise.run_supervised(3, LIMIT, told.append) == 128 + signal.SIGKILL
    assert len(told) == 1
