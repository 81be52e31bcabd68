"""The types of callbacks that long work calls to report its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # (steps done, steps in all)
StageProgress = Callable[[int, int, str], None]  # the same, and what is being done
