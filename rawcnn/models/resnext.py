"""ResNeXt. Xie, Girshick, Dollár, Tu, He: "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017.

Table 1, 32×4d: ResNeXt-50 25,028,904 parameters and 4.23 G MACs; ResNeXt-101 44,177,704 and 7.97 G, 83,455,272 and
15.46 G as 64×4d. A bottleneck's 3×3 is split into `cardinality` groups of `width` channels, which is the same as
summing that many small branches (figure 3c); it also takes the stride.
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
    """Table 1: images [B,224,224,3] → logits [B,classes]; `cardinality` groups, each `width` channels wide in conv2."""
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
