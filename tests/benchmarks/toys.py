"""Networks of a few layers, which compile in seconds, with random biases and batch norms."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rawcnn.nn.layers import (
    average_pool,
    batch_norm,
    concatenate,
    conv,
    dense,
    drop_path,
    dropout,
    global_average_pool,
    lrn,
    max_pool,
    pad,
    relu,
    residual_sum,
    scaled_residual_sum,
    squeeze_excite,
    zero_padded_shortcut,
)
from rawcnn.nn.network import Network


def small(net, images):
    """A convolution, batch norm, and a classifier."""
    x = relu(net, batch_norm(net, "bn1", conv(net, "conv1", images, 8, 3, stride=2, bias=False)))
    x = global_average_pool(net, "pool", max_pool(net, "pool1", x, 2, 2, padding="VALID"))
    return dense(net, "classifier", x, 5)


def dropping(net, images):
    """A convolution and dropout before the classifier."""
    x = relu(net, conv(net, "conv1", images, 8, 3, stride=2))
    return dense(net, "classifier", dropout(net, "drop", x, 0.5), 5)


def dropping_paths(net, images):
    """A residual branch with drop path in training."""
    x = relu(net, conv(net, "conv1", images, 8, 3, stride=2))
    branch = conv(net, "conv2", x, 8, 3)
    x = residual_sum(net, "sum", x, drop_path(net, "drop", branch, 0.3) if net.train else branch)
    return dense(net, "classifier", x, 5)


def everything(net, images):
    """All kinds of layers with difficult settings: padding, dilation, groups, depthwise, unequal strides."""
    x = conv(net, "block/conv1", images, 8, (3, 2), stride=(1, 2), padding=((1, 0), (2, 1)))
    x = max_pool(net, "pool1", x, 3, 1, padding=((1, 1), (0, 1)))  # not after a ReLU: zeros would win maxima
    x = batch_norm(net, "bn1", x, epsilon=1e-3, scale=False)
    x = relu(net, conv(net, "dilated", x, 8, 3, dilation=2, bias=False))
    x = relu(net, conv(net, "grouped", x, 8, 3, groups=2))
    x = conv(net, "depthwise", x, 16, 3, groups=8, padding="VALID")
    x = relu(net, batch_norm(net, "bn2", x, offset=False))
    x = max_pool(net, "pool2", x, 3, 1, padding=((1, 1), (1, 1)))
    a = average_pool(net, "average1", x, 3, 2, padding=((1, 1), (0, 2)))
    b = average_pool(net, "average2", x, 3, 2, padding=((1, 1), (0, 2)), count_padding=True)
    c = average_pool(net, "average3", x, 3, 2, padding="SAME", count_padding=True)
    d = average_pool(net, "average4", x, 3, 2, padding="SAME")
    x = lrn(net, "lrn", residual_sum(net, "sum2", residual_sum(net, "sum1", a, b), c))
    x = concatenate(net, "concatenate", [x, d])
    y = conv(net, "last", x, 36, 3, stride=2)
    x = residual_sum(net, "sum3", y, zero_padded_shortcut(net, "shortcut", x, 36, 2, zeros="both"))
    x = scaled_residual_sum(net, "sum4", x, conv(net, "residual", x, 36, 1), 0.3)
    x = squeeze_excite(net, "excited", pad(net, "pad", x, ((-1, 1), (1, 0))), reduction=9)
    x = dropout(net, "drop", x, 0.5)
    return dense(net, "classifier", average_pool(net, "average5", x, (2, 1), 1, padding="VALID"), 5)


def toy(model=small, precision="float32", preprocessing="none") -> Network:
    """The toy as a network for images of 12×12, its weights scrambled."""
    network = Network(model.__name__, model, size=12, classes=5, precision=precision, preprocessing=preprocessing)
    return scramble(network)


def scramble(network: Network) -> Network:
    """Move all biases, scales, offsets and averages off zero and one, where a wrong one would not be seen."""
    generator = np.random.default_rng(5)
    for variable in network.variables.values():
        if len(variable.shape) == 1:
            shift = generator.uniform(0, 0.3, variable.shape).astype(np.float32)
            variable.assign_add(shift)
    return network


def batch(network: Network, count: int = 4) -> tuple[tf.Tensor, tf.Tensor]:
    """Random images in [0,1] and labels."""
    generator = np.random.default_rng(3)
    images = generator.random((count, *network.image_size, 3), np.float32)
    return tf.constant(images), tf.constant(generator.integers(0, network.classes, count).astype(np.int32))
