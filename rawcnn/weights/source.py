"""Where the value of a variable lies in somebody else's file, and how it is laid out there."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
Rules = Sequence[tuple[str, Callable[..., str]]]  # pattern of an operation's name → what the file calls it


@dataclass(frozen=True)
class Source:
    """The tensors that make a value: none for what the file's network does without, two where one is folded in."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]  # that they must have in the file
    convert: Callable[..., np.ndarray]  # (*tensors) → the value of the variable


def plain(name: str, shape: Shape) -> Source:
    """Laid out as here."""
    return Source((name,), (shape,), lambda value: value)


def transposed(name: str, shape: Shape, axes: tuple[int, ...]) -> Source:
    """`value.transpose(axes)` has the variable's `shape`."""
    there = [0] * len(axes)
    for here, axis in enumerate(axes):
        there[axis] = shape[here]
    return Source((name,), (tuple(there),), lambda value: value.transpose(axes))


def constant(value: float, shape: Shape) -> Source:
    """Not in the file: its network has this number in every place."""
    return Source((), (), lambda: np.full(shape, value, np.float32))


def renamed(operation: str, rules: Rules) -> str | None:
    """What the file calls an operation, by the first rule whose pattern matches; None without one."""
    for pattern, name in rules:
        if match := re.fullmatch(pattern, operation):
            return name(*match.groups())
    return None
