"""Top-1, top-5, loss and Wilson's interval, counted by hand on logits that are the images themselves."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.evaluation.accuracy import Evaluation, counting_step, evaluate, ranks
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from tests.rawcnn import small

CLASSES, COUNT = 12, 50


def mirror(net, images):
    """Logits [B,12] that are the pixels [B,2,2,3]."""
    return tf.reshape(images, (-1, CLASSES))


@pytest.fixture(scope="module")
def network():
    return Network("mirror", mirror, size=2, classes=CLASSES)


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    images = generator.permuted(np.tile(np.arange(0, 240, 20, dtype=np.uint8), (COUNT, 1)), axis=1)  # no ties
    labels = generator.integers(0, CLASSES, COUNT).astype(np.int32)
    labels[:10] = images[:10].argmax(1)  # some are right
    return small.data(images.reshape(COUNT, 2, 2, 3), labels, CLASSES)


@pytest.mark.parametrize("compile", ["eager", "graph", "xla"])
@pytest.mark.parametrize("batch", [COUNT, 7])
def test_counts_are_those_by_hand(network, data, compile, batch):
    images, labels = data.arrays("test")
    logits = images.reshape(COUNT, CLASSES).astype(np.float64)
    order = np.argsort(-logits, axis=1)
    told = []
    result = evaluate(network, data, batch=batch, compile=compile, progress=lambda *done: told.append(done))
    assert result.count == COUNT
    assert result.correct == sum(label == row[0] for label, row in zip(labels, order, strict=True)) >= 10
    assert result.correct5 == sum(label in row[:5] for label, row in zip(labels, order, strict=True)) < COUNT
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(COUNT), labels]
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    np.testing.assert_array_equal(result.predictions, order[:, 0])
    np.testing.assert_array_equal(result.labels, labels)
    assert told[-1] == (COUNT, COUNT) and len(told) == -(-COUNT // batch)


def result_of(correct, count):
    nothing = np.zeros(count, np.int32)
    return Evaluation(count, correct, count, 1.0, nothing, nothing)


@pytest.mark.parametrize(
    "correct, count, low, high",
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_interval_is_wilsons(correct, count, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    assert result_of(correct, count).interval == pytest.approx((low, high), abs=5e-5)


def test_interval_stays_within_0_and_1():
    for correct in (0, 5):
        low, high = result_of(correct, 5).interval
        assert 0 <= low <= correct / 5 + 1e-15 and correct / 5 <= high <= 1


def test_top_5_has_its_own_interval():
    """Its ends are where (p̂ − p)² = z²·p(1 − p)/n."""
    nothing = np.zeros(148, np.int32)
    result = Evaluation(148, 15, 70, 1.0, nothing, nothing)
    n, p, z = 148, 70 / 148, 1.959964
    ends = sorted(np.roots([n + z * z, -(2 * n * p + z * z), n * p * p]))
    assert result.interval5 == pytest.approx(ends) and result.interval5 != result.interval
    assert result.summary()["top5_interval"] == pytest.approx(ends)
    assert result.summary()["top5_error_interval"] == pytest.approx([1 - ends[1], 1 - ends[0]])
    assert result.summary()["top1_error_interval"] == pytest.approx([1 - 0.1605, 1 - 0.0624], abs=5e-5)
    assert "top-5 error 52.70%" in result.sentence() and "top-1 error 89.86%" in result.sentence()


def test_summary():
    summary = result_of(15, 148).summary()
    assert summary["images"] == 148
    assert summary["top1_accuracy"] == pytest.approx(15 / 148) and summary["top1_error"] == pytest.approx(133 / 148)
    assert summary["top5_accuracy"] == 1.0 and summary["top5_error"] == 0.0
    assert summary["top1_interval"] == pytest.approx([0.0624, 0.1605], abs=5e-5)


def test_ties_go_to_the_first_class(network):
    """All logits equal: the prediction is class 0, and the first five are in the top five, not all of them."""
    step = counting_step(network, 2, choose("graph"))
    predictions, right, right5, _ = step(tf.zeros((CLASSES, 2, 2, 3)), tf.range(CLASSES))
    assert predictions.numpy().tolist() == [0] * CLASSES
    assert (int(right), int(right5)) == (1, 5)
    # Each class ranks behind those before it, and only those
    assert ranks(tf.zeros((CLASSES, CLASSES)), tf.range(CLASSES)).numpy().tolist() == [*range(CLASSES)]
    assert ranks(tf.constant([[1.0, 2, 1, 1, 0]] * 3), tf.constant([0, 2, 4])).numpy().tolist() == [1, 2, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_wrong(network, value):
    """A network that has diverged is not right five times of five."""
    step = counting_step(network, 2, choose("graph"))
    images = np.full((CLASSES, 2, 2, 3), value, np.float32)
    _, right, right5, _ = step(tf.constant(images), tf.range(CLASSES))
    assert (int(right), int(right5)) == (0, 0)  # the network answers NaN for images that are not finite


def test_fewer_classes_than_five():
    net = Network("mirror", lambda net, images: tf.reshape(images, (-1, 3)), size=1, classes=3)
    images = np.array([[0, 1, 2], [2, 1, 0]], np.uint8).reshape(2, 1, 1, 3)
    result = evaluate(net, small.data(images, np.array([2, 2], np.int32), 3), compile="eager")
    assert (result.correct, result.correct5) == (1, 2)


def test_larger_images_are_cropped_in_the_middle(network, data):
    images, labels = data.arrays("test")
    framed = np.pad(np.rint(images * 255).astype(np.uint8), ((0, 0), (3, 3), (1, 1), (0, 0)), constant_values=255)
    result = evaluate(network, small.data(framed, labels, CLASSES), compile="graph")
    np.testing.assert_array_equal(result.predictions, evaluate(network, data, compile="graph").predictions)


def test_wrong_number_of_classes(network, data):
    wrong = Network("other", mirror, size=2, classes=10)
    with pytest.raises(
        ValueError, match="a few has 12 classes, but other was built for 10; give it --classes 12, in Python classes=12"
    ):
        evaluate(wrong, data)
    with pytest.raises(ValueError, match=r"split is .*valid"):
        evaluate(network, data, "valid")
