"""Pages of source files that a page of docs/ links to, such as ../kernels/pooling.py, or the API reference documents.

A link to a file or folder of the repository becomes a link to a page of the site that shows it. A link to a file that
is a page of its own, such as a lesson, leads there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import partial
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parents[2]
CODE = (".py", ".css", ".js", ".html")
DATA = (".json", ".jsonl")


class file_link(nodes.reference):
    """A link to a file of the repository; "file" is its path from the root, "anchor" a place in it."""


def page_of(file: str) -> str:
    """The name of the page that shows a file or folder."""
    return f"source/{file}"


def linked_file(node: nodes.Element, env: BuildEnvironment, docname: str) -> str | None:
    """The path, from the root, of the file or folder of the repository that a link names; None for other links."""
    target = node["reftarget"].partition("#")[0]
    base = Path(env.doc2path(docname)).parent
    for name in (target, f"{target}.py"):  # Sphinx cuts the ending of what it takes for a page
        path = (base / name).resolve()
        if target and path.exists() and path.is_relative_to(ROOT) and (path.is_dir() or path.suffix in CODE + DATA):
            return path.relative_to(ROOT).as_posix()
    return None


def replace_links(app: Sphinx, doctree: nodes.document) -> None:
    """Replace links to files of the repository, before Sphinx copies these files for downloading."""
    env, docname = app.env, app.env.docname
    for node in [*doctree.findall(lambda n: isinstance(n, addnodes.pending_xref | addnodes.download_reference))]:
        is_page = node.get("refdomain") == "doc" and node["reftarget"] in env.found_docs
        if node.get("reftype") != "myst" or is_page:
            continue
        if file := linked_file(node, env, docname):
            anchor = node["reftarget"].partition("#")[2]
            node.replace_self(file_link("", "", *node.children, file=file, anchor=anchor, internal=True))


def place_of(module: str, name: str) -> tuple[str, str] | None:
    """The file, from the root, and the anchor of the line where a public object is defined."""
    value: Any = import_module(module)
    for part in name.split("."):
        value = inspect.unwrap(getattr(value, part, None))
    value = value.fget if isinstance(value, property) else value
    try:
        file, line = inspect.getsourcefile(value), inspect.getsourcelines(value)[1]
    except TypeError:  # neither a function nor a class: a constant or a field
        return None
    path = Path(file or "").resolve()
    return (path.relative_to(ROOT).as_posix(), f"L{line}") if path.is_relative_to(ROOT) else None


def add_source_links(app: Sphinx, doctree: nodes.document) -> None:
    """Add a link to its source to each signature of the API reference."""
    for signature in [*doctree.findall(addnodes.desc_signature)]:
        if signature.get("module") and (place := place_of(signature["module"], signature["fullname"])):
            text = nodes.inline("", "[source]", classes=["viewcode-link"])
            signature += file_link("", "", text, file=place[0], anchor=place[1], internal=True)


def resolve_links(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give the links their addresses, relative to the page that they are on."""
    files = app.env.repository_files = getattr(app.env, "repository_files", set())  # type: ignore[attr-defined]
    for node in [*doctree.findall(file_link)]:
        files.add(node["file"])
        uri = app.builder.get_relative_uri(docname, page_of(node["file"]))
        anchor = f"#{node['anchor']}" if node["anchor"] else ""
        node.replace_self(nodes.reference("", "", *node.children, refuri=uri + anchor, internal=True))


def highlighted(file: Path) -> str:
    """A source file as HTML with an anchor for each line, L1, L2, …"""
    formatter = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True, cssclass="highlight")
    lexer = TextLexer() if file.suffix in DATA else get_lexer_for_filename(file.name)  # colors would multiply its size
    html = highlight(file.read_text(encoding="utf-8"), lexer, formatter)
    return re.sub(r'((?:id|name|href)="#?L)-', r"\1", html)


def contents(folder: Path) -> list[Path]:
    """The files of a folder that have a page."""
    return sorted(path for path in folder.iterdir() if path.suffix in CODE + DATA)


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """All pages of files and folders that a page links to."""
    linked = getattr(app.env, "repository_files", set())
    listed = {path.relative_to(ROOT).as_posix() for f in linked if (ROOT / f).is_dir() for path in contents(ROOT / f)}
    for file in sorted(linked | listed):
        path, page = ROOT / file, page_of(file)
        if path.is_dir():
            uri = partial(app.builder.get_relative_uri, page)
            items = [(uri(page_of(f"{file}/{part.name}")), part.name) for part in contents(path)]
            body = "<ul>" + "".join(f'<li><a href="{u}"><code>{escape(n)}</code></a></li>' for u, n in items) + "</ul>"
        else:
            body = highlighted(path)
        context = {"title": file, "body": f"<h1>{escape(file)}</h1>{body}", "parents": []}
        yield page, context, "page.html"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the steps. Sphinx copies files for downloading at priority 500."""
    app.add_node(file_link)
    app.connect("doctree-read", replace_links, priority=100)
    app.connect("doctree-read", add_source_links, priority=100)
    app.connect("doctree-resolved", resolve_links)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
