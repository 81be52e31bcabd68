"""How a type shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Display(NamedTuple):
    """Functions of a result. The richest form that a front end knows is shown.

    Attributes:
        text: A line of text.
        html: A table.
        png: A picture; None if there is nothing to draw.
    """

    text: Callable[[Any], str]
    html: Callable[[Any], str] | None = None
    png: Callable[[Any], bytes | None] | None = None
