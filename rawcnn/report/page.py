"""What a report is made of: a Page of Chapters of Sections of blocks, and the one template that shows them.

Blocks are plain values. Every text in them is escaped, whatever it holds; `code` in backticks is set as code, and a
blank line in a Text starts a new paragraph. Files are named relative to the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent
NUMBER = re.compile(r"[≈<>±+−-]?[\d.,]+(e[+-]\d+)?( ?± ?[\d.,]+)?[  ]?(%|×|[KMG]|ms|s|px|images/s)?|[—–]?")
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
class Table:
    """Rows of cells under `columns`; a remark is shown under the row that it belongs to, by number.

    Columns that hold only numbers are set flush right. Raises ValueError for a row of the wrong length.
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
    def numeric(self) -> list[bool]:
        """For each column, whether all its cells are numbers."""
        return [all(NUMBER.fullmatch(cell) for cell in column) for column in zip(*self.cells, strict=True)]


@dataclass(frozen=True)
class Facts:
    """The few numbers that matter most, each with what it is."""

    items: tuple[tuple[str, str], ...]  # (value, what it is)


@dataclass(frozen=True)
class Figure:
    """A picture; `alt` tells those who do not see it what it shows. `dark` is shown on a dark screen instead."""

    file: str
    alt: str
    caption: str = ""
    dark: str = ""
    width: int = 0  # in pixels of the page, which does not jump then while the picture loads
    height: int = 0


@dataclass(frozen=True)
class Tile:
    """A small picture of few pixels, with a label and a line below it."""

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
    """Several sums, one below the other."""

    sums: tuple[Sum, ...]
    caption: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of small pictures in one file, with a label and a line above it."""

    label: str
    detail: str
    tile: Tile


@dataclass(frozen=True)
class Strips:
    """Strips, one below the other."""

    strips: tuple[Strip, ...]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A thing, its facts and a drawing of it: SVG that is safe as it is, such as `rawcnn.report.diagram` gives."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str], ...]  # (what it is, value)
    drawing: Markup


@dataclass(frozen=True)
class Cards:
    """Cards in columns, read downward."""

    cards: tuple[Card, ...]


Block = Text | Notes | Code | Table | Facts | Figure | Gallery | Sums | Strips | Cards


@dataclass(frozen=True)
class Section:
    """A title and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Chapter:
    title: str
    sections: tuple[Section, ...]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report. `render` gives its HTML."""

    title: str
    lead: str
    chapters: tuple[Chapter, ...] = ()
    facts: Facts | None = None
    footer: str = ""

    def render(self) -> str:
        """One HTML file with its style in it, that loads nothing but the pictures beside it."""
        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        environment.filters["inline"] = inline
        style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
        names = {id(part): name for part, name in self._anchors()}
        return environment.get_template("page.html").render(
            page=self, style=style, anchor=lambda part: names[id(part)], kind=lambda block: type(block).__name__
        )

    @property
    def files(self) -> list[str]:
        """Names of all pictures that the page shows, each once."""
        return list(dict.fromkeys(name for part in self._pictures() for name in part))

    def _pictures(self) -> Iterator[tuple[str, ...]]:
        for block in (block for chapter in self.chapters for section in chapter.sections for block in section.blocks):
            if isinstance(block, Figure):
                yield (block.file, block.dark) if block.dark else (block.file,)
            elif isinstance(block, Gallery):
                yield tuple(tile.file for tile in block.tiles)
            elif isinstance(block, Strips):
                yield tuple(strip.tile.file for strip in block.strips)
            elif isinstance(block, Sums):
                yield from ((s.image.file, s.noise.file, s.result.file) for s in block.sums)

    def _anchors(self) -> Iterator[tuple[Chapter | Section, str]]:
        """A name for each chapter and section, unlike all others, to link to."""
        taken: set[str] = set()
        for chapter in self.chapters:
            yield chapter, _unlike(chapter.title, taken)
            for section in chapter.sections:
                yield section, _unlike(section.title, taken)


def _unlike(title: str, taken: set[str]) -> str:
    """The title as an anchor, with a number if it is taken; takes it."""
    base = name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    number = 1
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name)
    return name


def inline(text: str) -> Markup:
    """Escaped text in which `backticks` are code, and an apostrophe outside of them is curved."""
    parts = re.split(r"`([^`]+)`", text)  # text, code, text, …
    html = [
        escape(re.sub(r"(?<=\w)'", "’", part)) if i % 2 == 0 else Markup("<code>%s</code>") % part
        for i, part in enumerate(parts)
    ]
    return Markup("").join(html)


def shown(cell: Cell) -> str:
    """A cell as text: thousands are grouped, a float has four digits."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:,.4g}"


def si(number: float) -> str:
    """1,582,671,872 as "1.58 G"."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"
