"""The verbs that make pictures, fool and race a network, as a user meets them."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import results
from rawcnn.cli import race


def picture_size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_attack(rawcnn_command, digits_weights, tmp_path, name):
    words = ("attack", name, "cifar_resnet20", "--data", "digits", "--weights", digits_weights, "--count", 16)
    words += ("--epsilon", 0, "--epsilon", 0.1, "--output", tmp_path / "out", "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    rows = json.loads(out)["accuracy_against_epsilon"]
    assert [row["epsilon"] for row in rows] == [0, 0.1] and rows[1]["accuracy_after"] <= rows[0]["accuracy_after"]
    assert json.loads((tmp_path / "out" / "attack.json").read_text()) == json.loads(out)
    with np.load(tmp_path / "out" / "examples.npz") as files:
        assert np.max(np.abs(files["images"] - files["originals"])) <= 0.1 + 1e-6
    assert min(picture_size(tmp_path / "out" / "examples.png")) > 300


def test_benchmark(rawcnn_command, tmp_path, monkeypatch):
    file = tmp_path / "races.jsonl"
    words = ("benchmark", "cifar_resnet20", "--size", 8, "--batch", 2, "--rounds", 2, "--job", "inference")
    words += ("--contestant", "rawcnn graph", "--contestant", "keras default", "--output", file, "--json")
    monkeypatch.setattr(sys, "argv", ["/bin/rawcnn", *map(str, words)])
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    told = json.loads(out)
    assert told["races"][0]["figures"]["ratio"] > 0
    peaks = told["memory"][0]["figures"]["peaks"]
    assert set(peaks) == {"rawcnn graph", "keras default"}
    assert all(taken > 2**20 for taken in peaks.values()) or sys.platform != "linux"
    record, memory = results.read(tmp_path)
    assert record["settings"]["model"] == memory["settings"]["memory"] == "cifar_resnet20"
    assert record["command"].startswith("rawcnn benchmark cifar_resnet20") and str(tmp_path) not in record["command"]


def test_benchmark_appends_where_the_tables_are_made_from():
    default = inspect.signature(race.benchmark).parameters["output"].default
    assert Path(results.__file__).parents[1] / default.parent == results.FOLDER and default.suffix == ".jsonl"


WRONG = {
    "unknown attack": (("attack", "magic", "cifar_resnet20", "--data", "digits"), "the attacks are fgsm, bim, mi_fgsm"),
    "unknown contestant": (("benchmark", "cifar_resnet20", "--contestant", "torch"), "torch"),
    "networks beside visualize": (
        ("benchmark", "visualize", "resnet18"),
        "no layer of 'resnet18' is raced; expected some of alexnet, vgg16",
    ),
    "memory of nothing": (("benchmark", "memory"), "name some, as `benchmark memory resnet50`"),
    "a precision of attacks": (
        ("benchmark", "attacks", "--precision", "bfloat16"),
        "`benchmark attacks` has no use for --precision; that is for `benchmark NETWORK`, `benchmark kernels`, ",
    ),
    "a table of networks": (("benchmark", "vgg16", "--tune"), "has no use for --tune; that is for `benchmark kernels`"),
    "a batch of kernels": (("benchmark", "kernels", "--batch", 2), "networks, --batch and --size go with --tune"),
    "unknown network": (("benchmark", "lenet"), "there is no model 'lenet'"),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = rawcnn_command(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("rawcnn: ") and message in last, err
