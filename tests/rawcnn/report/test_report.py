"""Pages: texts are escaped, pages work offline and are accessible, and a report is written completely or not at all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rawcnn.plots import themed as plots
from rawcnn.report import kernel_claims
from rawcnn.report.album import Album
from rawcnn.report.diagram import diagram
from rawcnn.report.folder import report_folder
from rawcnn.report.html import read
from rawcnn.report.page import (
    Card,
    Cards,
    Chapter,
    Code,
    Facts,
    Figure,
    Gallery,
    Link,
    Notes,
    Page,
    Section,
    Strip,
    Strips,
    Sum,
    Sums,
    Table,
    Text,
    Tile,
    inline,
)
from rawcnn.report.progress import bars, silent

HOSTILE = '<script>alert("x")</script>\' onload="y" & {{ 7*7 }} `<b>` $\\frac{'
VOID = {"input", "meta", "link", "img", "source", "br"}


class Reader(HTMLParser):
    """Collect the tags and the text of a page, and fail if tags do not nest."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_offline(html: str, folder: Path) -> None:
    """The page loads only pictures in its folder. All of them exist and have an alternative text."""
    page = Reader(html)
    assert "://" not in html and "@import" not in html and "url(" not in html
    assert not page.all("script") and not page.all("iframe")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    shown = [image["src"] for image in page.all("img")] + [source["srcset"] for source in page.all("source")]
    for name in shown:
        assert name and Path(name).name == name and (folder / name).is_file(), name
    assert all((image["alt"] or "").strip() for image in page.all("img"))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    for link in page.all("a"):
        target = link["href"] or ""
        assert target[1:] in names if target.startswith("#") else (folder / target).is_file(), target


def full_page(folder: Path, text: str) -> Page:
    """Return a page with every kind of block, with `text` wherever a text is possible."""
    album = Album(folder)
    (folder / "other.html").write_text("another page")
    pixels = np.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3)
    tiles = [album.tile(f"tile-{i}", pixels, alt=text, label=text, detail=text) for i in range(3)]
    draw = plots.confusion(np.array([[3, 1], [0, 2]]), [text, "b"])
    blocks = (
        Text(text + "\n\n" + text),
        Notes((text, text)),
        Code(text),
        Link("other.html", text),
        Facts(((text, text),)),
        Table((text, "n"), ((text, 1), ("b", 2.5)), text, {0: text}),
        album.plot("plot", draw, (4, 4), alt=text, caption=text),
        Gallery(tuple(tiles), text),
        Sums((Sum(tiles[0], text, tiles[1], tiles[2]),), text),
        Strips((Strip(text, text, album.strip("strip", [pixels, pixels], alt=text)),), text),
        Cards((Card(text, text, ((text, text),), diagram(text, ())),)),
    )
    section = Section(text, blocks)
    chapter, opening = (
        Chapter(text, (section, Section(text, ())), text),
        Gallery((album.tile("first", pixels, alt=text),)),
    )
    return Page(text, text, (chapter,), Facts(((text, text),)), text, (opening,))


def test_hostile_text_is_text(tmp_path):
    html = full_page(tmp_path, HOSTILE).render()
    check_offline(html, tmp_path)
    assert "49" not in Reader(html).text.replace("{{ 7*7 }}", "")
    assert "<script" not in html and "<b>`" not in html
    assert {name for tag, a in Reader(html).tags for name in a if name.startswith("on")} == set()


def test_every_picture_is_named(tmp_path):
    page = full_page(tmp_path, "plain")
    assert sorted(page.files) == sorted(file.name for file in tmp_path.glob("*.png"))
    assert page.files[0] == "first.png"
    html = page.render()
    assert all(f'"{name}"' in html for name in page.files)


def test_sections_have_different_anchors(tmp_path):
    html = full_page(tmp_path, "Same title").render()
    assert {a["id"] for _, a in Reader(html).tags if "id" in a} == {"same-title", "same-title-2", "same-title-3"}


def test_an_empty_page_renders():
    assert Reader(Page("Empty", "Nothing yet").render()).text.count("Empty") == 2


def test_long_tables_are_folded():
    def html(rows: int) -> str:
        table = Table(("a",), tuple((f"row {k}",) for k in range(rows)), "What it lists.")
        return Page("t", "l", (Chapter("c", (Section("s", (table,)),)),)).render()

    short, long = html(12), html(13)
    assert "<details" not in short and short.count("What it lists.") == 2  # its caption, and the name of its region
    folded = long[long.index('<details class="folded">') : long.index("</details>")]
    assert "row 12" in folded and re.search(r"<summary>What it lists\. <span>13 rows</span></summary>", folded)


