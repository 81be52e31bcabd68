"""ResNeXt. Xie, Girshick, Dollár, Tu, He: "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017.

    network, table 1            parameters     MACs
    ResNeXt-50, 32×4d           25,028,904   4.23 G
    ResNeXt-101, 32×4d          44,177,704   7.97 G
    ResNeXt-101, 64×4d          83,455,272  15.46 G

The 3×3 of a bottleneck is split into `cardinality` groups of `width` channels. This equals a sum of that many narrow
branches (figure 3c). The 3×3 also has the stride.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from rawcnn.nn.layers import batch_norm, conv, conv_bn_relu, dense, global_average_pool, max_pool, relu, residual_sum
from rawcnn.nn.trace import Trace

ONE_AROUND = ((1, 1), (1, 1))
THREE_AROUND = ((3, 3), (3, 3))
norm = partial(batch_norm, epsilon=1e-5)  # ε of the authors' code and of the published weights


def resnext(
    net: Trace,
    images: tf.Tensor,
    *,
    blocks: tuple[int, ...],
    cardinality: int = 32,
    width: int = 4,
    classes: int = 1000,
) -> tf.Tensor:
    """Table 1: images [B,224,224,3] → logits [B,classes].

    Args:
        net: The trace.
        images: [B,224,224,3].
        blocks: Number of blocks in conv2 … conv5.
        cardinality: Groups of each 3×3.
        width: Channels of a group in conv2; they double in each further stage.
        classes: Number of classes.

    Returns:
        Logits [B,classes].

    Raises:
        ValueError: `cardinality` or `width` is below 1.
    """
    if min(cardinality, width) < 1:
        raise ValueError(f"cardinality is {cardinality}, width {width}; expected 1 or more")
    x = conv_bn_relu(net, "conv1", images, 64, 7, stride=2, padding=THREE_AROUND, epsilon=1e-5)  # [B,112,112,64]
    x = max_pool(net, "pool1", x, 3, 2, padding=ONE_AROUND)  # [B,56,56,64]
    for stage, count in enumerate(blocks):  # conv2 … conv5
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1  # 56 → 28 → 14 → 7
            name, inner, outer = f"conv{stage + 2}_{index + 1}", cardinality * width * 2**stage, 256 * 2**stage
            x = block(net, name, x, inner, outer, cardinality, stride)
    x = global_average_pool(net, "pool5", x)  # [B,2048]
    return dense(net, "classifier", x, classes)


def block(net: Trace, name: str, x: tf.Tensor, inner: int, outer: int, cardinality: int, stride: int) -> tf.Tensor:
    """Figure 3c: 1×1 to `inner`, grouped 3×3, 1×1 to `outer`, and the shortcut (option B)."""
    y = conv(net, f"{name}/conv1", x, inner, 1, bias=False)
    y = relu(net, norm(net, f"{name}/bn1", y))
    y = conv(net, f"{name}/conv2", y, inner, 3, stride=stride, padding=ONE_AROUND, groups=cardinality, bias=False)
    y = relu(net, norm(net, f"{name}/bn2", y))
    y = conv(net, f"{name}/conv3", y, outer, 1, bias=False)
    y = norm(net, f"{name}/bn3", y)
    if stride != 1 or x.shape[-1] != outer:
        x = conv(net, f"{name}/shortcut", x, outer, 1, stride=stride, bias=False)
        x = norm(net, f"{name}/shortcut/bn", x)
    return relu(net, residual_sum(net, name, y, x))


resnext50 = partial(resnext, blocks=(3, 4, 6, 3))
resnext101 = partial(resnext, blocks=(3, 4, 23, 3))
