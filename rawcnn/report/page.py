"""The content of a report: a Page has Chapters, these have Sections, and these have blocks. One template shows all.

Blocks are plain values. Every text in them is escaped. Backticks mark `code`, and a blank line in a Text starts a new
paragraph. File names are relative to the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from rawcnn.report.html import render

NUMBER = re.compile(r"[≈<>±+−-]?[\d.,]+(e[+-]\d+)?( ?± ?[\d.,]+)?[  ]?(%|×|[KMG]|ms|s|px|images/s)?|[—–]?")
FOLDED = 12  # rows: a longer table is folded
Cell = str | int | float


@dataclass(frozen=True)
class Text:
    """Paragraphs, with blank lines between them."""

    text: str

    @property
    def paragraphs(self) -> list[str]:
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Notes:
    """A list of remarks."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Lines of code or of a command."""

    text: str


@dataclass(frozen=True)
class Link:
    """A link to another page in the folder."""

    file: str
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under `columns`. `remarks` maps the number of a row to a remark that is shown below this row.

    Columns that contain only numbers are aligned right.

    Raises:
        ValueError: A row has another number of cells than there are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    remarks: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"the row {row} has {len(row)} cells; expected {len(self.columns)}: {self.columns}")

    @property
    def cells(self) -> list[list[str]]:
        return [[shown(cell) for cell in row] for row in self.rows]

    @property
    def is_long(self) -> bool:
        """Whether the table is folded until the reader opens it."""
        return len(self.rows) > FOLDED

    @property
    def numeric(self) -> list[bool]:
        """Whether all cells of a column are numbers, for each column."""
        return [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*self.cells, strict=True)]


@dataclass(frozen=True)
class Facts:
    """The most important numbers, each with its meaning."""

    items: tuple[tuple[str, str], ...]  # (value, meaning)


@dataclass(frozen=True)
class Figure:
    """A picture. `alt` describes it for people who do not see it. A dark screen shows `dark` instead."""

    file: str
    alt: str
    caption: str = ""
    dark: str = ""
    width: int = 0  # in pixels of the page; with it the page does not jump while the picture loads
    height: int = 0


@dataclass(frozen=True)
class Tile:
    """A small picture of few pixels, with a label and a line of details below it."""

    file: str
    alt: str
    label: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Gallery:
    """Tiles side by side."""

    tiles: tuple[Tile, ...]
    caption: str = ""


@dataclass(frozen=True)
class Sum:
    """image + factor × noise = result, as on Goodfellow et al.'s panda."""

    image: Tile
    factor: str
    noise: Tile
    result: Tile


@dataclass(frozen=True)
class Sums:
    """Sums below each other."""

    sums: tuple[Sum, ...]
    caption: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of small pictures in one file, with a label and a line of details above it."""

    label: str
    detail: str
    tile: Tile


@dataclass(frozen=True)
class Strips:
    """Strips below each other."""

    strips: tuple[Strip, ...]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A title with facts and a drawing. The SVG is not escaped; `rawcnn.report.diagram` returns safe SVG."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]  # (meaning, value)
    drawing: Markup


@dataclass(frozen=True)
class Cards:
    """Cards in columns."""

    cards: tuple[Card, ...]


Block = Text | Notes | Code | Link | Table | Facts | Figure | Gallery | Sums | Strips | Cards


@dataclass(frozen=True)
class Section:
    """A title and the blocks below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Chapter:
    title: str
    sections: tuple[Section, ...]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A complete report. `render` returns its HTML. `opening` is shown before the table of contents."""

    title: str
    lead: str
    chapters: tuple[Chapter, ...] = ()
    facts: Facts | None = None
    footer: str = ""
    opening: tuple[Block, ...] = ()

    def render(self) -> str:
        """Return one HTML file with its style inside. It loads only the pictures in its folder."""
        names = {id(part): name for part, name in self._anchors()}
        return render(
            "page.html",
            filters={"inline": inline},
            title=self.title,
            page=self,
            anchor=lambda part: names[id(part)],
            kind=lambda block: type(block).__name__,
        )

    @property
    def files(self) -> list[str]:
        """The names of all pictures that the page shows, without duplicates."""
        return list(dict.fromkeys(name for part in self._pictures() for name in part))

    def _pictures(self) -> Iterator[tuple[str, ...]]:
        for block in self._blocks():
            if isinstance(block, Figure):
                yield (block.file, block.dark) if block.dark else (block.file,)
            elif isinstance(block, Gallery):
                yield tuple(tile.file for tile in block.tiles)
            elif isinstance(block, Strips):
                yield tuple(strip.tile.file for strip in block.strips)
            elif isinstance(block, Sums):
                yield from ((s.image.file, s.noise.file, s.result.file) for s in block.sums)

    def _blocks(self) -> Iterator[Block]:
        yield from self.opening
        yield from (block for chapter in self.chapters for section in chapter.sections for block in section.blocks)

    def _anchors(self) -> Iterator[tuple[Chapter | Section, str]]:
        """Yield each chapter and section with a unique anchor."""
        taken: set[str] = set()
        for chapter in self.chapters:
            yield chapter, _unique(chapter.title, taken)
            for section in chapter.sections:
                yield section, _unique(section.title, taken)


def _unique(title: str, taken: set[str]) -> str:
    """Return the title as an anchor, with a number if `taken` contains it, and add it to `taken`."""
    base = name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def inline(text: str) -> Markup:
    """Escape a text. Backticks mark code, and apostrophes outside of code become curved."""
    parts = re.split(r"`([^`]+)`", text)  # text, code, text, …
    html = [
        escape(re.sub(r"(?<=\w)'", "’", part)) if i % 2 == 0 else Markup("<code>%s</code>") % part
        for i, part in enumerate(parts)
    ]
    return Markup("").join(html)


def shown(cell: Cell) -> str:
    """Format a cell: thousands are grouped, a float has four digits."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.4g}"


def si(number: float) -> str:
    """Format a number with three digits and a unit: 1,582,671,872 → "1.58 G"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"
