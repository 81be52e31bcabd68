"""Inception V4 and Inception-ResNet V2. Szegedy, Ioffe, Vanhoucke, Alemi: "Inception-v4, Inception-ResNet and the
Impact of Residual Connections on Learning", AAAI 2017.

Inception V4 has 42,679,816 parameters and takes 12.25 G MACs at 299 pixels. Its modules are those of figures 3 to 9.
Deviation: the order of filters in two branches is that of the authors' published code (TF-slim), for which there are
weights. In the double 7×7 branch, figure 5 prints each 1×7 before its 7×1, with the same widths; in the double 3×3
branch, figure 6 prints 1×3 with 448 filters before 3×1 with 512.

Inception-ResNet V2 has 55,843,464 parameters and takes 13.16 G MACs. Deviation: it has the form that the authors
published with weights. Its stem is that of Inception V3, it has twice as many blocks as figure 15, and its residual
branches are scaled by 0.17, 0.1 and 0.2 (§3.3 recommends 0.1 to 0.3).
"""

from __future__ import annotations

import tensorflow as tf

from rawcnn.nn.layers import (
    average_pool,
    concatenate,
    conv,
    conv_bn_relu,
    dense,
    dropout,
    global_average_pool,
    max_pool,
    relu,
    scaled_residual_sum,
)
from rawcnn.nn.trace import Trace


def inception_v4(net: Trace, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """Figure 9: images [B,299,299,3] → logits [B,classes]."""
    x = stem(net, images)  # [B,35,35,384]
    for index in range(4):
        x = inception_a(net, f"inception_a{index + 1}", x)  # [B,35,35,384]
    x = reduction_a(net, "reduction_a", x, 192, 224, 256, 384)  # [B,17,17,1024]
    for index in range(7):
        x = inception_b(net, f"inception_b{index + 1}", x)  # [B,17,17,1024]
    x = reduction_b(net, "reduction_b", x)  # [B,8,8,1536]
    for index in range(3):
        x = inception_c(net, f"inception_c{index + 1}", x)  # [B,8,8,1536]
    x = global_average_pool(net, "pool", x)  # [B,1536]
    x = dropout(net, "drop", x, 0.2)
    return dense(net, "classifier", x, classes)


def stem(net: Trace, images: tf.Tensor) -> tf.Tensor:
    """Figure 3: three times, two parallel branches are concatenated."""
    x = conv_bn_relu(net, "conv1", images, 32, 3, stride=2, padding="VALID")  # [B,149,149,32]
    x = conv_bn_relu(net, "conv2", x, 32, 3, padding="VALID")  # [B,147,147,32]
    x = conv_bn_relu(net, "conv3", x, 64, 3)  # [B,147,147,64]
    a = max_pool(net, "stem1/pool", x, 3, 2, padding="VALID")
    b = conv_bn_relu(net, "stem1/3x3", x, 96, 3, stride=2, padding="VALID")
    x = concatenate(net, "stem1", [a, b])  # [B,73,73,160]
    a = conv_bn_relu(net, "stem2/3x3_reduce", x, 64, 1)
    a = conv_bn_relu(net, "stem2/3x3", a, 96, 3, padding="VALID")
    b = conv_bn_relu(net, "stem2/7x7_reduce", x, 64, 1)
    b = conv_bn_relu(net, "stem2/1x7", b, 64, (1, 7))
    b = conv_bn_relu(net, "stem2/7x1", b, 64, (7, 1))
    b = conv_bn_relu(net, "stem2/7x7_3x3", b, 96, 3, padding="VALID")
    x = concatenate(net, "stem2", [a, b])  # [B,71,71,192]
    a = conv_bn_relu(net, "stem3/3x3", x, 192, 3, stride=2, padding="VALID")
    b = max_pool(net, "stem3/pool", x, 3, 2, padding="VALID")
    return concatenate(net, "stem3", [a, b])  # [B,35,35,384]


def inception_a(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 4, Inception-A: [B,35,35,384] → [B,35,35,384]."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 96, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, 64, 1)
    b = conv_bn_relu(net, f"{name}/3x3", b, 96, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 64, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, 96, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, 96, 3)
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 96, 1)
    return concatenate(net, name, [a, b, c, d])


def reduction_a(net: Trace, name: str, x: tf.Tensor, k: int, l: int, m: int, n: int) -> tf.Tensor:  # noqa: E741
    """Figure 7, Reduction-A, with table 1's widths k, l, m and n: 35×35 → 17×17."""
    a = conv_bn_relu(net, f"{name}/3x3", x, n, 3, stride=2, padding="VALID")
    b = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, k, 1)
    b = conv_bn_relu(net, f"{name}/double_3x3_1", b, l, 3)
    b = conv_bn_relu(net, f"{name}/double_3x3_2", b, m, 3, stride=2, padding="VALID")
    c = max_pool(net, f"{name}/pool", x, 3, 2, padding="VALID")
    return concatenate(net, name, [a, b, c])


