"""The sections on feature visualization: what their texts and pictures say about given results."""

from __future__ import annotations

import numpy as np
import pytest

from rawcnn.report.album import Album
from rawcnn.report.sections import atlas, deconvolution, optimization
from rawcnn.visualize import Optimized
from rawcnn.visualize.atlas import Level
from tests.rawcnn import small


def optimized(images: np.ndarray) -> Optimized:
    """Return optimized images [N,H,W,3] that reach 1."""
    ones = np.ones(len(images), np.float32)
    return Optimized(images, ones, ones[None], (), {"steps": 4, "size": images.shape[1]})


def noise(strength: float) -> np.ndarray:
    """Return an image [1,16,16,3] with noise around gray."""
    values = np.random.default_rng(0).normal(0.5, strength, (1, 16, 16, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.mark.parametrize("blurred, least", [(0.01, "blur"), (0.2, "none")])
def test_the_text_names_the_regularization_with_the_least_energy(tmp_path, blurred, least):
    found = {"none": optimized(noise(0.1)), "blur": optimized(noise(blurred))}
    section = optimization.regularization(optimization.Compared("conv1", [3], found), Album(tmp_path))
    assert f"“{least}” has the least energy" in section.blocks[0].text
    assert section.blocks[1].strips[0].detail == "high-frequency energy 1 × that of none; reaches 1"


def test_the_overview_shows_the_image_with_most_contrast(tmp_path):
    flat, strong = noise(0.0), noise(0.2)
    row = optimization.Row("Edges", "conv1", 3, (0, 1), optimized(np.concatenate([flat, strong])))
    strips = optimization.overview([row], np.zeros((32, 32, 3), np.float32), "cat", Album(tmp_path))
    from PIL import Image

    picture = np.asarray(Image.open(tmp_path / strips.strips[0].tile.file))[..., :3] / 255
    side = picture.shape[0]
    assert picture.shape[1] == 2 * side + 8 and picture[:, :side].max() == 0
    assert picture[:, -side:].std() > 0.1


def test_parts_lie_inside_the_image():
    """A crop is a complete receptive field of the image, and its gradient is not zero."""
    network, images = small.network(size=24), np.random.default_rng(2).random((2, 24, 24, 3)).astype(np.float32)
    layer = next(o.name for o in network.operations if o.kind == "relu")
    field = network.operation(layer).receptive_field.size
    group = deconvolution.deconvolve_parts(network, layer, images)
    assert group.images.shape == (2, field, field, 3) == group.pictures["gradient"].shape
    for image, part, gradient in zip(images, group.images, group.pictures["gradient"], strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(image, (field, field, 3)).reshape(-1, field, field, 3)
        assert (windows == part).all(axis=(1, 2, 3)).sum() == 1 and np.abs(gradient).max() > 0


def alike(*pictures: np.ndarray) -> deconvolution.Alike:
    stacked = np.stack(pictures)
    return deconvolution.Alike("small", "conv1", np.abs(stacked), stacked, False)


def test_the_cosine_of_two_pictures():
    first = np.random.default_rng(1).normal(size=(4, 4, 3))
    other = np.zeros_like(first)
    assert alike(first, 3 * first).correlation == pytest.approx(1)
    assert alike(first, other).correlation == 0
    assert alike(first, -first).correlation == pytest.approx(-1)


def test_a_few_large_values_do_not_hide_the_others():
    picture = np.full((100, 100, 3), 0.01)
    picture[0, 0] = 1
    drawn = deconvolution._signed(picture, gray=False)
    assert drawn[50, 50] == pytest.approx(1) and drawn[0, 0] == pytest.approx(1)
    assert deconvolution._signed(np.zeros((8, 8, 3)), gray=True) == pytest.approx(1)  # white is zero


def test_empty_cells_of_the_atlas_are_transparent():
    cells = np.array([[0, 0], [2, 1]], np.int32)  # (column, row)
    icons = np.full((2, 40, 40, 3), 0.25, np.float32)
    ones = np.ones(2, np.float32)
    level = Level(3, cells, ones, icons[:, 0, 0], ones.astype(int), ones, ones, icons, ones)
    sheet = atlas._sheet(level)
    side = (len(sheet) - 2 * atlas.GAP) // 3
    opaque = sheet[side // 2 :: side + atlas.GAP, side // 2 :: side + atlas.GAP, 3]
    assert opaque.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert sheet[..., :3].max() == pytest.approx(0.25, abs=0.01)
