"""Limits: check before building a network that this machine has the memory for it.

A process that the system kills for want of memory reports nothing; a check before it does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from typing import Any

from rawcnn.nn.arguments import Size, size_text


def check_memory(
    name: str, size: Size, parameters: Iterable[Any], operations: Iterable[Any], bytes_per_value: int = 4
) -> None:
    """Raise ValueError if the parameters and the largest map of one image exceed this machine's memory.

    Training needs far more than that, so a network that passes may still be too large.
    """
    held = sum(prod(parameter.shape) for parameter in parameters)
    largest = max((prod(operation.output_shape) for operation in operations), default=0)
    needed, present = bytes_per_value * (held + largest), memory()
    if present and needed > present:
        raise ValueError(
            f"{name} at {size_text(size)} needs {needed / 2**30:,.0f} GiB for its parameters and one map of one image; "
            f"this machine has {present / 2**30:,.0f} GiB. Take a smaller size"
        )


def memory() -> int | None:
    """Return the bytes of this machine's memory, or None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
