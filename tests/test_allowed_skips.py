"""`pytest --allowed-skips FILE` fails on a skip whose reason is not in the file."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tests.conftest import pytest_terminal_summary

REASONS = ["Skipped: needs PyTorch", "Skipped: needs\n  a computer"]


def summary(path, exitstatus=0) -> SimpleNamespace:
    """Run the hook on skips for these reasons; return the reporter with what it printed."""
    skips = [SimpleNamespace(longrepr=("file.py", 1, reason)) for reason in REASONS]
    reporter = SimpleNamespace(
        config=SimpleNamespace(getoption=lambda name: path and str(path)),
        stats={"skipped": skips},
        lines=[],
        _session=SimpleNamespace(exitstatus=exitstatus),
    )
    reporter.write_line = lambda line, **_: reporter.lines.append(line)
    pytest_terminal_summary(reporter)
    return reporter


def test_another_reason_fails(tmp_path):
    (tmp_path / "list").write_text("# libraries\n\nneeds (PyTorch|timm)\n")
    reporter = summary(tmp_path / "list")
    assert reporter.lines == ["1 tests are skipped, which is not allowed here: needs a computer"]
    assert reporter._session.exitstatus == 1
    assert summary(tmp_path / "list", exitstatus=3)._session.exitstatus == 3  # another failure stays what it is


def test_listed_reasons_pass(tmp_path):
    (tmp_path / "list").write_text("needs PyTorch\nneeds a \\w+\n")
    assert summary(tmp_path / "list")._session.exitstatus == 0


def test_without_the_option_nothing_happens():
    assert summary(None).lines == [] and summary(None)._session.exitstatus == 0


def test_the_list_has_regular_expressions(pytestconfig):
    lines = (pytestconfig.rootpath / "tests" / "allowed_skips.txt").read_text(encoding="utf-8").splitlines()
    patterns = [re.compile(line) for line in lines if line and not line.startswith("#")]
    assert any(p.fullmatch("needs umap-learn") for p in patterns)
    assert not any(p.fullmatch("needs foolbox: pip install '.[test]'") for p in patterns)  # pyproject.toml asks for it
    with pytest.raises(AssertionError):
        assert any(p.fullmatch("something else") for p in patterns)
