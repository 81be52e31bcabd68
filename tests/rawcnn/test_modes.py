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
MOST_OF_A_PIXEL = 0.35  # of the largest value, in the bfloat16 gradient of an image
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


def images_for(network: rawcnn.Network) -> tf.Tensor:
    return references.random((4, network.input_size, network.input_size, 3), 1, low=0.0)


def agree(network: rawcnn.Network, actual: tf.Tensor, expected: tf.Tensor) -> None:
    assert actual.dtype == expected.dtype
    assert references.error(tf.cast(actual, tf.float32), tf.cast(expected, tf.float32)) < TOLERANCE[network.precision]


@pytest.mark.parametrize("mode", MODES)
def test_inference(network, mode):
    images = images_for(network)
    expected = network(images)
    agree(network, rawcnn.program(network, mode)(images), expected)
    agree(network, compiled(network.__call__, Choice(mode, ""))(images), expected)


@pytest.mark.parametrize("mode", MODES)
def test_training_pass_and_gradients(network, mode):
    """Compare gradients of parameters and images. In bfloat16 only check that they exist and are finite."""
    images, labels = images_for(network), tf.range(4) % 5

    def gradients(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = network.forward(images, train=True, seed=4).logits
            loss = tf.reduce_mean(kernels.cross_entropy(tf.cast(logits, tf.float32), labels))
        return loss, tape.gradient(loss, [images, *network.trained_variables.values()])

    loss, found = compiled(gradients, Choice(mode, ""))(images)
    assert all(np.isfinite(gradient).all() for gradient in (loss, *found))
    agree(network, loss, gradients(images)[0])


@pytest.mark.parametrize("mode", MODES)
def test_gradient_to_images_at_inference(network, mode):
    images = images_for(network)

    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            target = tf.reduce_sum(tf.cast(network(images)[:, 0], tf.float32))
        return tape.gradient(target, images)

    found, expected = compiled(gradient, Choice(mode, ""))(images), gradient(images)
    if network.precision == "float32":
        agree(network, found, expected)
    else:  # rounding switches single ReLUs and maxima of pools, so that few pixels differ much
        difference = np.median(np.abs(np.asarray(found) - np.asarray(expected)))
        assert difference < TOLERANCE["bfloat16"] * np.median(np.abs(expected))
        assert references.error(found, expected) < MOST_OF_A_PIXEL
