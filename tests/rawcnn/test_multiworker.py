"""Several worker processes on this machine's loopback: the losses of one device, and a run that outlives a worker."""

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

from rawcnn import supervise
from rawcnn.train import Training
from tests.rawcnn import small
from tests.rawcnn.runs import RMSPROP

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workers")]
LIMIT = 900  # seconds that a test waits for a worker
RECIPE = dataclasses.replace(RMSPROP, batch=96, epochs=3)


def configurations(count: int) -> list[str]:
    """A TF_CONFIG for each worker, with ports that are free."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]
    return [json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": k}}) for k in range(count)]


def start(configuration: str, words: Sequence[object], err: Path) -> subprocess.Popen:
    """A Python process of the cluster; what it says on stderr goes into a file."""
    environment = {**os.environ, "TF_CONFIG": configuration, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.getcwd()}
    with err.open("w") as file:
        return subprocess.Popen(
            [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=file, text=True, env=environment
        )


LOSSES = """
import json
from rawcnn.distribute import cluster_of
cluster = cluster_of("multiworker")  # before TensorFlow does anything
from rawcnn.data import load
from rawcnn import supervise
from rawcnn.train import Training
from tests.rawcnn import small
from tests.rawcnn.test_multiworker import RECIPE

with cluster.scope():
    network = small.network(seed=5)
training, found = Training(network, RECIPE, seed=9, cluster=cluster), []
result = training.fit(small.part(load("digits"), 256, 64), on_step=lambda _, __, m: found.append(m["loss"]))
print(json.dumps({"losses": found, "accuracy": result.accuracy, "count": result.count}))
"""


@pytest.mark.parametrize("count", [2, 3])
def test_workers_take_the_steps_of_one_device(tmp_path, digits, count):
    """Batch norm, dropout and augmentation of one global batch; each evaluates a part of the test images."""
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
from rawcnn.models import MODELS, Model
from tests.rawcnn import small

MODELS["small"] = Model(small.model, "a test", 8, 10)
main()
"""


def run(folder: Path, count: int, killed: int | None = None) -> dict[str, np.ndarray]:
    """`rawcnn train` by so many workers, of which one is killed after the first epoch → the final weights."""
    folder.mkdir()
    words = ["-c", COMMAND, "train", "small", "--strategy", "multiworker"]
    words += ["--epochs", 20, "--batch", 48, "--output", folder / "run", "--json", "--fresh"]
    workers = [start(c, words, folder / str(k)) for k, c in enumerate(configurations(count))]
    if killed is not None:
        assert workers[0].stdout and json.loads(workers[0].stdout.readline())["epoch"] == 1
        os.kill(int(re.findall(r"worker is process (\d+)", (folder / str(killed)).read_text())[-1]), signal.SIGKILL)
    for k, worker in enumerate(workers):
        worker.communicate(timeout=LIMIT)
        told = (folder / str(k)).read_text()
        assert worker.returncode == 0, told
        if killed is not None:
            how = "signal 9" if k == killed else r"(code 75|signal \d+)"
            assert re.search(rf"the worker ended with {how}; starting it again \(1 of 10 times\)", told), told
            assert "going on after epoch" in told
    return load_file(folder / "run" / "weights.safetensors")


def test_a_killed_worker_comes_back(tmp_path):
    """The first, which writes the checkpoints: the weights are those of an undisturbed run."""
    expected, found = run(tmp_path / "undisturbed", 2), run(tmp_path / "killed", 2, killed=0)
    assert list(found) == list(expected) and len(found) == 9
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, path)


def test_a_worker_without_a_cluster_says_so(rawcnn_command, monkeypatch):
    monkeypatch.setenv("RAWCNN_WORKER", "1")  # as the process that is watched over
    monkeypatch.delenv("TF_CONFIG", raising=False)
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--strategy", "multiworker")
    assert code == 2 and "needs TF_CONFIG in the environment, such as" in err
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--replicas", 2)
    assert code == 2 and "--replicas are those of --strategy mirrored; give it too" in err


@pytest.mark.parametrize("signals", [1, 2])
def test_a_worker_that_does_not_end_is_killed(tmp_path, monkeypatch, signals):
    """As one that waits for others in TensorFlow: after its time, or at the second SIGTERM."""
    ready = tmp_path / "ready"
    deaf = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "pathlib.Path(sys.argv[1]).touch(); time.sleep(LIMIT)".replace("LIMIT", str(LIMIT))
    monkeypatch.setattr(supervise, "PATIENCE", 1.0 if signals == 1 else LIMIT)
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", deaf, str(ready)])

    def send():
        while not ready.exists():
            time.sleep(0.1)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    told: list[str] = []
    threading.Thread(target=send).start()
    assert supervise.watch_over(3, told.append) == 128 + signal.SIGKILL
    assert len(told) == 1
