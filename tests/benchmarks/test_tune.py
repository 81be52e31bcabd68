"""Measuring the fastest forms: which cases there are, which form is taken, and what the file holds."""

from __future__ import annotations

import json

import pytest

from benchmarks import tune
from kernels import choice


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    choice.forget()
    yield
    monkeypatch.undo()
    choice.forget()


def test_cases_are_those_of_the_ledger_each_once():
    found = tune.cases(["cifar_resnet20"], batch=2)
    assert len({str(case) for case in found}) == len(found)
    of_first = [case for case in found if case.shape == "3×3×3×16 /1"]
    assert [case.job for case in of_first] == ["conv2d", "conv2d filter gradient"]  # nobody wants the image's gradient
    assert {case.pixels for case in of_first} == {2 * 32 * 32}
    (strided,) = [case for case in found if case.shape == "3×3×16×32 /2" and case.job == "conv2d"]
    assert strided.forms == ("nn", "im2col", "shifted") and "winograd4" in of_first[0].forms


def test_a_form_must_win_clearly():
    """By the median and by the fastest round."""
    assert tune._choose({"nn": [10, 10, 11], "shifted": [9, 9, 9]}, "nn") == "shifted"
    assert tune._choose({"nn": [10, 10, 11], "shifted": [9.8, 9.8, 9.8]}, "nn") == "nn"
    assert tune._choose({"nn": [8, 10, 11], "shifted": [9, 9, 9]}, "nn") == "nn"


def test_a_table_is_measured_and_then_used(tmp_path):
    path = choice.table_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"forms": ')  # a table that broke is written anew
    told = []
    tune.tune(
        ["cifar_resnet20"], ["graph"], ["float32"], path=path, batch=1, size=8, rounds=1, command="here",
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    table = json.loads(path.read_text())
    cases = tune.cases(["cifar_resnet20"], 1, 8)
    assert table["command"] == "here" and [step[1:] for step in told] == [
        (k + 1, len(cases)) for k in range(len(cases))
    ]
    assert sum(len(sizes) for shapes in table["forms"].values() for sizes in shapes.values()) == len(cases)
    for case in cases:
        told_of = table["forms"][f"graph {case.job} float32"][case.shape][str(case.pixels)]
        assert set(told_of["microseconds"]) == set(case.forms)
    told_of["form"] = "another"
    path.write_text(json.dumps(table))
    choice.forget()
    assert choice.measured(case.job, tune.tf.float32, case.shape, case.pixels, ["nn", "another"]) == "another"


def test_on_the_command_line(rawcnn_command, monkeypatch):
    monkeypatch.setattr(tune, "fastest", lambda case, *_: (case.forms[0], {case.forms[0]: 1e-3}))
    code, out, err = rawcnn_command("benchmark", "kernels", "cifar_resnet20", "--tune", "--json")
    assert code == 0, err
    table = json.loads(out)
    assert set(table["forms"]) == {
        f"{compiler} {job} {dtype}"
        for compiler in ("graph", "xla")
        for job in ("conv2d", "conv2d input gradient", "conv2d filter gradient", "batch_norm")
        for dtype in ("float32", "bfloat16")
    } | {"inference conv2d float32", "inference conv2d bfloat16"}
    assert json.loads(choice.table_path().read_text()) == table and "delete it to use" in err
    for words, wrong in (
        (("resnet50", "--tune"), "has no use for --tune; that is for `benchmark kernels`"),
        (("kernels", "resnet50"), "networks, --batch and --size go with --tune"),
        (("kernels", "--tune", "--precision", "bfloat16"), "--tune measures both precisions; leave --precision out"),
    ):
        code, _, err = rawcnn_command("benchmark", *words)
        assert code == 2 and wrong in " ".join(err.split())
