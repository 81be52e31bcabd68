"""Docstrings are plain text with `code` in backticks and indented formulas; Sphinx reads reStructuredText.

This extension translates: characters that reStructuredText would take for markup are escaped, code in backticks becomes
a reference to the public object of that name or else literal text, and an indented block becomes a literal block, as in
Markdown. So docstrings can be read in an editor, and formulas such as |x*| stay as they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Container
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


def code(text: str, parameters: Container[str]) -> str:
    """Code in backticks: a reference if it is a name, but not that of a parameter; or else literal."""
    content = re.sub(r"\s+", " ", text.strip("`"))
    is_name = NAME.fullmatch(content) and content not in parameters
    return f":py:obj:`{content}`" if is_name else f"``{content}``"


def inline(text: str, parameters: Container[str]) -> str:
    """Translate lines of text. Markup needs a space or punctuation on both sides; `\\ ` is a space without width."""
    parts = CODE.split(text)
    for number in range(1, len(parts), 2):
        before, after = parts[number - 1][-1:], parts[number + 1][:1]
        left = "" if not before or re.match(r"[\s'\"(\[{<\-/:]", before) else "\\ "
        right = "" if not after or re.match(r"[\s'\")\]}>\-/:.,;!?]", after) else "\\ "
        parts[number] = left + code(parts[number], parameters) + right
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


def fields(lines: list[str]) -> list[str]:
    """Write two sections as fields of reStructuredText; Napoleon does the others.

    Of Returns it would take what stands before a colon for a type. Attributes become a list, because the signatures of
    classes have their types already.
    """
    result: list[str] = []
    section = ""
    for line in lines:
        if line and not indent(line):
            section = line
        if line in ("Returns:", "Yields:"):
            result += ["", ":returns:"]
        elif line == "Attributes:":
            result += ["", ":Attributes:", ""]
        elif section == "Attributes:" and (names := NAMES.match(line)):
            result.append(f"    - **{names[0].strip()[:-1]}** --{line[names.end() :]}")
        elif section == "Attributes:" and indent(line) >= 8:
            result.append(line[2:])  # below the name
        else:
            result.append(line)
    return result


def translate(lines: list[str], parameters: Container[str] = ()) -> list[str]:
    """Return a docstring in reStructuredText. `parameters` are names that are no references."""
    result: list[str] = []
    for literal, block in blocks(lines):
        if literal:
            result += ["", "::", "", *block, ""]
        else:
            result += inline("\n".join(block), parameters).split("\n")
    return fields([NAMES.sub(lambda names: names[0].replace("\\_", "_"), line) for line in result])


def process(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Translate a docstring in place.

    Napoleon would take what stands before a colon in the first line of a property for its type: so this line is empty.
    """
    is_function = inspect.isroutine(value) and callable(value)  # to inspect, a cached property is a routine, too
    translated = translate(lines, inspect.signature(value).parameters if is_function else ())
    lines[:] = ["\\ ", *translated] if what in ("property", "attribute", "data") else translated


def by_last_name(app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element) -> Any:
    """Resolve the name of a class such as `Network`, wherever it stands, if one public object alone has it."""
    domain = env.domains.python_domain
    last = node["reftarget"].rpartition(".")[2]
    if node.get("refdomain") != "py" or not last[:1].isupper():
        return None
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
