"""The documentation site: all pages and public names are in it; what was built works from a folder, offline."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import kernels
import rawcnn
import rawcnn.attacks
import rawcnn.data
import rawcnn.explain
import rawcnn.visualize

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODULES = [rawcnn, rawcnn.attacks, rawcnn.visualize, rawcnn.data, rawcnn.explain, kernels]


def pages() -> set[str]:
    """The pages of docs/, as Sphinx names them: without their endings."""
    files = [*DOCS.rglob("*.md"), *(DOCS / "lessons").glob("*.py"), *(DOCS / "notebooks").glob("*.py")]
    return {path.relative_to(DOCS).with_suffix("").as_posix() for path in files}


def entries(page: Path) -> set[str]:
    """The pages in the tables of contents of a page."""
    found: set[str] = set()
    for table in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in table.splitlines():
            if line and not line.startswith(":"):
                pattern = (page.parent / line).relative_to(DOCS).as_posix()
                matches = fnmatch.filter(pages(), pattern)
                assert matches, f"{page.name}: {line} is no page"
                found |= {*matches}
    return found


def documented() -> set[str]:
    """The names in the API reference."""
    found: set[str] = set()
    for page in (DOCS / "api").rglob("*.md"):
        module = ""
        directives = re.findall(r"^\.\. ([\w:]+):: ([\w.]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        for directive, name in directives:
            if directive == "currentmodule":
                module = name
            elif directive == "automodule":
                module = name
                found.add(name)
            else:
                found.add(name if name.startswith(("rawcnn.", "kernels.")) else f"{module}.{name}")
    return found


def test_every_page_is_in_a_table_of_contents():
    listed = set().union(*(entries(path) for path in DOCS.rglob("*.md")))
    assert listed == pages() - {"index"}


def test_every_public_name_is_in_the_api_reference():
    public = {f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
    assert not public - documented()


# What was built -----------------------------------------------------------------------------------------------

built = pytest.mark.skipif(
    "RAWCNN_SITE" not in os.environ, reason="RAWCNN_SITE names no folder of the documentation site"
)


class Links(HTMLParser):
    """The anchors of a page, its links, and the files that it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.add(values["href"])
        elif tag != "a":
            self.loaded |= {values[key] for key in ("src", "href") if values.get(key)}


@cache
def links(page: Path) -> Links:
    """Read a page."""
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def site() -> Path:
    return Path(os.environ["RAWCNN_SITE"]).resolve()


@built
def test_pages_load_nothing_from_the_network(site):
    for page in site.rglob("*.html"):
        for name in links(page).loaded:
            assert not urlsplit(name).netloc and (name.startswith("data:") or urlsplit(name).scheme == ""), page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


@built
def test_links_lead_to_pages_and_anchors_of_the_folder(site):
    wrong = []
    for page in site.rglob("*.html"):
        for link in links(page).links | links(page).loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            found = target.is_file() and target.is_relative_to(site)
            if found and parts.fragment and target.suffix == ".html":
                found = unquote(parts.fragment) in links(target).anchors
            if not found:
                wrong.append(f"{page.relative_to(site)}: {link}")
    assert not wrong


@built
def test_lessons_and_source_files_are_shown(site):
    assert "def input_gradient" in re.sub(r"<[^>]*>", "", (site / "lessons" / "1_convolution.html").read_text())
    assert 'href="source/kernels/pooling.py.html"' in (site / "reading.html").read_text()
    assert 'id="kernels.max_pool"' in (site / "api" / "kernels" / "pooling.html").read_text()
    assert "--epsilon" in (site / "api" / "command_line.html").read_text()


@built
def test_search_works_from_the_folder(site, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium: apt-get install chromium")
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    address = f"{(site / 'search.html').as_uri()}?q=momentum"
    page = subprocess.run(
        [browser, *words, "--virtual-time-budget=20000", "--dump-dom", address],
        check=True,
        capture_output=True,
        timeout=120,
    )
    results = re.search(r'<ul [^>]*class="search".*?</ul>', page.stdout.decode(), re.DOTALL)
    assert results and "lessons/3_alexnet_training_step.html" in results[0]
