"""ResNet. He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, table 1 and §4.2.

    layers                      18          34          50         101         152
    parameters          11,689,512  21,797,672  25,557,032  44,549,160  60,192,808
    multiply-adds, 10⁹         1.8         3.6         3.8         7.6        11.3    table 1 calls them FLOPs

The CIFAR-10 networks have 269,722 (20 layers) to 1,727,962 (110 layers) parameters.

The paper compares three kinds of shortcuts (§4.1). Where a block changes the shape, option A takes every second pixel
and adds channels of zeros, without parameters. Option B uses a 1×1 projection there and identities elsewhere. Option C
uses projections everywhere. In a bottleneck, "v1" strides the first 1×1, as the paper does, and "v1.5" strides the 3×3,
as torchvision does.
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
ONE_AROUND = ((1, 1), (1, 1))  # a 3×3's padding, equal on both sides even with stride 2
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
    """Table 1: images [B,224,224,3] → logits [B,classes].

    Args:
        net: The trace.
        images: [B,224,224,3].
        blocks: Number of blocks in conv2_x … conv5_x.
        bottleneck: Use blocks of three layers instead of two (figure 5).
        residual: False builds the plain network of figure 3.
        shortcut: "A", "B" or "C" (§4.1).
        version: "v1" strides the first 1×1 of a bottleneck, "v1.5" the 3×3.
        classes: Number of classes.

    Returns:
        Logits [B,classes].

    Raises:
        ValueError: `shortcut` or `version` has another value.
    """
    _check_choice("shortcut", shortcut, ("A", "B", "C"))
    _check_choice("version", version, ("v1", "v1.5"))
    option = shortcut if residual else None
    x = conv(net, "conv1", images, 64, 7, stride=2, padding=THREE_AROUND, bias=False)  # [B,112,112,64]
    x = relu(net, norm(net, "conv1/bn", x))
    x = max_pool(net, "pool1", x, 3, 2, padding=ONE_AROUND)  # [B,56,56,64]
    for stage, count in enumerate(blocks):  # conv2_x … conv5_x
        for index in range(count):
            name, width = f"conv{stage + 2}_{index + 1}", 64 * 2**stage
            stride = 2 if stage > 0 and index == 0 else 1  # 56 → 28 → 14 → 7
            layers = partial(_bottleneck, version=version) if bottleneck else _basic
            x = _block(net, name, x, layers(net, name, x, width, stride), stride, option)
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

    Args:
        net: The trace.
        images: [B,32,32,3].
        depth: Number of layers, 6n + 2.
        residual: False builds the plain network.
        shortcut: "A", "B" or "C" (§4.1).
        zeros: Where option A's channels of zeros are. The paper does not say; "both" puts half of them on each side, as
            published weights do.
        discretize: "onehot" or "thermometer" turns images in [0,1] into codes of levels (Buckman et al. 2018).
        levels: Number of levels of these codes.
        classes: Number of classes.

    Returns:
        Logits [B,classes].

    Raises:
        ValueError: `shortcut` or `discretize` has another value.
    """
    _check_choice("shortcut", shortcut, ("A", "B", "C"))
    _check_choice("discretize", discretize, ("none", *CODES))
    option = shortcut if residual else None
    x = images if discretize == "none" else codes(net, "codes", images, discretize, levels)  # [B,32,32,3·levels]
    x = conv(net, "conv1", x, 16, 3, bias=False)  # [B,32,32,16]
    x = relu(net, norm(net, "conv1/bn", x))
    for stage, width in enumerate((16, 32, 64)):
        for index in range((depth - 2) // 6):
            name = f"conv{stage + 2}_{index + 1}"
            stride = 2 if stage > 0 and index == 0 else 1  # 32 → 16 → 8
            x = _block(net, name, x, _basic(net, name, x, width, stride), stride, option, zeros)
    x = global_average_pool(net, "pool", x)  # [B,64]
    return dense(net, "classifier", x, classes)


def _block(net, name, x, residual, stride, option, zeros="end"):
    """relu(F(x) + shortcut(x)), equation 1. `residual` is F(x); a plain network has no shortcut `option`: relu(F(x)).

    x [B,H,W,C], `residual` and the result [B,H/s,W/s,C'].
    """
    if option is None:
        return relu(net, residual)
    shortcut = _shortcut(net, name, x, residual.shape[-1], stride, option, zeros)
    return relu(net, residual_sum(net, name, residual, shortcut))


def _basic(net, name, x, width, stride):
    """Two 3×3 convolutions (figure 5, left). The last ReLU follows the sum."""
    x = conv(net, f"{name}/conv1", x, width, 3, stride=stride, padding=ONE_AROUND, bias=False)  # [B,H/s,W/s,width]
    x = relu(net, norm(net, f"{name}/bn1", x))
    x = conv(net, f"{name}/conv2", x, width, 3, bias=False)
    return norm(net, f"{name}/bn2", x)


def _bottleneck(net, name, x, width, stride, version):
    """1×1 to `width`, 3×3, 1×1 to 4·width (figure 5, right)."""
    first, second = (stride, 1) if version == "v1" else (1, stride)
    x = conv(net, f"{name}/conv1", x, width, 1, stride=first, bias=False)
    x = relu(net, norm(net, f"{name}/bn1", x))
    x = conv(net, f"{name}/conv2", x, width, 3, stride=second, padding=ONE_AROUND, bias=False)  # [B,H/s,W/s,width]
    x = relu(net, norm(net, f"{name}/bn2", x))
    x = conv(net, f"{name}/conv3", x, 4 * width, 1, bias=False)  # [B,H/s,W/s,4·width]
    return norm(net, f"{name}/bn3", x)


def _shortcut(net, name, x, channels, stride, option, zeros="end"):
    """The shortcut around a block: [B,H,W,C] → [B,H/s,W/s,channels], by option A, B or C."""
    changes = stride != 1 or x.shape[-1] != channels
    if option == "A" and changes:
        return zero_padded_shortcut(net, f"{name}/shortcut", x, channels, stride, zeros=zeros)
    if option == "C" or (option == "B" and changes):
        x = conv(net, f"{name}/shortcut", x, channels, 1, stride=stride, bias=False)
        return norm(net, f"{name}/shortcut/bn", x)
    return x


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; expected one of {', '.join(known)}")


resnet18 = partial(resnet, blocks=(2, 2, 2, 2), bottleneck=False)
resnet34 = partial(resnet, blocks=(3, 4, 6, 3), bottleneck=False)
resnet50 = partial(resnet, blocks=(3, 4, 6, 3), bottleneck=True)
resnet101 = partial(resnet, blocks=(3, 4, 23, 3), bottleneck=True)
resnet152 = partial(resnet, blocks=(3, 8, 36, 3), bottleneck=True)
plain18 = partial(resnet18, residual=False)
plain34 = partial(resnet34, residual=False)
