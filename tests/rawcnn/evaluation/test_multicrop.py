"""Each protocol looks where its paper says, on images whose pixels hold their own coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rawcnn
from rawcnn import data as datasets
from rawcnn.data import DataSet, Split
from rawcnn.data.decode import Item
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.evaluation.multicrop import (
    PROTOCOLS,
    class_scores,
    evaluate_views,
    log_probabilities,
    scaled,
    scales_for,
    score_map,
)
from rawcnn.nn.layers import conv, dense, dropout, max_pool, relu
from rawcnn.nn.network import Network
from tests.rawcnn import small
from tests.references import close, random

SIZE, STEP = 28, 5  # the papers' 256 is 32 for a network of 28; levels a pixel of the coordinate images


def coordinates(height: int, width: int) -> np.ndarray:
    """Red is STEP·x, green STEP·y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([STEP * x, STEP * y, np.full_like(x, 50)], axis=-1).astype(np.uint8)


LANDSCAPE, PORTRAIT, SQUARE = coordinates(32, 48), coordinates(48, 32), coordinates(32, 32)


def box(view: np.ndarray) -> tuple[float, float, float, float, bool]:
    """(top, left, height, width, mirrored) in pixels of the image, by a line through the middle of the view."""
    edges = []
    for line in (view[len(view) // 2, :, 0], view[:, view.shape[1] // 2, 1]):
        places = np.arange(len(line)) + 0.5
        slope, start = np.polyfit(places[5:-5], line[5:-5] / STEP + 0.5, 1)
        edges.append(sorted((start, start + slope * len(line))))
    (left, right), (top, bottom) = edges
    return top, left, bottom - top, right - left, bool(view[0, 0, 0] > view[0, -1, 0])


def views(protocol: str, image: np.ndarray, scales) -> list[np.ndarray]:
    return list(PROTOCOLS[protocol].views(image, (SIZE, SIZE), scales))


def assert_boxes(seen: list[np.ndarray], expected) -> None:
    """Each box (top, left, height, width) is seen as it is and, right after, mirrored."""
    rows = [(*place, mirrored) for place in expected for mirrored in (False, True)]
    assert len(seen) == len(rows)
    np.testing.assert_allclose([box(view) for view in seen], rows, atol=0.15)


# Where they look -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image, place", [(LANDSCAPE, (2, 10)), (PORTRAIT, (10, 2)), (SQUARE, (2, 2))], ids=["wide", "tall", "square"]
)
def test_center(image, place):
    (view,) = views("center", image, [32])
    assert view.shape == (SIZE, SIZE, 3) and view.dtype == np.uint8
    np.testing.assert_allclose(box(view), (*place, 28, 28, False), atol=1e-9)
    (half,) = views("center", image, [64])  # enlarged twice: half as much is seen
    middle = np.array(image.shape[:2]) / 2 - 7
    np.testing.assert_allclose(box(half), (*middle, 14, 14, False), atol=0.15)


TEN = {
    "wide": (LANDSCAPE, [(0, 8), (0, 12), (4, 8), (4, 12), (2, 10)]),
    "tall": (PORTRAIT, [(8, 0), (8, 4), (12, 0), (12, 4), (10, 2)]),
    "square": (SQUARE, [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]),
}


@pytest.mark.parametrize("image, places", TEN.values(), ids=TEN)
def test_ten_crops(image, places):
    seen = views("10crop", image, [32])
    assert {view.shape for view in seen} == {(SIZE, SIZE, 3)}
    assert_boxes(seen, [(*place, 28, 28) for place in places])


def test_ten_crops_of_a_larger_image():
    """A photograph of 64×100 is halved first: the boxes are twice as large."""
    large = np.asarray(Image.fromarray(LANDSCAPE).resize((96, 64), Image.Resampling.NEAREST))
    assert_boxes(views("10crop", large, [32]), [(top, left, 28, 28) for top, left in TEN["wide"][1]])


@pytest.mark.parametrize("image", [LANDSCAPE, PORTRAIT, SQUARE], ids=["wide", "tall", "square"])
def test_views_of_a_network_that_is_not_square(image):
    """The crops are those of 28×28 with less of the width: 28×20 at the corners and in the middle."""
    for protocol in ("center", "10crop", "whole"):
        for view, square in zip(
            PROTOCOLS[protocol].views(image, (28, 20), [32]), views(protocol, image, [32]), strict=True
        ):
            assert view.shape == (28, 20, 3) and view.dtype == square.dtype
    for view in PROTOCOLS["144crop"].views(image, (28, 20), [32, 36]):
        assert view.shape == (28, 20, 3)
    height, width = image.shape[:2]
    (middle,) = PROTOCOLS["center"].views(image, (28, 20), [32])
    np.testing.assert_allclose(box(middle), ((height - 28) / 2, (width - 20) / 2, 28, 20, False), atol=1e-9)
    corners = [box(view)[:4] for view in PROTOCOLS["10crop"].views(image, (28, 20), [32])][::2]
    top, left = (height - 32) / 2, (width - 32) / 2
    expected = [(top + y, left + x, 28, 20) for y, x in ((0, 0), (0, 12), (4, 0), (4, 12), (2, 6))]
    np.testing.assert_allclose(corners, expected, atol=0.15)


@pytest.mark.parametrize("image", [LANDSCAPE, PORTRAIT, SQUARE], ids=["wide", "tall", "square"])
def test_dense_views_are_all_of_the_image(image):
    height, width = image.shape[:2]
    seen = views("dense", image, [32, 40, 24])
    assert_boxes(seen, [(0, 0, height, width)] * 3)
    shorter = [min(view.shape[:2]) for view in seen]
    assert shorter == [32, 32, 40, 40, 24, 24]
    assert [max(view.shape[:2]) / min(view.shape[:2]) for view in seen] == [max(image.shape) / 32] * 6
    assert PROTOCOLS["multiscale"].views is PROTOCOLS["dense"].views


@pytest.mark.parametrize("portrait", [False, True], ids=["wide", "tall"])
def test_googlenet_crops(portrait):
    """At a shorter side S of 32, 36, 40, 44 the image of 2:3 is S×1.5·S: the squares start at 0, S/4 and S/2."""
    expected = []
    for shorter, middle, room in ((32, 8, 4), (36, 9, 8), (40, 10, 12), (44, 11, 16)):
        pixel = 32 / shorter  # of the image as it is
        for start in (0, middle, 2 * middle):
            for y, x in ((0, 0), (0, room), (room, 0), (room, room), (room / 2, room / 2)):
                top, left = (start + y, x) if portrait else (y, start + x)
                expected.append((top * pixel, left * pixel, 28 * pixel, 28 * pixel))
            top, left = (start, 0) if portrait else (0, start)
            expected.append((top * pixel, left * pixel, 32, 32))
    seen = views("144crop", PORTRAIT if portrait else LANDSCAPE, (32, 36, 40, 44))
    assert len(seen) == 144 and {view.shape for view in seen} == {(SIZE, SIZE, 3)}
    assert_boxes(seen, expected)


def test_whole_is_what_data_sets_keep():
    (view,) = views("whole", LANDSCAPE, ())
    np.testing.assert_array_equal(view, datasets.read(Item("test", "wide", 0, LANDSCAPE), (SIZE, SIZE)))


def test_center_takes_an_image_of_the_networks_size_as_it_is():
    image = coordinates(SIZE, SIZE)
    (view,) = views("center", image, [32])
    np.testing.assert_array_equal(view, image)


def test_scaled_shrinks_by_averaging():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.ptp(scaled(stripes, 16)[:, 2:-2]) < 10  # every fourth pixel alone would be black or white


# Scales --------------------------------------------------------------------------------------------------------


def mean_colors(net, images):
    """Logits [B,5] that say where a view lies: its mean red and green, those of its first pixel, red of its last."""
    means = tf.reduce_mean(images, axis=(1, 2))[:, :2]
    return 6 * tf.concat([means, images[:, 0, 0, :2], images[:, -1, -1, :1]], axis=-1)


def probe(size: int = SIZE, name: str = "probe") -> Network:
    return Network(name, mean_colors, size=size, classes=5)


@pytest.mark.parametrize(
    "name, size, protocol, scales",
    [
        ("probe", 224, "center", (256,)),
        ("probe", 28, "10crop", (32,)),
        ("probe", 227, "10crop", (259,)),
        ("probe", 224, "dense", (256,)),
        ("probe", 224, "144crop", (256, 288, 320, 352)),
        ("probe", 224, "multiscale", (224, 256, 288)),
        ("vgg16", 224, "multiscale", (256, 384, 512)),
        ("vgg16", 224, "dense", (384,)),
        ("vgg16", 224, "10crop", (256,)),
        ("vgg_a", 32, "dense", (55,)),
        ("resnet50", 224, "dense", (256,)),
        ("plain34", 224, "dense", (256,)),
        ("vgg16", (224, 160), "dense", (384,)),
        ("probe", (112, 224), "10crop", (256,)),
        ("resnet50", 224, "multiscale", (224, 256, 384, 480, 640)),
        ("cifar_resnet20", 32, "multiscale", (32, 37, 41)),
        ("probe", 224, "whole", ()),
    ],
)
def test_the_papers_scales(name, size, protocol, scales):
    assert scales_for(probe(size, name), protocol) == scales


def test_scales_that_cannot_be(fully_connected):
    assert scales_for(probe(), "dense", [5]) == (5,)  # it averages its last map
    for protocol in ("center", "10crop", "144crop"):
        with pytest.raises(ValueError, match=f"scales are 32, 27; {protocol} with probe .* 28 pixels or more"):
            scales_for(probe(), protocol, [32, 27])
    with pytest.raises(ValueError, match=r"scales are 20; dense with connected .* 22 pixels or more"):
        scales_for(fully_connected, "dense", [20])
    for scales in ([], [0]):
        with pytest.raises(ValueError, match="one or more shorter sides of 1 pixels or more"):
            scales_for(probe(), "dense", scales)
    with pytest.raises(ValueError, match="protocol is 'corner'; expected one of whole, center, 10crop, dense"):
        scales_for(probe(), "corner")
    with pytest.raises(ValueError, match="has no scales"):
        scales_for(probe(), "whole", [32])


# The network as a convolution ----------------------------------------------------------------------------------


def connected(net, images):
    """A VGG in small, without padding, so that a window knows nothing of its surroundings: [B,22,22,3] → [B,5]."""
    x = relu(net, conv(net, "conv1", images, 4, 3, padding="VALID"))
    x = max_pool(net, "pool1", x, 2, 2, padding="VALID")  # [B,10,10,4]
    x = relu(net, conv(net, "conv2", x, 6, (3, 5), padding="VALID"))
    x = max_pool(net, "pool2", x, 2, 2, padding="VALID")  # [B,4,3,6]
    x = dropout(net, "drop6", relu(net, dense(net, "fc6", x, 8)), 0.5)
    x = relu(net, dense(net, "fc7", x, 7))
    return dense(net, "fc8", x, 5, bias=False)


@pytest.fixture(scope="module")
def fully_connected():
    return Network("connected", connected, size=22, classes=5, seed=3, preprocessing="torch")


def test_score_map_is_the_network_on_every_window(fully_connected):
    """The pools move by 2·2 pixels together, so position (i, j) of the map is the window at (4i, 4j)."""
    images = random((2, 30, 42, 3), low=0)
    scores = score_map(fully_connected, images)
    assert scores.shape == (2, 3, 6, 5)
    for i in range(3):
        for j in range(6):
            window = images[:, 4 * i : 4 * i + 22, 4 * j : 4 * j + 22]
            close(scores[:, i, j], fully_connected(window), "network")
    close(class_scores(fully_connected, images), np.asarray(scores).mean((1, 2)), "network")


@pytest.mark.parametrize("name, size", [("alexnet", 67), ("alexnet", 99), ("vgg_a", 32), ("cifar_resnet20", 16)])
def test_score_map_at_the_native_size_is_the_networks_logits(name, size):
    network = rawcnn.create(name, classes=5, size=size)
    images = random((2, size, size, 3), low=0)
    scores, logits = score_map(network, images), network(images)
    close(tf.reshape(scores, (2, 5)), logits, "network")
    close(class_scores(network, images), logits, "network")


def test_a_network_that_averages_its_last_map_runs_on_larger_images():
    network = small.network()
    images = random((2, 12, 20, 3), low=0)
    close(class_scores(network, images), network(images))


# Averages ------------------------------------------------------------------------------------------------------


def mixed(images, labels=None, classes=5, name="mixed") -> DataSet:
    """Images of several shapes."""
    numbers = np.array(labels or np.arange(len(images)) % classes, np.int32)
    items = tuple(Item("test", f"{i}", int(label), x) for i, (x, label) in enumerate(zip(images, numbers, strict=True)))
    return DataSet(name, tuple("abcdefghijkl"[:classes]), (SIZE, SIZE), {"test": Split(numbers, items=items)})


def softmax(logits) -> np.ndarray:
    e = np.exp(np.asarray(logits, np.float64))
    return e / e.sum(-1, keepdims=True)


def probed(crops) -> np.ndarray:
    """What `probe` says of crops (uint8), its softmax averaged: [5], in NumPy."""
    x = [np.asarray(crop, np.float64) / 255 for crop in crops]
    rows = [6 * np.array([*c.mean((0, 1))[:2], *c[0, 0, :2], c[-1, -1, 0]]) for c in x]
    return softmax(rows).mean(0)


def crops_at(image, places):
    crops = [image[top : top + SIZE, left : left + SIZE] for top, left in places]
    return [*crops, *(crop[:, ::-1] for crop in crops)]


EXPECTED = {
    "center": [crops_at(LANDSCAPE, [(2, 10)])[:1], crops_at(PORTRAIT, [(10, 2)])[:1]],
    "10crop": [crops_at(*TEN["wide"]), crops_at(*TEN["tall"])],
    "dense": [[LANDSCAPE, LANDSCAPE[:, ::-1]], [PORTRAIT, PORTRAIT[:, ::-1]]],
}


@pytest.mark.parametrize("compile", ["auto", "eager", "graph", "xla"])
@pytest.mark.parametrize("protocol", EXPECTED)
def test_answers_depend_on_the_papers_crops(protocol, compile):
    data = mixed([LANDSCAPE, PORTRAIT, LANDSCAPE])
    for batch in (3, 256):
        answers = [*log_probabilities(probe(), data, protocol=protocol, batch=batch, compile=compile)]
        assert len(answers) == 3
        wide, tall = (np.log(probed(crops)) for crops in EXPECTED[protocol])
        for answer, expected in zip(answers, (wide, tall, wide), strict=True):
            np.testing.assert_allclose(answer, expected, rtol=1e-5)
    assert np.abs(wide - tall).max() > 1e-2


def test_multiscale_is_the_mean_of_dense():
    data, scales = mixed([LANDSCAPE, PORTRAIT]), (20, 28, 47)
    together = np.exp([*log_probabilities(probe(), data, protocol="multiscale", scales=scales)])
    alone = [np.exp([*log_probabilities(probe(), data, protocol="dense", scales=[scale])]) for scale in scales]
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)
    assert np.ptp(alone, axis=0).max() > 1e-4


