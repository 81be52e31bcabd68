"""Networks in all modes and precisions: inference, a training step's gradients, and gradients of images."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.nn.execution import Choice, compiled
from tests import references
from tests.rawcnn.conformance import TABLE

# XLA does not use oneDNN's kernels and compiles slowly
MODES = ("eager", "graph", "mixed", pytest.param("xla", marks=pytest.mark.deeper))
PRECISIONS = ("float32", "bfloat16")
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15}  # of the largest value; bfloat16 rounds after each layer
# Random networks with gates, or with batch norms over few values, amplify rounding: bfloat16 changes the logits of an
# SE-ResNet-50 by 0.3 of the largest, whatever the mode. So a mode may be this many times as far from the network in
# float64 as the network itself, layer by layer.
FARTHER = 3
MOST_OF_A_PIXEL = 0.05  # of the largest value: rounding switches single ReLUs and maxima of pools

# AlexNet has the operations that only oneDNN fuses: grouped convolutions with bias and ReLU, and response norms
CASES = [
    pytest.param(case, id=case.id, marks=[] if case.id == "alexnet" else pytest.mark.deeper)
    for case in TABLE
    if case.representative
]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module", params=PRECISIONS)
def network(case, request):
    return case.create(seed=3, precision=request.param)


@pytest.fixture(scope="module")
def exact(case, network):
    """The same network in float64."""
    wide = case.create(seed=3, precision="float64")
    for path, variable in network.variables.items():
        wide.variables[path].assign(tf.cast(variable, tf.float64))
    return wide


def images_for(network: rawcnn.Network) -> tf.Tensor:
    return references.random((4, network.input_size, network.input_size, 3), 1, low=0.0)


def agree(network: rawcnn.Network, actual: tf.Tensor, expected: tf.Tensor, exact: tf.Tensor, error=None) -> None:
    """`actual` is about as near to `exact` as `expected`."""
    assert actual.dtype == expected.dtype
    error = error or references.error
    actual, expected, exact = (tf.cast(x, tf.float64) for x in (actual, expected, exact))
    assert error(actual, exact) < max(TOLERANCE[network.precision], FARTHER * error(expected, exact))


@pytest.mark.sample("float32-alexnet-graph", "bfloat16-alexnet-mixed")
@pytest.mark.parametrize("mode", MODES)
def test_inference(network, exact, mode):
    images = images_for(network)
    expected = network(images), exact(images)
    agree(network, rawcnn.program(network, mode)(images), *expected)
    agree(network, compiled(network.__call__, Choice(mode, ""))(images), *expected)


@pytest.mark.sample("float32-alexnet-graph", "bfloat16-alexnet-mixed")
@pytest.mark.parametrize("mode", MODES)
def test_training_pass_and_gradients(network, exact, mode):
    """Compare the loss. Check that the gradients of parameters and images exist and are finite."""
    images, labels = images_for(network), tf.range(4) % 5

    def gradients(images, network=network):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = network.forward(images, train=True, seed=4).logits
            loss = tf.reduce_mean(kernels.cross_entropy(logits, labels))
        return loss, tape.gradient(loss, [images, *network.trained_variables.values()])

    loss, found = compiled(gradients, Choice(mode, ""))(images)
    assert all(np.isfinite(gradient).all() for gradient in (loss, *found))
    agree(network, loss, gradients(images)[0], gradients(images, exact)[0])


@pytest.mark.sample("float32-alexnet-graph", "bfloat16-alexnet-mixed")
@pytest.mark.parametrize("mode", MODES)
def test_gradient_to_images_at_inference(network, exact, mode):
    images = images_for(network)

    def gradient(images, network=network):
        with tf.GradientTape() as tape:
            tape.watch(images)
            target = tf.reduce_sum(network(images)[:, 0])
        return tape.gradient(target, images)

    found = compiled(gradient, Choice(mode, ""))(images)
    agree(network, found, gradient(images), gradient(images, exact), typical_error)
    if network.precision == "float32":
        assert references.error(found, gradient(images)) < MOST_OF_A_PIXEL


def typical_error(actual: tf.Tensor, expected: tf.Tensor) -> float:
    """The median difference, relative to the median size."""
    return float(np.median(np.abs(actual - expected)) / np.median(np.abs(expected)))
