"""Long evaluations and attacks that were stopped: they resume after the last batch, and their results are the same."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import pytest

import rawcnn
from rawcnn.attacks import study
from rawcnn.attacks.catalogue import CATALOGUE, PlaceholderNetwork
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.evaluation.multicrop import evaluate_views
from rawcnn.files.journal import Journal
from tests.rawcnn import small


@pytest.fixture(scope="module")
def network():
    return small.network(seed=2)


@pytest.fixture(scope="module")
def data(digits):
    return small.part(digits, 64, 100)


class Stopped(Exception):
    """The exception that a test raises to stop a run."""


def stop_at(number: int):
    """Return a progress function that stops at its n-th call."""
    calls = []

    def told(done, total):
        calls.append(done)
        if len(calls) == number:
            raise Stopped

    return told


def test_rows_come_back(tmp_path):
    file = tmp_path / "deep" / "rows.jsonl"
    journal = Journal(file, {"a": 1})
    journal.add({"x": [1, 2]}), journal.add({"x": [0.1, float(np.float32(0.1))]})
    assert Journal(file, {"a": 1}).rows == journal.rows
    with pytest.raises(ValueError, match="holds results of other settings; name another file, or delete it"):
        Journal(file, {"a": 2})
    other = Journal(file, {"a": 2}, replace=True)
    assert other.rows == [] and Journal(file, {"a": 1}).rows == journal.rows  # until there is a row
    other.add({"x": 3})
    assert Journal(file, {"a": 2}).rows == [{"x": 3}]
    assert other.aside and Journal(other.aside, {"a": 1}).rows == journal.rows  # no results are deleted


def test_a_run_with_earlier_settings_resumes(tmp_path):
    """Any number of other settings may have been tried meanwhile."""
    file, kept = tmp_path / "rows.jsonl", {n: [{"x": n}, {"x": n, "y": 0.5}] for n in range(3)}
    for n, rows in kept.items():
        for row in rows:
            Journal(file, {"a": n}, replace=True).add(row)
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".jsonl"]) == 3
    for n in (0, 1, 2, 0):
        again = Journal(file, {"a": n}, replace=True)
        assert again.rows == kept[n]
        again.add({"x": -1})
        kept[n] = [*kept[n], {"x": -1}]
        assert Journal(file, {"a": n}).rows == kept[n]
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".jsonl"]) == 3


ADDING = """
import sys
from pathlib import Path
from rawcnn.files.journal import Journal
journal = Journal(Path(sys.argv[1]), {"a": 1})
journal.add({"x": 0})
print(flush=True), input()
"""


def test_one_process_at_a_time(tmp_path):
    """The second process ends with an error, and so does a process that read the file before the first wrote it."""
    file = tmp_path / "rows.jsonl"
    early = Journal(file, {"a": 1})
    with subprocess.Popen(
        [sys.executable, "-c", ADDING, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdin and other.stdout.readline() == "\n"
        late = Journal(file, {"a": 1})
        for journal in (early, late):
            with pytest.raises(ValueError, match=r"another process writes .*rows\.jsonl; wait for it, or name another"):
                journal.add({"x": 1})
        print(file=other.stdin, flush=True)
    with pytest.raises(ValueError, match=r"another process wrote .*rows\.jsonl meanwhile; run the same command again"):
        early.add({"x": 1})
    late.add({"x": 1})
    assert Journal(file, {"a": 1}).rows == [{"x": 0}, {"x": 1}]
    del early, late, journal
    assert list(tmp_path.iterdir()) == [file]  # the lock goes with who had it


def test_devices_and_pipes_are_no_journals(tmp_path):
    """A device such as /dev/null would be replaced by a file, and reading a pipe would wait."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull), tmp_path):
        with pytest.raises(ValueError, match="is not a regular file; name another path"):
            Journal(path, {})
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    Journal(link, {}).add({"x": 1})
    assert link.is_symlink() and Journal(real, {}).rows == [{"x": 1}]


