"""The three tiers of `kernels`: what each file may import, and the five sections of textbook files, in order."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import pytest

import kernels

ROOT = Path(kernels.__file__).parent
SECTIONS = ["1. Equation", "2. NumPy reference", "3. Tensor forms", "4. Gradient by hand", "5. Cost"]
LINES = 220  # of a textbook file
# What textbook files may import of kernels; each has no sections, because it is no operation.
SHARED = {
    "cost": "the unit in which all costs are counted",
    "geometry": "padding, output sizes and views of windows, for convolution, pooling and their adjoints",
    "precision": "the type of sums",
}
WITHOUT_SECTIONS = SHARED | {"__init__": "names the public kernels"}
# Sections that hold no function, with the reason.
WITHOUT_FUNCTION = {
    ("random", "4. Gradient by hand"): "random numbers have no gradient",
    ("random", "5. Cost"): "integer work is not counted",
    ("transposed", "4. Gradient by hand"): "the gradients are convolutions",
}
TEXTBOOK = sorted(path.stem for path in ROOT.glob("*.py") if path.stem not in WITHOUT_SECTIONS)
ALLOWED = {"": {*SHARED, "random"}, "forms": {*SHARED, *TEXTBOOK, "forms"}}
ALLOWED["dispatch"] = {*ALLOWED["forms"], "dispatch"}


def imported(path: Path) -> set[str]:
    """The modules or packages of `kernels` that a file imports, by their first name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("kernels", "rawcnn"):
            first, *rest = node.module.split(".")
            names |= {rest[0]} if rest else {alias.name for alias in node.names}
            assert first == "kernels", f"{path} imports {node.module}"
        elif isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] in ("kernels", "rawcnn") for alias in node.names), path
    return names


@pytest.mark.parametrize("module", TEXTBOOK)
def test_a_textbook_file_has_five_sections(module):
    source = (ROOT / f"{module}.py").read_text(encoding="utf-8")
    lines = source.splitlines()
    assert len(lines) <= LINES
    heads = [(number, line[2:].rstrip(" -")) for number, line in enumerate(lines, 1) if re.match(r"# \d\. ", line)]
    assert [head for _, head in heads] == SECTIONS
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    ends = [number for number, _ in heads[1:]] + [len(lines) + 1]
    for (start, section), end in zip(heads, ends, strict=True):
        inside = [node.name for node in functions if start < node.lineno < end]
        comments = [line for line in lines[start : end - 1] if line.startswith("#  ") or re.match(r"# \S", line)]
        if section == SECTIONS[0] or (module, section) in WITHOUT_FUNCTION:
            assert comments and not inside
        elif section == SECTIONS[1]:
            assert inside and all(name.endswith("_reference") for name in inside)
        elif section == SECTIONS[4]:
            assert inside and all(name.endswith("_cost") for name in inside)
        else:
            assert inside


@pytest.mark.parametrize("module", TEXTBOOK)
def test_a_reference_calls_only_references(module):
    """A reference shares no code with what it checks; padding has a reference of its own."""
    tree = ast.parse((ROOT / f"{module}.py").read_text(encoding="utf-8"))
    for function in (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.endswith("_reference")):
        nodes = list(ast.walk(function))
        called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        known = {name for name in called if not name.endswith("_reference")}
        assert known <= {*dir(builtins), "exp", "sqrt", "ceil"}, function.name
        assert not any(isinstance(node, ast.Name) and node.id == "tf" for node in nodes), function.name


def test_imports_go_one_way():
    for path in sorted(ROOT.rglob("*.py")):
        tier = path.parent.name if path.parent != ROOT else ""
        if path.name == "__init__.py":
            continue
        known = ALLOWED[tier] if path.stem not in WITHOUT_SECTIONS or tier else set(SHARED)
        assert imported(path) <= known, path


def test_custom_gradients_are_made_in_one_place():
    sources = [*ROOT.rglob("*.py"), *(ROOT.parent / "rawcnn").rglob("*.py")]
    users = [path for path in sources if re.search(r"tf\.custom_gradient\b(?!`)", path.read_text("utf-8"))]
    assert users == [ROOT / "forms" / "differentiable.py"]


def test_functions_are_short():
    """At most 60 lines, at most ten parameters, closures one deep."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                place = f"{path.name}: {node.name}"
                assert (node.end_lineno or 0) - body[0].lineno < 60, place
                assert len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) <= 10, place
                inner = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node]
                assert not any(isinstance(n, ast.FunctionDef) and n is not i for i in inner for n in ast.walk(i)), place
