"""The stored totals of the models are those of their traces."""

from __future__ import annotations

import json

import pytest

import rawcnn
from rawcnn.models import MODELS
from rawcnn.profiling import model_totals

STALE = "run: python -m rawcnn.profiling.model_totals"


def test_the_file_is_of_this_code():
    stored = json.loads(model_totals.FILE.read_text())
    assert stored["code"] == model_totals.code_of_models(), STALE
    assert stored["models"].keys() == MODELS.keys(), STALE


@pytest.mark.sample("^cifar_resnet20$", "^vgg_a$")
@pytest.mark.parametrize("name", MODELS)
def test_the_file_holds_what_the_trace_yields(name):
    stored = json.loads(model_totals.FILE.read_text())["models"]
    assert stored[name] == rawcnn.profile(name).totals, STALE


def test_nothing_is_traced_while_the_file_is_of_this_code(rawcnn_command, monkeypatch):
    monkeypatch.setattr(model_totals, "profile", None)
    code, out, err = rawcnn_command("models", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows.keys() == MODELS.keys() and rows["alexnet"]["macs"] == 724_406_816


def test_other_code_is_traced(monkeypatch):
    monkeypatch.setattr(model_totals, "code_of_models", lambda: "another")
    monkeypatch.setattr(model_totals, "MODELS", {"cifar_resnet20": MODELS["cifar_resnet20"]})
    steps = []
    found = model_totals.model_totals(lambda *step: steps.append(step))
    assert found == {"cifar_resnet20": rawcnn.profile("cifar_resnet20").totals}
    assert steps == [(1, 1, "cifar_resnet20")]
