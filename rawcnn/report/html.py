"""Render the report's HTML templates. Each page is one file with its style inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(
    template: str, *, styles: Sequence[str] = (), filters: Mapping[str, Callable] | None = None, **values: object
) -> str:
    """Render a template of this folder. Every text is escaped.

    Args:
        template: The file's name.
        styles: CSS files of this folder that follow style.css.
        filters: Further filters of the template.
        **values: What the template shows; all of it must be given.

    Returns:
        The page as HTML.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(filters or {})
    style = Markup("".join(read(name) for name in ("style.css", *styles)))
    return environment.get_template(template).render(style=style, **values)


def read(name: str) -> str:
    """Return the text of a file of this folder."""
    return (HERE / name).read_text(encoding="utf-8")
