"""oneDNN: when it is enabled, how the result files record it, and that everything runs without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import onednn
from benchmarks.harness import results
from benchmarks.tables import markdown

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Imitate a machine with these processor flags (None: no /proc/cpuinfo), with TensorFlow imported or not."""

    def pretend(flags: str | None, imported: bool, in_use: bool) -> None:
        if flags is not None:
            (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        monkeypatch.setattr(onednn, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(onednn, "in_use", lambda: in_use)
        if not imported:
            monkeypatch.delitem(sys.modules, "tensorflow")
        monkeypatch.setenv(onednn.VARIABLE, "to restore what is set now")
        monkeypatch.delenv(onednn.VARIABLE)

    return pretend


@pytest.mark.parametrize("flags, expected", [("fpu avx2", "1"), ("fpu avx", None), ("avx2_not", None), (None, None)])
def test_it_is_turned_on_before_tensorflow_is_imported(processor, flags, expected):
    processor(flags, imported=False, in_use=False)
    onednn.enable()
    assert os.environ.get(onednn.VARIABLE) == expected


@pytest.mark.parametrize("value", ["0", "1", "false", ""])
@pytest.mark.parametrize("imported", [False, True])
def test_what_the_user_set_stays(processor, monkeypatch, value, imported):
    processor("fpu avx2", imported, in_use=False)
    monkeypatch.setenv(onednn.VARIABLE, value)
    onednn.enable()
    assert os.environ[onednn.VARIABLE] == value


def test_too_late_is_one_warning_that_says_what_to_set(processor):
    processor("fpu avx2", imported=True, in_use=False)
    with pytest.warns(RuntimeWarning, match=f"import rawcnn first or set .* {onednn.VARIABLE}=1") as caught:
        onednn.enable()
    assert len(caught) == 1 and onednn.VARIABLE not in os.environ


@pytest.mark.parametrize("flags, in_use", [("fpu avx2", True), ("fpu avx", False), (None, False)])
def test_no_warning_where_it_is_on_or_would_not_help(processor, flags, in_use):
    processor(flags, imported=True, in_use=in_use)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onednn.enable()
    assert onednn.VARIABLE not in os.environ


def run(*words: str, variable: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a separate process, in which the variable has this value or is not set."""
    environment = {name: value for name, value in os.environ.items() if name != onednn.VARIABLE}
    environment |= {onednn.VARIABLE: variable} if variable is not None else {}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("module", ["rawcnn", "rawcnn.cli", "onednn"])
def test_importing_it_sets_the_variable_without_tensorflow(module):
    program = f"import {module}, os, sys; print(os.environ.get('{onednn.VARIABLE}'), 'tensorflow' in sys.modules)"
    told = run("-c", program)
    assert told.stdout.split() == ["1" if onednn.has_avx2() else "None", "False"], told.stderr


@pytest.mark.deeper
def test_kernels_alone_set_it_before_they_import_tensorflow():
    told = run("-c", "import kernels, onednn; print(onednn.in_use())")
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip() == "True" or not onednn.has_avx2()


@pytest.mark.slow
@pytest.mark.parametrize("variable, used", [("0", False), ("1", True)])
def test_profile_reports_it(variable, used):
    words = "-m", "rawcnn", "profile", "cifar_resnet20", "--size", "8", "--measure", "--json"
    told = run(*words, variable=variable)
    assert told.returncode == 0, told.stderr
    measured = json.loads(told.stdout)["measured"]
    assert measured["onednn"] is used
    sentence = f"oneDNN, TensorFlow's library of fast CPU kernels, is {'on' if used else 'off'}"
    assert sentence in " ".join(told.stderr.split())
    assert ("oneDNN is off" in measured["compile"]["reason"]) is not used


def test_result_files_and_tables_report_it(monkeypatch):
    for used in (True, False):
        monkeypatch.setattr(onednn, "in_use", lambda used=used: used)
        device = results.device()
        assert device["onednn"] is used
        assert ("oneDNN off" in markdown.device_words(device)) is not used
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert results.device(gpus=["a GPU"])["onednn"] is None


@pytest.mark.slow
def test_alexnet_and_grouped_convolutions_run_without_it():
    chosen = "tests/rawcnn/test_modes.py", "tests/kernels/test_convolution.py"
    words = "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not deeper", "-k", "inference or with_what_follows"
    told = run(*words, *chosen, variable="0")
    assert told.returncode == 0, told.stdout[-3000:]
