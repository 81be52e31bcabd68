"""Docstrings are plain text with `code` in backticks and indented formulas; Sphinx reads reStructuredText.

This extension translates: characters that reStructuredText would take for markup are escaped, code in backticks becomes
a reference to the public object of that name or else literal text, and an indented block becomes a literal block, as in
Markdown. So docstrings can be read in an editor, and formulas such as |x*| stay as they are.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

SECTIONS = ("Args:", "Returns:", "Yields:", "Raises:", "Attributes:")
CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][\w.]*")
NAMES = re.compile(r"^ {4}[\\\w*, ]+:(?= |$)")  # of parameters and fields, in front of their descriptions


def indent(line: str) -> int:
    """The number of spaces at the start of a line."""
    return len(line) - len(line.lstrip())


def escape(text: str) -> str:
    """Text without code: escape what would be emphasis, a substitution or a reference."""
    return re.sub(r"(?<!^)(?<!\n)\*|[\\|_]|\*(?! )", lambda match: "\\" + match[0], text)


def code(text: str) -> str:
    """Code in backticks: a reference where it is a name, or else literal."""
    content = re.sub(r"\s+", " ", text.strip("`"))
    return f":py:obj:`{content}`" if NAME.fullmatch(content) else f"``{content}``"


def inline(text: str) -> str:
    """Translate lines of text. Markup needs a space or punctuation on both sides; `\\ ` is a space without width."""
    parts = CODE.split(text)
    for number in range(1, len(parts), 2):
        before, after = parts[number - 1][-1:], parts[number + 1][:1]
        left = "" if not before or re.match(r"[\s'\"(\[{<\-/:]", before) else "\\ "
        right = "" if not after or re.match(r"[\s'\")\]}>\-/:.,;!?]", after) else "\\ "
        parts[number] = left + code(parts[number]) + right
    parts[::2] = map(escape, parts[::2])
    return "".join(parts)


def blocks(lines: list[str]) -> list[tuple[bool, list[str]]]:
    """Split a docstring into blocks [(literal, lines), …]: literal ones are indented, outside of a section."""
    found: list[tuple[bool, list[str]]] = []
    section = False
    for number, line in enumerate(lines):
        if line and not indent(line):
            section = line in SECTIONS
        after_blank = number > 0 and not lines[number - 1].strip()
        if not found:
            literal = False
        elif not line.strip():
            literal = found[-1][0]
        else:
            literal = indent(line) >= 2 and not section and (found[-1][0] or after_blank)
        if found and found[-1][0] == literal:
            found[-1][1].append(line)
        else:
            found.append((literal, [line]))
    return found


def returns(lines: list[str]) -> list[str]:
    """Write the section Returns as a field: Napoleon would take what stands before a colon for a type."""
    result, inside = [], False
    for line in lines:
        if line and not indent(line):
            inside = line in ("Returns:", "Yields:")
            result += ["", ":returns:"] if inside else [line]
        else:
            result.append(line)
    return result


def translate(lines: list[str]) -> list[str]:
    """Return a docstring in reStructuredText."""
    result: list[str] = []
    for literal, block in blocks(lines):
        if literal:
            result += ["", "::", "", *block, ""]
        else:
            result += inline("\n".join(block)).split("\n")
    return returns([NAMES.sub(lambda names: names[0].replace("\\_", "_"), line) for line in result])


def process(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Translate a docstring in place.

    Napoleon would take what stands before a colon in the first line of a property for its type: so this line is empty.
    """
    lines[:] = ["\\ ", *translate(lines)] if what in ("property", "attribute", "data") else translate(lines)


def by_last_name(app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element) -> Any:
    """Resolve a name such as `Network`, wherever it stands, if one public object alone has it."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    last = node["reftarget"].rpartition(".")[2]
    public = [name for name, entry in domain.objects.items() if not entry.aliased]
    found = [name for name in public if name.rpartition(".")[2] == last]
    if len(found) != 1 or node["reftarget"].partition(".")[0] not in (last, "rawcnn", "kernels"):
        return None
    entry = domain.objects[found[0]]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found[0])


def skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples: the section Attributes has them."""
    return True if type(value).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before Napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", by_last_name)
    return {"parallel_read_safe": True}
