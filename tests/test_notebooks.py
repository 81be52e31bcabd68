"""docs/notebooks: the .ipynb files are those of the .py files, and every lesson runs in a kernel of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LESSONS = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
SHOWS = {  # lesson → what at least one of its cells shows, by the text that stands for it
    1: ("Profile(", "Comparison(", "Network(", "Forward("),
    2: ("DataSet(", "Backward("),
    3: ("Network(", "InputsByChannel(", "Deconvolution(", "Optimized("),
    4: ("AttackResult(", "SpatialResult(", "FoolingImages("),
}


@pytest.fixture(scope="module")
def converter():
    """docs/update_notebooks.py."""
    path = ROOT / "docs" / "update_notebooks.py"
    specification = importlib.util.spec_from_file_location("update_notebooks", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def number(lesson: Path) -> int:
    return int(lesson.name.split("_")[0])


def test_lessons_are_numbered():
    assert [number(lesson) for lesson in LESSONS] == [1, 2, 3, 4] == sorted(SHOWS)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_notebooks_are_in_step_with_their_sources(lesson, converter):
    """If this fails: python docs/update_notebooks.py."""
    stored = lesson.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert stored == converter.text(lesson)
    assert all(not cell.get("outputs") for cell in json.loads(stored)["cells"])


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lessons_name_what_exists(lesson):
    """Links to pages, and no download: everything comes from the package and scikit-learn."""
    text = lesson.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (lesson.parent / link).exists(), link
    assert not re.search(r"urllib|requests|fetch_|cifar10\"|mnist", text)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lessons_run(lesson, converter, tmp_path, monkeypatch):
    """With small settings. Results show themselves, and nothing is written to stderr but TensorFlow's log."""
    monkeypatch.setenv("RAWCNN_NOTEBOOKS", "small")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = converter.execute(lesson, tmp_path).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("execute_result", "display_data")]
    for text in SHOWS[number(lesson)]:
        rich = [data for data in shown if data.get("text/plain", "").startswith(text)]
        assert rich, text
        assert all("text/html" in data or "image/png" in data for data in rich), text
    assert sum("image/png" in data for data in shown) >= 5
    errors = "".join(output.text for output in outputs if output.get("name") == "stderr")
    quiet = re.compile(r"(WARNING: All log messages|I0000 |W0000 |E0000 |$)")
    assert not [line for line in errors.splitlines() if not quiet.match(line)]
    assert sorted(path.name for path in tmp_path.iterdir()) in ([], ["ipython"])
