"""A comparison with a paper's printed numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.html_table import table

if TYPE_CHECKING:
    from rawcnn.papers.comparison import Comparison


def text(comparison: Comparison) -> str:
    """Say how many numbers agree."""
    agreeing = sum(line.agrees for line in comparison.lines)
    return f"Comparison({comparison.name}: {agreeing} of {len(comparison.lines)} printed numbers agree)"


def html(comparison: Comparison) -> str:
    """Return a row for each printed number."""
    notes = [f"Source: {comparison.source}.", *comparison.notes]
    agreeing = sum(line.agrees for line in comparison.lines)
    title = f"{comparison.title}: {agreeing} of {len(comparison.lines)} printed numbers agree with the counts"
    rows = (
        (x.row, x.quantity, x.printed, round(x.counted), "✓" if x.agrees else "differs", x.explanation)
        for x in comparison.lines
    )
    return table(title, comparison.columns, rows, notes)
