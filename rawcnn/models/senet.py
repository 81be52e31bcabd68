"""Squeeze-and-excitation networks. Hu, Shen, Albanie, Sun, Wu, CVPR 2018 and TPAMI 2019, table 1 and the appendix.

    network             parameters     MACs
    SE-ResNet-50        28,088,024   3.86 G
    SE-ResNet-101       49,326,872   7.57 G
    SE-ResNet-152       66,821,848  11.29 G
    SE-ResNeXt-50       27,559,896   4.23 G
    SE-ResNeXt-101      48,955,416   7.98 G
    SENet-154          115,088,984  20.69 G

In every bottleneck, squeeze, excitation and scaling follow the last 1×1 and precede the sum. Therefore every position
depends on the whole image from the first block on. SE-ResNets stride the first 1×1, the other networks the 3×3.

`version="v1.5"` is the form that timm publishes newer weights for: all networks stride the 3×3, and the stem's max-pool
is padded on both sides, as in torchvision's ResNets.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from kernels.geometry import Padding
from rawcnn.nn.layers import (
    batch_norm,
    conv,
    conv_bn_relu,
    dense,
    dropout,
    global_average_pool,
    max_pool,
    relu,
    residual_sum,
    squeeze_excite,
)
from rawcnn.nn.trace import Trace

ONE_AROUND = ((1, 1), (1, 1))
THREE_AROUND = ((3, 3), (3, 3))
ROUNDED_UP = ((0, 1), (0, 1))  # the authors' Caffe pools round up: ⌈(n − 3)/2⌉ + 1 outputs (PyTorch's ceil_mode)
norm = partial(batch_norm, epsilon=1e-5)  # ε of the authors' code and of the published weights


def se_resnet(
    net: Trace, images: tf.Tensor, *, blocks: tuple[int, ...], version: str = "v1", classes: int = 1000
) -> tf.Tensor:
    """Table 1, SE-ResNet: images [B,224,224,3] → logits [B,classes]."""
    x = _stem(net, images, version)  # [B,56,56,64]
    for stage, count in enumerate(blocks):
        for index in range(count):
            name, width, stride = f"conv{stage + 2}_{index + 1}", 64 * 2**stage, _stride(stage, index)
            strides = (stride, 1) if version == "v1" else (1, stride)
            x = se_bottleneck(net, name, x, (width, width, 4 * width), strides=strides)
    x = global_average_pool(net, "pool5", x)  # [B,2048]
    return dense(net, "classifier", x, classes)


def se_resnext(
    net: Trace, images: tf.Tensor, *, blocks: tuple[int, ...], version: str = "v1", classes: int = 1000
) -> tf.Tensor:
    """Table 1, SE-ResNeXt 32×4d: images [B,224,224,3] → logits [B,classes]."""
    x = _stem(net, images, version)  # [B,56,56,64]
    for stage, count in enumerate(blocks):
        for index in range(count):
            name, width, stride = f"conv{stage + 2}_{index + 1}", 128 * 2**stage, _stride(stage, index)
            x = se_bottleneck(net, name, x, (width, width, 2 * width), strides=(1, stride), groups=32)
    x = global_average_pool(net, "pool5", x)  # [B,2048]
    return dense(net, "classifier", x, classes)


def senet154(net: Trace, images: tf.Tensor, *, classes: int = 1000) -> tf.Tensor:
    """The appendix: SE-ResNeXt-152 64×4d with a stem of three 3×3, half as wide first 1×1, 3×3 projections, dropout."""
    x = conv_bn_relu(net, "conv1_1", images, 64, 3, stride=2, padding=ONE_AROUND, epsilon=1e-5)  # [B,112,112,64]
    x = conv_bn_relu(net, "conv1_2", x, 64, 3, epsilon=1e-5)
    x = conv_bn_relu(net, "conv1_3", x, 128, 3, epsilon=1e-5)  # [B,112,112,128]
    x = max_pool(net, "pool1", x, 3, 2, padding=ROUNDED_UP)  # [B,56,56,128]
    for stage, count in enumerate((3, 8, 36, 3)):
        for index in range(count):
            name, width, stride = f"conv{stage + 2}_{index + 1}", 256 * 2**stage, _stride(stage, index)
            widths = (width // 2, width, width)
            projection = 3 if stage > 0 else 1
            x = se_bottleneck(net, name, x, widths, strides=(1, stride), groups=64, projection=projection)
    x = global_average_pool(net, "pool5", x)  # [B,2048]
    x = dropout(net, "drop", x, 0.2)
    return dense(net, "classifier", x, classes)


def se_bottleneck(
    net: Trace,
    name: str,
    x: tf.Tensor,
    widths: tuple[int, int, int],
    *,
    strides: tuple[int, int],
    groups: int = 1,
    projection: int = 1,
) -> tf.Tensor:
    """Figure 3: 1×1, 3×3 and 1×1, squeeze and excitation, then the sum.

    Args:
        net: The trace.
        name: Prefix of the operations' names.
        x: [B,H,W,C].
        widths: Channels of the three convolutions.
        strides: Strides of the first 1×1 and of the 3×3.
        groups: Groups of the 3×3.
        projection: Size of the shortcut's convolution.

    Returns:
        [B,H/s,W/s,widths[2]] with the larger stride s.
    """
    y = conv(net, f"{name}/conv1", x, widths[0], 1, stride=strides[0], bias=False)
    y = relu(net, norm(net, f"{name}/bn1", y))
    y = conv(net, f"{name}/conv2", y, widths[1], 3, stride=strides[1], padding=ONE_AROUND, groups=groups, bias=False)
    y = relu(net, norm(net, f"{name}/bn2", y))
    y = conv(net, f"{name}/conv3", y, widths[2], 1, bias=False)
    y = squeeze_excite(net, f"{name}/se", norm(net, f"{name}/bn3", y))
    if max(strides) != 1 or x.shape[-1] != widths[2]:
        padding: Padding = ONE_AROUND if projection == 3 else "VALID"
        x = conv(net, f"{name}/shortcut", x, widths[2], projection, stride=max(strides), padding=padding, bias=False)
        x = norm(net, f"{name}/shortcut/bn", x)
    return relu(net, residual_sum(net, name, y, x))


def _stem(net, images, version):
    if version not in ("v1", "v1.5"):
        raise ValueError(f"version is {version!r}; expected one of v1, v1.5")
    x = conv_bn_relu(net, "conv1", images, 64, 7, stride=2, padding=THREE_AROUND, epsilon=1e-5)  # [B,112,112,64]
    around = ROUNDED_UP if version == "v1" else ONE_AROUND
    return max_pool(net, "pool1", x, 3, 2, padding=around)  # [B,56,56,64]


def _stride(stage: int, index: int) -> int:
    return 2 if stage > 0 and index == 0 else 1  # 56 → 28 → 14 → 7


se_resnet50 = partial(se_resnet, blocks=(3, 4, 6, 3))
se_resnet101 = partial(se_resnet, blocks=(3, 4, 23, 3))
se_resnet152 = partial(se_resnet, blocks=(3, 8, 36, 3))
se_resnext50 = partial(se_resnext, blocks=(3, 4, 6, 3))
se_resnext101 = partial(se_resnext, blocks=(3, 4, 23, 3))
