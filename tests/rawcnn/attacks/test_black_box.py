"""The black-box attack: labels only, counted and capped, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import fgsm, make_substitute, substitute
from rawcnn.attacks.black_box import _jacobian_step, small_cnn
from rawcnn.nn.network import Network
from tests.rawcnn.attacked import WEIGHTS, Linear, middling


class Remote:
    """An oracle behind a wire: it sees NumPy arrays and answers labels, and remembers how many were asked."""

    def __init__(self, network):
        self.network, self.asked = network, []

    def __call__(self, images):
        assert isinstance(images, np.ndarray) and images.dtype == np.float32
        assert images.min() >= 0 and images.max() <= 1
        self.asked.append(len(images))
        return np.argmax(self.network(tf.constant(images)), axis=1)


@pytest.fixture(scope="module")
def stolen(trained, digits):
    network, *_ = trained
    images, _ = digits.arrays("test")
    oracle = Remote(network)
    return oracle, make_substitute(oracle, images[64:114], classes=10, rounds=5), images[114:], digits


def test_queries_double_and_are_counted(stolen):
    oracle, made, *_ = stolen
    assert oracle.asked == [50, 50, 100, 200, 400, 800] and made.queries == sum(oracle.asked) == 50 * 2**5
    assert [r["images"] for r in made.rounds] == [100, 200, 400, 800, 1600]


def test_the_substitute_agrees_with_the_oracle(stolen, trained):
    """On images that neither has learned from. The oracle's most frequent answer is given to 20 % of them at most."""
    _, made, images, _ = stolen
    answers = np.argmax(trained[0](tf.constant(images)), axis=1)
    agreement = np.mean(np.argmax(made.network(tf.constant(images)), axis=1) == answers)
    assert agreement > 0.7 > 3 * np.bincount(answers).max() / len(answers)


def test_what_fools_the_substitute_fools_the_oracle(stolen, trained):
    oracle, made, images, digits = stolen
    labels = digits.arrays("test")[1][114:]
    result = substitute(oracle, images, labels, substitute=made, epsilon=0.3)
    seen = np.argmax(trained[0](tf.constant(result.images)), 1)
    np.testing.assert_array_equal(result.predictions, seen)
    assert np.isnan(result.confidences).all() and not result.queries.any()
    assert result.summary()["success_rate"] > 0.2 and result.summary()["confidence_after"] is None
    by_network = substitute(trained[0], images, labels, substitute=made, epsilon=0.3)
    np.testing.assert_array_equal(by_network.predictions, seen)
    assert np.all(by_network.confidences > 0)
    noise = np.random.default_rng(0).choice([-0.3, 0.3], images.shape).astype(np.float32)
    control = np.argmax(trained[0](tf.constant(np.clip(images + noise, 0, 1))), 1)
    assert np.mean(seen != labels) > np.mean(control != labels) + 0.05


@pytest.mark.deeper
def test_the_limit_holds_and_a_reservoir_slows_the_growth(trained, digits):
    images = digits.arrays("test")[0][64:74]
    oracle = Remote(trained[0])
    made = make_substitute(oracle, images, classes=10, rounds=4, limit=55)
    assert made.queries == 55 and [r["images"] for r in made.rounds] == [20, 40, 55, 55]
    oracle = Remote(trained[0])
    made = make_substitute(oracle, images, classes=10, rounds=4, reservoir=(2, 7))
    assert [r["images"] for r in made.rounds] == [20, 40, 47, 54] and oracle.asked == [10, 10, 20, 7, 7]


@pytest.mark.deeper
def test_the_same_seed_the_same_substitute(trained, digits):
    images = digits.arrays("test")[0][64:74]
    one, two, other = (make_substitute(Remote(trained[0]), images, classes=10, rounds=1, seed=s) for s in (0, 0, 1))
    for path, variable in one.network.variables.items():
        np.testing.assert_array_equal(variable, two.network.variables[path])
    assert np.any(one.network.variables["fc/weights"] != other.network.variables["fc/weights"])


def test_the_jacobian_step_of_a_linear_model():
    """∂ log p_y/∂x = W·(onehot(y) − p)."""
    images, labels = middling(4)
    slope = (tf.one_hot(labels, 3) - tf.nn.softmax(Linear()(images))) @ tf.transpose(WEIGHTS)
    stepped = _jacobian_step(Linear(), tf.constant(images), tf.constant(labels, tf.int32), -0.1)
    np.testing.assert_allclose(stepped, images - 0.1 * np.sign(tf.reshape(slope, images.shape)), atol=1e-6)


def test_another_model_may_be_the_substitute(trained, digits):
    seen = []

    def mine(net, images, *, classes):
        seen.append(classes)
        return small_cnn(net, images, classes=classes)

    made = make_substitute(trained[0], digits.arrays("test")[0][64:70], classes=10, rounds=1, model=mine)
    assert isinstance(made.network, Network) and set(seen) == {10}


def test_bad_input(trained, digits, stolen):
    network, images, labels = trained
    for wrong, message in (
        ({"oracle": lambda x: np.zeros((len(x), 10))}, "expected 6 labels, one per image"),
        ({"oracle": lambda x: np.full(len(x), 12)}, "expected 0 to 9"),
        ({"limit": 3}, "6 seeds for 3 queries"),
        ({"rounds": 0}, "rounds is 0"),
        ({"augmentation": 2.0}, "augmentation is 2"),
        ({"seeds": images[:6] * 255}, "the network normalizes"),
    ):
        given = {"oracle": network, "seeds": images[:6], "classes": 10, **wrong}
        with pytest.raises(ValueError, match=message):
            make_substitute(given.pop("oracle"), given.pop("seeds"), **given)
    with pytest.raises(ValueError, match="the class 10 in labels"):
        substitute(network, images[:2], [0, 10], substitute=stolen[1])
    assert fgsm(stolen[1].network, images, labels).success.any()
