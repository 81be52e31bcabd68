"""The directive `command-help`: what `rawcnn VERB --help` prints, for all verbs, from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rawcnn.cli import app as commands


def records(context: Any) -> Iterator[tuple[str, str]]:
    """The arguments and options of a command: how they are written, and their help."""
    for parameter in context.command.get_params(context):
        if "--help" not in parameter.opts and (record := parameter.get_help_record(context)):
            yield record


def text_of(help: str) -> str:
    """Help as Markdown: options are code, and brackets no links."""
    parts = re.split(r"(`[^`]*`)", help)
    parts[::2] = [re.sub(r"(?<![\w-])--?[a-z][\w-]*", r"`\g<0>`", part).replace("[", r"\[") for part in parts[::2]]
    return "".join(parts)


def markdown(command: Any, context: Any, level: int) -> Iterator[str]:
    """The lines of a command: a heading, its usage, its help, its arguments and options, and the commands in it."""
    yield f"{'#' * level} {context.command_path}\n"
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield f"{text_of(command.help or '')}\n"
    for name, text in records(context):
        yield f"- `{name}`: {text_of(' '.join(text.split()))}"
    yield ""
    yield from of_group(command, context, level + 1)


def of_group(command: Any, context: Any, level: int) -> Iterator[str]:
    """The lines of the commands in a group; none for a single command."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from markdown(inner, inner.context_class(inner, info_name=name, parent=context), level)


class CommandHelp(SphinxDirective):
    """Show the help of the command line."""

    def run(self) -> list[nodes.Node]:
        command: Any = typer.main.get_command(commands)
        text = "\n".join(of_group(command, command.context_class(command, info_name="rawcnn"), 2))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
