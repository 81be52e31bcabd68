"""Variables + a kernel = a layer. Each takes the walk `net`, a name where it owns variables, and tensors [B,H,W,C].

A layer asks the walk for its variables by path (`conv1/filters`), applies a pure function of `kernels`, and tells the
operations its window and its cost. There is no object behind it.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import tensorflow as tf

import kernels
from kernels.geometry import Padding, Pads, Pair, crop_or_pad, pair
from rawcnn.nn.initializers import Initial, glorot_uniform, he_normal, ones, zeros
from rawcnn.nn.receptive_field import Everywhere, Margins, Window
from rawcnn.nn.trace import Trace


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
    """Convolution with `channels` filters of `size`: [B,H,W,C] → [B,H',W',channels]."""
    filter_shape = (*pair(size), x.shape[-1] // groups, channels)
    parameters = [net.variable(f"{name}/filters", filter_shape, initial)]
    if bias:
        parameters.append(net.variable(f"{name}/bias", (channels,), bias_initial))

    def convolution(x, filters, bias=None, groups=groups):
        y = kernels.conv2d(x, filters, stride, padding, dilation, groups)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def cost(output_shape):
        cost = kernels.conv2d_cost(filter_shape, output_shape, input_gradient=all(x is not d for d in net.data))
        return cost + kernels.elementwise_cost(output_shape) if bias else cost

    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    window = Window(size, stride, padding, dilation)
    form = partial(_on_devices, net.devices, convolution, groups) if net.devices else convolution
    return net.apply(name, "conv", form, [x], parameters, window=window, cost=cost, **settings)


def _on_devices(devices, layer, groups, x, filters, bias=None):
    """Split a convolution's output channels over `devices`, as AlexNet's GPUs did; each reads the groups it needs."""
    count, channels = len(devices), filters.shape[-1]
    parts = min(groups, count)  # into which the input is split
    if channels % count or max(groups, count) % parts:
        raise ValueError(f"{count} devices cannot share {channels} channels in {groups} group(s) evenly; use 1 or 2")
    towers = []
    for tower, device in enumerate(devices):
        with tf.device(device):
            seen = tf.split(x, parts, axis=-1)[tower * parts // count]
            mine = [tf.split(v, count, axis=-1)[tower] for v in (filters, bias) if v is not None]
            towers.append(layer(seen, *mine, groups=max(groups // count, 1)))
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
    """Fully connected: [B,C] → [B,units]; a map [B,H,W,C] is flattened to [B,H·W·C] first."""
    width = prod(x.shape[1:])
    # As wide as they are: the kernel rounds them, and has their gradient as wide at once.
    parameters = [net.variable(f"{name}/weights", (width, units), initial, dtype=tf.float32)]
    if bias:
        parameters.append(net.variable(f"{name}/bias", (units,), bias_initial))

    def linear(x, weights, bias=None):
        return kernels.dense(tf.reshape(x, (-1, width)), weights, bias)

    def cost(output_shape):
        return kernels.dense_cost((output_shape[0], width), output_shape, bias=bias)

    window = Window(tuple(x.shape[1:3])) if len(x.shape) == 4 else None
    return net.apply(name, "dense", linear, [x], parameters, window=window, cost=cost, bias=bias)


def batch_norm(
    net: Trace,
    name: str,
    x: tf.Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    scale: bool = True,
    offset: bool = True,
) -> tf.Tensor:
    """Batch normalisation (Ioffe & Szegedy 2015): by the batch's moments in training, by their average after.

    Training puts the new averages, momentum·old + (1 − momentum)·batch, into the walk's statistics and assigns nothing.
    """
    shape = (x.shape[-1],)
    variable = partial(net.variable, shape=shape, dtype=tf.float32)  # moments and their averages stay in float32
    gamma = variable(f"{name}/scale", initial=ones) if scale else None
    beta = variable(f"{name}/offset", initial=zeros) if offset else None
    mean = variable(f"{name}/mean", initial=zeros, trained=False)
    variance = variable(f"{name}/variance", initial=ones, trained=False)

    def cost(output_shape):
        return kernels.batch_normalization_cost(output_shape, training=net.train)

    settings: dict[str, Any] = {"epsilon": epsilon, "momentum": momentum, "scale": scale, "offset": offset}
    learned = [v for v in (gamma, beta) if v is not None]

    def normalise(x, *values):
        given = iter(values)
        g, b = next(given) if scale else None, next(given) if offset else None
        if net.train:
            return kernels.batch_normalization_training(x, g, b, epsilon)
        return kernels.batch_normalization(x, next(given), next(given), g, b, epsilon)

    if not net.train:
        return net.apply(name, "batch_norm", normalise, [x], [*learned, mean, variance], cost=cost, **settings)
    y, batch_mean, batch_variance = net.apply(name, "batch_norm", normalise, [x], learned, cost=cost, **settings)
    net.statistics[f"{name}/mean"] = momentum * mean + (1 - momentum) * batch_mean
    net.statistics[f"{name}/variance"] = momentum * variance + (1 - momentum) * batch_variance
    return y


def conv_bn_relu(
    net: Trace, name: str, x: tf.Tensor, channels: int, size: Pair, *, epsilon: float = 1e-3, momentum=0.9, **settings
) -> tf.Tensor:
    """Convolution without bias, batch norm `name/bn`, ReLU: the unit of every Inception after the first."""
    x = conv(net, name, x, channels, size, bias=False, **settings)
    return relu(net, batch_norm(net, f"{name}/bn", x, epsilon=epsilon, momentum=momentum))


def lrn(net: Trace, name: str, x: tf.Tensor, *, radius=2, bias=2.0, alpha=1e-4, beta=0.75) -> tf.Tensor:
    """Local response normalisation over 2·radius + 1 neighbouring channels (AlexNet §3.3)."""
    settings: dict[str, Any] = {"radius": radius, "bias": bias, "alpha": alpha, "beta": beta}
    kernel = partial(kernels.local_response_normalization, **settings)

    def cost(output_shape):
        return kernels.local_response_normalization_cost(output_shape, radius)

    return net.apply(name, "lrn", kernel, [x], (), cost=cost, **settings)


def relu(net: Trace, x: tf.Tensor) -> tf.Tensor:
    """max(x, 0), with the backward rule of this walk. Named after its input: `conv1/relu`."""
    return net.apply(f"{net.name_of(x)}/relu", "relu", net.relu, [x], cost=kernels.relu_cost)


def max_pool(net: Trace, name: str, x: tf.Tensor, size: Pair, stride: Pair, *, padding: Padding = "VALID") -> tf.Tensor:
    """The largest value of each window: [B,H,W,C] → [B,H',W',C]."""
    kernel = partial(kernels.max_pool, size=size, stride=stride, padding=padding)
    return _pool(net, name, "max_pool", kernel, x, Window(size, stride, padding))


def average_pool(
    net: Trace, name: str, x: tf.Tensor, size: Pair, stride: Pair, *, padding: Padding = "VALID", count_padding=False
) -> tf.Tensor:
    """The mean of each window: [B,H,W,C] → [B,H',W',C]; the padding counts in the mean only if `count_padding`."""
    kernel = partial(kernels.average_pool, size=size, stride=stride, padding=padding, count_padding=count_padding)
    window = Window(size, stride, padding)
    return _pool(net, name, "average_pool", kernel, x, window, count_padding=count_padding)


def _pool(net, name, kind, kernel, x, window, **settings):
    def cost(output_shape):
        return kernels.pool_cost(tuple(x.shape), output_shape, window.size)

    settings |= {"size": window.size, "stride": window.stride, "padding": window.padding}
    return net.apply(name, kind, kernel, [x], window=window, cost=cost, **settings)


def global_average_pool(net: Trace, name: str, x: tf.Tensor) -> tf.Tensor:
    """The mean of each channel's whole map: [B,H,W,C] → [B,C]."""
    window = Window(tuple(x.shape[1:3])) if None not in x.shape[1:3] else None

    def cost(output_shape):
        return kernels.global_average_pool_cost(tuple(x.shape))

    return net.apply(name, "global_average_pool", kernels.global_average_pool, [x], window=window, cost=cost)