def inception_b(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 5, Inception-B: [B,17,17,1024] → [B,17,17,1024]."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 384, 1)
    b = conv_bn_relu(net, f"{name}/7x7_reduce", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/1x7", b, 224, (1, 7))
    b = conv_bn_relu(net, f"{name}/7x1", b, 256, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_7x7_reduce", x, 192, 1)
    c = conv_bn_relu(net, f"{name}/double_7x1_1", c, 192, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_1x7_1", c, 224, (1, 7))
    c = conv_bn_relu(net, f"{name}/double_7x1_2", c, 224, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_1x7_2", c, 256, (1, 7))
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 128, 1)
    return concatenate(net, name, [a, b, c, d])


def reduction_b(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 8, Reduction-B: 17×17 → 8×8."""
    a = conv_bn_relu(net, f"{name}/3x3_reduce", x, 192, 1)
    a = conv_bn_relu(net, f"{name}/3x3", a, 192, 3, stride=2, padding="VALID")
    b = conv_bn_relu(net, f"{name}/7x7_reduce", x, 256, 1)
    b = conv_bn_relu(net, f"{name}/1x7", b, 256, (1, 7))
    b = conv_bn_relu(net, f"{name}/7x1", b, 320, (7, 1))
    b = conv_bn_relu(net, f"{name}/7x7_3x3", b, 320, 3, stride=2, padding="VALID")
    c = max_pool(net, f"{name}/pool", x, 3, 2, padding="VALID")
    return concatenate(net, name, [a, b, c])


def inception_c(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 6, Inception-C: [B,8,8,1536] → [B,8,8,1536]."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 256, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, 384, 1)
    b1 = conv_bn_relu(net, f"{name}/1x3", b, 256, (1, 3))
    b2 = conv_bn_relu(net, f"{name}/3x1", b, 256, (3, 1))
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 384, 1)
    c = conv_bn_relu(net, f"{name}/double_3x1_1", c, 448, (3, 1))
    c = conv_bn_relu(net, f"{name}/double_1x3_1", c, 512, (1, 3))
    c1 = conv_bn_relu(net, f"{name}/double_1x3_2", c, 256, (1, 3))
    c2 = conv_bn_relu(net, f"{name}/double_3x1_2", c, 256, (3, 1))
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 256, 1)
    return concatenate(net, name, [a, b1, b2, c1, c2, d])


def inception_resnet_v2(net: Trace, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """Figure 15: images [B,299,299,3] → logits [B,classes]."""
    x = conv_bn_relu(net, "conv1", images, 32, 3, stride=2, padding="VALID")  # [B,149,149,32]
    x = conv_bn_relu(net, "conv2", x, 32, 3, padding="VALID")  # [B,147,147,32]
    x = conv_bn_relu(net, "conv3", x, 64, 3)  # [B,147,147,64]
    x = max_pool(net, "pool1", x, 3, 2, padding="VALID")  # [B,73,73,64]
    x = conv_bn_relu(net, "conv4", x, 80, 1)
    x = conv_bn_relu(net, "conv5", x, 192, 3, padding="VALID")  # [B,71,71,192]
    x = max_pool(net, "pool2", x, 3, 2, padding="VALID")  # [B,35,35,192]
    x = inception_entry(net, "mixed_5b", x)  # [B,35,35,320]
    for index in range(10):
        x = block35(net, f"block35_{index + 1}", x)
    x = reduction_a(net, "mixed_6a", x, 256, 256, 384, 384)  # [B,17,17,1088]
    for index in range(20):
        x = block17(net, f"block17_{index + 1}", x)
    x = residual_reduction_b(net, "mixed_7a", x)  # [B,8,8,2080]
    for index in range(9):
        x = relu(net, block8(net, f"block8_{index + 1}", x, scale=0.2))
    x = block8(net, "block8_10", x, scale=1.0)
    x = conv_bn_relu(net, "conv_7b", x, 1536, 1)  # [B,8,8,1536]
    x = global_average_pool(net, "pool", x)  # [B,1536]
    x = dropout(net, "drop", x, 0.2)
    return dense(net, "classifier", x, classes)


def inception_entry(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """A module as in Inception V3's figure 5, with 96 channels in its 1×1. The published code has it, the paper not."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 96, 1)
    b = conv_bn_relu(net, f"{name}/5x5_reduce", x, 48, 1)
    b = conv_bn_relu(net, f"{name}/5x5", b, 64, 5)
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 64, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, 96, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, 96, 3)
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME")
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 64, 1)
    return concatenate(net, name, [a, b, c, d])


def block35(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 16, Inception-ResNet-A."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 32, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, 32, 1)
    b = conv_bn_relu(net, f"{name}/3x3", b, 32, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 32, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, 48, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, 64, 3)
    return relu(net, _expand(net, name, x, [a, b, c], scale=0.17))


def block17(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 17, Inception-ResNet-B."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/7x7_reduce", x, 128, 1)
    b = conv_bn_relu(net, f"{name}/1x7", b, 160, (1, 7))
    b = conv_bn_relu(net, f"{name}/7x1", b, 192, (7, 1))
    return relu(net, _expand(net, name, x, [a, b], scale=0.1))


def residual_reduction_b(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 18: 17×17 → 8×8."""
    a = conv_bn_relu(net, f"{name}/3x3a_reduce", x, 256, 1)
    a = conv_bn_relu(net, f"{name}/3x3a", a, 384, 3, stride=2, padding="VALID")
    b = conv_bn_relu(net, f"{name}/3x3b_reduce", x, 256, 1)
    b = conv_bn_relu(net, f"{name}/3x3b", b, 288, 3, stride=2, padding="VALID")
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 256, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, 288, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, 320, 3, stride=2, padding="VALID")
    d = max_pool(net, f"{name}/pool", x, 3, 2, padding="VALID")
    return concatenate(net, name, [a, b, c, d])


def block8(net: Trace, name: str, x: tf.Tensor, scale: float) -> tf.Tensor:
    """Figure 19, Inception-ResNet-C, without its ReLU, because the last block has none."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/1x3", b, 224, (1, 3))
    b = conv_bn_relu(net, f"{name}/3x1", b, 256, (3, 1))
    return _expand(net, name, x, [a, b], scale)


def _expand(net, name, x, branches, scale):
    """Add the scaled branches to x, after a linear 1×1 convolution with bias has given them x's depth (§3.2)."""
    y = concatenate(net, f"{name}/branches", branches)
    y = conv(net, f"{name}/expand", y, x.shape[-1], 1)
    return scaled_residual_sum(net, name, x, y, scale)
