"""The images that excite units most, the part of them that the units saw, and sheets of both."""

from __future__ import annotations

import numpy as np
import pytest

from rawcnn import create
from rawcnn import visualize as V
from rawcnn.models.googlenet import inception
from rawcnn.nn.layers import conv, dense, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.report.activation_sheet import histogram_sheet
from tests.rawcnn import searched, small
from tests.rawcnn.searched import activations, brute_force, same


def branching(net, images):
    x = relu(net, conv(net, "conv1", images, 8, 3, stride=2))  # [B,16,16,8]
    x = inception(net, "inception", x, (2, 3, 2, 3, 2, 2))  # 1×1, 3×3, 5×5 and a pool side by side
    return dense(net, "logits", max_pool(net, "pool", x, 2, 2, padding="VALID"), 5)


@pytest.fixture(scope="module")
def network():
    return searched.network()


@pytest.fixture(scope="module")
def few(digits):
    return small.part(digits, 70, 20)


# Top inputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "bn1/relu", "pool1", "conv2/relu", "logits"])
def test_top_inputs_are_those_of_a_brute_force_search(network, few, layer):
    images, _ = few.arrays("train")
    maps = activations(network, images, layer)
    tops = V.top_inputs(network, few, layer, count=5, batch=16)
    assert list(tops) == list(range(network.operation(layer).output_shape[-1]))
    for channel, found in tops.items():
        same(found, brute_force(maps[..., channel], 5))
        for top in found:
            assert top.channel == channel
            assert top.box == network.operation(layer).receptive_field.box(top.position, (8, 8))
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


def test_of_equals_the_first_is_taken():
    """All images alike and constant: the earliest images, each at its first place of the largest value."""
    data = small.data(np.full((9, 8, 8, 3), 100, np.uint8), np.zeros(9, np.int32), 10)
    network = Network("flat", lambda net, x: dense(net, "logits", conv(net, "conv1", x, 2, 1), 10), size=8, classes=10)
    for tops in V.top_inputs(network, data, "conv1", count=4, batch=2).values():
        assert [t.index for t in tops] == [0, 1, 2, 3]
        assert {t.position for t in tops} == {(0, 0)}
    for excitation in V.excitations(network, data, "conv1", count=4, batch=2).values():
        assert [t.index for t in excitation.bottom] == [0, 1, 2, 3]
        assert {t.position for t in excitation.bottom} == {(0, 0)}
        assert {example.index for _, example in excitation.quantiles} == {0}
        assert excitation.counts.max() == excitation.counts.sum() == 9


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
    expected = create("cifar_resnet20", size=8).operation("conv3_1/conv1").receptive_field
    assert larger.box == expected.box(larger.position, (8, 8))


def test_a_network_in_bfloat16(few):
    tops = V.top_inputs(small.network(precision="bfloat16"), few, "conv1", [0], 5)[0]
    values = [t.activation for t in tops]
    assert values == sorted(values, reverse=True) and len({t.index for t in tops}) == 5


# Receptive fields ------------------------------------------------------------------------------------------


def noisy(top, noise):
    """The image with noise outside its box, and with noise inside it."""
    inside = np.zeros((*top.image.shape[:2], 1), bool)
    inside[top.box[0] : top.box[2], top.box[1] : top.box[3]] = True
    return np.stack([np.where(inside, top.image, noise), np.where(inside, noise, top.image)])


def test_only_the_crop_matters_to_the_activation(network, few):
    noise = np.random.default_rng(0).uniform(0, 1, (8, 8, 3)).astype(np.float32)
    for top in V.top_inputs(network, few, "conv2", [0], 3)[0]:
        row, column = top.position
        around, within = activations(network, noisy(top, noise), "conv2")[:, row, column, 0]
        assert around == pytest.approx(top.activation, rel=1e-5)
        assert within != pytest.approx(top.activation, rel=1e-3)


