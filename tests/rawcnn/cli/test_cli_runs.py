"""What a training run shows and leaves in its folder, and what --fresh deletes."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf
from PIL import Image

import rawcnn


@pytest.mark.slow
def test_a_fresh_start_is_a_run_of_its_own(rawcnn_command, small_run, tmp_path):
    """Its weights, its history and its events hold nothing of the previous run."""
    words = ("train", "cifar_resnet20", "--epochs", 1, "--seed", 5)
    for folder, how in ((small_run, ("--fresh",)), (tmp_path / "alone", ())):
        code, _, err = rawcnn_command(*words, "--output", folder, *how)
        assert code == 0 and "going on" not in err, err
    (file,) = (small_run / "events").glob("events.out.tfevents*")
    seen = [(v.tag, e.step) for e in tf.compat.v1.train.summary_iterator(str(file)) for v in e.summary.value]
    assert len(seen) == len(set(seen)) and ("test_loss", 1) in seen
    weights, alone = (folder / "weights.safetensors" for folder in (small_run, tmp_path / "alone"))
    assert weights.read_bytes() == alone.read_bytes()
    assert [epoch["epoch"] for epoch in json.loads((small_run / "history.json").read_text())] == [1]


@pytest.mark.slow
def test_a_trace_of_no_step_is_reported(rawcnn_command, small_run):
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--epochs", 1, "--output", small_run, "--trace")
    assert code == 0 and "no trace was written: it begins after the first steps of a run" in " ".join(err.split())


def test_a_network_that_gives_no_numbers_is_evaluated(rawcnn_command, tmp_path):
    """Every prediction is wrong, and the JSON on stdout and in the file has no NaN."""
    network = rawcnn.create("cifar_resnet20", size=8)
    for path in ("classifier/weights", "conv1/bn/scale"):  # finite weights, infinite results
        network.variables[path].assign(tf.fill(network.variables[path].shape, 3e38))
    rawcnn.save_weights(network, tmp_path / "broken.safetensors")
    words = ("evaluate", "cifar_resnet20", "--data", "digits", "--weights", tmp_path / "broken.safetensors", "--json")
    for _ in range(2):  # the second from the file
        code, out, err = rawcnn_command(*words, "--output", tmp_path / "rows.jsonl")
        assert code == 0 and json.loads(out)["loss"] is None and json.loads(out)["top1_accuracy"] == 0, err
    assert "NaN" not in (tmp_path / "rows.jsonl").read_text()


@pytest.mark.parametrize("wrong", [("--compile", "foo"), ("--batch", 5000), ("--size", 10**6)])
def test_a_fresh_start_with_a_wrong_option_deletes_nothing(rawcnn_command, small_run, wrong):
    before = sorted(path.name for path in (small_run / "checkpoints").iterdir())
    code, _, err = rawcnn_command("train", "cifar_resnet20", "--output", small_run, "--fresh", *wrong)
    assert code == 2 and before and "Traceback" not in err
    assert sorted(path.name for path in (small_run / "checkpoints").iterdir()) == before


def test_what_a_run_shows(rawcnn_command, tmp_path):
    """It writes scalars of steps and epochs, pictures, a profiler trace and curves."""
    code, out, err = rawcnn_command(
        "train", "cifar_resnet20", "--epochs", 2, "--output", tmp_path, "--images", "--trace", "--json"
    )
    assert code == 0, err
    assert [json.loads(line).get("epoch") for line in out.splitlines()] == [1, 2, None]
    tags: dict[str, set[int]] = {}
    for file in (tmp_path / "events").glob("events.out.tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                tags.setdefault(value.tag, set()).add(event.step)
    assert tags["step/loss"] == tags["step/gradient_norm"] == {20, 22, 42, 44}
    assert tags["test_accuracy"] == tags["filters"] == tags["images/augmented"] == tags["images/wrong"] == {1, 2}
    assert list((tmp_path / "events" / "plugins" / "profile").rglob("*.xplane.pb"))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size > (900, 200)
