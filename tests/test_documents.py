"""The README and the documents: links, named tests and code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def prose(document: Path) -> str:
    """Return the text without code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)


def anchors(document: Path) -> set[str]:
    """Return the anchors that GitHub creates for the headings."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_resolve(document):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", prose(document)):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_tests_exist(document):
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\btest_\w+\.py\b", document.read_text())) <= names


def test_pages_are_short():
    limits = {"README.md": 150, "docs/architecture.md": 120}
    for name, limit in limits.items():
        assert len((ROOT / name).read_text().splitlines()) <= limit, name


def test_readme_code_runs():
    block = re.search(r"```python\n(import .*?)```", DOCUMENTS[0].read_text(), re.DOTALL)
    assert block and len(block[1].splitlines()) <= 12
    names: dict = {}
    exec(block[1], names)
    assert names["features"].shape == (8, 32, 32, 16) and names["logits"].shape == (8, 10)
    assert names["attacked"].images.shape == names["images"].shape and len(names["attacked"].success) == 8
    assert names["optimized"].values.shape == (1,)
    assert names["predict"](names["images"]).shape == (8, 10)
    assert names["totals"]["macs"] == 3_857_973_248


def test_spelling_is_american():
    """Except for public keywords: `colours` of evolve."""
    british = re.compile(r"neighbour|\bcentred?\b|(?<!aria-)labelled|learnt\b|behaviour|colour|favour|normalis(?:e|a)")
    keyword = re.compile(r"\bcolours\b")
    for path in (
        *DOCUMENTS,
        *(p for room in ("rawcnn", "kernels", "benchmarks", "docs") for p in (ROOT / room).rglob("*.py")),
    ):
        text = path.read_text(encoding="utf-8")
        if path.name in ("evolution.py", "attacks.md"):
            text = keyword.sub("", text)
        found = british.search(text)
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"
