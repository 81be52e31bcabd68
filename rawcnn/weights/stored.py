"""Tensors in a file, before they are read: name → shape, type and a function that reads the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, with its shape and type, before it is read."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name
    read: Callable[[], np.ndarray]


StoredTensors = Mapping[str, Stored]


class Refused(ValueError):
    """A reader's own message about a file, which continues after the file's name."""