def dropout(net: Trace, name: str, x: tf.Tensor, rate: float) -> tf.Tensor:
    """In training, zero each unit with probability `rate` and scale the rest by 1/(1 − rate); the identity after."""
    if not net.train:
        return net.apply(name, "dropout", tf.identity, [x], rate=rate)
    kernel = partial(kernels.dropout, rate=rate, seed=net.seed_of(name))
    return net.apply(name, "dropout", kernel, [x], cost=kernels.dropout_cost, rate=rate)


def drop_path(net: Trace, name: str, x: tf.Tensor, rate: float) -> tf.Tensor:
    """In training, zero all of an image's x with probability `rate` and scale the rest by 1/(1 − rate)."""
    kernel = partial(kernels.drop_path, rate=rate, seed=net.seed_of(name)) if net.train else tf.identity
    return net.apply(name, "drop_path", kernel, [x], rate=rate)


def pad(net: Trace, name: str, x: tf.Tensor, margins: Pads) -> tf.Tensor:
    """Put ((top, bottom), (left, right)) zeros around a map, or take pixels off where a number is negative."""
    kernel = partial(crop_or_pad, margins=margins)
    return net.apply(name, "pad", kernel, [x], window=Margins(margins), margins=margins)


def discretize(net: Trace, name: str, x: tf.Tensor, code: str, levels: int) -> tf.Tensor:
    """Pixels in [0,1] as codes of their levels, "onehot" or "thermometer": [B,H,W,C] → [B,H,W,C·levels].

    No gradient flows back (Buckman et al. 2018): for the operations, what reads the codes reads data.
    """
    kernel = partial(kernels.encode_levels, levels=levels, code=code)
    y = net.apply(name, "discretize", kernel, [x], cost=kernels.encode_levels_cost, code=code, levels=levels)
    net.data.append(y)
    return y


