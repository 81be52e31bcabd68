"""Layers: a layer is a kernel with variables.

Each function takes the trace `net`, the operation's name, and tensors [B,H,W,C]. It asks the trace for its variables by
path (`conv1/filters`), applies a pure function of `kernels` to them, and describes itself with its window, its cost and
its settings. There is no layer object.

Defaults are the same for all layers: padding "SAME", and for batch norms ε = 0.001 and momentum 0.9.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import tensorflow as tf

import kernels
from kernels.geometry import Padding, Pads, Pair, crop_or_pad, padding_word, pair
from rawcnn.nn.arguments import whole_number
from rawcnn.nn.initializers import Initial, glorot_uniform, he_normal, ones, zeros
from rawcnn.nn.receptive_field import Everywhere, Margins, Window
from rawcnn.nn.trace import Trace

# Convolution and fully connected layers ------------------------------------------------------------------------------


def conv(
    net: Trace,
    name: str,
    x: tf.Tensor,
    channels: int,
    size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    bias: bool = True,
    initial: Initial = he_normal,
    bias_initial: Initial = zeros,
) -> tf.Tensor:
    """Convolve a map with `channels` filters: [B,H,W,C] → [B,H',W',channels].

    Args:
        net: The trace.
        name: The operation's name; its variables are `name/filters` [kh,kw,C/groups,channels] and `name/bias`.
        x: The map [B,H,W,C].
        channels: The number of filters.
        size: The filters' size, an int or (kh, kw).
        stride, dilation: An int or a pair.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)).
        groups: Filters of a group read only the channels of that group.
        bias: Add a bias to each channel.
        initial, bias_initial: How the first values are drawn.
    """
    groups = whole_number("groups", groups)
    filter_shape = (*pair(size), x.shape[-1] // groups, channels)
    parameters = [net.variable(f"{name}/filters", filter_shape, initial)]
    if bias:
        parameters.append(net.variable(f"{name}/bias", (channels,), bias_initial))

    def convolution(x, filters, bias=None, groups=groups):
        y = kernels.conv2d(x, filters, stride, padding, dilation, groups)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def cost(output_shape):
        reads_data = any(x is data for data in net.data)  # the first layer's input needs no gradient
        cost = kernels.conv2d_cost(filter_shape, output_shape, input_gradient=not reads_data)
        return cost + kernels.elementwise_cost(output_shape) if bias else cost

    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    window = Window(size, stride, padding, dilation)
    kernel = partial(_on_devices, net.devices, convolution, groups) if net.devices else convolution
    return net.apply(name, "conv", kernel, [x], parameters, window=window, cost=cost, **settings)


def _on_devices(devices, layer, groups, x, filters, bias=None):
    """Split a convolution's output channels over `devices`, as AlexNet's GPUs did; each reads the groups it needs.

    The parts are joined after each convolution. AlexNet's GPUs kept theirs, and split the other layers, too.
    """
    count, channels = len(devices), filters.shape[-1]
    parts = min(groups, count)  # into which the input is split
    if channels % count or max(groups, count) % parts:
        raise ValueError(f"{count} devices cannot share {channels} channels in {groups} group(s) evenly; use 1 or 2")
    towers = []
    for tower, device in enumerate(devices):
        with tf.device(device):
            tower_input = tf.split(x, parts, axis=-1)[tower * parts // count]
            tower_parameters = [tf.split(v, count, axis=-1)[tower] for v in (filters, bias) if v is not None]
            towers.append(layer(tower_input, *tower_parameters, groups=max(groups // count, 1)))
    return tf.concat(towers, axis=-1)


def dense(
    net: Trace,
    name: str,
    x: tf.Tensor,
    units: int,
    *,
    bias: bool = True,
    initial: Initial = he_normal,
    bias_initial: Initial = zeros,
) -> tf.Tensor:
    """Apply a fully connected layer: [B,C] → [B,units]. A map [B,H,W,C] is flattened to [B,H·W·C] first.

    Args:
        net: The trace.
        name: The operation's name; its variables are `name/weights` [C,units] and `name/bias`.
        x: [B,C] or [B,H,W,C].
        units: The number of outputs.
        bias: Add a bias to each unit.
        initial, bias_initial: How the first values are drawn.
    """
    known = None not in x.shape[1:]
    width = prod(x.shape[1:]) if known else None  # of a map whose size is unknown while tracing, the weights know it
    # The weights are not rounded to bfloat16: the kernel rounds them itself, and computes their gradient in float32.
    parameters = [net.variable(f"{name}/weights", (width, units), initial, dtype=net.wide)]
    if bias:
        parameters.append(net.variable(f"{name}/bias", (units,), bias_initial))

    def linear(x, weights, bias=None):
        # Of an unknown size, the batch is stated, so that a map of another size is refused and not cut into rows.
        rows = -1 if known and x.shape[0] != 0 else tf.shape(x)[0]
        return kernels.dense(tf.reshape(x, (rows, weights.shape[0])), weights, bias)

    def cost(output_shape):
        return kernels.dense_cost((output_shape[0], prod(x.shape[1:])), output_shape, bias=bias)

    window = Window(tuple(x.shape[1:3])) if len(x.shape) == 4 else None
    return net.apply(name, "dense", linear, [x], parameters, window=window, cost=cost, bias=bias)


# Normalization -------------------------------------------------------------------------------------------------------


def batch_norm(
    net: Trace,
    name: str,
    x: tf.Tensor,
    *,
    epsilon: float = 1e-3,
    momentum: float = 0.9,
    scale: bool = True,
    offset: bool = True,
) -> tf.Tensor:
    """Normalize each channel: by the batch's moments in training, by their moving averages in inference.

    Training assigns nothing. It puts the new averages, momentum·old + (1 − momentum)·batch, into `net.statistics`; an
    empty batch leaves them as they are.
    Source: Ioffe & Szegedy 2015, algorithms 1 and 2.

    Args:
        net: The trace.
        name: The operation's name; its variables are `name/scale`, `/offset`, `/mean` and `/variance`, all [C].
        x: [B,H,W,C] or [B,C].
        epsilon: Added to the variance.
        momentum: The decay of the moving averages.
        scale: Multiply by a learned γ.
        offset: Add a learned β.
    """
    shape = (x.shape[-1],)
    variable = partial(net.variable, shape=shape, dtype=net.wide)  # moments and their averages are never bfloat16
    gamma = variable(f"{name}/scale", initial=ones) if scale else None
    beta = variable(f"{name}/offset", initial=zeros) if offset else None
    mean = variable(f"{name}/mean", initial=zeros, trained=False)
    variance = variable(f"{name}/variance", initial=ones, trained=False)
    learned = [value for value in (gamma, beta) if value is not None]
    present = scale, offset

    def by_batch_moments(x, *learned):
        return kernels.batch_normalization_training(x, *_scale_and_offset(learned, present), epsilon)

    def by_averages(x, *values):
        *learned, mean, variance = values
        return kernels.batch_normalization(x, mean, variance, *_scale_and_offset(learned, present), epsilon)

    def cost(output_shape):
        return kernels.batch_normalization_cost(output_shape, training=net.train)

    settings: dict[str, Any] = {"epsilon": epsilon, "momentum": momentum, "scale": scale, "offset": offset}
    if not net.train:
        return net.apply(name, "batch_norm", by_averages, [x], [*learned, mean, variance], cost=cost, **settings)
    y, batch_mean, batch_variance = net.apply(name, "batch_norm", by_batch_moments, [x], learned, cost=cost, **settings)
    net.statistics[f"{name}/mean"] = _moving_average(momentum, mean, batch_mean, x)
    net.statistics[f"{name}/variance"] = _moving_average(momentum, variance, batch_variance, x)
    return y


def _moving_average(momentum: float, old: tf.Tensor, new: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """momentum·old + (1 − momentum)·new; the old average if the batch x is empty, because it has no moments."""
    average = momentum * old + (1 - momentum) * new
    return average if x.shape.num_elements() else tf.where(tf.size(x) > 0, average, old)


def _scale_and_offset(learned, present) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """(γ or None, β or None), from those of the two that the layer has."""
    has_scale, has_offset = present
    return (learned[0] if has_scale else None, learned[-1] if has_offset else None)


def conv_bn_relu(
    net: Trace, name: str, x: tf.Tensor, channels: int, size: Pair, *, epsilon: float = 1e-3, momentum=0.9, **settings
) -> tf.Tensor:
    """Apply convolution without bias, batch norm `name/bn` and ReLU: the unit of every Inception after the first."""
    x = conv(net, name, x, channels, size, bias=False, **settings)
    return relu(net, batch_norm(net, f"{name}/bn", x, epsilon=epsilon, momentum=momentum))


def lrn(net: Trace, name: str, x: tf.Tensor, *, radius=2, bias=2.0, alpha=1e-4, beta=0.75) -> tf.Tensor:
    """Apply local response normalization over 2·radius + 1 neighboring channels (AlexNet §3.3)."""
    settings: dict[str, Any] = {"radius": radius, "bias": bias, "alpha": alpha, "beta": beta}
    kernel = partial(kernels.local_response_normalization, **settings)

    def cost(output_shape):
        return kernels.local_response_normalization_cost(output_shape, radius)

    return net.apply(name, "lrn", kernel, [x], (), cost=cost, **settings)


# Activation and pooling ----------------------------------------------------------------------------------------------


def relu(net: Trace, x: tf.Tensor) -> tf.Tensor:
    """Apply max(x, 0) with the trace's backward rule. The operation is named after its input: `conv1/relu`."""
    return net.apply(f"{net.name_of(x)}/relu", "relu", net.relu, [x], cost=kernels.relu_cost)