def test_the_opening_comes_before_the_contents(tmp_path):
    html = full_page(tmp_path, "plain").render()
    assert html.index("first.png") < html.index("<nav")


def test_columns_of_numbers_are_found():
    table = Table(
        ("name", "a", "b", "c", "d"),
        (("x", 12345, "1.8G", "12.5 ms", "3×3"), ("y", 0.5, "60M", "—", "7×7")),
        "caption",
    )
    assert table.numeric == [False, True, True, True, False]
    assert table.cells[0] == ["x", "12,345", "1.8G", "12.5 ms", "3×3"]
    assert table.cells[1][1] == "0.5"


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"has 1 cells; expected 2"):
        Table(("a", "b"), (("x",),), "caption")


def test_inline_code_keeps_its_quotes():
    assert inline("it's `f('a')` & <i>") == "it’s <code>f(&#39;a&#39;)</code> &amp; &lt;i&gt;"


def test_plots_come_for_light_and_dark(tmp_path):
    figure = Album(tmp_path).plot("a", plots.receptive_fields(), (5.3, 2), alt="x")
    assert isinstance(figure, Figure)
    corners = [Image.open(tmp_path / name).convert("RGB").getpixel((0, 0)) for name in (figure.file, figure.dark)]
    assert corners == [tuple(bytes.fromhex(look.paper[1:])) for look in (plots.LIGHT, plots.DARK)]
    style = read("style.css")
    assert f"--paper: {plots.LIGHT.paper};" in style and f"--paper: {plots.DARK.paper};" in style


def test_tiles_are_enlarged_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).random((8, 8, 3))
    tile = Album(tmp_path).tile("a", pixels, alt="x")
    assert isinstance(tile, Tile)
    picture = np.asarray(Image.open(tmp_path / tile.file))
    factor = picture.shape[0] // 8
    assert factor > 1 and np.array_equal(picture[::factor, ::factor], np.rint(pixels * 255).astype(np.uint8))


def test_a_picture_is_never_overwritten(tmp_path):
    album = Album(tmp_path)
    album.tile("a", np.zeros((2, 2, 3)), alt="x")
    with pytest.raises(ValueError, match=r"called a\.png"):
        album.tile("a", np.ones((2, 2, 3)), alt="x")


def test_a_report_that_fails_leaves_the_old_one(tmp_path):
    folder = tmp_path / "deep" / "report"
    with report_folder(folder) as temporary:
        (temporary / "index.html").write_text("old")
        (temporary / "a.png").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), report_folder(folder) as temporary:
        (temporary / "index.html").write_text("new")
        raise KeyboardInterrupt
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"index.html": b"old", "a.png": b"old"}
    with pytest.raises(KeyError), report_folder(tmp_path / "never"):
        raise KeyError
    assert not (tmp_path / "never").exists()


def test_the_page_is_moved_last(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr("os.replace", lambda source, target: moved.append(Path(target).name))
    with report_folder(tmp_path) as temporary:
        for name in ("index.html", "z.png", "tour.json", "a.png"):
            (temporary / name).write_text("x")
    assert moved == ["a.png", "z.png", "tour.json", "index.html"]


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    began = False
    message = r"(is a file|cannot write to).*folder for the report"
    with pytest.raises(ValueError, match=message), report_folder(tmp_path / name):
        began = True
    assert not began and (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"could not be written .*No space left"), report_folder(tmp_path / "full"):
        raise OSError(28, "No space left on device")
    assert not (tmp_path / "full").exists()


def test_bars_go_to_stderr(capsys):
    with bars() as report:
        report("a step", 0, 3)
        report("a step", 3, 3)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "a step …\n"  # no terminal: a line


def test_bars_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with bars() as report:
        report("a step", 0, 3)
        report("a step", 3, 3)
    assert re.search(r"a step.*3/3", capsys.readouterr().err)


@pytest.mark.parametrize(
    "sizes, field, squares", [((3, 3, 3), 7, 27), ((7,), 7, 49), ((3, 3), 5, 18), ((5,), 5, 25), ((3, 5), 7, 34)]
)
def test_small_kernels_against_large(sizes, field, squares):
    stack = kernel_claims.stack(sizes, channels=16)
    assert (stack.receptive_field, stack.weights_of_squares) == (field, squares)
    assert stack.weights == squares * 16**2 == stack.macs


def test_inception_is_counted_as_the_paper_counts():
    naive, reduced = kernel_claims.race_inception(batch=1, rounds=2, progress=silent_count)
    assert (naive.channels, reduced.channels) == (416, 256)
    assert (naive.macs, reduced.macs) == (303_464_448, 128_049_152)
    assert len(naive.seconds) == len(reduced.seconds) == 2 and min(naive.seconds) > 0


def silent_count(done: int, total: int) -> None:
    silent("", done, total)
