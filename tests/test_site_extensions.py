"""The extensions of the documentation site: docstrings as reStructuredText, equations, lessons, the command line."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def extension(monkeypatch):
    """Import a module of docs/_extensions."""
    pytest.importorskip("myst_nb", reason="myst_nb is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if "_extensions" in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("|x*| · y_i, x_", r"\|x\*\| · y\_i, x\_"),
        ("As `max_pool`, `a` and `b`s.", r"As :py:obj:`max_pool`, :py:obj:`a` and :py:obj:`b`\ s."),
        ("∂L/∂`x`: `x[i] * y|z`", r"∂L/∂\ :py:obj:`x`: ``x[i] * y|z``"),
        ("* a bullet with `a\n  b`", "* a bullet with ``a b``"),
        (r"C:\n", r"C:\\n"),
    ],
)
def test_text_that_looks_like_markup_is_escaped(extension, line, expected):
    assert extension("plain_docstrings").translate(line.split("\n")) == expected.split("\n")


def test_indented_text_is_literal_outside_of_sections(extension):
    prose, fields = ["Two rules:", "", "    a* = |b|", ""], ["Args:", "    my_x: `x`_", "    **options: All.", ""]
    docstring = [*prose, *fields, "Returns:", "    [B]: y"]
    assert extension("plain_docstrings").translate(docstring) == [
        *("Two rules:", "", "", "::", "", "    a* = |b|", "", ""),
        *("Args:", r"    my_x: :py:obj:`x`\ \_", r"    \*\*options: All.", "", "", ":returns:", "    [B]: y"),
    ]


def test_attributes_are_a_list(extension):
    docstring = ["Attributes:", "    my_x, y: [B]: both", "        `z` too.", "    z: Last."]
    assert extension("plain_docstrings").translate(docstring, parameters={"z"}) == [
        *("", ":Attributes:", "", "    - **my_x, y** -- [B]: both", "      ``z`` too.", "    - **z** -- Last."),
    ]


def test_every_textbook_file_with_an_equation_shows_it(extension):
    equation = extension("kernel_equations").equation
    for page in sorted((ROOT / "docs" / "api" / "kernels").glob("*.md")):
        file = ROOT / "kernels" / f"{page.stem}.py"
        if file.exists() and "# 1. Equation" in file.read_text(encoding="utf-8"):
            assert f"```{{equation}} kernels/{page.stem}.py" in page.read_text(encoding="utf-8")
            text = equation(file.read_text(encoding="utf-8"))
            assert "\n" in text and "#" not in text and "---" not in text
    with pytest.raises(ValueError, match="no comment"):
        equation('"""No operation."""\n')


def test_a_lesson_keeps_all_its_text(extension):
    for path in (ROOT / "docs" / "lessons").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        text, code = extension("python_pages").read(source).cells
        title, _, prose = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        assert text.cell_type == "markdown" and text.source == f"# {title.rstrip('.')}\n{prose}"
        assert code.cell_type == "code" and source.rstrip().endswith(code.source)
        assert code.source.startswith("import numpy")


def test_a_file_with_cells_is_a_notebook(extension):
    notebook = extension("python_pages").read("# %% [markdown]\n# # Title\n\n# %%\nx = 1\n")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [("markdown", "# Title"), ("code", "x = 1")]


def test_the_help_of_every_command_is_shown(extension):
    import typer

    from rawcnn.cli import app

    command = typer.main.get_command(app)
    extension_ = extension("command_help")
    lines = [*extension_.of_group(command, command.context_class(command, info_name="rawcnn"), 2)]
    headings = {line.strip() for line in lines if line.startswith("#")}
    assert {"## rawcnn train", "## rawcnn visualize", "### rawcnn visualize optimize"} <= headings
    assert any(line.startswith("- `--epsilon") for line in lines)
    assert extension_.text_of("Use --a-b or `x --c` [default: d-e]") == r"Use `--a-b` or `x --c` \[default: d-e]"
