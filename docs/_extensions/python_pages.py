"""Pages that are Python files: notebooks, whose cells begin with `# %%`, and lessons."""

from __future__ import annotations

import ast
from typing import Any

import jupytext
import nbformat.v4 as nbformat


def read(text: str) -> Any:
    """Read a file of docs/notebooks or docs/lessons as a notebook."""
    return jupytext.reads(text, fmt="py:percent") if "\n# %%" in f"\n{text}" else lesson(text)


def lesson(text: str) -> Any:
    """A lesson as a notebook: the first line of the docstring is the title; the rest of it and the code follow."""
    docstring = ast.parse(text).body[0]
    title, _, prose = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    code = "\n".join(text.splitlines()[docstring.end_lineno :]).strip()
    cells = [nbformat.new_markdown_cell(f"# {title.rstrip('.')}\n{prose}"), nbformat.new_code_cell(code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
