"""Runs in processes of their own that end by SIGKILL at random moments, or because the disk is full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")

RUN = """
import os, sys
import tensorflow as tf
from rawcnn.data import load
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.runs import RMSPROP, state
import dataclasses, numpy as np

def run(folder, save_every, epochs, ready):
    recipe = dataclasses.replace(RMSPROP, batch=8, epochs=int(epochs))
    training = Training(small.network(seed=5), recipe, seed=9, folder=folder, save_every=float(save_every))
    training.restore()
    training.fit(small.part(load("digits"), 256, 64), on_step=lambda *_: ready())
    np.savez(os.path.join(folder, "end.npz"), **state(training))

def told():
    os.write(1, b".")

# TensorFlow's runtime has not started: what is imported by now is shared by all that are forked from here.
for line in sys.stdin:
    child = os.fork()
    if not child:
        run(*line.split(), told)
        os._exit(0)
    os.write(1, f"\\n{child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"\\nended\\n")
"""


@pytest.mark.parametrize("kills, epochs", [(1, 4), pytest.param(20, 40, marks=pytest.mark.slow)])
def test_kills_at_random_moments(tmp_path, kills, epochs):
    """Kills within steps and within checkpoints, one of which follows each step, do not change a bit of the result."""
    chance = random.Random(0)
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0
    ) as process:

        def start(folder, save_every):
            process.stdin.write(f"{folder} {save_every} {epochs}\n".encode())
            while not (word := process.stdout.readline().strip()).isdigit():
                pass
            return int(word)

        def end():
            while process.stdout.readline().strip() != b"ended":
                pass

        within = 0
        for _ in range(kills):
            child = start(tmp_path / "killed", 0)
            process.stdout.read(1)  # the first step is done
            time.sleep(chance.uniform(0, 0.25))
            os.kill(child, signal.SIGKILL)
            end()
            assert not (tmp_path / "killed" / "end.npz").exists(), "the run is too short for so many kills"
            within += any((tmp_path / "killed" / "checkpoints").glob(".*.part"))  # what a save leaves that was cut off
        assert within or kills < 10, "no kill fell into a checkpoint"
        for name in ("killed", "undisturbed"):
            start(tmp_path / name, 600)
            end()
    with np.load(tmp_path / "killed" / "end.npz") as mine, np.load(tmp_path / "undisturbed" / "end.npz") as theirs:
        assert list(mine) == list(theirs) and len(mine)
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name], name)


FULL = """
import resource, sys
from rawcnn.cli import main
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
main()
"""


def train(folder, epochs, limit):
    """Run `rawcnn train` with a limit of `limit` bytes on each file, which acts like a full disk."""
    words = ["train", "cifar_resnet20", "--epochs", epochs, "--output", folder, "--json"]
    command = [sys.executable, "-c", FULL, limit, *words]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a file's size stands for the disk")
def test_a_disk_without_space_leaves_the_last_checkpoint_whole(tmp_path):
    first = train(tmp_path, 1, 10**9)
    assert first.returncode == 0, first.stderr
    full = train(tmp_path, 2, 10**6)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("rawcnn: the checkpoint ") and "could not be written" in last
    assert "the last good checkpoint is" in last
    assert "Raise the limit on a file's size (ulimit -f) and run the same command again" in last
    again = train(tmp_path, 2, 10**9)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[0])["epoch"] == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, and a function that enlarges it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs root: {mounted.stderr.strip()}")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("used", [900_000, *range(100_000, 2_000_000, 400_000)])
def test_a_disk_that_is_full_at_any_moment(small_disk, used):
    """At a checkpoint, the curves or the events: one line names the file, and the same command resumes."""
    disk, enlarge = small_disk
    (disk / "others").write_bytes(bytes(used))
    words = ("train", "cifar_resnet20", "--size", 8, "--batch", 512, "--epochs", 2, "--output", disk / "run", "--json")
    command = [sys.executable, "-c", "from rawcnn.cli import main; main()", *map(str, words)]
    full = subprocess.run(command, capture_output=True, text=True)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    last = full.stderr.strip().splitlines()[-1]
    assert str(disk / "run") in last and "ree some space and run the same command again" in last, full.stderr
    enlarge()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (disk / "run" / "curves.png").stat().st_size and (disk / "run" / "weights.safetensors").stat().st_size
