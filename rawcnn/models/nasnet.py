"""NASNet-A. Zoph, Vasudevan, Shlens, Le: "Learning Transferable Architectures for Scalable Image Recognition", 2018.

    network                           parameters     MACs   image, pixels
    NASNet-A (4 @ 1056), "mobile"      5,289,978    564 M             224
    NASNet-A (6 @ 4032), "large"      88,753,150   23.8 G             331

The cells are those that the search found (figure 4). A cell reads the outputs of the two cells before it, adds five
pairs of operations, and concatenates the sums. Where a pool halves a map, the zeros around the map belong to it: they
can be the maximum, and they count in the mean. The code of the published weights does the same.
"""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from kernels.geometry import window_padding
from rawcnn.nn.layers import (
    average_pool,
    batch_norm,
    concatenate,
    conv,
    conv_bn_relu,
    dense,
    drop_path,
    dropout,
    global_average_pool,
    max_pool,
    pad,
    relu,
    residual_sum,
)
from rawcnn.nn.trace import Trace

ONE_FURTHER = ((-1, 1), (-1, 1))  # moves a map up and left by one pixel


def nasnet_mobile(
    net: Trace, images: tf.Tensor, *, path_dropout: float = 0.0, auxiliary: bool = False, classes: int = 1000
) -> tf.Tensor:
    """NASNet-A (4 @ 1056): images [B,224,224,3] → logits [B,classes]."""
    published = partial(nasnet, repeats=4, width=44, stem_width=32, skip_reduction=False)
    return published(net, images, path_dropout=path_dropout, auxiliary=auxiliary, classes=classes)


def nasnet_large(
    net: Trace, images: tf.Tensor, *, path_dropout: float = 0.3, auxiliary: bool = False, classes: int = 1000
) -> tf.Tensor:
    """NASNet-A (6 @ 4032): images [B,331,331,3] → logits [B,classes]."""
    published = partial(nasnet, repeats=6, width=168, stem_width=96, skip_reduction=True)
    return published(net, images, path_dropout=path_dropout, auxiliary=auxiliary, classes=classes)


