"""Measuring the fastest forms: the cases, the selected form, and the file."""

from __future__ import annotations

import json

import pytest

from benchmarks import tune
from kernels.dispatch import selection


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    selection.forget()
    yield
    monkeypatch.undo()
    selection.forget()


def test_cases_are_distinct_operations():
    found = tune.cases(["cifar_resnet20"], batch=2)
    assert len({str(case) for case in found}) == len(found)
    of_first = [case for case in found if case.shape == "3×3×3×16 /1"]
    jobs = ["conv2d", "conv2d input gradient", "conv2d filter gradient"]
    assert [case.job for case in of_first] == jobs  # the image's gradient too, which attacks need
    assert {case.pixels for case in of_first} == {2 * 32 * 32}
    (strided,) = [case for case in found if case.shape == "3×3×16×32 /2" and case.job == "conv2d"]
    assert strided.forms == ("nn", "im2col", "shifted", "space_to_depth") and "winograd4" in of_first[0].forms


@pytest.mark.deeper
def test_cases_in_groups():
    """AlexNet's convolutions in groups are cases; depthwise convolutions have one form and are not."""
    found = [case for case in tune.cases(["alexnet", "nasnet_mobile"], 1, 224) if "in 2 groups" in case.shape]
    assert len(found) == 9 and {case.forms[1:] for case in found} == {("split", "dense")}
    assert [case.forms[0] for case in found[:3]] == ["nn", "flipped", "shifted"]
    assert not [case for case in tune.cases(["nasnet_mobile"], 1, 224) if "groups" in case.shape]
    form, seconds = tune.fastest(found[1], "graph", "float32", 1)
    assert set(seconds) == set(found[1].forms) and form in found[1].forms


def test_a_form_must_win_clearly():
    """By the median and by the fastest round."""
    assert tune.choose({"nn": [10, 10, 11], "shifted": [9, 9, 9]}, "nn") == "shifted"
    assert tune.choose({"nn": [10, 10, 11], "shifted": [9.8, 9.8, 9.8]}, "nn") == "nn"
    assert tune.choose({"nn": [8, 10, 11], "shifted": [9, 9, 9]}, "nn") == "nn"


@pytest.mark.slow
def test_a_table_is_measured_and_then_used(tmp_path, monkeypatch):
    """The first layers: a convolution of an image and one of maps, forward and backward, and a batch norm."""
    cases = tune.cases(["cifar_resnet20"], 1, 8)[:8]
    assert {case.job.split()[0] for case in cases} == {"conv2d", "batch_norm"}
    monkeypatch.setattr(tune, "cases", lambda *_: cases)
    path = selection.table_path()
    path.parent.mkdir(parents=True)
    path.write_text('{"forms": ')  # a damaged table is replaced
    reported = []
    tune.tune(
        ["cifar_resnet20"], ["graph"], ["float32"], path=path, batch=1, size=8, rounds=1, command="here",
        progress=lambda *step: reported.append(step),
    )  # fmt: skip
    table = json.loads(path.read_text())
    assert [about["command"] for about in table["measured"]] == ["here"]
    assert [step[1:] for step in reported] == [(k + 1, len(cases)) for k in range(len(cases))]
    assert sum(len(sizes) for shapes in table["forms"].values() for sizes in shapes.values()) == len(cases)
    for case in cases:
        told_of = table["forms"][f"graph {case.job} float32"][case.shape][str(case.pixels)]
        assert set(told_of["microseconds"]) == set(case.forms) and told_of["by"] == 0
    told_of["form"] = "another"
    path.write_text(json.dumps(table))
    selection.forget()
    assert selection.measured(case.job, tune.tf.float32, case.shape, case.pixels, ["nn", "another"]) == "another"


def test_a_form_with_other_results_is_left_out_and_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "fastest", lambda case, *_: (case.forms[0], {case.forms[0]: 1e-3}))
    reported = []
    table = tune.tune(
        ["cifar_resnet20"],
        ["graph"],
        ["float32"],
        path=tmp_path / "t.json",
        progress=lambda what, *_: reported.append(what),
    )
    of = table["forms"]["graph batch_norm float32"]["16"]
    assert [entry["differ"] for entry in of.values()] == [["explicit"]]
    assert any("batch_norm 16" in what and "(explicit left out: other results)" in what for what in reported)


def test_other_measurements_are_kept(monkeypatch):
    """A second measurement of other networks adds to the table and marks its entries."""
    monkeypatch.setattr(tune, "fastest", lambda case, *_: (case.forms[0], {case.forms[0]: 1e-3}))
    for model, command in (("resnet18", "first"), ("cifar_resnet20", "second"), ("cifar_resnet20", "third")):
        table = tune.tune([model], ["graph"], ["float32"], path=selection.table_path(), batch=1, command=command)
    assert [about["command"] for about in table["measured"]] == ["first", "second", "third"]
    of = table["forms"]["graph conv2d float32"]
    assert {entry["by"] for entry in of["7×7×3×64 /2"].values()} == {0}
    assert {entry["by"] for entry in of["3×3×3×16 /1"].values()} == {2}
    assert json.loads(selection.table_path().read_text()) == table


def test_a_part_of_the_shipped_table_is_measured_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tune, "fastest", lambda case, *_: (case.forms[-1], dict.fromkeys(case.forms, 1e-3)))
    monkeypatch.setattr(tune, "SHIPPED", tmp_path / "algorithms.json")
    words = ["cifar_resnet20", "--compilers", "xla", "--jobs", "batch_norm"]
    assert tune.main(words) == 0
    table = json.loads((tmp_path / "algorithms.json").read_text())
    assert set(table["forms"]) == {"xla batch_norm float32", "xla batch_norm bfloat16"}
    assert table["measured"][0]["command"] == f"python -m benchmarks.tune {' '.join(words)}"
    assert "xla float32: batch_norm 16" in capsys.readouterr().err
    for wrong, reported in (("none", "there is no network 'none'"), ("--jobs=none", "invalid choice: 'none'")):
        with pytest.raises(SystemExit, match="2"):
            tune.main([wrong])
        assert reported in capsys.readouterr().err


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
    assert json.loads(selection.table_path().read_text()) == table and "delete it to use" in err
    for words, wrong in (
        (("resnet50", "--tune"), "No such option: --tune (see rawcnn benchmark networks --help)"),
        (("kernels", "resnet50"), "networks, --batch and --size go with --tune"),
        (("kernels", "--tune", "--precision", "bfloat16"), "--tune measures both precisions; leave --precision out"),
    ):
        code, _, err = rawcnn_command("benchmark", *words)
        assert code == 2 and wrong in " ".join(err.split())
