"""The options and commands that messages, help texts and pages name exist, and a verb names only options of its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import rawcnn
from rawcnn.cli import app

SOURCES = sorted(Path(rawcnn.__file__).parent.rglob("*.py"))
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(r"`rawcnn ([^`]*)`")
OF_GIT = {"--porcelain", "--show-toplevel", "--untracked-files"}  # of the commands of provenance.py


def commands(command=None, path=()) -> dict[str, tuple[str, set[str]]]:
    """Each command, such as "visualize optimize": the module of its function, and its options."""
    command = command or typer.main.get_command(app)
    if hasattr(command, "commands"):
        below = [commands(child, (*path, name)) for name, child in command.commands.items()]
        return {name: found for part in below for name, found in part.items()}
    options = {word for p in command.params for word in (*p.opts, *p.secondary_opts) if word.startswith("--")}
    return {" ".join(path): (command.callback.__module__, options | {"--help"})}


COMMANDS = commands()
ALL = set().union(*(options for _, options in COMMANDS.values()))


def texts(source: Path) -> Iterator[str]:
    """The strings of a file without docstrings; an f-string with … for its values."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, scopes) and node.body]
    skipped = {id(statement.value) for statement in first if isinstance(statement, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def test_the_command_line_has_options():
    assert {"--size", "--channel", "--json"} <= COMMANDS["visualize optimize"][1] and len(COMMANDS) > 20


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(SOURCES[0].parent)))
def test_advice_names_options_that_exist(source):
    module = ".".join(["rawcnn", *source.relative_to(SOURCES[0].parent).with_suffix("").parts]).removesuffix(
        ".__init__"
    )
    of_verbs = [options for home, options in COMMANDS.values() if home == module]
    known = set().union(*of_verbs) if of_verbs else ALL
    for text in texts(source):
        for command in COMMAND.findall(text):
            names = [name for name in COMMANDS if (command + " ").startswith(name + " ")]
            group = any(name.startswith(command.split()[0] + " ") for name in COMMANDS)
            assert names or (group and "--" not in command), f"{text!r} names a command that does not exist"
            unknown = set(OPTION.findall(command)) - set().union(*(COMMANDS[name][1] for name in names))
            assert not unknown, f"{text!r}: rawcnn {command.split()[0]} has no {unknown}"
        unknown = set(OPTION.findall(COMMAND.sub("", text))) - known - OF_GIT
        assert not unknown, f"{text!r} advises {unknown}, which no verb of {module} has"
