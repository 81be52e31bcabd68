"""Filters and activations as pictures, and what holds pictures together."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from rawcnn import visualize as V
from rawcnn.nn.layers import batch_norm, conv, dense, max_pool, relu
from rawcnn.nn.network import Network
from tests.rawcnn import small


def two_layers(net, images):
    x = max_pool(
        net,
        "pool1",
        relu(net, batch_norm(net, "bn1", conv(net, "conv1", images, 6, 3), epsilon=1e-5)),
        2,
        2,
        padding="VALID",
    )
    x = relu(net, conv(net, "conv2", x, 4, 3, padding=((1, 1), (0, 1))))
    return dense(net, "logits", x, 10)


@pytest.fixture(scope="module")
def network():
    return Network("two", two_layers, size=8, classes=10, preprocessing="torch")


@pytest.fixture(scope="module")
def few(digits):
    return small.part(digits, 70, 20)


# Sheets and grids ------------------------------------------------------------------------------------------


def test_the_filters_of_the_first_layer(network):
    sheet = V.filter_grid(network)
    assert sheet.shape == (1 + 2 * 4, 1 + 3 * 4, 3)  # six 3×3 filters in three columns
    assert sheet.min() == 0 and sheet.max() == 1
    tile = sheet[1:4, 5:8]  # the second
    filters = network.variables["conv1/filters"].numpy()[..., 1] / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(tile, (filters - filters.min()) / np.ptp(filters), atol=1e-6)


def test_filters_over_bgr_are_shown_in_rgb():
    network = Network("caffe", lambda net, x: dense(net, "logits", conv(net, "conv1", x, 1, 3), 2), size=4, classes=2)
    network.preprocessing = "caffe"
    filters = np.zeros((3, 3, 3, 1), np.float32)
    filters[1, 1, 2] = 1  # the third channel that the network reads is red
    network.variables["conv1/filters"].assign(filters)
    tile = V.filter_grid(network, gap=0)
    np.testing.assert_array_equal(tile[1, 1], [1, 0, 0])


def test_activation_maps(network, few):
    images, _ = few.arrays("test")
    sheet = V.activation_grid(network, images[0], "bn1/relu")
    assert sheet.shape == (1 + 2 * 9, 1 + 3 * 9, 3)
    maps = network.forward(images[:1]).activations["bn1/relu"].numpy()[0]
    for channel in range(6):
        i, j = divmod(channel, 3)
        tile = sheet[1 + 9 * i : 9 + 9 * i, 1 + 9 * j : 9 + 9 * j]
        expected = (maps[..., channel] - maps[..., channel].min()) / max(np.ptp(maps[..., channel]), 1e-9)
        np.testing.assert_allclose(tile, np.repeat(expected[..., None], 3, -1), atol=1e-6)
    assert V.activation_grid(network, images[0], "conv2", channels=[1], gap=0).shape == (4, 3, 3)


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(1, None, (1, 1)), (5, None, (2, 3)), (6, 4, (2, 4)), (2, 9, (1, 2))]
)
def test_grids(count, columns, shape):
    tiles = [np.full((3, 2), (k + 1) / 10) for k in range(count)]
    sheet = V.grid(tiles, columns, gap=2, background=0)
    assert sheet.shape == (2 + 5 * shape[0], 2 + 4 * shape[1], 3)
    assert sheet.sum() == pytest.approx(18 * sum((k + 1) / 10 for k in range(count)))
    assert sheet[2, 2, 0] == pytest.approx(0.1) and sheet[0].max() == 0


def test_a_fitted_picture_keeps_its_proportions():
    wide = np.zeros((2, 4, 3))
    square = V.fit(wide, 9)  # twice as large, on white
    assert square.shape == (9, 9, 3)
    assert (square == 0).all(-1).sum() == 4 * 8
    small = V.fit(np.indices((40, 20)).sum(0) % 2, 10)  # a chessboard averages to gray
    assert small.shape == (10, 10, 3)
    np.testing.assert_allclose(small[:, 3:7], 0.5, atol=0.01)


def test_a_picture_is_fitted_into_a_frame_that_is_not_square():
    frame = V.fit(np.zeros((2, 4, 3)), (5, 13))  # twice as large
    assert frame.shape == (5, 13, 3)
    rows, columns = np.nonzero((frame == 0).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max(), len(rows)) == (0, 3, 2, 9, 4 * 8)
    assert V.fit(np.zeros((40, 20)), np.array([10, 30])).shape == (10, 30, 3)


def test_a_png_holds_the_picture(tmp_path):
    image = np.random.default_rng(0).uniform(0, 1, (3, 4, 3))
    path = V.save_png(tmp_path / "new" / "a.png", image, scale=3)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    read = np.asarray(Image.open(path)) / 255
    assert read.shape == (9, 12, 3)
    np.testing.assert_allclose(read[1::3, 1::3], image, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(read[::3], read[2::3])


def test_diverging_colors():
    colors = V.diverging([[0.0, 0.5, -0.5]], times=2)
    np.testing.assert_array_equal(colors[0, 0], [1, 1, 1])
    assert colors[0, 1, 0] > colors[0, 1, 2] and colors[0, 2, 2] > colors[0, 2, 0]
    np.testing.assert_array_equal(V.diverging([[0.0, 0.5, -0.5]]), colors)  # the largest is full
    noise = np.zeros((2, 2, 3))
    noise[0, 0, 0] = 0.01
    np.testing.assert_allclose(V.diverging(noise, times=50)[0, 0], [0.75, 0.5, 0.5])
    np.testing.assert_array_equal(V.diverging(np.zeros((2, 2))), 1)


# The package -----------------------------------------------------------------------------------------------


def test_no_function_hides_a_module():
    modules = {file.stem for file in Path(V.__file__).parent.glob("[a-z]*.py")}
    assert [name for name, value in vars(V).items() if name in modules and not isinstance(value, ModuleType)] == []


# Bad input -------------------------------------------------------------------------------------------------

WRONG = {
    "those of conv1$": lambda n, d: V.filter_grid(n, "conv2"),
    "pool1 is a max_pool layer": lambda n, d: V.filter_grid(n, "pool1"),
    "no layer 'convl'": lambda n, d: V.filter_grid(n, "convl"),
    "no layer 'x'": lambda n, d: V.activation_grid(n, np.zeros((8, 8, 3)), "x"),
    "no maps": lambda n, d: V.activation_grid(n, np.zeros((8, 8, 3)), "logits"),
    "cannot tile 0": lambda n, d: V.grid([]),
    "cannot tile 2": lambda n, d: V.grid([np.zeros((2, 2)), np.zeros((2, 3))]),
    "columns is 0": lambda n, d: V.grid([np.zeros((2, 2))], 0),
    "scale is 0": lambda n, d: V.enlarge(np.zeros((2, 2)), 0),
    r"shape \(2, 2, 4\)": lambda n, d: V.picture(np.zeros((2, 2, 4))),
    "not finite": lambda n, d: V.picture([[np.nan]]),
}


PICTURES = {"ragged": [[0.0], [0.0, 1.0]], "None": None, "text": "x.png", "complex": np.ones((2, 2)) + 0j,
            "objects": np.array([[0.5, None]])}  # fmt: skip
TAKE_PICTURES = {
    "enlarge": lambda p: V.enlarge(p, 2),
    "fit": lambda p: V.fit(p, 4),
    "grid": lambda p: V.grid([p]),
    "draw_box": lambda p: V.draw_box(p, (0, 0, 1, 1)),
    "diverging": V.diverging,
}


@pytest.mark.parametrize("name", TAKE_PICTURES)
@pytest.mark.parametrize("kind", PICTURES)
def test_what_is_no_picture(name, kind):
    with pytest.raises(ValueError, match=r"^(the picture|values) (is|has) .*; expected numbers \[H,W\] or \[H,W,3\]$"):
        TAKE_PICTURES[name](PICTURES[kind])


@pytest.mark.parametrize("kind", PICTURES)
def test_what_is_no_image_for_a_network(network, kind):
    for call in (
        lambda image: V.activation_grid(network, image, "conv2"),
        lambda image: V.attribution(network, image, "conv2", compile="eager"),
    ):
        with pytest.raises(ValueError, match=r"^the image (is|has) .*; expected one RGB image \[H,W,3\]$"):
            call(PICTURES[kind])


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message, network, few):
    with pytest.raises(ValueError, match=message):
        WRONG[message](network, few)
