"""The page and the sheet of a network's building blocks: each is one file, and shows all results."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rawcnn.nn.layers import dense
from rawcnn.nn.network import Network
from rawcnn.report import blocks_sheet as sheet
from rawcnn.report.blocks_page import blocks_page, signed
from rawcnn.visualize.class_attribution import ranked_channels
from rawcnn.visualize.factorization import factorize
from rawcnn.visualize.interpretability import most_active_channels
from tests.rawcnn.report.test_report import HOSTILE, Reader
from tests.rawcnn.visualize.test_interpretability import built, deep


@pytest.fixture(scope="module")
def blocks():
    image = np.random.default_rng(0).uniform(0, 1, (8, 8, 3)).astype(np.float32)
    return built(Network("deep", deep, size=8, classes=5, seed=3), image)


LABELS = ["cat", "dog", "ship", "horse", "frog"]


def check_alone(html: str) -> Reader:
    """Check that the page loads nothing, runs nothing, and contains every icon that it uses."""
    page = Reader(html)
    assert "://" not in html and "@import" not in html and "url(" not in html
    assert not page.all("script") and not page.all("iframe")
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert all((image["alt"] or "").strip() for image in page.all("img"))
    for uri in [image["src"] for image in page.all("img")] + [image["href"] for image in page.all("image")]:
        assert uri is not None and uri.startswith("data:image/png;base64,")
        Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).load()
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))
    assert {use["href"] for use in page.all("use")} <= {f"#{name}" for name in names}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    return page


def test_the_page_stands_alone(blocks):
    page = check_alone(blocks_page(blocks, LABELS))
    positions = page.all("input")
    assert len(positions) == 16 and [("checked" in p) for p in positions].count(True) == 1
    strongest = np.unravel_index(blocks.dictionary.activations[..., 0].argmax(), (4, 4))
    chosen = next(p["aria-label"] for p in positions if "checked" in p)
    channel = blocks.dictionary.channels[strongest][0]
    assert chosen == f"row {strongest[0]}, column {strongest[1]}: channel {channel}"
    for k, name in enumerate(LABELS):
        assert (name in page.text) == (k in blocks.attribution.classes)
    for effect in [*blocks.group_effects.ravel(), *blocks.attribution.spatial.ravel()]:
        assert signed(float(effect)) in page.text


def test_hostile_labels_are_inert(blocks):
    html = blocks_page(blocks, [HOSTILE] * 5, title=HOSTILE)
    page = check_alone(html)
    assert HOSTILE in page.text and "<script" not in html and "<b>`" not in html
    plain = check_alone(blocks_page(blocks, ["x"] * 5, title="x"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]


def test_without_labels_classes_are_numbered(blocks):
    assert f"class {blocks.attribution.classes[0]}" in check_alone(blocks_page(blocks)).text
    with pytest.raises(ValueError, match="there are 0 labels, and class"):
        blocks_page(blocks, [])


def test_of_a_large_map_the_most_active_positions_are_shown(blocks):
    """64×32 positions are shown as 22×11: the most active one of each 3×3."""
    generator = np.random.default_rng(0)
    activations = generator.uniform(0, 1, (64, 32, 8)).astype(np.float32)
    dictionary = most_active_channels(activations, 2, blocks_field(), (64, 32))
    told = replace(blocks.attribution, activations=activations, gradients=np.ones((2, 64, 32, 8), np.float32))
    groups = factorize(activations, 2)
    large = replace(blocks, dictionary=dictionary, attribution=told, groups=groups, group_effects=np.ones((2, 2)))
    labels = [p["aria-label"] for p in check_alone(blocks_page(large)).all("input")]
    best = activations.max(axis=-1)
    expected = []
    for i, j in np.ndindex(22, 11):
        places = [(r, c) for r in range(3 * i, min(3 * i + 3, 64)) for c in range(3 * j, min(3 * j + 3, 32))]
        row, column = max(places, key=lambda place: best[place])
        expected.append(f"row {row}, column {column}: channel {activations[row, column].argmax()}")
    assert labels == expected


def blocks_field():
    return Network("one", lambda net, x: dense(net, "y", x, 2), size=4, classes=2).operation("y").receptive_field


def test_colors_lie_where_the_positions_are():
    image = np.full((6, 4, 3), 0.4, np.float32)
    effects = np.zeros((3, 2))
    effects[0, 1], effects[2, 0] = 2, -1
    picture = sheet.effect_overlay(image, effects, 2.0)
    assert picture.shape == (6, 4, 3)
    gray = picture[2:4]
    assert np.ptp(gray) == 0 and gray[0, 0, 0] > 0.4
    for place, (_, strong) in {(0, 2): (0, 0), (1, 3): (0, 0), (4, 0): (0, 2), (5, 1): (0, 2)}.items():
        assert picture[place].argmax() == strong
    assert np.ptp(picture[0, 3]) > np.ptp(picture[5, 0]) > 0
    assert not sheet.effect_overlay(image, np.zeros((9, 2)), 0.0)[0].std()  # nothing to show, more rows than pixels
    assert sheet.large_enough(image, (9, 2)) == (12, 8)


def test_groups_mix_their_colors():
    image, colors = np.full((2, 2, 3), 0.5, np.float32), np.eye(3, dtype=np.float32)
    maps = np.zeros((2, 2, 3), np.float32)
    maps[0, 0, 0], maps[0, 1, 2], maps[1, 0, :2] = 2, 1, 1
    picture = sheet.group_overlay(image, maps, colors)
    assert picture[0, 0].argmax() == 0 and picture[0, 1].argmax() == 2 and np.ptp(picture[1, 1]) == 0
    assert picture[1, 0, 0] == picture[1, 0, 1] > picture[1, 0, 2]
    assert len({tuple(color) for color in sheet.group_colors(7)}) == 7


def test_the_sheet_shows_every_icon(blocks):
    made = sheet.blocks_sheet(blocks)
    assert made.dtype == np.float32 and made.ndim == 3 and made.min() >= 0 and made.max() <= 1
    large = np.repeat(np.repeat(blocks.image, sheet.LARGE // 8, axis=0), sheet.LARGE // 8, axis=1)
    inside = made[sheet.GAP :, sheet.GAP :][: sheet.LARGE, : sheet.LARGE]
    np.testing.assert_array_equal(inside, large)
    shown = {c for pair in ranked_channels(blocks.attribution) for side in pair for c in side}
    icons = [icon for c, icon in blocks.channel_icons.items() if c in shown] + list(blocks.group_icons)
    for icon in icons:
        row = np.repeat(icon[0], sheet.TILE // 8, axis=0)  # the first row of pixels of the enlarged icon
        windows = np.lib.stride_tricks.sliding_window_view(made[..., 0], len(row), axis=1)
        assert (windows == row[:, 0]).all(axis=-1).any()
