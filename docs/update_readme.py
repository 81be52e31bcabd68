"""Copy one kernel's equation, tensor form and gradient into the README: `python docs/update_readme.py`.

A test compares the README with the kernel file.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "kernels" / "convolution.py"
QUOTED = {  # section → the functions that the README quotes
    1: (),
    3: ("conv2d_by_taps",),
    4: ("conv2d_input_gradient_by_taps", "conv2d_filter_gradient_by_taps"),
}


def between(text: str, marker: str, content: str) -> str:
    """Replace the text between `<!-- marker -->` and `<!-- end of marker -->` by `content`."""
    start, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
    head, rest = text.split(start)
    return head + start + content + end + rest.split(end)[1]


def section(source: str, number: int) -> str:
    """The heading of a section, such as `# 3. Tensor forms ---`, and the comment below it."""
    lines = source[source.index(f"# {number}. ") :].splitlines()
    length = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:length])


def kernel() -> str:
    """The quoted parts of the kernel as a Markdown code block."""
    source = FILE.read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    parts = []
    for number, names in QUOTED.items():
        parts.append(section(source, number))
        parts += ["\n".join(source.splitlines()[functions[n].lineno - 1 : functions[n].end_lineno]) for n in names]
    return "```python\n" + "\n\n\n".join(part for part in parts if part.count("\n")) + "\n```\n"


def updated(text: str) -> str:
    """The README with the kernel as it is now."""
    return between(text, "kernel", kernel())


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