def max_pool(net: Trace, name: str, x: tf.Tensor, size: Pair, stride: Pair, *, padding: Padding = "SAME") -> tf.Tensor:
    """Take the largest value of each window: [B,H,W,C] → [B,H',W',C]."""
    padding = padding_word(padding, x.shape[1:3], size, stride) or padding
    kernel = partial(kernels.max_pool, size=size, stride=stride, padding=padding)
    return _pool(net, name, "max_pool", kernel, x, Window(size, stride, padding))


def average_pool(
    net: Trace, name: str, x: tf.Tensor, size: Pair, stride: Pair, *, padding: Padding = "SAME", count_padding=False
) -> tf.Tensor:
    """Take the mean of each window: [B,H,W,C] → [B,H',W',C]; the padding counts in the mean only if `count_padding`."""
    kernel = partial(kernels.average_pool, size=size, stride=stride, padding=padding, count_padding=count_padding)
    window = Window(size, stride, padding)
    return _pool(net, name, "average_pool", kernel, x, window, count_padding=count_padding)


def _pool(net, name, kind, kernel, x, window, **settings):
    """Apply a pool with its window and its cost."""

    def cost(output_shape):
        return kernels.pool_cost(tuple(x.shape), output_shape, window.size)

    settings |= {"size": window.size, "stride": window.stride, "padding": window.padding}
    return net.apply(name, kind, kernel, [x], window=window, cost=cost, **settings)


