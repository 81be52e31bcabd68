"""Networks that the tests attack: a linear model, and a small network for digits."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.data import DataSet
from rawcnn.nn.layers import batch_norm, conv, dense, relu
from rawcnn.nn.network import Network
from tests import references

SHAPE = (4, 5, 3)
WEIGHTS = references.random((60, 3), seed=1)


class Linear:
    """images → images·W; counts how often it is traced."""

    def __init__(self, weights=WEIGHTS):
        self.weights, self.calls = weights, 0

    def __call__(self, images):
        self.calls += 1
        return tf.reshape(images, (-1, self.weights.shape[0])) @ self.weights


def middling(batch: int, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return images in [0.3, 0.7], which an ε up to 0.3 does not clip, and labels."""
    generator = np.random.default_rng(seed)
    return generator.uniform(0.3, 0.7, (batch, *SHAPE)).astype(np.float32), generator.integers(0, 3, batch)


def learn(network: Network, data: DataSet, rate: float, steps: int) -> None:
    """Train by gradient descent on all training images at once."""
    images, labels = (tf.constant(array) for array in data.arrays("train"))
    variables = list(network.trained_variables.values())

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(kernels.cross_entropy(network(images), labels))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(rate * gradient)

    for _ in range(steps):
        step()


def small(net, images):
    x = relu(net, batch_norm(net, "bn1", conv(net, "conv1", images, 8, 3), epsilon=1e-5))
    return dense(net, "logits", relu(net, conv(net, "conv2", x, 8, 3, stride=2)), 10)