@pytest.mark.parametrize("layer", ["inception", "pool"])
def test_only_the_crop_matters_on_a_branching_network(layer):
    """The crop is what the widest branch sees: every side of it changes the 5×5's channels, nothing outside does."""
    network = Network("branching", branching, size=32, classes=5)
    for variable in network.variables.values():
        variable.assign(np.abs(variable))  # no rectifier shuts
    rng = np.random.default_rng(0)
    data = small.data(rng.integers(0, 255, (12, 32, 32, 3)).astype(np.uint8), np.zeros(12, np.int32), 5)
    noise = rng.uniform(0, 1, (32, 32, 3)).astype(np.float32)
    row, column = {"inception": (7, 8), "pool": (3, 4)}[layer]
    side = {"inception": 3 + 2 * 4, "pool": 3 + 2 * 4 + 2}[layer]  # of a 5×5 and a 2×2 over maps of stride 2
    found = V.excitations(network, data, layer, count=2, position=(row, column))
    assert len(found) == 8
    for channel, excitation in found.items():
        for top in (*excitation.top, *excitation.bottom):
            assert top.crop.shape == (side, side, 3)
            around, _ = activations(network, noisy(top, noise), layer)[:, row, column, channel]
            assert around == pytest.approx(top.activation, rel=1e-5, abs=1e-6)
    sides = np.zeros((4, 32, 32, 1), bool)  # top, bottom, left, right
    t, left, bottom, right = found[0].top[0].box
    sides[0, t, left:right] = sides[1, bottom - 1, left:right] = True
    sides[2, t:bottom, left] = sides[3, t:bottom, right - 1] = True
    images = data.arrays("train")[0]
    before = activations(network, images, layer)[:, row, column, 4:6]  # of the 5×5
    for edge in sides:
        after = activations(network, np.where(edge, noise, images), layer)[:, row, column, 4:6]
        assert np.abs(after - before).max() > 1e-3 * before.max()


# Sheets ----------------------------------------------------------------------------------------------------


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


def test_labels_stand_above_the_pictures(network, few):
    tops = V.top_inputs(network, few, "conv2", [0], 2)[0]
    plain, named = (V.contact_sheet(tops, labels=labels, tile=32, gap=4) for labels in (None, ["a" * 99, ""]))
    assert named.shape == (plain.shape[0] + 14, *plain.shape[1:])
    np.testing.assert_array_equal(named[18:], plain[4:])  # under the words nothing moves
    words = named[4:18].min(axis=(0, 2)) < 0.5
    assert words[4:70].any() and not words[70:].any()  # cut off at the cell; the empty label is empty


# Bad input -------------------------------------------------------------------------------------------------


def not_finite(network, data):
    broken = searched.network()
    broken.variables["conv2/bias"].assign([np.nan, 0, 0, 0])
    return V.excitations(broken, data, "conv2")


WRONG = {
    r"channels are \[4\]; conv2 has channels 0 to 3": lambda n, d: V.top_inputs(n, d, "conv2", [0, 4]),
    "channels are none": lambda n, d: V.top_inputs(n, d, "conv2", []),
    "data is ndarray; expected a data set": lambda n, d: V.top_inputs(n, d.arrays("test")[0], "conv2"),
    "count is 0": lambda n, d: V.top_inputs(n, d, "conv2", count=0),
    "split is 'x'": lambda n, d: V.top_inputs(n, d, "conv2", split="x"),
    "no layer 'c'.* conv1": lambda n, d: V.top_inputs(n, d, "c"),
    "no layer 'conv3'.* conv2": lambda n, d: V.excitations(n, d, "conv3"),
    r"channels are \[-1\]": lambda n, d: V.excitations(n, d, "conv2", [-1]),
    r"position is \(4, 0\); the map of conv2 is 4×3": lambda n, d: V.excitations(n, d, "conv2", position=(4, 0)),
    r"position is \(0, -1\)": lambda n, d: V.excitations(n, d, "conv2", position=(0, -1)),
    r"position is \(0, 0\), but logits has no map": lambda n, d: V.excitations(n, d, "logits", position=(0, 0)),
    r"quantiles are \[1.5\]": lambda n, d: V.excitations(n, d, "conv2", quantiles=(0.5, 1.5)),
    r"quantiles are \[nan\]": lambda n, d: V.excitations(n, d, "conv2", quantiles=(np.nan,)),
    "count is -1": lambda n, d: V.excitations(n, d, "conv2", count=-1),
    "sample is 0": lambda n, d: V.excitations(n, d, "conv2", sample=0),
    "has no test images": lambda n, d: V.excitations(n, small.part(d, 9, 0), "conv2", split="test"),
    "conv2 gives numbers that are not finite": not_finite,
    "no inputs": lambda n, d: V.contact_sheet([]),
    "1 labels for 2 inputs": lambda n, d: V.contact_sheet(V.top_inputs(n, d, "conv2", [0], 2)[0], labels=["a"]),
    "expected 1 or more columns": lambda n, d: histogram_sheet(None, columns=0),
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message, network, few):
    with pytest.raises(ValueError, match=message):
        WRONG[message](network, few)