def global_average_pool(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """Take the mean of each channel's whole map: [B,H,W,C] → [B,C]."""
    window = Window(tuple(x.shape[1:3])) if None not in x.shape[1:3] else None

    def cost(output_shape):
        return kernels.global_average_pool_cost(tuple(x.shape))

    return net.apply(name, "global_average_pool", kernels.global_average_pool, [x], window=window, cost=cost)


# Layers that only act in training ------------------------------------------------------------------------------------


def dropout(net: Trace, name: str, x: tf.Tensor, rate: float) -> tf.Tensor:
    """In training, zero each unit with probability `rate` and scale the others by 1/(1 − rate); else the identity."""
    if not net.train:
        return net.apply(name, "dropout", tf.identity, [x], rate=rate)
    seed = net.operation_seed(name)
    kernel = partial(kernels.dropout, rate=rate, seed=seed)
    return net.apply(name, "dropout", kernel, [x], cost=kernels.dropout_cost, seed=seed, rate=rate)


def drop_path(net: Trace, name: str, x: tf.Tensor, rate: float) -> tf.Tensor:
    """In training, zero an image's whole x with probability `rate` and scale the others by 1/(1 − rate)."""
    seed = net.operation_seed(name) if net.train else None
    kernel = partial(kernels.drop_path, rate=rate, seed=seed) if net.train else tf.identity
    return net.apply(name, "drop_path", kernel, [x], seed=seed, rate=rate)


# Padding, codes, branches --------------------------------------------------------------------------------------------


def pad(net: Trace, name: str, x: tf.Tensor, margins: Pads) -> tf.Tensor:
    """Add ((top, bottom), (left, right)) rows and columns of zeros around a map; a negative number crops."""
    kernel = partial(crop_or_pad, margins=margins)
    return net.apply(name, "pad", kernel, [x], window=Margins(margins), margins=margins)


def discretize(net: Trace, name: str, x: tf.Tensor, code: str, levels: int) -> tf.Tensor:
    """Encode pixels in [0,1] by their level, "onehot" or "thermometer": [B,H,W,C] → [B,H,W,C·levels].

    The code has no gradient (Buckman et al. 2018), so layers that read it count as reading data.
    """
    kernel = partial(kernels.encode_levels, levels=levels, code=code)
    y = net.apply(name, "discretize", kernel, [x], cost=kernels.encode_levels_cost, code=code, levels=levels)
    net.data.append(y)
    return y


def concatenate(net: Trace, name: str, branches: list[tf.Tensor]) -> tf.Tensor:
    """Concatenate the channels of branches [B,H,W,Cᵢ] → [B,H,W,ΣCᵢ] (GoogLeNet's inception module)."""
    return net.apply(name, "concatenate", lambda *xs: kernels.concatenate(xs), branches)


def residual_sum(net: Trace, name: str, x: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
    """Add x + shortcut (ResNet, equation 1)."""
    return net.apply(name, "residual_sum", kernels.residual_sum, [x, shortcut], cost=kernels.residual_sum_cost)


def scaled_residual_sum(net: Trace, name: str, x: tf.Tensor, residual: tf.Tensor, scale: float) -> tf.Tensor:
    """Add x + scale·residual (Inception-ResNet, §3.3)."""
    kernel = partial(kernels.scaled_residual_sum, scale=scale)
    return net.apply(name, "residual_sum", kernel, [x, residual], cost=kernels.scaled_residual_sum_cost, scale=scale)


def squeeze_excite(net: Trace, name: str, x: tf.Tensor, reduction: int = 16) -> tf.Tensor:
    """Scale each channel by a gate that depends on all channels' means (SENet, equations 2 to 4): [B,H,W,C] → same."""
    s = global_average_pool(net, f"{name}/squeeze", x)  # [B,C]
    s = relu(net, dense(net, f"{name}/fc1", s, x.shape[-1] // reduction))  # [B,C/reduction]
    s = dense(net, f"{name}/fc2", s, x.shape[-1], initial=glorot_uniform)  # [B,C]  small, so that gates start half open
    s = net.apply(f"{name}/gate", "sigmoid", kernels.sigmoid, [s], cost=kernels.sigmoid_cost)
    cost = kernels.scale_channels_cost
    return net.apply(name, "scale_channels", kernels.scale_channels, [x, s], window=Everywhere(), cost=cost)


def zero_padded_shortcut(net: Trace, name: str, x: tf.Tensor, channels: int, stride: int, *, zeros="end") -> tf.Tensor:
    """Take every stride-th pixel, and zeros for the channels that x lacks (ResNet §3.3, option A)."""
    kernel = partial(kernels.zero_padded_shortcut, channels=channels, stride=stride, zeros=zeros)
    window = Window(1, stride)
    return net.apply(
        name, "zero_padded_shortcut", kernel, [x], window=window, channels=channels, stride=stride, zeros=zeros
    )
