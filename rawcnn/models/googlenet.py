"""GoogLeNet. Szegedy et al.: "Going Deeper with Convolutions", CVPR 2015, table 1 and figures 2 and 3.

The network has 6,998,552 parameters (table 1 sums to 6.8 million), 13,378,280 with both auxiliary heads, and takes
1.58 G MACs. It has biases and local response normalization, as in the paper, and no batch norm. Table 1's first row
counts another stem than the figure shows; `rawcnn paper googlenet` explains this and the other sums.

`torchvision=True` is the form that torchvision publishes weights for. It has 6,624,904 parameters, 13,004,888 with its
heads. It differs in four points: batch norm instead of biases and response normalization, 3×3 filters instead of 5×5,
2×2 instead of 3×3 in the last max-pool, and max-pools between the stages that pad the end alone, as Caffe's do. On maps
of an even size that is the same as "SAME", which the paper's form uses here, as in the authors' own TensorFlow code.
"""

from __future__ import annotations

import tensorflow as tf

from kernels.geometry import Pads
from rawcnn.nn.layers import (
    average_pool,
    concatenate,
    conv,
    conv_bn_relu,
    dense,
    dropout,
    global_average_pool,
    lrn,
    max_pool,
    relu,
)
from rawcnn.nn.trace import Trace

# PyTorch's ceil_mode for stride 2: ⌈(n − k)/2⌉ + 1 outputs, the last window of which may reach past the end by a pixel.
ROUNDED_UP: Pads = ((0, 1), (0, 1))

# Table 1: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool projection
INCEPTION = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(
    net: Trace, images: tf.Tensor, *, classes: int = 1000, auxiliary: bool = False, torchvision: bool = False
) -> tf.Tensor:
    """Table 1: images [B,224,224,3] → logits [B,classes].

    Args:
        net: The trace.
        images: [B,224,224,3].
        classes: Number of classes.
        auxiliary: Add the two auxiliary classifiers in training (§5).
        torchvision: Build the form of torchvision's weights.

    Returns:
        Logits [B,classes].
    """
    if torchvision:
        return _torchvision(net, images, classes, auxiliary)
    return _googlenet(net, images, classes, inception, auxiliary)


def googlenet_naive(net: Trace, images: tf.Tensor, *, classes: int = 1000, auxiliary: bool = False) -> tf.Tensor:
    """GoogLeNet with the naive module of figure 2a everywhere. It shows what the 1×1 reductions save."""
    return _googlenet(net, images, classes, naive_inception, auxiliary)


def _conv(net, name, x, channels, size, **settings):
    return relu(net, conv(net, name, x, channels, size, **settings))


def inception(net: Trace, name: str, x: tf.Tensor, widths) -> tf.Tensor:
    """Figure 2b: 1×1 convolutions reduce the depth before the 3×3 and 5×5 convolutions and after the pool."""
    one, three_reduce, three, five_reduce, five, projection = widths
    a = _conv(net, f"{name}/1x1", x, one, 1)
    b = _conv(net, f"{name}/3x3_reduce", x, three_reduce, 1)
    b = _conv(net, f"{name}/3x3", b, three, 3)
    c = _conv(net, f"{name}/5x5_reduce", x, five_reduce, 1)
    c = _conv(net, f"{name}/5x5", c, five, 5)
    d = max_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = _conv(net, f"{name}/pool_projection", d, projection, 1)
    return concatenate(net, name, [a, b, c, d])  # [B,H,W, one + three + five + projection]


def naive_inception(net: Trace, name: str, x: tf.Tensor, widths) -> tf.Tensor:
    """Figure 2a: each convolution reads all channels, and the pool keeps them, so the depth can only grow."""
    one, _, three, _, five, _ = widths
    a = _conv(net, f"{name}/1x1", x, one, 1)
    b = _conv(net, f"{name}/3x3", x, three, 3)
    c = _conv(net, f"{name}/5x5", x, five, 5)
    d = max_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    return concatenate(net, name, [a, b, c, d])  # [B,H,W, one + three + five + C]


