"""Inception V3. Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: "Rethinking the Inception Architecture", CVPR 2016, table 1.

The network has 23,834,568 parameters, 27,161,264 with the auxiliary head, and takes 5.71 G MACs at 299 pixels. Two 3×3
replace a 5×5, 1×n and n×1 replace an n×n (§3), and parallel convolutions and a pool halve the map (§5).

The paper does not print all widths; the missing ones are those of the authors' published code.
"""

from __future__ import annotations

import tensorflow as tf

from rawcnn.nn.layers import average_pool, concatenate, conv_bn_relu, dense, dropout, global_average_pool, max_pool
from rawcnn.nn.trace import Trace


def inception_v3(
    net: Trace, images: tf.Tensor, *, classes: int = 1000, auxiliary: bool = False, count_padding: bool = False
) -> tf.Tensor:
    """Table 1: images [B,299,299,3] → logits [B,classes].

    Args:
        net: The trace.
        images: [B,299,299,3].
        classes: Number of classes.
        auxiliary: Add the auxiliary classifier in training; it regularizes (§4).
        count_padding: Average pools divide by all 9 positions of a window, as torchvision does, not by its pixels.

    Returns:
        Logits [B,classes].
    """
    x = conv_bn_relu(net, "conv1", images, 32, 3, stride=2, padding="VALID")  # [B,149,149,32]
    x = conv_bn_relu(net, "conv2", x, 32, 3, padding="VALID")  # [B,147,147,32]
    x = conv_bn_relu(net, "conv3", x, 64, 3)  # [B,147,147,64]
    x = max_pool(net, "pool1", x, 3, 2, padding="VALID")  # [B,73,73,64]
    x = conv_bn_relu(net, "conv4", x, 80, 1)
    x = conv_bn_relu(net, "conv5", x, 192, 3, padding="VALID")  # [B,71,71,192]
    x = max_pool(net, "pool2", x, 3, 2, padding="VALID")  # [B,35,35,192]
    for name, projection in (("5b", 32), ("5c", 64), ("5d", 64)):
        x = inception_a(net, f"mixed_{name}", x, projection, count_padding)  # [B,35,35,288]
    x = reduction_a(net, "mixed_6a", x)  # [B,17,17,768]
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        x = inception_b(net, f"mixed_{name}", x, width, count_padding)  # [B,17,17,768]
    if auxiliary and net.train:
        net.auxiliary.append(auxiliary_head(net, "auxiliary", x, classes))
    x = reduction_b(net, "mixed_7a", x)  # [B,8,8,1280]
    for name in ("7b", "7c"):
        x = inception_c(net, f"mixed_{name}", x, count_padding)  # [B,8,8,2048]
    x = global_average_pool(net, "pool3", x)  # [B,2048]
    x = dropout(net, "drop", x, 0.2)
    return dense(net, "classifier", x, classes)


def inception_a(net: Trace, name: str, x: tf.Tensor, projection: int, count_padding: bool) -> tf.Tensor:
    """Figure 5: two 3×3 replace GoogLeNet's 5×5, and a 5×5 replaces its 3×3."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 64, 1)
    b = conv_bn_relu(net, f"{name}/5x5_reduce", x, 48, 1)
    b = conv_bn_relu(net, f"{name}/5x5", b, 64, 5)
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 64, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3_1", c, 96, 3)
    c = conv_bn_relu(net, f"{name}/double_3x3_2", c, 96, 3)
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME", count_padding=count_padding)
    d = conv_bn_relu(net, f"{name}/pool_projection", d, projection, 1)
    return concatenate(net, name, [a, b, c, d])


def reduction_a(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Figure 10: convolutions and a pool halve the map in parallel, 35×35 → 17×17."""
    a = conv_bn_relu(net, f"{name}/3x3", x, 384, 3, stride=2, padding="VALID")
    b = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 64, 1)
    b = conv_bn_relu(net, f"{name}/double_3x3_1", b, 96, 3)
    b = conv_bn_relu(net, f"{name}/double_3x3_2", b, 96, 3, stride=2, padding="VALID")
    c = max_pool(net, f"{name}/pool", x, 3, 2, padding="VALID")
    return concatenate(net, name, [a, b, c])


