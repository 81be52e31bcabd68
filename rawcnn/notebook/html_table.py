"""HTML tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LONG = 40  # letters; a cell with more gets a width in which it can be read


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """Return an HTML table that scrolls. All text is escaped, and numbers are aligned to the right.

    Args:
        title: The text above the table.
        header: The names of the columns.
        rows: The cells; whole numbers get commas, and None is empty.
        notes: Paragraphs below the table.

    Returns:
        The HTML. Its styles are inline, because front ends show a result without a page of its own.
    """
    rows = list(rows)
    sides = [_side(value) for value in (rows[0] if rows else header)]
    named = zip(header, sides, strict=True)
    head = "".join(f'<th scope="col" style="text-align:{side}">{escape(name)}</th>' for name, side in named)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<div><p><strong>{escape(title)}</strong></p>\n<div style="max-height:26em;overflow:auto">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>{below}</div>"
    )


def _side(value: object) -> str:
    return "right" if isinstance(value, int | float) else "left"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    else:
        text = escape("" if value is None else str(value))
    width = ";min-width:20em" if len(text) > LONG else ""
    return f'<td style="text-align:{_side(value)}{width}">{text}</td>'


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape without the batch: "55×55×96"."""
    return "×".join("?" if length is None else str(length) for length in shape[1:])
