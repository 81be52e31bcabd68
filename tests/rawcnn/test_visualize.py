"""Filters, activations and the images that units like best, against searches in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rawcnn import create
from rawcnn import visualize as V
from rawcnn.layers import batch_norm, conv, dense, max_pool, relu
from rawcnn.network import Network
from tests.rawcnn import small


def two_layers(net, images):
    x = max_pool(net, "pool1", relu(net, batch_norm(net, "bn1", conv(net, "conv1", images, 6, 3))), 2, 2)
    x = relu(net, conv(net, "conv2", x, 4, 3, padding=((1, 1), (0, 1))))
    return dense(net, "logits", x, 10)


@pytest.fixture(scope="module")
def network():
    return Network("two", two_layers, size=8, classes=10, preprocessing="torch")


@pytest.fixture(scope="module")
def few(digits):
    return small.part(digits, 70, 20)


def brute_force(network, images, layer, channel, count):
    """[(activation, index, (row, column))] of the best places, one an image, by sorting all of them."""
    maps = network.forward(images).activations[layer].numpy()
    maps = maps[..., channel].reshape(len(images), -1, maps.shape[2] if maps.ndim == 4 else 1)
    found = []
    for index, values in enumerate(maps):
        places = [(-values[i, j], i, j) for i, j in np.ndindex(values.shape)]
        value, i, j = min(places)
        found.append((value, index, (i, j)))
    return [(-value, index, place) for value, index, place in sorted(found)[:count]]


# Top inputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "bn1/relu", "pool1", "conv2/relu", "logits"])
def test_top_inputs_are_those_of_a_brute_force_search(network, few, layer):
    images, _ = few.arrays("train")
    tops = V.top_inputs(network, few, layer, count=5, batch=16)
    assert list(tops) == list(range(network.operation(layer).output_shape[-1]))
    for channel, found in tops.items():
        expected = brute_force(network, images, layer, channel, 5)
        assert [(t.index, t.position) for t in found] == [(index, place) for _, index, place in expected]
        np.testing.assert_allclose([t.activation for t in found], [value for value, _, _ in expected], rtol=1e-5)
        for top in found:
            assert top.channel == channel
            assert top.box == network.operation(layer).field.box(top.position, (8, 8))
            np.testing.assert_array_equal(top.image, images[top.index])
            t, left, bottom, right = top.box
            assert 0 <= t < bottom <= 8 and 0 <= left < right <= 8
            np.testing.assert_array_equal(top.crop, images[top.index, t:bottom, left:right])


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_the_batch_and_the_compiler_change_nothing(network, few, mode):
    expected = V.top_inputs(network, few, "conv2", [3, 1], 4, split="test")
    found = V.top_inputs(network, few, "conv2", [3, 1], 4, split="test", batch=7, compile=mode)
    assert list(found) == [3, 1]
    for channel, tops in expected.items():
        assert [(t.index, t.position, t.box) for t in found[channel]] == [(t.index, t.position, t.box) for t in tops]


def test_only_the_crop_matters_to_the_activation(network, few):
    """Noise outside the box leaves the activation as it is; noise inside changes it."""
    noise = np.random.default_rng(0).uniform(0, 1, (8, 8, 3)).astype(np.float32)
    for top in V.top_inputs(network, few, "conv2", [0], 3)[0]:
        inside = np.zeros((8, 8, 1), bool)
        inside[top.box[0] : top.box[2], top.box[1] : top.box[3]] = True
        both = np.stack([np.where(inside, top.image, noise), np.where(inside, noise, top.image)])
        row, column = top.position
        around, within = network.forward(both).activations["conv2"].numpy()[:, row, column, 0]
        assert around == pytest.approx(top.activation, rel=1e-5)
        assert within != pytest.approx(top.activation, rel=1e-3)


def test_of_equals_the_first_is_taken():
    """All images alike and constant: the earliest images, each at its first place of the largest value."""
    data = small.data(np.full((9, 8, 8, 3), 100, np.uint8), np.zeros(9, np.int32), 10)
    network = Network("flat", lambda net, x: dense(net, "logits", conv(net, "conv1", x, 2, 1), 10), size=8, classes=10)
    for tops in V.top_inputs(network, data, "conv1", count=4, batch=2).values():
        assert [t.index for t in tops] == [0, 1, 2, 3]
        assert {t.position for t in tops} == {(0, 0)}


def test_fewer_images_than_asked_for(network, few):
    seen = []
    tops = V.top_inputs(network, few, "conv1", [2], 30, split="test", batch=8, progress=lambda *done: seen.append(done))
    assert sorted(t.index for t in tops[2]) == list(range(20))
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_images_of_another_size(few):
    """Larger ones are cropped as in evaluation; a network that takes smaller ones tells their receptive field."""
    rng = np.random.default_rng(0)
    data = small.data(rng.integers(0, 255, (5, 12, 14, 3)).astype(np.uint8), np.zeros(5, np.int32), 10)
    cropped = V.top_inputs(small.network(size=8), data, "conv1", [0], 2)[0][0]
    np.testing.assert_array_equal(cropped.image, data.arrays("train")[0][cropped.index, 2:10, 3:11])
    larger = V.top_inputs(create("cifar_resnet20", size=16), few, "conv3_1/conv1", [0], 2)[0][0]
    assert larger.image.shape == (8, 8, 3)
    expected = create("cifar_resnet20", size=8).operation("conv3_1/conv1").field
    assert larger.box == expected.box(larger.position, (8, 8))


def test_a_network_in_bfloat16(few):
    tops = V.top_inputs(small.network(precision="bfloat16"), few, "conv1", [0], 5)[0]
    activations = [t.activation for t in tops]
    assert activations == sorted(activations, reverse=True) and len({t.index for t in tops}) == 5


# Sheets and grids ------------------------------------------------------------------------------------------


def test_contact_sheet(network, few):
    tops = V.top_inputs(network, few, "conv2", count=3)
    sheet = V.contact_sheet([t for top in tops.values() for t in top], columns=3, tile=32, gap=4)
    assert sheet.shape == (4 * 36 + 4, 3 * (66 + 4) + 4, 3)
    top = tops[0][0]
    np.testing.assert_array_equal(sheet[4:36, 4:36], V.fit(top.crop, 32))
    thumbnail = sheet[4:36, 38:70]
    t, left, bottom, right = (4 * edge for edge in top.box)
    red = np.all(thumbnail == (1, 0, 0), axis=-1)
    assert red[t, left:right].all() and red[bottom - 1, left:right].all()
    assert red[t:bottom, left].all() and red[t:bottom, right - 1].all()
    assert red.sum() == 2 * (bottom - t + right - left) - 4


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
    small = V.fit(np.indices((40, 20)).sum(0) % 2, 10)  # a chessboard averages to grey
    assert small.shape == (10, 10, 3)
    np.testing.assert_allclose(small[:, 3:7], 0.5, atol=0.01)


def test_a_png_holds_the_picture(tmp_path):
    image = np.random.default_rng(0).uniform(0, 1, (3, 4, 3))
    path = V.save_png(tmp_path / "new" / "a.png", image, scale=3)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    read = np.asarray(Image.open(path)) / 255
    assert read.shape == (9, 12, 3)
    np.testing.assert_allclose(read[1::3, 1::3], image, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(read[::3], read[2::3])


def test_diverging_colours():
    colors = V.diverging([[0.0, 0.5, -0.5]], times=2)
    np.testing.assert_array_equal(colors[0, 0], [1, 1, 1])
    assert colors[0, 1, 0] > colors[0, 1, 2] and colors[0, 2, 2] > colors[0, 2, 0]
    np.testing.assert_array_equal(V.diverging([[0.0, 0.5, -0.5]]), colors)  # the largest is full
    noise = np.zeros((2, 2, 3))
    noise[0, 0, 0] = 0.01
    np.testing.assert_allclose(V.diverging(noise, times=50)[0, 0], [0.75, 0.5, 0.5])
    np.testing.assert_array_equal(V.diverging(np.zeros((2, 2))), 1)


# Bad input -------------------------------------------------------------------------------------------------

WRONG = {
    "those of conv1$": lambda n, d: V.filter_grid(n, "conv2"),
    "pool1 is a max_pool layer": lambda n, d: V.filter_grid(n, "pool1"),
    "no layer 'convl'": lambda n, d: V.filter_grid(n, "convl"),
    "no layer 'x'": lambda n, d: V.activation_grid(n, np.zeros((8, 8, 3)), "x"),
    "no maps": lambda n, d: V.activation_grid(n, np.zeros((8, 8, 3)), "logits"),
    r"channels are \[4\]; conv2 has channels 0 to 3": lambda n, d: V.top_inputs(n, d, "conv2", [0, 4]),
    "channels are none": lambda n, d: V.top_inputs(n, d, "conv2", []),
    "count is 0": lambda n, d: V.top_inputs(n, d, "conv2", count=0),
    "split is 'x'": lambda n, d: V.top_inputs(n, d, "conv2", split="x"),
    "no layer 'c'": lambda n, d: V.top_inputs(n, d, "c"),
    "no inputs": lambda n, d: V.contact_sheet([]),
    "cannot tile 0": lambda n, d: V.grid([]),
    "cannot tile 2": lambda n, d: V.grid([np.zeros((2, 2)), np.zeros((2, 3))]),
    "columns is 0": lambda n, d: V.grid([np.zeros((2, 2))], 0),
    "scale is 0": lambda n, d: V.enlarge(np.zeros((2, 2)), 0),
    r"shape \(2, 2, 4\)": lambda n, d: V.picture(np.zeros((2, 2, 4))),
    "not finite": lambda n, d: V.picture([[np.nan]]),
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message, network, few):
    with pytest.raises(ValueError, match=message):
        WRONG[message](network, few)
