"""ResNet. He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, table 1 and §4.2.

Parameters: ResNet-18 11,689,512, -34 21,797,672, -50 25,557,032, -101 44,549,160, -152 60,192,808. The table's FLOPs
are multiply-adds: 1.8, 3.6, 3.8, 7.6 and 11.3 · 10⁹. CIFAR-10: 269,722 (20 layers) to 1,727,962 (110).

A shortcut that changes shape is option A (every second pixel, zero channels, no parameters), B (a 1×1 projection there
and identities elsewhere) or C (projections everywhere); §4.1. "v1" strides the first 1×1 of a bottleneck, as the paper
does; "v1.5" the 3×3, as torchvision does.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from kernels.discretization import CODES
from rawcnn.nn.layers import (
    batch_norm,
    conv,
    dense,
    global_average_pool,
    max_pool,
    relu,
    residual_sum,
    zero_padded_shortcut,
)
from rawcnn.nn.layers import discretize as codes
from rawcnn.nn.trace import Trace

norm = partial(batch_norm, epsilon=1e-5)  # ε of the authors' code and of the published weights
ONE_AROUND = ((1, 1), (1, 1))  # the padding of a 3×3: the same on both sides at stride 2 too
THREE_AROUND = ((3, 3), (3, 3))


def resnet(
    net: Trace,
    images: tf.Tensor,
    *,
    blocks: tuple[int, ...],
    bottleneck: bool,
    residual: bool = True,
    shortcut: str = "B",
    version: str = "v1",
    classes: int = 1000,
) -> tf.Tensor:
    """Table 1: images [B,224,224,3] → logits [B,classes]. `residual=False` is the plain network of figure 3."""
    _choose("shortcut", shortcut, ("A", "B", "C"))
    _choose("version", version, ("v1", "v1.5"))
    x = conv(net, "conv1", images, 64, 7, stride=2, padding=THREE_AROUND, bias=False)  # [B,112,112,64]
    x = relu(net, norm(net, "conv1/bn", x))
    x = max_pool(net, "pool1", x, 3, 2, padding=ONE_AROUND)  # [B,56,56,64]
    for stage, count in enumerate(blocks):  # conv2_x … conv5_x
        for index in range(count):
            name, width = f"conv{stage + 2}_{index + 1}", 64 * 2**stage
            stride = 2 if stage > 0 and index == 0 else 1  # 56 → 28 → 14 → 7
            block = partial(_bottleneck, version=version) if bottleneck else _basic
            y = block(net, name, x, width, stride)
            if residual:
                y = residual_sum(net, name, y, _shortcut(net, name, x, y.shape[-1], stride, shortcut))
            x = relu(net, y)
    x = global_average_pool(net, "pool5", x)  # [B,512] or [B,2048]
    return dense(net, "classifier", x, classes)


def cifar_resnet(
    net: Trace,
    images: tf.Tensor,
    *,
    depth: int,
    residual: bool = True,
    shortcut: str = "A",
    zeros: str = "both",
    discretize: str = "none",
    levels: int = 16,
    classes: int = 10,
) -> tf.Tensor:
    """§4.2: 6n + 2 layers of 16, 32 and 64 channels, images [B,32,32,3] → logits [B,classes].

    The paper does not say where option A's zero channels go; "both" puts half on each side, as published weights do.
    `discretize`, "onehot" or "thermometer", reads images in [0,1] as codes of `levels` (Buckman et al. 2018).
    """
    _choose("shortcut", shortcut, ("A", "B", "C"))
    _choose("discretize", discretize, ("none", *CODES))
    x = images if discretize == "none" else codes(net, "codes", images, discretize, levels)  # [B,32,32,3·levels]
    x = conv(net, "conv1", x, 16, 3, bias=False)  # [B,32,32,16]
    x = relu(net, norm(net, "conv1/bn", x))
    for stage, width in enumerate((16, 32, 64)):
        for index in range((depth - 2) // 6):
            name = f"conv{stage + 2}_{index + 1}"
            stride = 2 if stage > 0 and index == 0 else 1  # 32 → 16 → 8
            y = _basic(net, name, x, width, stride)
            if residual:
                y = residual_sum(net, name, y, _shortcut(net, name, x, width, stride, shortcut, zeros))
            x = relu(net, y)
    x = global_average_pool(net, "pool", x)  # [B,64]
    return dense(net, "classifier", x, classes)


def _basic(net, name, x, width, stride):
    """Two 3×3 convolutions (figure 5, left); the last ReLU comes after the sum."""
    x = conv(net, f"{name}/conv1", x, width, 3, stride=stride, padding=ONE_AROUND, bias=False)
    x = relu(net, norm(net, f"{name}/bn1", x))
    x = conv(net, f"{name}/conv2", x, width, 3, bias=False)
    return norm(net, f"{name}/bn2", x)


def _bottleneck(net, name, x, width, stride, version):
    """1×1 to `width`, 3×3, 1×1 to 4·width (figure 5, right)."""
    first, second = (stride, 1) if version == "v1" else (1, stride)
    x = conv(net, f"{name}/conv1", x, width, 1, stride=first, bias=False)
    x = relu(net, norm(net, f"{name}/bn1", x))
    x = conv(net, f"{name}/conv2", x, width, 3, stride=second, padding=ONE_AROUND, bias=False)
    x = relu(net, norm(net, f"{name}/bn2", x))
    x = conv(net, f"{name}/conv3", x, 4 * width, 1, bias=False)
    return norm(net, f"{name}/bn3", x)


def _shortcut(net, name, x, channels, stride, option, zeros="end"):
    changes = stride != 1 or x.shape[-1] != channels
    if option == "A" and changes:
        return zero_padded_shortcut(net, f"{name}/shortcut", x, channels, stride, zeros=zeros)
    if option == "C" or (option == "B" and changes):
        x = conv(net, f"{name}/shortcut", x, channels, 1, stride=stride, bias=False)
        return norm(net, f"{name}/shortcut/bn", x)
    return x


def _choose(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; expected one of {', '.join(known)}")


resnet18 = partial(resnet, blocks=(2, 2, 2, 2), bottleneck=False)
resnet34 = partial(resnet, blocks=(3, 4, 6, 3), bottleneck=False)
resnet50 = partial(resnet, blocks=(3, 4, 6, 3), bottleneck=True)
resnet101 = partial(resnet, blocks=(3, 4, 23, 3), bottleneck=True)
resnet152 = partial(resnet, blocks=(3, 8, 36, 3), bottleneck=True)
plain18 = partial(resnet18, residual=False)
plain34 = partial(resnet34, residual=False)
