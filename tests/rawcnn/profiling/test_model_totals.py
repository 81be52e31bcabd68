"""The stored list of models is that of their traces."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rawcnn.models import MODELS
from rawcnn.profiling import model_totals

STALE = "run: python -m rawcnn.profiling.model_totals"


def stored() -> dict[str, dict]:
    rows = json.loads(model_totals.FILE.read_text(encoding="utf-8"))["models"]
    return {row["name"]: row for row in rows}


def test_the_file_is_of_this_code():
    code = json.loads(model_totals.FILE.read_text(encoding="utf-8"))["code"]
    assert code == model_totals.code_of_models() and list(stored()) == list(MODELS), STALE


@pytest.mark.sample("^cifar_resnet20$", "^vgg_a$")
@pytest.mark.parametrize("name", MODELS)
def test_the_file_holds_what_the_trace_yields(name):
    assert stored()[name] == json.loads(json.dumps(model_totals.traced_model(name))), STALE


def test_nothing_is_traced_while_the_file_is_of_this_code(rawcnn_command, monkeypatch):
    monkeypatch.setattr(model_totals, "traced_models", None)
    code, out, err = rawcnn_command("models", "--json")
    assert code == 0, err
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows.keys() == MODELS.keys() and rows["alexnet"]["macs"] == 724_406_816


def test_the_list_needs_no_tensorflow():
    code = (
        "import sys\nfrom rawcnn.profiling.model_totals import listed_models\n"
        "assert listed_models() and 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_code_is_traced(monkeypatch):
    monkeypatch.setattr(model_totals, "code_of_models", lambda: "another")
    monkeypatch.setattr("rawcnn.models.MODELS", {"cifar_resnet20": MODELS["cifar_resnet20"]})
    steps = []
    found = model_totals.listed_models(lambda *step: steps.append(step))
    assert found == [model_totals.traced_model("cifar_resnet20")] and steps == [(1, 1, "cifar_resnet20")]