@pytest.mark.parametrize("cut", range(1, 30, 3))
def test_a_line_that_was_cut_short_is_no_result(tmp_path, cut):
    journal = Journal(tmp_path / "rows.jsonl", {"a": 1})
    journal.add({"x": 1}), journal.add({"x": "a longer one, in which to cut"})
    journal.path.write_bytes(journal.path.read_bytes()[:-cut])
    again = Journal(journal.path, {"a": 1})
    assert again.rows == [{"x": 1}]
    again.add({"x": 3})
    assert Journal(journal.path, {"a": 1}).rows == [{"x": 1}, {"x": 3}]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], *lines[2:]],  # a row is missing
        lambda lines: [*lines, lines[-1]],  # one is there twice
        lambda lines: [lines[0], lines[2], lines[1], lines[3]],
        lambda lines: [*lines[:2], b"3\n", *lines[3:]],
        lambda lines: [*lines[:2], b"{}\n", *lines[3:]],
        lambda lines: [*lines[:2], b"no JSON\n", *lines[3:]],
        lambda lines: [*lines[:2], b"\n", *lines[3:]],
        lambda lines: [*lines[:2], lines[2].replace(b"0.5", b"0.6"), *lines[3:]],
        lambda lines: [*lines[:2], lines[2].replace(b'"y"', b'"z"'), *lines[3:]],
        lambda lines: [*lines[:2], b"[" * 100_000 + b"\n", *lines[3:]],
    ],
)
def test_changed_rows_are_reported(tmp_path, damage):
    """No error rate counts images twice or leaves images out."""
    journal = Journal(tmp_path / "rows.jsonl", {"a": 1})
    for number in range(3):
        journal.add({"x": [number], "y": 0.5})
    content = b"".join(damage(journal.path.read_bytes().splitlines(keepends=True)))
    journal.path.write_bytes(content)
    for replace_others in (False, True):
        with pytest.raises(ValueError, match=r"rows\.jsonl is damaged in line \d; delete that line and those after"):
            Journal(journal.path, {"a": 1}, replace=replace_others)
    assert journal.path.read_bytes() == content


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"my notes", b"[]\n{}\n", b"\n\n"])
def test_a_file_of_others_is_not_touched(tmp_path, content):
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(ValueError, match="holds results of other settings"):
        Journal(tmp_path / "notes", {"a": 1})
    assert (tmp_path / "notes").read_bytes() == content


def test_a_digest_is_of_one_network(network):
    assert network.digest() == small.network(seed=2).digest() != small.network(seed=3).digest()
    assert rawcnn.create("cifar_resnet20", size=8).digest() != (
        rawcnn.create("cifar_resnet20", size=8, zeros="end").digest()
    )


def test_a_digest_is_of_one_data_set(digits, tmp_path):
    some = small.part(digits, 64, 100)
    assert some.digest("test") == small.part(digits, 64, 100).digest("test") != some.digest("train")
    assert some.digest("test") != small.part(digits, 64, 99).digest("test")


@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_an_evaluation_resumes(network, data, tmp_path, stopped):
    expected = evaluate(network, data, batch=30)
    with pytest.raises(Stopped):
        evaluate(network, data, batch=30, journal=Journal(tmp_path / "j", {}), progress=stop_at(stopped))
    journal, reported = Journal(tmp_path / "j", {}), []
    assert len(journal.rows) == stopped
    found = evaluate(network, data, batch=30, journal=journal, progress=lambda *counts: reported.append(counts))
    assert found.summary() == expected.summary() and len(reported) == 4 - stopped and reported[-1] == (100, 100)
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    whole = evaluate(network, data, batch=30, journal=Journal(tmp_path / "j", {}))  # nothing is left to do
    assert whole.summary() == expected.summary()


@pytest.mark.parametrize("count", [1, 2], ids=["one network", "an ensemble"])
def test_an_evaluation_by_views_resumes(network, data, tmp_path, count):
    views = {"protocol": "10crop", "scales": (10,)}
    networks = [network, small.network(seed=4)][:count]
    expected = evaluate_views(networks, data, **views)
    with pytest.raises(Stopped):
        evaluate_views(networks, data, **views, journal=Journal(tmp_path / "j", {}), progress=stop_at(37))
    journal = Journal(tmp_path / "j", {})
    assert len(journal.rows) == 37
    found = evaluate_views(networks, data, **views, journal=journal)
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    assert found.loss == pytest.approx(expected.loss) and found.correct5 == expected.correct5


