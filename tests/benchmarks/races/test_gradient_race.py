"""The race of gradients by hand against the tape: equality first, then times, and the table of its records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.results import read
from benchmarks.races import gradients
from benchmarks.run import run_gradients
from benchmarks.tables.documents import rewrite
from benchmarks.tables.gradients import gradient_table
from rawcnn.models import MODELS
from rawcnn.nn import backpropagation
from tests.benchmarks import toys
from tests.benchmarks.toys import toy

GRAPH = ("tape graph", "hand graph")


def test_contestants_are_checked():
    assert gradients.select_contestants(["hand xla", "tape graph"]) == ("tape graph", "hand xla")
    for wrong in (["hand"], [], ["tape xla", "tape xla"]):
        with pytest.raises(ValueError, match="expected some of tape graph, hand graph, tape xla, hand xla"):
            gradients.select_contestants(wrong)
    assert set(gradients.SHAPES) <= set(MODELS) and len(gradients.SHAPES) == 5


@pytest.mark.slow
@pytest.mark.parametrize("model", [toys.everything, toys.dropping], ids=["everything", "dropping"])
def test_all_contestants_take_the_same_step(model):
    network = toy(model)
    before = {path: v.numpy() for path, v in network.variables.items()}
    steps: list[tuple[str, int, int]] = []
    result = gradients.race_gradients(network, batch=4, rounds=3, progress=lambda *words: steps.append(words))
    assert [t.name for t in result.timings] == list(gradients.NAMES)
    assert result.timings[0].difference == 0 and all(t.difference < 1e-2 for t in result.timings)
    assert all(len(t.seconds) == 3 and t.first_call > t.median for t in result.timings)
    assert len(result.ratio("graph")) == len(result.ratio("xla")) == 3
    assert steps[-1][1] == steps[-1][2]
    for path, value in before.items():
        np.testing.assert_array_equal(network.variables[path], value, path)


@pytest.mark.deeper
def test_other_gradients_are_not_timed(monkeypatch):
    """A ReLU whose gradient by hand is twice as large."""
    network, rule = toy(toys.small), backpropagation.GRADIENT_RULES["relu"]
    monkeypatch.setitem(backpropagation.GRADIENT_RULES, "relu", lambda op, g: rule(op, 2 * g))
    with pytest.raises(Disagreement, match="hand graph gives other gradients"):
        gradients.race_gradients(network, batch=4, rounds=1, contestants=GRAPH)


@pytest.mark.slow
def test_a_race_by_name_measures_first_calls_and_memory_apart(tmp_path):
    file = tmp_path / "gradients.jsonl"
    (result,) = run_gradients(
        ["cifar_resnet20"], file=file, command="test", batch=2, size=8, rounds=1, contestants=GRAPH
    )
    (record,) = read(tmp_path)
    assert record["settings"]["gradients"] == "cifar_resnet20" and record["settings"]["size"] == 8
    assert not record["figures"]["complete"] and set(record["figures"]["hand_over_tape"]) == {"graph"}
    assert all(t.memory is None or t.memory > 2**20 for t in result.timings)
    assert record["command"] == "test" and {"device", "versions", "commit"} <= record.keys()


def record(rounds: int = 3, **changes):
    """A record with two milliseconds by the tape, three by hand."""
    contestants = [
        {
            "name": name, "median": 2e-3 + 1e-3 * name.startswith("hand"), "first_call": 1.5, "memory": 2**20,
            "seconds": list(np.full(rounds, 2e-3 + 1e-3 * name.startswith("hand"))),
        }
        for name in gradients.NAMES
    ]  # fmt: skip
    device = {"cpu": "a processor", "cores": 2, "flags": [], "gpus": [], "onednn": True, "system": "Linux"}
    settings = {"gradients": "vgg16", "batch": 8, "size": 64, "classes": 1000, "precision": "float32", "rounds": rounds}
    versions = {"python": "3.11.0", "tensorflow": "2.21.0", "keras": "3.15.1"}
    figures = {"complete": True, "hand_over_tape": {}, "contestants": contestants}
    made = {"date": "2026-01-01", "device": device, "versions": versions, "commit": None, "command": "x"}
    return json.loads(json.dumps({**made, "settings": settings, "figures": {**figures, **changes}}))


def test_the_table():
    text = gradient_table([record()])
    row = "| vgg16, 64 px | 8 | {} | 2.00 ms | 3.00 ms | **1.50** (1.50–1.50) | 1.5 s, 1.5 s | 1 MiB, 1 MiB |"
    assert row.format("graph") in text and row.format("XLA") in text and "Medians of 3 interleaved rounds" in text
    assert gradient_table([record(rounds=2), record(complete=False)]) == ""
    document = "<!-- gradient table -->\n<!-- end of gradient table -->\n"
    assert rewrite(document, []) == document and row.format("XLA") in rewrite(document, [record()])


@pytest.mark.parametrize(
    "words, message",
    [
        (("vgg61",), "there is no model 'vgg61'"),
        (("--contestant", "hand"), "expected some of tape graph, hand graph, tape xla, hand xla"),
        (("--rounds", 0), "rounds"),
    ],
)
def test_the_command_line_refuses(rawcnn_command, tmp_path, words, message):
    code, _, err = rawcnn_command("benchmark", "gradients", *words, "--output", tmp_path / "g.jsonl")
    assert code == 2 and message in err and "Traceback" not in err and not (tmp_path / "g.jsonl").exists()
