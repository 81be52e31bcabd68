"""A network that the tests of this folder share."""

from __future__ import annotations

import pytest
import tensorflow as tf

import kernels
from rawcnn.network import Network
from tests.rawcnn.attacked import small


@pytest.fixture(scope="session")
def trained(digits):
    """A small network that reads digits, and 64 test images."""
    network = Network("small", small, size=8, classes=10)
    images, labels = (tf.constant(array) for array in digits.arrays("train"))
    variables = list(network.trained_variables.values())

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(kernels.cross_entropy(network(images), labels))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.3 * gradient)

    for _ in range(40):
        step()
    return network, *(array[:64] for array in digits.arrays("test"))
