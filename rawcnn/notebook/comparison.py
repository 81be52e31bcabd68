"""A comparison with a paper's printed numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.html_table import table

if TYPE_CHECKING:
    from rawcnn.papers.comparison import Comparison


def text(comparison: Comparison) -> str:
    """Say how the printed numbers compare with the counts."""
    return f"Comparison({comparison.name}, {len(comparison.lines)} printed numbers: {comparison.summary})"


def html(comparison: Comparison) -> str:
    """Return a row for each printed number."""
    notes = [f"Source: {comparison.source}.", *comparison.notes]
    title = f"{comparison.title}. {len(comparison.lines)} printed numbers: {comparison.summary}"
    rows = ((x.row, x.quantity, x.printed, round(x.counted), x.verdict, x.explanation) for x in comparison.lines)
    return table(title, comparison.columns, rows, notes)