def test_ensemble_is_the_mean_of_softmaxes():
    """Two networks of different sizes, each with its own ten crops; errors and loss counted in NumPy."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in ((9, 14), (12, 9), (30, 20), (8, 8)) * 3]
    labels = generator.integers(0, 7, 12).tolist()
    data = mixed(images, labels, classes=7)
    networks = [small.network(seed=1, classes=7), small.network(seed=2, size=16, classes=7)]
    p = np.zeros((12, 7))
    for network in networks:
        scale = {8: 9, 16: 18}[network.input_size]
        for row, image in zip(p, images, strict=True):
            crops = np.stack([*PROTOCOLS["10crop"].views(image, network.image_size, [scale])]).astype(np.float32) / 255
            row += softmax(network(crops)).mean(0) / 2
    told = []
    result = evaluate_views(networks, data, protocol="10crop", progress=lambda *done: told.append(done))
    order = np.argsort(-p, axis=1)
    np.testing.assert_array_equal(result.predictions, order[:, 0])
    np.testing.assert_array_equal(result.labels, labels)
    assert result.correct == sum(order[:, 0] == labels)
    assert result.correct5 == sum(label in row[:5] for label, row in zip(labels, order, strict=True)) < 12
    assert result.loss == pytest.approx(-np.log(p[np.arange(12), labels]).mean(), rel=1e-5)
    assert told == [(n, 12) for n in range(1, 13)]
    single = evaluate_views(networks[:1], data, protocol="10crop")
    assert single.loss != pytest.approx(result.loss, rel=1e-3)


@pytest.mark.parametrize("protocol", ["whole", "center"])
def test_images_of_the_networks_size_are_evaluated_as_ever(digits, protocol):
    network, part = small.network(seed=4), small.part(digits, 0, 100)
    ours, usual = evaluate_views([network], part, protocol=protocol), evaluate(network, part)
    np.testing.assert_array_equal(ours.predictions, usual.predictions)
    assert (ours.count, ours.correct, ours.correct5) == (usual.count, usual.correct, usual.correct5)
    assert ours.loss == pytest.approx(usual.loss, rel=1e-6)


def constant(*logits: float) -> Network:
    """These logits, whatever it sees."""
    return Network("constant", lambda net, x: tf.tile([logits], (tf.shape(x)[0], 1)), size=8, classes=len(logits))


def test_answers_too_certain_for_a_float_keep_their_order():
    """Softmax of 0, −1000, −2000, … is 1, 0, 0, …: the second class is still before the third, and the loss finite."""
    network = constant(*(-1000.0 * n for n in range(7)))
    result = evaluate_views([network], mixed([LANDSCAPE] * 3, [0, 4, 6], classes=7), protocol="10crop")
    assert (result.correct, result.correct5) == (1, 2)
    assert result.loss == pytest.approx(10_000 / 3)


def test_logits_that_differ_little_keep_their_order():
    """Beside a logit of 30 the float32 logarithms of the others' probabilities would be equal."""
    network = constant(30.0, *[1e-3] * 5, 1e-3 + 1e-8)
    assert evaluate_views([network], mixed([LANDSCAPE] * 3, [6, 6, 5], classes=7), protocol="center").correct5 == 2


def test_logits_that_are_no_numbers_are_wrong():
    result = evaluate_views([constant(*[np.nan] * 7)], mixed([SQUARE] * 3, classes=7), protocol="10crop")
    assert (result.correct, result.correct5) == (0, 0)


def test_networks_that_do_not_fit():
    data = mixed([LANDSCAPE], classes=10)
    fits, other = small.network(), small.network(classes=9)
    with pytest.raises(ValueError, match="mixed has 10 classes, but small was built for 9"):
        evaluate_views([fits, other], data)
    cats, dogs = small.network(), small.network()
    cats.labels, dogs.labels = tuple("abcdefghij"), tuple("bacdefghij")
    evaluate_views([fits, cats], data)  # one that names no classes is taken at its word
    with pytest.raises(ValueError, match="name their classes differently"):
        evaluate_views([cats, dogs], data)
    with pytest.raises(ValueError, match="there is no network"):
        evaluate_views([], data)
    with pytest.raises(ValueError, match="split is 'valid'"):
        evaluate_views([fits], data, "valid")
