"""The page of a layer's units: what stands in each row, and what a browser makes of it."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from rawcnn.report.units_page import units_page
from rawcnn.visualize import objectives
from rawcnn.visualize.unit_summary import rectified, units
from tests.rawcnn import small
from tests.rawcnn.report.test_report import Reader


@pytest.fixture(scope="module")
def rows(digits):
    network = small.network()
    return network, units(network, small.part(digits, 70, 20), "conv2/relu", [3, 11], count=3, steps=8, batch=6)


def test_a_unit_in_every_way(rows):
    network, found = rows
    assert [unit.channel for unit in found] == [3, 11]
    for unit in found:
        maps = network.activations(np.stack([unit.optimized, unit.negative]), ["conv2", "conv2/relu"])
        excited, _ = maps["conv2/relu"][..., unit.channel].numpy().mean((1, 2))
        raised, inhibited = maps["conv2"][..., unit.channel].numpy().mean((1, 2))
        assert unit.value == pytest.approx(excited, rel=1e-4)
        assert unit.negative_value == pytest.approx(inhibited, rel=1e-4) and inhibited < raised
        assert unit.diverse.shape == (3, 8, 8, 3) and unit.deconvolutions.shape == (3, 8, 8, 3)
        assert unit.inputs.bottom[0].activation < 0 < unit.inputs.top[0].activation  # looked for before the rectifier
        assert unit.to_dict()["images"] == 70


def test_what_a_layer_rectifies(rows):
    network, _ = rows
    assert rectified(network, "conv2/relu") == "conv2" == rectified(network, "conv2")


def test_the_page(rows):
    _, found = rows
    html = units_page(found, title="<script>x</script>", lead="a & b", settings={"data": "</dl><b>"})
    assert "http" not in html
    page = Reader(html)
    assert not page.all("script") and "<script>x" in page.text and "</dl><b>" in page.text
    assert [section["id"] for section in page.all("section")] == ["unit-3", "unit-11"]
    assert {a["href"] for a in page.all("a")} == {"#unit-3", "#unit-11"}
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.all("img"))
    assert len(page.all("img")) == 2 * (1 + 1 + 3 + 1 + 3 + 3 + 3)  # index, optimized, diverse, negative, three rows


def test_a_browser_shows_it(rows, tmp_path):
    """Pictures are drawn and nothing is wider than the screen."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium: apt-get install chromium")
    (tmp_path / "page.html").write_text(units_page(rows[1], title="t", lead="l", settings={}), encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path}/profile"]
    for width in (1280, 500):
        shot = tmp_path / f"{width}.png"
        command = [browser, *words, f"--window-size={width},900", f"--screenshot={shot}", f"{tmp_path}/page.html"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        pixels = np.asarray(Image.open(shot).convert("RGB"), np.float32)
        assert pixels.shape[1] == width
        assert np.ptp(pixels[:, : width - 20], axis=(0, 1)).min() > 150  # dark letters, bright pictures
        assert np.ptp(pixels[:, -8:], axis=(0, 1)).max() < 30  # a margin: nothing is cut off


def test_objective_of_the_negative_is_before_the_rectifier(rows):
    network, found = rows
    objective = objectives.channel(network, "conv2", [3])
    value = objective.value(network.activations(found[0].negative[None], ["conv2"]), objective.rows[0])
    assert float(value[0]) == pytest.approx(found[0].negative_value, rel=1e-4)
