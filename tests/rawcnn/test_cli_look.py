"""The verbs that make pictures, fool and race a network, as a user meets them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rawcnn
from benchmarks import results
from rawcnn.cli import look


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of an untrained digits network, which says its own size and class names."""
    network = rawcnn.create("cifar_resnet20", size=8)
    network.labels = tuple("0123456789")
    path = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    rawcnn.save_weights(network, path)
    return path


def picture_size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_filters(rawcnn_command, weights, tmp_path):
    picture = tmp_path / "filters.png"
    words = ("visualize", "filters", "cifar_resnet20", "--weights", weights, "--output", picture, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    assert json.loads(out)["filters"] == 16 and min(picture_size(picture)) > 100


def test_top_inputs(rawcnn_command, weights, tmp_path):
    picture = tmp_path / "top.png"
    words = ("visualize", "top-inputs", "cifar_resnet20", "--layer", "conv2_1/relu", "--weights", weights)
    words += ("--channel", 3, "--channel", 5, "--count", 4, "--split", "test", "--output", picture, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    channels = json.loads(out)["channels"]
    assert list(channels) == ["3", "5"] and all(len(row) == 4 for row in channels.values())
    activations = [top["activation"] for top in channels["3"]]
    assert activations == sorted(activations, reverse=True)
    assert picture_size(picture)[0] > picture_size(picture)[1]


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_attack(rawcnn_command, weights, tmp_path, name):
    words = ("attack", name, "cifar_resnet20", "--data", "digits", "--weights", weights, "--count", 16)
    words += ("--epsilon", 0, "--epsilon", 0.1, "--output", tmp_path / "out", "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    rows = json.loads(out)["accuracy_against_epsilon"]
    assert [row["epsilon"] for row in rows] == [0, 0.1] and rows[1]["accuracy_after"] <= rows[0]["accuracy_after"]
    assert json.loads((tmp_path / "out" / "attack.json").read_text()) == json.loads(out)
    with np.load(tmp_path / "out" / "examples.npz") as files:
        assert np.max(np.abs(files["images"] - files["originals"])) <= 0.1 + 1e-6
    assert min(picture_size(tmp_path / "out" / "examples.png")) > 300


def test_benchmark(rawcnn_command, tmp_path):
    file = tmp_path / "races.jsonl"
    words = ("benchmark", "cifar_resnet20", "--size", 8, "--batch", 2, "--rounds", 2, "--job", "inference")
    words += ("--contestant", "rawcnn graph", "--contestant", "keras default", "--output", file, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    assert json.loads(out)["races"][0]["figures"]["ratio"] > 0
    (record,) = results.read(tmp_path)
    assert record["settings"]["model"] == "cifar_resnet20" and record["command"].startswith("rawcnn ")


def test_benchmark_appends_where_the_tables_are_made_from():
    default = inspect.signature(look.benchmark).parameters["output"].default
    assert Path(results.__file__).parents[1] / default.parent == results.FOLDER and default.suffix == ".jsonl"


WRONG = {
    "unknown attack": (("attack", "magic", "cifar_resnet20", "--data", "digits"), "the attacks are fgsm, pgd"),
    "unknown layer": (("visualize", "top-inputs", "cifar_resnet20", "--layer", "conv9"), "names near it"),
    "no colours": (("visualize", "filters", "cifar_resnet20", "--layer", "conv2_1/conv1"), "conv1"),
    "unknown contestant": (("benchmark", "cifar_resnet20", "--contestant", "torch"), "torch"),
    "unknown network": (("benchmark", "lenet"), "there is no model 'lenet'"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = rawcnn_command(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("rawcnn: ") and message in last, err