def _googlenet(net, images, classes, module, auxiliary):
    x = _conv(net, "conv1", images, 64, 7, stride=2)  # [B,112,112,64]
    x = max_pool(net, "pool1", x, 3, 2, padding="SAME")  # [B,56,56,64]
    x = lrn(net, "norm1", x)
    x = _conv(net, "conv2_reduce", x, 64, 1)
    x = _conv(net, "conv2", x, 192, 3)  # [B,56,56,192]
    x = lrn(net, "norm2", x)
    x = max_pool(net, "pool2", x, 3, 2, padding="SAME")  # [B,28,28,192]
    for name, widths in INCEPTION.items():
        x = module(net, f"inception_{name}", x, widths)
        if name in ("3b", "4e"):
            x = max_pool(net, f"pool{name[0]}", x, 3, 2, padding="SAME")  # [B,14,14,480], [B,7,7,832]
        if auxiliary and net.train and name in ("4a", "4d"):
            net.auxiliary.append(auxiliary_head(net, f"auxiliary_{name}", x, classes))
    x = global_average_pool(net, "pool5", x)  # [B,1024]
    x = dropout(net, "drop5", x, 0.4)
    return dense(net, "classifier", x, classes)


def auxiliary_head(net: Trace, name: str, x: tf.Tensor, classes: int) -> tf.Tensor:
    """A small classifier on a middle layer, whose loss has weight 0.3 in training (§5): [B,14,14,C] → [B,classes]."""
    x = average_pool(net, f"{name}/pool", x, 5, 3, padding="VALID")  # [B,4,4,C]
    x = _conv(net, f"{name}/conv", x, 128, 1)  # [B,4,4,128]
    x = relu(net, dense(net, f"{name}/fc1", x, 1024))
    x = dropout(net, f"{name}/drop", x, 0.7)
    return dense(net, f"{name}/fc2", x, classes)


def _torchvision(net, images, classes, auxiliary):
    """Table 1 as torchvision builds it, with batch norm instead of biases and response normalization."""
    x = conv_bn_relu(net, "conv1", images, 64, 7, stride=2, padding=((3, 3), (3, 3)))  # [B,112,112,64]
    x = max_pool(net, "pool1", x, 3, 2, padding=ROUNDED_UP)  # [B,56,56,64]
    x = conv_bn_relu(net, "conv2_reduce", x, 64, 1)
    x = conv_bn_relu(net, "conv2", x, 192, 3)  # [B,56,56,192]
    x = max_pool(net, "pool2", x, 3, 2, padding=ROUNDED_UP)  # [B,28,28,192]
    for name, widths in INCEPTION.items():
        x = torchvision_inception(net, f"inception_{name}", x, widths)
        if name == "3b":
            x = max_pool(net, "pool3", x, 3, 2, padding=ROUNDED_UP)  # [B,14,14,480]
        if name == "4e":
            x = max_pool(net, "pool4", x, 2, 2, padding=ROUNDED_UP)  # [B,7,7,832]
        if auxiliary and net.train and name in ("4a", "4d"):
            net.auxiliary.append(torchvision_head(net, f"auxiliary_{name}", x, classes))
    x = global_average_pool(net, "pool5", x)  # [B,1024]
    x = dropout(net, "drop5", x, 0.2)
    return dense(net, "classifier", x, classes)


def torchvision_inception(net: Trace, name: str, x: tf.Tensor, widths) -> tf.Tensor:
    """Figure 2b with a 3×3 instead of the 5×5, as in the code that the published weights come from."""
    one, three_reduce, three, five_reduce, five, projection = widths
    a = conv_bn_relu(net, f"{name}/1x1", x, one, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, three_reduce, 1)
    b = conv_bn_relu(net, f"{name}/3x3", b, three, 3)
    c = conv_bn_relu(net, f"{name}/5x5_reduce", x, five_reduce, 1)
    c = conv_bn_relu(net, f"{name}/5x5", c, five, 3)
    d = max_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, projection, 1)
    return concatenate(net, name, [a, b, c, d])  # [B,H,W, one + three + five + projection]


def torchvision_head(net: Trace, name: str, x: tf.Tensor, classes: int) -> tf.Tensor:
    """The auxiliary classifier with batch norm. Its pool has the paper's windows, not torchvision's."""
    x = average_pool(net, f"{name}/pool", x, 5, 3, padding="VALID")  # [B,4,4,C]
    x = conv_bn_relu(net, f"{name}/conv", x, 128, 1)  # [B,4,4,128]
    x = relu(net, dense(net, f"{name}/fc1", x, 1024))
    x = dropout(net, f"{name}/drop", x, 0.7)
    return dense(net, f"{name}/fc2", x, classes)
