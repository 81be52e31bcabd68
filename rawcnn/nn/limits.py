"""Is there room for a network at all? What is killed for want of memory says nothing; what is asked before does."""

from __future__ import annotations

import os
from collections.abc import Iterable
from math import prod
from typing import Any

BYTES = 4  # of a float32
MOST = 2**31  # a side, a batch or a number of classes; TensorFlow's shapes end not far above


def check_room(name: str, size: int, parameters: Iterable[Any], ledger: Iterable[Any]) -> None:
    """ValueError where the parameters and the largest map of one image, held at once, are more than this machine has.

    That is far less than a training needs, so what passes may still be too large; what does not pass certainly is.
    """
    held = sum(prod(parameter.shape) for parameter in parameters)
    largest = max((prod(operation.output_shape) for operation in ledger), default=0)
    needed, present = BYTES * (held + largest), memory()
    if present and needed > present:
        raise ValueError(
            f"{name} at {size}×{size} needs {needed / 2**30:,.0f} GiB for its parameters and one map of one image; "
            f"this machine has {present / 2**30:,.0f} GiB. Take a smaller size"
        )


def check_numbers(**numbers: int) -> None:
    """ValueError for one that no tensor's shape holds."""
    for name, number in numbers.items():
        if number > MOST:
            raise ValueError(f"{name} is {number}; expected {MOST:,} at most")


def memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
