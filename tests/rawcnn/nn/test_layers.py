"""Layers at the edges: empty batches, values that are not finite, sizes that are unknown while tracing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import tensorflow as tf

import kernels
import onednn
import rawcnn
from rawcnn.nn.layers import conv, dense, relu
from rawcnn.nn.network import Network
from tests import references


@cache
def network(name: str, size: int = 32, **options) -> rawcnn.Network:
    return rawcnn.create(name, classes=4, size=size, **options)


def in_mode(function, mode: str, shape):
    if mode == "eager":
        return function
    known = [tf.TensorSpec([None, *shape[1:]])] if mode == "unknown" else None
    return tf.function(function, autograph=False, jit_compile=mode == "xla", input_signature=known)


@pytest.mark.parametrize("mode", ["eager", "graph", "unknown", pytest.param("xla", marks=pytest.mark.slow)])
def test_an_empty_batch_leaves_the_averages_alone(mode):
    net = network("cifar_resnet20")
    images = tf.zeros((0, 32, 32, 3))

    def step(images):
        with tf.GradientTape() as tape:
            logits, _, statistics = net.forward(images, train=True, seed=0)
            loss = tf.reduce_sum(kernels.cross_entropy(logits, tf.zeros(tf.shape(images)[:1], tf.int32)))
        return logits, statistics, tape.gradient(loss, list(net.trained_variables.values()))

    logits, statistics, gradients = in_mode(step, mode, images.shape)(images)
    assert logits.shape == (0, 4)
    for path, value in statistics.items():
        np.testing.assert_array_equal(value, net.variables[path], path)
    for gradient in gradients:
        assert not gradient.numpy().any()


@pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.slow)])
def test_a_network_answers_nan(mode):
    """Not a class with certainty; the other image of the batch is not touched."""
    net = network("vgg_a")
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    clean = net(images)
    images[0, 7, 9, 1] = float("nan")
    logits = in_mode(net, mode, images.shape)(tf.constant(images))
    assert np.isnan(logits[0]).all()
    references.close(logits[1], clean[1], "network")


@pytest.mark.parametrize("mode, precision", [("eager", "float32"), ("xla", "float32"), ("graph", "float64")])
def test_a_nan_in_a_variable_reaches_the_logits(mode, precision):
    """Where no ReLU is fused. In a float32 graph the fused ReLU may turn it into 0; docs/decisions.md says when."""
    model = lambda net, images: dense(net, "classifier", relu(net, conv(net, "conv1", images, 4, 3)), 2)  # noqa: E731
    net = Network("one", model, size=4, classes=2, precision=precision)
    filters = net.variables["conv1/filters"]
    filters.assign(np.where(np.arange(4) == 2, np.nan, filters.numpy()))
    images = tf.constant(np.random.default_rng(0).random((2, 4, 4, 3)), precision)
    assert np.isnan(in_mode(net, mode, images.shape)(images)).all()


@pytest.mark.parametrize("kind", ["convolution", "matmul"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("mode", ["eager", "graph", pytest.param("xla", marks=pytest.mark.deeper)])
def test_where_a_fused_relu_turns_nan_into_0(mode, dtype, kind):
    """What docs/decisions.md says about TensorFlow and oneDNN, on a CPU."""
    x = tf.fill((1, 3, 3, 4) if kind == "convolution" else (2, 4), tf.constant(np.nan, dtype))
    filters = tf.ones((1, 1, 4, 8) if kind == "convolution" else (4, 8), dtype)

    def layer(x, filters, bias):
        y = tf.nn.conv2d(x, filters, 1, "SAME") if kind == "convolution" else tf.matmul(x, filters)
        return tf.nn.relu(tf.nn.bias_add(y, bias))

    if mode != "eager":
        layer = tf.function(layer, jit_compile=mode == "xla", autograph=False)
    with tf.device("CPU"):
        y = tf.cast(layer(x, filters, tf.zeros(8, dtype)), tf.float32)
    lost = mode == "graph" and dtype != "float64" and onednn.in_use()
    np.testing.assert_array_equal(y, np.full(y.shape, 0.0 if lost else np.nan))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_the_largest_floats_are_finite(mode):
    """Their sum is not, but only images that are not finite get NaN."""
    net = Network("linear", lambda net, images: dense(net, "classifier", images, 2), size=4, classes=2)
    net.variables["classifier/weights"].assign(references.random((48, 2)) * 1e-38)
    images = np.full((3, 4, 4, 3), 3e38, np.float32)
    images[1, 0, 0], images[2, 0, 0, 0] = -3e38, -np.inf
    logits = in_mode(net, mode, images.shape)(tf.constant(images))
    assert np.isnan(logits[2]).all()
    weights = net.variables["classifier/weights"].numpy().astype(np.float64)
    expected = images[:2].reshape(2, 48).astype(np.float64) @ weights + net.variables["classifier/bias"].numpy()
    references.close(logits[:2], expected)


@pytest.mark.parametrize("name", ["vgg_a", "alexnet_one_tower"])
def test_classifiers_of_maps_of_unknown_size(name):
    """A fully connected layer fixes the size: an image of that size works, another is refused when it runs."""
    net = network(name, 64)
    compiled = tf.function(net, autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
    images = references.random((2, 64, 64, 3), low=0.0)
    references.close(compiled(images), net(images), "network")
    with pytest.raises(tf.errors.InvalidArgumentError):
        compiled(references.random((2, 128, 128, 3), low=0.0))  # not as eight images of 64 pixels


def test_batch_norm_of_the_caller_s_own_compiled_step():
    """A batch of almost equal images: XLA's expansion of TensorFlow's fused kernel has negative variances there."""
    net = network("cifar_resnet20")
    images = 0.5 + 1e-4 * references.random((8, 32, 32, 3))

    def statistics(images):
        return net.forward(images, train=True, seed=0).statistics

    eager, compiled = statistics(images), tf.function(statistics, jit_compile=True, autograph=False)(images)
    first = next(path for path in eager if path.endswith("variance"))
    references.close(compiled[first], eager[first])