def concatenate(net: Trace, name: str, branches: list[tf.Tensor]) -> tf.Tensor:
    """Set branches [B,H,W,Cᵢ] side by side: [B,H,W,ΣCᵢ] (GoogLeNet's inception module)."""
    return net.apply(name, "concatenate", lambda *xs: kernels.concatenate(xs), branches)


def residual_sum(net: Trace, name: str, x: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
    """x + shortcut (ResNet, equation 1)."""
    return net.apply(name, "residual_sum", kernels.residual_sum, [x, shortcut], cost=kernels.residual_sum_cost)


def scaled_residual_sum(net: Trace, name: str, x: tf.Tensor, residual: tf.Tensor, scale: float) -> tf.Tensor:
    """x + scale·residual (Inception-ResNet, §3.3)."""
    kernel = partial(kernels.scaled_residual_sum, scale=scale)
    return net.apply(name, "residual_sum", kernel, [x, residual], cost=kernels.scaled_residual_sum_cost, scale=scale)


def squeeze_excite(net: Trace, name: str, x: tf.Tensor, reduction: int = 16) -> tf.Tensor:
    """Weigh each channel by what all of them see in the whole image (SENet, equations 2 to 4): [B,H,W,C] → the same."""
    s = global_average_pool(net, f"{name}/squeeze", x)  # [B,C]
    s = relu(net, dense(net, f"{name}/fc1", s, x.shape[-1] // reduction))  # [B,C/reduction]
    s = dense(net, f"{name}/fc2", s, x.shape[-1], initial=glorot_uniform)  # [B,C]  small, for gates to begin half open
    s = net.apply(f"{name}/gate", "sigmoid", kernels.sigmoid, [s], cost=kernels.sigmoid_cost)
    cost = kernels.scale_channels_cost
    return net.apply(name, "scale_channels", kernels.scale_channels, [x, s], window=Everywhere(), cost=cost)


def zero_padded_shortcut(net: Trace, name: str, x: tf.Tensor, channels: int, stride: int, *, zeros="end") -> tf.Tensor:
    """Option A of ResNet §3.3: every stride-th pixel, and zeros for the channels that x lacks."""
    kernel = partial(kernels.zero_padded_shortcut, channels=channels, stride=stride, zeros=zeros)
    window = Window(1, stride)
    return net.apply(
        name, "zero_padded_shortcut", kernel, [x], window=window, channels=channels, stride=stride, zeros=zeros
    )
