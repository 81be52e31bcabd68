"""Inception V2, "BN-Inception". Ioffe, Szegedy: "Batch Normalization", ICML 2015, figure 5.

The network has 11,194,984 parameters (the paper: 13.6 million) and takes 2.02 G MACs. It is GoogLeNet with batch norm
instead of biases, local response normalization and dropout, and with two 3×3 convolutions instead of each 5×5.

Deviations: the pool projections of 4c and 4d are 96 wide. Figure 5 prints 128, but its own output width of 576 leaves
only 96, as in the authors' published code. The first layer is a plain 7×7 convolution; the paper's is separable, with a
depth multiplier of 8 (its appendix).
"""

from __future__ import annotations

import tensorflow as tf

from rawcnn.nn.layers import average_pool, concatenate, conv_bn_relu, dense, global_average_pool, max_pool
from rawcnn.nn.trace import Trace

# Figure 5: #1×1, #3×3 reduce, #3×3, double #3×3 reduce, double #3×3, pool, pool projection
INCEPTION = {
    "3a": (64, 64, 64, 64, 96, average_pool, 32),
    "3b": (64, 64, 96, 64, 96, average_pool, 64),
    "4a": (224, 64, 96, 96, 128, average_pool, 128),
    "4b": (192, 96, 128, 96, 128, average_pool, 128),
    "4c": (160, 128, 160, 128, 160, average_pool, 96),
    "4d": (96, 128, 192, 160, 192, average_pool, 96),
    "5a": (352, 192, 320, 160, 224, average_pool, 128),
    "5b": (352, 192, 320, 192, 224, max_pool, 128),
}
# #3×3 reduce, #3×3, double #3×3 reduce, double #3×3; the pool has no projection
REDUCTION = {"3c": (128, 160, 64, 96), "4e": (128, 192, 192, 256)}
MODULES = ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def inception_v2(net: Trace, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """Figure 5: images [B,224,224,3] → logits [B,classes]."""
    x = conv_bn_relu(net, "conv1", images, 64, 7, stride=2)  # [B,112,112,64]
    x = max_pool(net, "pool1", x, 3, 2, padding="SAME")  # [B,56,56,64]
    x = conv_bn_relu(net, "conv2_reduce", x, 64, 1)
    x = conv_bn_relu(net, "conv2", x, 192, 3)  # [B,56,56,192]
    x = max_pool(net, "pool2", x, 3, 2, padding="SAME")  # [B,28,28,192]
    for module in MODULES:
        if module in REDUCTION:
            x = reduction(net, f"inception_{module}", x, *REDUCTION[module])  # [B,14,14,576], [B,7,7,1024]
        else:
            x = inception(net, f"inception_{module}", x, *INCEPTION[module])
    x = global_average_pool(net, "pool5", x)  # [B,1024]
    return dense(net, "classifier", x, classes)


def inception(net: Trace, name: str, x: tf.Tensor, one, three_reduce, three, double_reduce, double, pool, projection):
    """GoogLeNet's module with two 3×3 instead of the 5×5: [B,H,W,C] → [B,H,W, one + three + double + projection]."""
    a = conv_bn_relu(net, f"{name}/1x1", x, one, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, three_reduce, 1)
    b = conv_bn_relu(net, f"{name}/3x3", b, three, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, double_reduce, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, double, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, double, 3)
    d = pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, projection, 1)
    return concatenate(net, name, [a, b, c, d])


def reduction(net: Trace, name: str, x: tf.Tensor, three_reduce, three, double_reduce, double):
    """A module without a 1×1 branch that halves the map: [B,H,W,C] → [B,H/2,W/2, three + double + C]."""
    a = conv_bn_relu(net, f"{name}/3x3_reduce", x, three_reduce, 1)
    a = conv_bn_relu(net, f"{name}/3x3", a, three, 3, stride=2)
    b = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, double_reduce, 1)
    b = conv_bn_relu(net, f"{name}/double_3x3_1", b, double, 3)
    b = conv_bn_relu(net, f"{name}/double_3x3_2", b, double, 3, stride=2)
    c = max_pool(net, f"{name}/pool", x, 3, 2, padding="SAME")
    return concatenate(net, name, [a, b, c])
