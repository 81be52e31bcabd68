"""`rawcnn benchmark` from the user's side: its kinds, their options, their results and their errors."""

from __future__ import annotations

import json
import re
import sys

import pytest
import typer
from typer.core import TyperGroup

from benchmarks.harness import results
from benchmarks.races import contestants
from rawcnn.cli.benchmarks import KINDS, app


@pytest.mark.slow
def test_benchmark(rawcnn_command, tmp_path, monkeypatch):
    file = tmp_path / "races.jsonl"
    words = ("benchmark", "cifar_resnet20", "--size", 8, "--batch", 2, "--rounds", 2, "--job", "inference")
    words += ("--contestant", "rawcnn graph", "--contestant", "keras default", "--output", file, "--json")
    monkeypatch.setattr(sys, "argv", ["/bin/rawcnn", *map(str, words)])
    code, out, err = rawcnn_command(*words)
    assert code == 0, err
    found = json.loads(out)
    assert found["races"][0]["figures"]["ratio"] > 0
    peaks = found["memory"][0]["figures"]["peaks"]
    assert set(peaks) == {"rawcnn graph", "keras default"}
    assert all(peak > 2**20 for peak in peaks.values()) or sys.platform != "linux"
    record, memory = results.read(tmp_path)
    assert record["settings"]["model"] == memory["settings"]["memory"] == "cifar_resnet20"
    assert record["command"].startswith("rawcnn benchmark cifar_resnet20") and str(tmp_path) not in record["command"]


def test_benchmark_writes_into_a_folder_of_its_own(rawcnn_command, tmp_path, monkeypatch):
    """Only an explicit --output writes to the result files from which the documents' tables are generated."""
    monkeypatch.chdir(tmp_path)
    words = ("benchmark", "cifar_resnet20", "--size", 8, "--batch", 2, "--rounds", 1, "--job", "inference")
    code, out, err = rawcnn_command(*words, "--contestant", "rawcnn graph", "--no-memory")
    assert code == 0 and "appended to benchmark/races.jsonl" in out, err
    assert len(results.read(tmp_path / "benchmark")) == 1


def test_benchmark_lists_its_kinds_and_its_contestants(rawcnn_command):
    code, out, _ = rawcnn_command("benchmark", "--help")
    assert code == 0 and all(re.search(rf"^  {kind} ", out, re.MULTILINE) for kind in KINDS)
    code, out, _ = rawcnn_command("benchmark", "networks", "--help")
    words = " ".join(out.split())
    for name in (*contestants.NAMES, *contestants.TORCH):
        side, how = name.split(" ", 1)
        assert re.search(rf"{side} [a-z, ]*\b{how}\b", words), name


@pytest.mark.parametrize(
    "words, command",
    [
        ((), "networks"),
        (("--rounds", "3"), "networks --rounds 3"),
        (("resnet50", "--batch", "4"), "networks resnet50 --batch 4"),
        (("--no-memory", "--batch=4", "resnet50"), "networks --no-memory --batch=4 resnet50"),
        (("--json", "--output", "kernels", "kernels", "--tune"), "kernels --json --output kernels --tune"),
        (("networks", "memory"), "networks memory"),
    ],
)
def test_benchmark_without_a_kind_races_networks(words, command, monkeypatch):
    group = typer.main.get_command(app)
    found: list[str] = []
    monkeypatch.setattr(TyperGroup, "parse_args", lambda self, context, arguments: found.extend(arguments))
    group.parse_args(None, list(words))
    assert found == command.split()


WRONG = {
    "unknown contestant": (("benchmark", "cifar_resnet20", "--contestant", "torch"), "torch"),
    "a network without a raced layer": (
        ("benchmark", "visualize", "resnet18"),
        "no layer of 'resnet18' is raced; expected some of alexnet, vgg16",
    ),
    "memory of nothing": (("benchmark", "memory"), "name some, as `benchmark memory resnet50`"),
    "a precision of attacks": (
        ("benchmark", "attacks", "--precision", "bfloat16"),
        "No such option: --precision (see rawcnn benchmark attacks --help)",
    ),
    "a table of networks": (
        ("benchmark", "vgg16", "--tune"),
        "No such option: --tune (see rawcnn benchmark networks --help)",
    ),
    "a batch of kernels": (("benchmark", "kernels", "--batch", 2), "networks, --batch and --size go with --tune"),
    "unknown network": (("benchmark", "lenet"), "there is no model 'lenet'"),
    "unknown job": (("benchmark", "alexnet", "--job", "sleep"), "--job is 'sleep'; expected one of inference, trai"),
    "unknown precision": (("benchmark", "alexnet", "--precision", "int8"), "precision is 'int8'; expected "),
    "a precision of growth": (("benchmark", "growth", "--precision", "int8"), "precision is 'int8'; expected "),
}


@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_line_and_code_2(rawcnn_command, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = rawcnn_command(*words)
    last = err.strip().splitlines()[-1]
    assert code == 2 and last.startswith("rawcnn: ") and message in last, err
    assert not list(tmp_path.iterdir())  # not even a folder
