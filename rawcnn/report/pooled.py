"""A small network with max-pools, for the deconvolution of Zeiler & Fergus (2014).

A deconvnet places what it passes back at the maxima of each max-pool. Without a max-pool its picture does not depend on
the image, except for the position and the size of the activation that it begins with. So the residual networks for
CIFAR-10, which have none, cannot show it.
"""

from __future__ import annotations

from dataclasses import replace

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.layers import conv, dense, global_average_pool, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training

EPOCHS = 12
NAME = "a small network with max-pools"
LAYER = "conv3/relu"  # whose channels are shown: it lies behind two max-pools


def model(net: Trace, images: tf.Tensor, *, classes: int) -> tf.Tensor:
    """Three convolutions with max-pools between them: images [B,8,8,3] → logits [B,classes]."""
    x = relu(net, conv(net, "conv1", images, 16, 3))  # [B,8,8,16]
    x = max_pool(net, "pool1", x, 2, 2, padding="VALID")  # [B,4,4,16]
    x = relu(net, conv(net, "conv2", x, 32, 3))  # [B,4,4,32]
    x = max_pool(net, "pool2", x, 2, 2, padding="VALID")  # [B,2,2,32]
    x = relu(net, conv(net, "conv3", x, 32, 3))  # [B,2,2,32]
    return dense(net, "classifier", global_average_pool(net, "pool3", x), classes)


def train_pooled(data: DataSet, seed: int, progress: Progress) -> Network:
    """Train the network on a data set, for EPOCHS epochs of the recipe for digits.

    Args:
        data: The images.
        seed: Seed of the initial values and of the order of images.
        progress: Called with (steps done, steps in all).
    """
    classes = len(data.labels)
    network = Network(NAME, lambda net, x: model(net, x, classes=classes), size=data.size,
                      classes=classes, seed=seed)  # fmt: skip
    run = Training(network, replace(RECIPES["digits"], epochs=EPOCHS, rate=0.05), seed=seed)
    steps = run.batches(data).steps
    run.fit(data, on_step=lambda step, _, metrics: progress(run.epoch * steps + step, EPOCHS * steps))
    return network


def has_switches(network: Network) -> bool:
    """Return whether a network has a max-pool, whose maxima tie a deconvnet's picture to the image."""
    return any(operation.kind == "max_pool" for operation in network.operations)
