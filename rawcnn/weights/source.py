"""Where another library's file holds the value of a variable, and in which layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
Rules = Sequence[tuple[str, Callable[..., str]]]  # pattern of an operation's name → its name in the file


@dataclass(frozen=True)
class Source:
    """The tensors of a file that make one variable.

    There are none if the file's network has no such parameter, and two if another parameter is folded in.

    Attributes:
        names: The tensors.
        shapes: Their shapes in the file.
        convert: (*tensors) → the value of the variable.
        otherwise: How to read tensors of other shapes.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    convert: Callable[..., np.ndarray]
    otherwise: Source | None = None


def plain(name: str, shape: Shape) -> Source:
    """Return the source of a tensor in rawcnn's own layout."""
    return Source((name,), (shape,), lambda value: value)


def transposed(name: str, shape: Shape, axes: tuple[int, ...]) -> Source:
    """Return the source of a tensor whose `transpose(axes)` has the variable's `shape`."""
    there = [0] * len(axes)
    for here, axis in enumerate(axes):
        there[axis] = shape[here]
    return Source((name,), (tuple(there),), lambda value: value.transpose(axes))


def constant(value: float, shape: Shape) -> Source:
    """Return the source of a variable that the file lacks and that equals `value` everywhere."""
    return Source((), (), lambda: np.full(shape, value, np.float32))


def renamed(operation: str, rules: Rules) -> str | None:
    """Return an operation's name in the file, by the first rule that matches, or None."""
    for pattern, name in rules:
        if match := re.fullmatch(pattern, operation):
            return name(*match.groups())
    return None
