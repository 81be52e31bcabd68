"""Find the line of a model's source that applied each operation, with the iteration of the loops around it.

A model is a function that calls layers. While it is traced, the call stack between the network and a layer holds the
lines of the model's own files: the line that called the layer, the line that called that function, and so on. The
values of the loop variables in these functions distinguish the iterations of a line.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType

import rawcnn.nn

LIBRARY = Path(rawcnn.nn.__file__).parent  # layers and traces: what lies between a model and its operations
LOOPS = (ast.For, ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp)
LONGEST_VALUE = 24  # characters of a loop variable's value


@dataclass(frozen=True)
class ModelCall:
    """A line of a model's file that was being executed.

    Attributes:
        file: The file's path.
        line: Its number, from 1.
        function: The name of the function that it belongs to.
        loops: The loop variables around it, as "stage = 1", from the outermost loop to the innermost.
    """

    file: str
    line: int
    function: str
    loops: tuple[str, ...]


def calls_of_model() -> list[ModelCall]:
    """Return the lines of the model's files on the call stack, the one that called the layer first."""
    calls: list[ModelCall] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_network(frame):
        file = frame.f_code.co_filename
        if not _belongs_to_library(file):
            loops = tuple(_loop_variables(file, frame.f_lineno, frame.f_locals))
            calls.append(ModelCall(file, frame.f_lineno, frame.f_code.co_name, loops))
        frame = frame.f_back
    return calls


def _is_network(frame: FrameType) -> bool:
    """Return whether the frame called the model function."""
    return frame.f_code.co_filename == str(LIBRARY / "network.py")


@cache
def _belongs_to_library(file: str) -> bool:
    return Path(file).parent in (LIBRARY, Path(__file__).parent)


def _loop_variables(file: str, line: int, values: Mapping[str, object]) -> Iterator[str]:
    """Yield "name = value" for the variables of the loops around a line."""
    for first, last, names in _loops(file):
        if first <= line <= last:
            known = [name for name in names if name in values]
            plain = [name for name in known if isinstance(values[name], (int, str))]  # a count, an index, a name
            yield from (f"{name} = {_short(values[name])}" for name in plain or known)


@cache
def _loops(file: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return (first line, last line, names of the variables) of all loops of a file, outer loops first."""
    found = []
    for node in ast.walk(ast.parse(source_of(file))):
        if isinstance(node, LOOPS):
            targets = [node.target] if isinstance(node, ast.For) else [part.target for part in node.generators]
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            first = node.body[0].lineno if isinstance(node, ast.For) else node.lineno  # not the line of "for" itself
            found.append((first, node.end_lineno or first, tuple(names)))
    return sorted(found, key=lambda loop: (loop[0], -loop[1]))


def _short(value: object) -> str:
    """Return a value on one line of few characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


@cache
def source_of(file: str) -> str:
    """Return the text of a Python file."""
    return Path(file).read_text(encoding="utf-8")


def short_name(file: str) -> str:
    """Return the path of a file below its package, such as "rawcnn/models/alexnet.py"; otherwise its last name."""
    root = LIBRARY.parent.parent
    return Path(file).relative_to(root).as_posix() if Path(file).is_relative_to(root) else Path(file).name
