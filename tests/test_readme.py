"""The README's quotations equal the code."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path

import rawcnn
from rawcnn.cli import app
from rawcnn.models.alexnet import alexnet

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_quoted_kernel_is_the_kernel(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import update_readme

    assert update_readme.updated(README) == README, "run python docs/update_readme.py"
    sys.modules.pop("update_readme")


def test_quoted_model_is_the_model():
    """The parameters without their types, and the first lines of the body, one after the other, with their comments."""
    source = inspect.getsource(alexnet)
    head, *quoted = README.split("```python\ndef alexnet")[1].split("```")[0].splitlines()
    parameters = inspect.signature(alexnet).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = [f"{p.name}={p.default!r}" for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert head == f"({', '.join([*positional, '*', *keywords])}):"
    body = source.split('"""\n')[-1].splitlines()
    assert len(quoted) > 3 and quoted == body[: len(quoted)]


def test_counts():
    totals = rawcnn.profile("resnet50").totals
    assert f"{totals['parameters']:,} parameters" in README
    assert f"{totals['macs']:,}" in README


def test_every_verb_is_named():
    verbs = [c.callback.__name__ for c in app.registered_commands] + [g.name for g in app.registered_groups]
    for verb in verbs:
        assert re.search(rf"rawcnn {verb}\b", README), verb


def test_depth_page_has_the_figures_of_its_file():
    page, histories = (ROOT / "docs" / "depth.md").read_text(), json.loads((ROOT / "docs" / "depth.json").read_text())
    assert len(histories) == 4
    for name, history in histories.items():
        train, test = (100 * (1 - history[-1][f"{split}_accuracy"]) for split in ("train", "test"))
        assert f"| {name} | {train:.1f} % | {test:.1f} % |" in page