@pytest.mark.sample("None-fgsm", "70-pgd")
@pytest.mark.parametrize("name, stopped", [("fgsm", 4), ("pgd", 5), ("deepfool", 2), ("spatial", 7)])
@pytest.mark.parametrize("count", [None, 70])
def test_a_study_resumes(network, data, tmp_path, name, stopped, count, monkeypatch):
    """It resumes between two values of ε of a batch, too. Random starts and the drawn images stay the same."""
    settings = {"epsilons": (0.0, 0.05, 0.1), "batch": 32, "seed": 3, "count": count}
    expected = study(name, network, data, **settings)
    with pytest.raises(Stopped):
        study(name, network, data, **settings, journal=tmp_path / "j", progress=stop_at(stopped))
    done = len((tmp_path / "j").read_text().splitlines()) - 1
    assert done == stopped
    calls = []
    monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], attack=_counted(CATALOGUE[name].attack, calls)))
    found = study(name, network, data, **settings, journal=tmp_path / "j")
    assert found.rows == expected.rows
    batches = -(-(count or 100) // 32) * (1 if name == "deepfool" else 3)
    assert len(calls) == batches - stopped + 1  # and the examples
    other = study(name, network, data, **{**settings, "seed": 4}, journal=tmp_path / "j")
    assert other.settings == found.settings and len((tmp_path / "j").read_text().splitlines()) == 1 + batches


OTHERS = {  # attacks, and settings with which they take no time
    "bim": {"steps": 2}, "mi_fgsm": {"steps": 2}, "smallest": {"attack": "fgsm"}, "logit_pga": {"steps": 2},
    "patch": {"steps": 2}, "substitute": {"rounds": 1},
}  # fmt: skip


def test_all_attacks_are_tried():
    assert {"fgsm", "pgd", "deepfool", "spatial", *OTHERS} == set(CATALOGUE)


@pytest.mark.sample("smallest")  # patch takes longer; bim and mi_fgsm are like pgd
@pytest.mark.parametrize("name", OTHERS)
def test_a_study_resumes_from_any_row(network, data, digits, tmp_path, name, monkeypatch):
    """What precedes an attack, such as making a patch, is repeated. The rows in the journal are not."""
    settings = {"epsilons": (0.0, 0.1), "batch": 40, "seed": 3, "settings": OTHERS[name], "journal": tmp_path / "j"}
    settings |= {"target": 3} if name == "patch" else {}
    if name == "logit_pga":  # attacks levels, not pixels
        network = rawcnn.create("cifar_resnet20", size=8, discretize="thermometer")
    if name == "substitute":  # learns from a hundred of them
        with pytest.raises(ValueError, match="tried on the others, but a part of digits has 100 test images"):
            study(name, network, data, **settings)
        data = small.part(digits, 64, 200)
    expected = study(name, network, data, **settings)
    *kept, _ = (tmp_path / "j").read_text().splitlines(keepends=True)
    (tmp_path / "j").write_text("".join(kept[:3]))  # what it is about, and two rows
    calls = []
    monkeypatch.setitem(CATALOGUE, name, replace(CATALOGUE[name], attack=_counted(CATALOGUE[name].attack, calls)))
    found = study(name, network, data, **settings)
    assert found.rows == expected.rows and len((tmp_path / "j").read_text().splitlines()) == len(kept) + 1
    assert len(calls) == len(kept) - 2 + 1  # and the examples


def test_a_journal_from_before_early_stop_is_resumed(network, data, tmp_path):
    """It does not name the setting, whose default is what was done then."""
    settings = {"epsilons": (0.1,), "batch": 40, "seed": 3}
    study("bim", network, data, **settings, settings={"steps": 2}, journal=tmp_path / "j")
    assert "early_stop" not in (tmp_path / "j").read_text()
    found = study("bim", network, data, **settings, settings={"steps": 2, "early_stop": "True"}, journal=tmp_path / "j")
    assert found.settings["early_stop"] is True and not list(tmp_path.glob("j.*"))
    study("bim", network, data, **settings, settings={"steps": 2, "early_stop": "false"}, journal=tmp_path / "j")
    assert '"early_stop": false' in (tmp_path / "j").read_text()


def _counted(attack, calls):
    """Return the attack; it appends its settings to `calls` whenever it attacks, not when its settings are checked."""

    @wraps(attack)
    def counted(network, *inputs, **settings):
        if not isinstance(network, PlaceholderNetwork):
            calls.append(settings)
        return attack(network, *inputs, **settings)

    return counted


def test_on_the_command_line(rawcnn_command, tmp_path, digits_weights):
    words = ("evaluate", "cifar_resnet20", "--data", "digits", "--weights", digits_weights, "--batch", 100, "--json")
    code, expected, err = rawcnn_command(*words)
    assert code == 0, err
    file = tmp_path / "predictions.jsonl"
    for kept in (None, 2):
        if kept is not None:
            file.write_text("".join(file.read_text().splitlines(keepends=True)[: 1 + kept]))
        code, out, err = rawcnn_command(*words, "--output", file)
        assert code == 0 and json.loads(out) == json.loads(expected)
        assert ("resuming after 200 images of" in err) == (kept is not None)
    code, _, err = rawcnn_command(*words[:-2], 50, "--output", file)
    assert code == 2 and re.search("holds results of other settings; name another file, or delete it", err)
