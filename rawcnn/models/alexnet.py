"""AlexNet. Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012, §3 and figure 2.

The network has 60,965,224 parameters (the paper: "60 million") and 650,000 neurons. The authors trained it on two GPUs,
each with half of the channels. conv2, conv4 and conv5 read only the half on their own GPU (`groups=2`); conv3 and the
fully connected layers read both halves. `create("alexnet", devices=("GPU:0", "GPU:1"))` computes each convolution's
halves on two devices and then joins them. This is a part of the paper's division: pools, response normalization and
the fully connected layers, which have 96 % of the parameters, stay on one device here. Response normalization also sums
over the channels at the border of the halves; the paper does not say whether it did.

Deviations:
- Images are 227×227. The paper says 224×224, but its 55×55 maps need 227, or padding that it does not mention.
- Dropout is inverted: training doubles the units that it keeps. The paper (§4.2) halves all outputs in testing instead.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rawcnn.nn.initializers import normal, ones
from rawcnn.nn.layers import conv, dense, dropout, lrn, max_pool, relu
from rawcnn.nn.trace import Trace

GAUSSIAN = normal(0.01)  # §5: the initial values of all weights
ACTIVE: dict[str, Any] = {"initial": GAUSSIAN, "bias_initial": ones}  # §5: biases of 1 give the ReLUs positive inputs


def alexnet(net: Trace, images: tf.Tensor, *, groups: int = 2, classes: int = 1000) -> tf.Tensor:
    """Figure 2: two towers of 96-256-384-384-256 channels in all.

    Args:
        net: The trace.
        images: [B,227,227,3].
        groups: With 1 instead of 2, every layer reads both towers: 62,378,344 parameters and 57 % more MACs.
        classes: Number of classes.

    Returns:
        Logits [B,classes].
    """
    x = conv(net, "conv1", images, 96, 11, stride=4, padding="VALID", initial=GAUSSIAN)  # [B,55,55,96]
    x = lrn(net, "norm1", relu(net, x))  # [B,55,55,96]
    x = max_pool(net, "pool1", x, 3, 2, padding="VALID")  # [B,27,27,96]  overlapping: size 3, stride 2
    x = conv(net, "conv2", x, 256, 5, groups=groups, **ACTIVE)  # [B,27,27,256]
    x = lrn(net, "norm2", relu(net, x))  # [B,27,27,256]
    x = max_pool(net, "pool2", x, 3, 2, padding="VALID")  # [B,13,13,256]
    x = relu(net, conv(net, "conv3", x, 384, 3, initial=GAUSSIAN))  # [B,13,13,384]  reads both towers
    x = relu(net, conv(net, "conv4", x, 384, 3, groups=groups, **ACTIVE))  # [B,13,13,384]
    x = relu(net, conv(net, "conv5", x, 256, 3, groups=groups, **ACTIVE))  # [B,13,13,256]
    x = max_pool(net, "pool5", x, 3, 2, padding="VALID")  # [B,6,6,256]
    x = dropout(net, "drop6", relu(net, dense(net, "fc6", x, 4096, **ACTIVE)), 0.5)  # [B,4096]
    x = dropout(net, "drop7", relu(net, dense(net, "fc7", x, 4096, **ACTIVE)), 0.5)  # [B,4096]
    return dense(net, "fc8", x, classes, initial=GAUSSIAN)  # [B,classes]


def alexnet_one_tower(net: Trace, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """The network for one GPU, 64-192-384-256-256: images [B,224,224,3] → logits [B,classes].

    Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014. This is the form that
    torchvision publishes weights for: no response normalization, conv1 padded by 2, 61,100,840 parameters.
    """
    x = relu(net, conv(net, "conv1", images, 64, 11, stride=4, padding=((2, 2), (2, 2))))  # [B,55,55,64]
    x = max_pool(net, "pool1", x, 3, 2, padding="VALID")  # [B,27,27,64]
    x = relu(net, conv(net, "conv2", x, 192, 5))  # [B,27,27,192]
    x = max_pool(net, "pool2", x, 3, 2, padding="VALID")  # [B,13,13,192]
    x = relu(net, conv(net, "conv3", x, 384, 3))  # [B,13,13,384]
    x = relu(net, conv(net, "conv4", x, 256, 3))  # [B,13,13,256]
    x = relu(net, conv(net, "conv5", x, 256, 3))  # [B,13,13,256]
    x = max_pool(net, "pool5", x, 3, 2, padding="VALID")  # [B,6,6,256]
    x = relu(net, dense(net, "fc6", dropout(net, "drop5", x, 0.5), 4096))  # [B,4096]
    x = relu(net, dense(net, "fc7", dropout(net, "drop6", x, 0.5), 4096))  # [B,4096]
    return dense(net, "fc8", x, classes)  # [B,classes]
