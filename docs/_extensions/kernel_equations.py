"""The directive `equation`: the comment below "1. Equation" of a textbook file, such as kernels/pooling.py."""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


def equation(source: str) -> str:
    """The lines of the comment without the signs that start them."""
    match = re.search(r"^# 1\. Equation -+\n((?:#.*\n)+)", source, re.MULTILINE)
    if not match:
        raise ValueError("the file has no comment '# 1. Equation ---'")
    return re.sub(r"^# ?", "", match[1], flags=re.MULTILINE).strip("\n")


class Equation(SphinxDirective):
    """Show the equation of a file as it stands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        file = ROOT / self.arguments[0]
        self.env.note_dependency(str(file))
        text = equation(file.read_text(encoding="utf-8"))
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("equation", Equation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
