"""The layout that docs/architecture.md describes. The order of the packages itself is checked by import-linter."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "rawcnn").rglob("*.py"))


def module_level_imports(source: str) -> list[str]:
    """Return the modules that a file imports at its own import, without those for type checkers only."""
    modules: list[str] = []
    pending = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return modules


def test_few_modules_lie_directly_in_the_package():
    direct = {path.stem for path in (ROOT / "rawcnn").glob("*.py")} - {"__init__", "__main__"}
    assert len(direct) <= 3, sorted(direct)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_the_benchmarks_when_it_is_imported(path):
    """Only the benchmarks import Keras; the command line imports them within the verbs that need them."""
    imported = module_level_imports(path.read_text(encoding="utf-8"))
    assert not [module for module in imported if module.split(".")[0] == "benchmarks"]


def test_imports_are_found_where_they_run_at_import():
    source = "if True:\n    import benchmarks.run\nclass A:\n    from benchmarks import tune\n"
    source += "def f():\n    import benchmarks"
    assert sorted(module_level_imports(source)) == ["benchmarks", "benchmarks.run"]
    assert module_level_imports("if TYPE_CHECKING:\n    import benchmarks\nelse:\n    import os") == ["os"]


@pytest.mark.parametrize("package", sorted(p.parent.name for p in (ROOT / "rawcnn").glob("*/__init__.py")))
def test_tests_mirror_the_packages(package):
    """Each package has tests in the folder of the same name; plots are tested with the code that draws them."""
    if package != "plots":
        assert list((ROOT / "tests" / "rawcnn" / package).glob("test_*.py"))