def nasnet(
    net: Trace,
    images: tf.Tensor,
    *,
    repeats: int,
    width: int,
    stem_width: int,
    skip_reduction: bool,
    path_dropout: float,
    auxiliary: bool,
    classes: int,
) -> tf.Tensor:
    """Figure 2, ImageNet: images [B,H,W,3] → logits [B,classes].

    Deviation: `path_dropout` grows from cell to cell, but not also over the steps of the training as in the appendix.

    Args:
        net: The trace.
        images: [B,H,W,3].
        repeats: Normal cells in each of the three stages (N).
        width: Channels of the first stage (F); each further stage has twice as many. Reduction cells lie between them.
        stem_width: Channels of the first convolution.
        skip_reduction: The cell after a reduction reads the map before it instead of the reduction's output.
        path_dropout: Share of paths that training drops in the last cell. It grows linearly from the first cell on.
        auxiliary: Add an auxiliary classifier at two thirds of the depth in training.
        classes: Number of classes.

    Returns:
        Logits [B,classes].

    Raises:
        ValueError: `path_dropout` is below 0, or 1 or more.
    """
    if not 0 <= path_dropout < 1:
        raise ValueError(f"path_dropout is {path_dropout}; expected a share of 0 or more, below 1")
    x = conv(net, "stem", images, stem_width, 3, stride=2, padding="VALID", bias=False)
    x = _norm(net, "stem/bn", x)
    cells = 3 * repeats + 4
    dropped = iter(path_dropout * number / cells for number in range(1, cells + 1))  # cell by cell
    x, before = reduction_cell(net, "stem_1", x, None, width // 4, next(dropped)), x
    x, before = reduction_cell(net, "stem_2", x, before, width // 2, next(dropped)), x
    for stage in range(3):
        channels = width * 2**stage
        if stage > 0:
            skipped = before
            x, before = reduction_cell(net, f"reduction_{stage}", x, before, channels, next(dropped)), x
            before = skipped if skip_reduction else before
        for number in range(stage * repeats + 1, (stage + 1) * repeats + 1):
            x, before = normal_cell(net, f"normal_{number}", x, before, channels, next(dropped)), x
        if stage == 1 and auxiliary and net.train:
            net.auxiliary.append(auxiliary_head(net, "auxiliary", x, classes))
    x = global_average_pool(net, "pool", relu(net, x))  # [B,6·4·width]
    x = dropout(net, "drop", x, 0.5)
    return dense(net, "classifier", x, classes)


def normal_cell(net: Trace, name: str, x: tf.Tensor, before: tf.Tensor, width: int, dropped: float) -> tf.Tensor:
    """Figure 4, left: [B,H,W,·] → [B,H,W,6·width]."""
    p, h = _adjust(net, name, before, x, width), _squeeze(net, name, x, width)

    def separable(y, size, place):
        return _dropped(net, f"{name}/{place}", separable_conv(net, f"{name}/{place}", y, width, size), dropped)

    def average(y, place):
        y = average_pool(net, f"{name}/{place}", y, 3, 1, padding="SAME")
        return _dropped(net, f"{name}/{place}", y, dropped)

    one = residual_sum(net, f"{name}/sum1", separable(h, 5, "left1"), separable(p, 3, "right1"))
    two = residual_sum(net, f"{name}/sum2", separable(p, 5, "left2"), separable(p, 3, "right2"))
    three = residual_sum(net, f"{name}/sum3", average(h, "left3"), p)
    four = residual_sum(net, f"{name}/sum4", average(p, "left4"), average(p, "right4"))
    five = residual_sum(net, f"{name}/sum5", separable(h, 3, "left5"), h)
    return concatenate(net, name, [p, one, two, three, four, five])


def reduction_cell(
    net: Trace, name: str, x: tf.Tensor, before: tf.Tensor | None, width: int, dropped: float
) -> tf.Tensor:
    """Figure 4, right: [B,H,W,·] → [B,⌈H/2⌉,⌈W/2⌉,4·width]."""
    p, h = _adjust(net, name, before, x, width), _squeeze(net, name, x, width)
    padded = pad(net, f"{name}/pad", h, window_padding("SAME", h.shape[1:3], 3, 2))

    def separable(y, size, place, stride=2):
        y = separable_conv(net, f"{name}/{place}", y, width, size, stride)
        return _dropped(net, f"{name}/{place}", y, dropped)

    def pool(kind, y, place, stride=2, padding="VALID"):
        return _dropped(net, f"{name}/{place}", kind(net, f"{name}/{place}", y, 3, stride, padding=padding), dropped)

    one = residual_sum(net, f"{name}/sum1", separable(h, 5, "left1"), separable(p, 7, "right1"))
    two = residual_sum(net, f"{name}/sum2", pool(max_pool, padded, "left2"), separable(p, 7, "right2"))
    three = residual_sum(net, f"{name}/sum3", pool(average_pool, padded, "left3"), separable(p, 5, "right3"))
    four = residual_sum(net, f"{name}/sum4", two, pool(average_pool, one, "left4", 1, "SAME"))
    five = residual_sum(net, f"{name}/sum5", separable(one, 3, "left5", 1), pool(max_pool, padded, "right5"))
    return concatenate(net, name, [two, three, four, five])


def separable_conv(net: Trace, name: str, x: tf.Tensor, width: int, size: int, stride: int = 1) -> tf.Tensor:
    """Twice ReLU, depthwise convolution, 1×1 convolution and batch norm (appendix A.4)."""
    for index, step in ((1, stride), (2, 1)):
        x = _rectified(net, x)
        x = conv(net, f"{name}/depthwise{index}", x, x.shape[-1], size, stride=step, groups=x.shape[-1], bias=False)
        x = conv(net, f"{name}/pointwise{index}", x, width, 1, bias=False)
        x = _norm(net, f"{name}/bn{index}", x)
    return x


def _squeeze(net, name, x, width):
    """Return the cell's first input with `width` channels."""
    return _norm(net, f"{name}/squeeze/bn", conv(net, f"{name}/squeeze", _rectified(net, x), width, 1, bias=False))


def _adjust(net, name, before, x, width):
    """Return the cell's second input, the output of the cell before the last, with x's size and `width` channels.

    A map that is twice as large is read at even and at odd pixels, so that no pixel is lost.
    """
    if before is None:
        return x
    if before.shape[1] != x.shape[1]:
        y = _rectified(net, before)
        even = conv(net, f"{name}/adjust/even", y, width // 2, 1, stride=2, padding="VALID", bias=False)
        y = pad(net, f"{name}/adjust/shift", y, ONE_FURTHER)
        odd = conv(net, f"{name}/adjust/odd", y, width // 2, 1, stride=2, padding="VALID", bias=False)
        y = concatenate(net, f"{name}/adjust", [even, odd])
    elif before.shape[-1] != width:
        y = conv(net, f"{name}/adjust", _rectified(net, before), width, 1, bias=False)
    else:
        return before
    return _norm(net, f"{name}/adjust/bn", y)


def _norm(net, name, x):
    return batch_norm(net, name, x, epsilon=1e-3, momentum=0.9997)


def _rectified(net, x):
    """Return the ReLU of x, which several operations of a cell share."""
    name = f"{net.name_of(x)}/relu"
    return net.activations[name] if name in net.activations else relu(net, x)


def _dropped(net, name, x, rate):
    return drop_path(net, f"{name}/drop_path", x, rate) if rate and net.train else x


def auxiliary_head(net: Trace, name: str, x: tf.Tensor, classes: int) -> tf.Tensor:
    """A classifier on the map at two thirds of the depth, whose loss has weight 0.4 in training."""
    x = average_pool(net, f"{name}/pool", _rectified(net, x), 5, 3, padding="VALID")
    x = conv_bn_relu(net, f"{name}/conv1", x, 128, 1, momentum=0.9997)
    x = conv_bn_relu(net, f"{name}/conv2", x, 768, tuple(x.shape[1:3]), padding="VALID", momentum=0.9997)
    return dense(net, f"{name}/fc", x, classes)
