"""Logit-space projected gradient ascent: codes that are valid and in reach, and an attack where PGD has no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.attacks import logit_pga, pgd
from rawcnn.attacks.logit_ascent import nearest_pixels, reachable
from rawcnn.nn.layers import conv, dense, discretize, relu
from rawcnn.nn.network import Network
from tests import references
from tests.rawcnn.attacked import learn

CODES = ("onehot", "thermometer")


def reads_levels(net, images, *, code="thermometer", levels=8):
    x = discretize(net, "codes", images, code, levels)
    return dense(net, "logits", relu(net, conv(net, "conv1", x, 16, 3, stride=2)), 10)


@pytest.fixture(scope="module")
def discretized(digits):
    """A network that reads levels of digits."""
    network = Network("levels", reads_levels, size=8, classes=10)
    learn(network, digits, 0.1, 80)
    images, labels = digits.arrays("test")
    return network, np.clip(images[:64] + 0.02, 0, 1), labels[:64]  # between levels, not on their edges


@pytest.mark.parametrize("levels", [2, 10, 16])
def test_levels_in_reach_are_those_of_some_pixel_within_epsilon(levels):
    x = np.random.default_rng(0).uniform(0, 1, (2, 3, 3, 3)).astype(np.float32)
    for epsilon in (0.0, 0.03, 0.2):
        within = reachable(tf.constant(x), tf.fill((2, 1, 1, 1), epsilon), levels).numpy()
        for place in np.ndindex(*x.shape):
            low, high = np.clip([x[place] - epsilon, x[place] + epsilon], 0, 1)
            surely, maybe = (
                {k for k in range(levels) if k / levels < high - slack and low + slack < (k + 1) / levels}
                for slack in (2e-3, -1e-6)
            )
            own = int(x[place] * levels)
            assert surely | {own} <= set(np.flatnonzero(within[place])) <= maybe | {own}


@pytest.mark.parametrize("levels", [3, 10, 16])
def test_the_nearest_pixels_have_the_levels_and_are_near(levels):
    generator = np.random.default_rng(1)
    x = tf.constant(generator.uniform(0, 1, (1, 40, 40, 3)), tf.float32)
    within = reachable(x, tf.fill((1, 1, 1, 1), 0.11), levels).numpy()
    chosen = tf.constant(np.argmax(within * generator.uniform(0.1, 1, within.shape), -1), tf.int32)
    pixels = nearest_pixels(x, chosen, levels)
    np.testing.assert_array_equal(kernels.level_of(pixels, levels), chosen)
    assert np.max(np.abs(pixels - x)) <= 0.11 + 1e-6
    np.testing.assert_array_equal(nearest_pixels(x, kernels.level_of(x, levels), levels), x)


@pytest.mark.parametrize("code", CODES)
def test_it_is_the_paper_written_out(code):
    """Two steps on a linear model of the codes, by hand, from u = 0."""
    levels, weights = 4, references.random((2 * 2 * 3 * 4, 10), 4).numpy()

    def linear(net, images):
        x = discretize(net, "codes", images, code, levels)
        return net.apply("logits", "dense", lambda x: tf.reshape(x, (-1, 48)) @ weights, [x])

    network = Network("linear", linear, size=2, classes=10)
    images, labels = np.random.default_rng(3).uniform(0.05, 0.95, (5, 2, 2, 3)).astype(np.float32), np.arange(5)
    within = reachable(tf.constant(images), tf.fill((5, 1, 1, 1), 0.3), levels)
    u, sharpness = tf.zeros(within.shape), 1.0
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(u)
            p = tf.nn.softmax(sharpness * tf.where(within, u, -1e9))
            codes = p if code == "onehot" else tf.cumsum(p, axis=-1, reverse=True)
            logits = tf.reshape(codes, (5, 48)) @ weights
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        u += 0.4 * tf.sign(tape.gradient(loss, u))
        sharpness *= 1.2
    expected = tf.argmax(tf.where(within, u, -1e9), -1)
    result = logit_pga(network, images, labels, epsilon=0.3, xi=0.4, steps=2, random_start=False)
    np.testing.assert_array_equal(kernels.level_of(tf.constant(result.images), levels), expected)


def test_it_works_where_pixels_have_no_gradient(discretized):
    network, images, labels = discretized
    with pytest.raises(ValueError, match="no gradient"):
        pgd(network, images, labels)
    rates = [logit_pga(network, images, labels, epsilon=0.15, xi=xi).success.mean() for xi in (0.01, 1.0)]
    assert rates[1] > rates[0] + 0.1 and rates[1] > 0.5
    result = logit_pga(network, images, labels, epsilon=0.15, xi=1.0)
    assert np.max(result.columns()["linf"]) <= 0.15 + 1e-6
    assert result.images.min() >= 0 and result.images.max() <= 1
    np.testing.assert_array_equal(result.predictions, np.argmax(network(result.images), 1))
    alone = logit_pga(network, images[5:6], labels[5:6], epsilon=0.15, xi=1.0, first=5)
    assert np.mean(np.abs(alone.images[0] - result.images[5]) > 1e-6) < 0.05
    still = logit_pga(network, images, labels, epsilon=0.0, xi=1.0)
    np.testing.assert_array_equal(still.images, images)


@pytest.mark.sample("graph", "eager")
@pytest.mark.parametrize("mode", ["graph", "xla", "eager"])
def test_early_stop_keeps_the_first_levels_that_fool(discretized, mode):
    """By default all images take all steps, as in the paper; a stopped image is that of its last step."""
    network, images, labels = discretized
    count = 64 if mode == "graph" else 16
    images, labels = images[:count], labels[:count]
    settings = {"epsilon": 0.15, "xi": 1.0, "compile": mode}
    late, early = (
        logit_pga(network, images, labels, steps=6, **settings, **stop) for stop in ({}, {"early_stop": True})
    )
    assert np.all(late.iterations == 6) and np.all(late.queries == 6)
    np.testing.assert_array_equal(early.predictions, np.argmax(network(early.images), 1))
    assert np.all(early.success[late.success]) and early.columns()["linf"].max() <= 0.15 + 1e-6
    stopped = early.iterations < 6
    assert stopped.sum() >= count // 8 and np.all(early.success[stopped])
    for steps in np.unique(early.iterations):
        written = logit_pga(network, images, labels, steps=int(steps), **settings)
        rows = early.iterations == steps
        assert np.mean(np.abs(written.images[rows] - early.images[rows]) > 1e-6) < 0.02
        if steps > 1:  # and not a step earlier
            before = logit_pga(network, images, labels, steps=int(steps) - 1, **settings)
            assert np.sum(before.success & rows & early.success) <= 0.1 * np.sum(rows)
    with pytest.raises(ValueError, match="early_stop is 1; expected True or False"):
        logit_pga(network, images, labels, early_stop=1)


def test_eager_graph_and_xla_agree(discretized):
    network, images, labels = discretized
    results = [
        logit_pga(network, images[:8], labels[:8], xi=0.3, epsilon=0.2, compile=m) for m in ("eager", "graph", "xla")
    ]
    for other in results[1:]:
        assert np.mean(np.abs(other.images - results[0].images) > 1e-6) < 0.02


def test_the_library_has_such_networks():
    network = rawcnn.create("cifar_resnet20", size=8, discretize="thermometer", levels=16)
    assert network.preprocessing == "none" and network.variables["conv1/filters"].shape == (3, 3, 48, 16)
    plain = rawcnn.create("cifar_resnet20", size=8)
    assert network.parameter_count - plain.parameter_count == 3 * 3 * 45 * 16
    assert network.operation("conv1").cost.backward_flops == network.operation("conv1").cost.flops  # filters alone
    with pytest.raises(ValueError, match="discretize is 'binary'; expected one of none, onehot, thermometer"):
        rawcnn.create("cifar_resnet20", discretize="binary")
    with pytest.raises(ValueError, match="preprocessing is 'torch'; expected \"none\""):
        rawcnn.create("cifar_resnet20", discretize="onehot", preprocessing="torch")
    with pytest.raises(ValueError, match="levels is 1; expected 2 or more"):
        rawcnn.create("cifar_resnet20", discretize="onehot", levels=1)
    with pytest.raises(ValueError, match="reads pixels, not levels"):
        logit_pga(plain, np.zeros((1, 8, 8, 3), np.float32), [0])
