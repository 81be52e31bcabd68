"""AlexNet. Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks",
NIPS 2012, §3 and figure 2.

60,965,224 parameters (the paper: "60 million"), 650,000 neurons. It was trained on two GPUs, each with half of the
channels: conv2, conv4 and conv5 read only their own half (`groups=2`), conv3 and the fully connected layers read both.
`create("alexnet", devices=("GPU:0", "GPU:1"))` places the halves as the paper did.

The paper says 224×224 images, but its 55×55 maps need 227 (or padding that it does not mention): 227 here.
"""

from __future__ import annotations

import tensorflow as tf

from rawcnn.initial import normal, ones, zeros
from rawcnn.layers import conv, dense, dropout, lrn, max_pool, relu
from rawcnn.network import Pass

GAUSSIAN = normal(0.01)  # §5: every weight; biases 1 in conv2, conv4, conv5 and the hidden dense layers, 0 elsewhere


def alexnet(net: Pass, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """Two towers, 96-256-384-384-256: images [B,227,227,3] → logits [B,classes]."""
    return _alexnet(net, images, classes, (96, 256, 384, 384, 256), groups=2)


def alexnet_one_tower(net: Pass, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """The same widths without groups, on one device: 62,378,344 parameters, 57 % more MACs."""
    return _alexnet(net, images, classes, (96, 256, 384, 384, 256), groups=1)


def _alexnet(net, images, classes, widths, groups):
    settings = {"initial": GAUSSIAN, "bias_initial": ones}
    x = conv(net, "conv1", images, widths[0], 11, stride=4, padding="VALID", initial=GAUSSIAN)  # [B,55,55,96]
    x = lrn(net, "norm1", relu(net, x))
    x = max_pool(net, "pool1", x, 3, 2)  # [B,27,27,96]  overlapping: size 3, stride 2
    x = conv(net, "conv2", x, widths[1], 5, groups=groups, **settings)  # [B,27,27,256]
    x = lrn(net, "norm2", relu(net, x))
    x = max_pool(net, "pool2", x, 3, 2)  # [B,13,13,256]
    x = relu(net, conv(net, "conv3", x, widths[2], 3, initial=GAUSSIAN))  # [B,13,13,384]  reads both towers
    x = relu(net, conv(net, "conv4", x, widths[3], 3, groups=groups, **settings))
    x = relu(net, conv(net, "conv5", x, widths[4], 3, groups=groups, **settings))  # [B,13,13,256]
    x = max_pool(net, "pool5", x, 3, 2)  # [B,6,6,256]
    x = dropout(net, "drop6", relu(net, dense(net, "fc6", x, 4096, **settings)), 0.5)  # [B,4096]
    x = dropout(net, "drop7", relu(net, dense(net, "fc7", x, 4096, **settings)), 0.5)  # [B,4096]
    return dense(net, "fc8", x, classes, initial=GAUSSIAN, bias_initial=zeros)  # [B,classes]