def inception_b(net: Trace, name: str, x: tf.Tensor, width: int, count_padding: bool) -> tf.Tensor:
    """Figure 6 with n = 7: 1×7 and 7×1 replace a 7×7."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/7x7_reduce", x, width, 1)
    b = conv_bn_relu(net, f"{name}/1x7", b, width, (1, 7))
    b = conv_bn_relu(net, f"{name}/7x1", b, 192, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_7x7_reduce", x, width, 1)
    c = conv_bn_relu(net, f"{name}/double_7x1_1", c, width, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_1x7_1", c, width, (1, 7))
    c = conv_bn_relu(net, f"{name}/double_7x1_2", c, width, (7, 1))
    c = conv_bn_relu(net, f"{name}/double_1x7_2", c, 192, (1, 7))
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME", count_padding=count_padding)
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 192, 1)
    return concatenate(net, name, [a, b, c, d])


def reduction_b(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """The second reduction, 17×17 → 8×8."""
    a = conv_bn_relu(net, f"{name}/3x3_reduce", x, 192, 1)
    a = conv_bn_relu(net, f"{name}/3x3", a, 320, 3, stride=2, padding="VALID")
    b = conv_bn_relu(net, f"{name}/7x7_reduce", x, 192, 1)
    b = conv_bn_relu(net, f"{name}/1x7", b, 192, (1, 7))
    b = conv_bn_relu(net, f"{name}/7x1", b, 192, (7, 1))
    b = conv_bn_relu(net, f"{name}/7x7_3x3", b, 192, 3, stride=2, padding="VALID")
    c = max_pool(net, f"{name}/pool", x, 3, 2, padding="VALID")
    return concatenate(net, name, [a, b, c])


def inception_c(net: Trace, name: str, x: tf.Tensor, count_padding: bool) -> tf.Tensor:
    """Figure 7: 1×3 and 3×1 in parallel, and many channels on the coarsest map."""
    a = conv_bn_relu(net, f"{name}/1x1", x, 320, 1)
    b = conv_bn_relu(net, f"{name}/3x3_reduce", x, 384, 1)
    b1 = conv_bn_relu(net, f"{name}/1x3", b, 384, (1, 3))
    b2 = conv_bn_relu(net, f"{name}/3x1", b, 384, (3, 1))
    c = conv_bn_relu(net, f"{name}/double_3x3_reduce", x, 448, 1)
    c = conv_bn_relu(net, f"{name}/double_3x3", c, 384, 3)
    c1 = conv_bn_relu(net, f"{name}/double_1x3", c, 384, (1, 3))
    c2 = conv_bn_relu(net, f"{name}/double_3x1", c, 384, (3, 1))
    d = average_pool(net, f"{name}/pool", x, 3, 1, padding="SAME", count_padding=count_padding)
    d = conv_bn_relu(net, f"{name}/pool_projection", d, 192, 1)
    return concatenate(net, name, [a, b1, b2, c1, c2, d])


def auxiliary_head(net: Trace, name: str, x: tf.Tensor, classes: int) -> tf.Tensor:
    """Figure 8: the auxiliary classifier on the last 17×17 map, [B,17,17,768] → [B,classes]."""
    x = average_pool(net, f"{name}/pool", x, 5, 3, padding="VALID")  # [B,5,5,768]
    x = conv_bn_relu(net, f"{name}/conv1", x, 128, 1)
    height, width = x.shape[1:3]
    x = conv_bn_relu(net, f"{name}/conv2", x, 768, (min(height, 5), min(width, 5)), padding="VALID")  # [B,1,1,768]
    x = global_average_pool(net, f"{name}/pool2", x)  # [B,768], for larger images, too
    return dense(net, f"{name}/fc", x, classes)
