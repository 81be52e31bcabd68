"""The page of an activation atlas: it works offline, escapes hostile names, and contains every cell and icon."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rawcnn.report import atlas_page as page
from rawcnn.report.atlas_page import atlas_page
from rawcnn.visualize.atlas import Atlas, Level
from tests.rawcnn.report.test_report import Reader

HOSTILE = "</script><img src=x onerror=alert(1)> <!-- ' \" & {{ 7*7 }} \u2028"


def level(grid: int, count: int, side: int = 6, seed: int = 0) -> Level:
    """Return a level with random icons of classes 0 to 4 in random cells."""
    generator = np.random.default_rng([seed, grid])
    number = generator.permutation(grid**2)[:count]
    number.sort()
    return Level(
        grid,
        np.stack([number % grid, number // grid], axis=1).astype(np.int32),
        generator.integers(8, 60, count),
        generator.standard_normal((count, 3)).astype(np.float32),
        generator.integers(0, 5, count).astype(np.int32),
        generator.standard_normal(count).astype(np.float32),
        generator.random(count).astype(np.float32),
        generator.random((count, side, side, 3)).astype(np.float32),
        np.ones(count, np.float32),
    )


@pytest.fixture
def drawn() -> Atlas:
    settings = {"network": HOSTILE, "layer": HOSTILE, "data": HOSTILE, "images": 400, "minimum": 8, "seed": 0}
    nowhere = np.zeros((0, 2), np.float32)
    return Atlas(HOSTILE, nowhere, nowhere, nowhere, (level(4, 9), level(8, 30)), settings)


class Scripts(Reader):
    """A Reader that also collects the content of scripts."""

    def __init__(self, html):
        self.scripts = []
        super().__init__(html)

    def handle_data(self, data):
        super().handle_data(data)
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)


def picture_in(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_the_page_is_one_offline_file(drawn):
    html = atlas_page(drawn, [HOSTILE] * 5, title=HOSTILE, lead=HOSTILE)
    read = Scripts(html)
    assert "://" not in html and "@import" not in html and "url(" not in html and "fetch(" not in html
    assert [link["href"] for link in read.all("link")] == ["data:,"]
    assert len(read.all("script")) == 2 and not any("src" in script for script in read.all("script"))
    assert not read.all("iframe") and not read.all("object") and not read.all("form")
    assert len(read.all("img")) == 2 and all(i["src"].startswith("data:image/png;base64,") for i in read.all("img"))
    assert read.all("img")[0]["alt"] and "hidden" not in read.all("img")[0]
    names = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(names) == len(set(names))
    policy = next(meta["content"] for meta in read.all("meta") if "http-equiv" in meta)
    allowed = base64.b64encode(hashlib.sha256(read.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{allowed}'" in policy


def test_hostile_names_are_text(drawn):
    html = atlas_page(drawn, [f"{HOSTILE}{i}" for i in range(5)], title=HOSTILE, lead=HOSTILE)
    read = Scripts(html)
    assert "<img src=x" not in html and "<!--" not in html and "{{ 7*7 }}" in read.text
    assert {name for _, attributes in read.tags for name in attributes if name.startswith("on")} == set()
    data = json.loads(read.scripts[0])
    assert sorted(data["classes"]) == [f"{HOSTILE}{i}" for i in range(5)]
    assert all(f"{HOSTILE}{i}" in read.text for i in range(5))


def test_the_script_has_every_cell(drawn):
    read = Scripts(atlas_page(drawn))
    data = json.loads(read.scripts[0])
    assert len(read.all("canvas")) == 1 and len([b for b in read.all("button") if "data-level" in b]) == 3
    for number, (shown, source) in enumerate(zip(data["levels"], drawn.levels, strict=True)):
        assert shown["grid"] == source.grid and shown["side"] == 6 and shown["pitch"] == 8
        sheet = picture_in(read.all("img")[number]["src"])
        for i, cell in enumerate(shown["cells"]):
            assert [cell["x"], cell["y"]] == source.cells[i].tolist()
            assert data["classes"][cell["rank"]] == f"class {source.classes[i]}"
            assert cell["lines"][0] == f"{source.counts[i]} images"
            x, y = 8 * cell["at"][0], 8 * cell["at"][1]
            assert np.array_equal(sheet[y : y + 6, x : x + 6, :3], np.rint(source.icons[i] * 255).astype(np.uint8))
            assert (sheet[y : y + 6, x : x + 6, 3] == 255).all()
        assert len({tuple(cell["at"]) for cell in shown["cells"]}) == len(source.cells)
    first = data["levels"][0]  # what paper shows: icons where they lie, nothing elsewhere
    assert all(cell["at"] == [cell["x"], cell["y"]] for cell in first["cells"])
    assert (picture_in(read.all("img")[0]["src"])[..., 3] == 255).sum() == 9 * 8 * 8


def test_many_icons_are_a_jpeg(drawn, monkeypatch):
    monkeypatch.setattr(page, "PNG_PIXELS", 1500)
    smooth = np.linspace(0, 1, 30)[:, None, None, None] * np.ones((30, 6, 6, 3), np.float32)
    fine = replace(drawn.levels[1], icons=smooth.astype(np.float32))
    read = Scripts(atlas_page(replace(drawn, levels=(drawn.levels[0], fine))))
    coarse, many = (image["src"] for image in read.all("img"))
    assert coarse.startswith("data:image/png") and many.startswith("data:image/jpeg")
    sheet, shown = picture_in(many).astype(float), json.loads(read.scripts[0])["levels"][1]
    for cell, icon in zip(shown["cells"], smooth, strict=True):
        x, y = 8 * cell["at"][0], 8 * cell["at"][1]
        assert np.abs(sheet[y : y + 6, x : x + 6, :3] - 255 * icon).max() < 3  # a neighbor does not bleed in


def test_an_icons_area_is_the_number_of_images():
    sizes = page.sizes_of(np.array([1, 25, 50, *[100] * 7, 400]))
    assert sizes[1] ** 2 == pytest.approx(0.25) and sizes[2] ** 2 == pytest.approx(0.5)
    assert sizes[0] == page.SMALLEST and sizes[-1] == sizes[-2] == 1


def test_classes_are_ranked_by_their_images(drawn):
    coarse, fine = drawn.levels
    expected = {}
    for one in (coarse, fine):
        for k in set(one.classes.tolist()):
            expected[k] = int(one.counts[one.classes == k].sum())
    ranked = page.ranked_classes(drawn.levels)
    assert dict(ranked) == expected and [n for _, n in ranked] == sorted(expected.values(), reverse=True)


def test_a_class_without_a_name_is_refused(drawn):
    with pytest.raises(ValueError, match="there are 3 labels, and class 4 is shown"):
        atlas_page(drawn, ["a", "b", "c"])


def test_without_classes(drawn):
    """The atlas of a network without a classifier has icons and counts, and nothing about classes."""
    none = {"classes": np.empty(0, np.int32), "attributions": np.empty(0), "shares": np.empty(0)}
    plain = replace(drawn, levels=tuple(replace(one, **none) for one in drawn.levels))
    html = atlas_page(plain, title="t")
    assert "data-rings" not in html.split("<script")[0] and "logit" not in html.split("<script")[0]
    assert page.ranked_classes(plain.levels) == []
    data = json.loads(re.search(r'<script type="application/json" id="atlas">(.*?)</script>', html, re.DOTALL)[1])
    assert data["classes"] == []
    for level, shown in zip(plain.levels, data["levels"], strict=True):
        assert [cell["lines"] for cell in shown["cells"]] == [[f"{count:,} images"] for count in level.counts]
        assert all(cell["rank"] is None for cell in shown["cells"])
