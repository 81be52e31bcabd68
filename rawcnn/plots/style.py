"""The style that all plots share."""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}


def literal(text: str) -> str:
    """Return a text that matplotlib shows as it is: a `$` does not begin a formula."""
    return text.replace("$", r"\$")
