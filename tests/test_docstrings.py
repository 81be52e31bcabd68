"""Public docstrings: each has the sections that a reader looks up, and names every parameter and field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import FunctionType

import pytest

import kernels
import rawcnn
import rawcnn.attacks
import rawcnn.data
import rawcnn.visualize

MODULES = [kernels, rawcnn, rawcnn.attacks, rawcnn.visualize, rawcnn.data]
HEADINGS = ("Args", "Returns", "Yields", "Raises", "Attributes")
# These sections of a kernel may refer to another public kernel, "Args as `conv2d`" or "Args and Returns as `conv2d`",
# or name all parameters in the first sentence: "`gradient` [B,C], `input_size` (H, W) → ∂L/∂x [B,H,W,C]".
SECTIONS = ("_reference", "_gradient", "_cost")
REFERENCE = re.compile(r"\bArgs( and Returns)? as `(\w+)`")


def sections(docstring: str) -> dict[str, str]:
    """Split a docstring: heading → indented text."""
    parts = re.split(rf"^({'|'.join(HEADINGS)}):\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    bodies = {head: re.split(r"\n(?=\S)", body)[0] for head, body in zip(parts[1::2], parts[2::2], strict=True)}
    return {"": parts[0], **bodies}


def names(section: str) -> set[str]:
    """The names in front of the colons of a section: "x: …", "mean, variance: …" or "**options: …"."""
    lines = re.findall(r"^ {4}([\w*, ]+):(?: |$)", section, re.MULTILINE)
    return {name.strip(" *") for line in lines for name in line.split(",")}


def functions() -> Iterator[tuple[str, FunctionType]]:
    """All public functions, and the public methods of public classes."""
    for module in MODULES:
        for name in module.__all__:
            value = inspect.unwrap(getattr(module, name)) if callable(getattr(module, name)) else None
            if isinstance(value, FunctionType):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value):
                for key, member in vars(value).items():
                    method = member.__func__ if isinstance(member, classmethod | staticmethod) else member
                    if isinstance(method, FunctionType) and not key.startswith("_"):
                        yield f"{module.__name__}.{name}.{key}", inspect.unwrap(method)


def classes() -> Iterator[tuple[str, type]]:
    """All public classes."""
    for module in MODULES:
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                yield f"{module.__name__}.{name}", getattr(module, name)


FUNCTIONS, CLASSES = dict(functions()), dict(classes())


def tree_of(function: FunctionType) -> ast.FunctionDef:
    """The syntax tree of a function."""
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a body, without those of functions in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def raises(function: FunctionType) -> bool:
    """Whether its body, or a check in its module that it calls, raises an exception of its own."""
    nodes = list(own_nodes(tree_of(function)))
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    helpers = [function.__globals__.get(name) for name in called if re.match(r"_|check", name)]
    inside = [helper for helper in helpers if isinstance(helper, FunctionType)]
    trees = [nodes, *(list(own_nodes(tree_of(h))) for h in inside if h.__module__ == function.__module__)]
    return any(isinstance(node, ast.Raise) and node.exc is not None for tree in trees for node in tree)


def documented(docstring: str, name: str) -> tuple[set[str], set[str]]:
    """The parameters that a docstring names and the sections that it has, here or by reference."""
    parts = sections(docstring)
    known, heads = names(parts.get("Args", "")), {*parts}
    if name.endswith(SECTIONS):
        summary = parts[""].split("\n\n")[0].replace("\n", " ")
        if "→" in summary:
            known |= set(re.findall(r"`(\w+)`", summary.split("→")[0]))
            heads.add("Returns")
        if reference := REFERENCE.search(parts[""].replace("\n", " ")):
            target = inspect.unwrap(getattr(kernels, reference[2]))
            assert not REFERENCE.search(target.__doc__ or ""), f"{name} refers to a docstring that refers to another"
            shared, below = documented(inspect.getdoc(target) or "", target.__name__)
            known, heads = known | shared, heads | (below if reference[1] else below - {"Returns"})
    return known, heads


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_documents_its_arguments_and_result(name):
    function = FUNCTIONS[name]
    docstring = inspect.getdoc(function)
    assert docstring, "no docstring"
    known, heads = documented(docstring, name)
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters if parameter not in ("self", "cls")]
    missing = [parameter for parameter in parameters if parameter not in known]
    assert not missing, f"Args: {', '.join(missing)}"
    unknown = names(sections(docstring).get("Args", "")) - set(parameters)
    assert not unknown, f"Args: {', '.join(unknown)} in the docstring only"
    if parameters and signature.return_annotation not in (None, "None"):
        assert heads & {"Returns", "Yields"}, "Returns"
    if raises(function):
        assert "Raises" in heads, "Raises"


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_documents_its_fields(name):
    value = CLASSES[name]
    assert value.__doc__ and not value.__doc__.startswith(f"{value.__name__}("), "no docstring"
    fields = (
        getattr(value, "_fields", ()) or [f.name for f in dataclasses.fields(value) if f.init]
        if dataclasses.is_dataclass(value) or hasattr(value, "_fields")
        else ()
    )
    parts = sections(value.__doc__)
    known = names(parts.get("Attributes", "") + "\n" + parts.get("Args", ""))
    missing = [field for field in fields if not field.startswith("_") and field not in known]
    assert not missing, f"Attributes: {', '.join(missing)}"
