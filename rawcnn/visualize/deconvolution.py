"""From one activation back to the pixels: the deconvolutional network, guided backpropagation and the gradient.

A deconvnet runs the network backwards from a map in which one activation is left (Zeiler & Fergus 2014, section 2.1).
Each of its layers is the gradient of a layer of the network, except for the rectifier:

    convolution, dense          the transposed filters, which is the gradient
    max pool                    unpooling: a value goes to the position of its window's switch, which is the gradient;
                                values of overlapping windows that meet in one pixel are added
    ReLU                        max(g, 0) for any input x; the gradient is g·[x > 0], guided max(g, 0)·[x > 0]
    batch norm                  affine at inference, as if folded into the convolution before it: the gradient
    concatenation, sum          every branch gets a copy of its part, and copies are added where the branches began
    local response norm         skipped: applied forward, the identity backward
    squeeze and excitation      gates are constants: channels are scaled, and no signal passes back through the gate

So it is a trace with another backward rule, and one gradient by a tape. Guided backpropagation (Springenberg et al.
2015, section 3.4) and the gradient are ordinary traces with a different rectifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from kernels.forms.differentiable import with_gradient
from kernels.geometry import is_integer
from rawcnn.nn.arguments import listed, map_position
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace
from rawcnn.visualize.input_images import unit_images
from rawcnn.visualize.layer_maps import Box, check_channels, operation_at_size

START_VALUES = ("activation", "one")


class Deconvnet(Trace):
    """A trace whose gradient skips local response normalization and the gates of squeeze and excitation."""

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if kind == "lrn":
            kernel = _straight_through(kernel)
        elif kind == "scale_channels":
            x, gates = inputs
            inputs = [x, tf.stop_gradient(gates)]
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


def _straight_through(kernel: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The kernel with the identity as its gradient."""

    return with_gradient(kernel, lambda inputs, y, gradient: gradient)


class BackwardRule(NamedTuple):
    """How a method runs backwards: its trace, and its rectifier with a backward rule."""

    trace: Callable[..., Trace]
    relu: Callable[[tf.Tensor], tf.Tensor]


METHODS = {
    "deconvnet": BackwardRule(Deconvnet, kernels.deconvnet_relu),
    "guided": BackwardRule(Trace, kernels.guided_relu),
    "gradient": BackwardRule(Trace, kernels.relu),
}


@dataclass(frozen=True)
class Deconvolution:
    """The projection of one activation of each image to the pixels. `diverging` shows the pictures around gray.

    Attributes:
        pictures: float32 [B,H,W,3], signed RGB: how much each pixel raises the activation.
        activations: float32 [B], the values that are projected.
        positions: int [B,2], (row, column) in the layer's map; (0, 0) in a layer without a map.
        boxes: (top, left, bottom, right) of each receptive field, in pixels.
    """

    pictures: np.ndarray = field(repr=False)
    activations: np.ndarray
    positions: np.ndarray
    boxes: list[Box]

    @property
    def crops(self) -> list[np.ndarray]:
        """The receptive field of each picture."""
        boxed = zip(self.pictures, self.boxes, strict=True)
        return [picture[top:bottom, left:right] for picture, (top, left, bottom, right) in boxed]


# The algorithm ---------------------------------------------------------------------------------------------------


def project_back(
    network: Network,
    layer: str,
    rule: BackwardRule,
    start: str,
    images: tf.Tensor,
    channels: tf.Tensor,
    places: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Project one activation of each image back to its pixels.

    Args:
        network: The network.
        layer: The name of the layer.
        rule: The trace and the rectifier.
        start: The projection starts from the "activation" itself or from "one".
        images: float32 [B,H,W,3] in [0,1].
        channels: int32 [B].
        places: int32 [B], row·width + column in the map; −1 for where the channel is most active.

    Returns:
        The pictures [B,H,W,3], the activations [B] and the places [B].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        maps = network.activations(images, [layer], relu=rule.relu, trace_type=rule.trace)[layer]  # [B,h,w,C] or [B,C]
        maps = tf.cast(maps, tf.float32)
        maps = tf.reshape(maps, (tf.shape(maps)[0], -1, maps.shape[-1]))  # [B,h·w,C]
    channel_maps = tf.gather(maps, channels, axis=2, batch_dims=1)  # [B,h·w]
    places = tf.where(places < 0, tf.argmax(channel_maps, axis=1, output_type=tf.int32), places)
    activations = tf.gather(channel_maps, places, batch_dims=1)  # [B]
    indices = tf.stack([tf.range(tf.shape(places)[0]), places, channels], axis=1)  # [B,3]
    values = activations if start == "activation" else tf.ones_like(activations)
    alone = tf.scatter_nd(indices, values, tf.shape(maps))  # [B,h·w,C], zero but for one activation per image
    return tape.gradient(maps, images, output_gradients=alone), activations, places


def deconvolve(
    network: Network,
    images,
    layer: str,
    channel: int | Sequence[int],
    position: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    *,
    method: str = "deconvnet",
    seed: str = "activation",
    compile: str = "auto",
) -> Deconvolution:
    """Project one activation of each image back to its pixels.

    All other activations of the layer are set to zero. The preprocessing is transposed too, so pictures are RGB in the
    unit of the images. They are zero outside the receptive field. In a network with gates (squeeze and excitation)
    every position sees the whole image; its deconvnet, for which gates are constants, reaches less than that.

    Args:
        network: The network.
        images: [B,H,W,3] in [0,1].
        layer: The name of the layer.
        channel: One channel for all images, or one per image.
        position: (row, column) in the map for all images, or one per image; by default where the channel is most
            active. A layer without a map has no position.
        method: "deconvnet", "guided" or "gradient".
        seed: The projection starts from the value of the "activation", as in the paper, or from "one". The gradient is
            linear in it; the other methods are not, because a negative value changes signs before they are rectified.
        compile: "auto", "xla", "graph", "mixed" or "eager".

    Returns:
        One signed picture per image, with its activation, position and receptive field.

    Raises:
        ValueError: For an unknown layer, channel, position, method or seed, and for images that are not finite or not
            in [0,1].

    Source:
        Zeiler & Fergus 2014, section 2.1; Springenberg et al. 2015, section 3.4.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if seed not in START_VALUES:
        raise ValueError(f"seed is {seed!r}; expected one of {', '.join(START_VALUES)}")
    images = unit_images(images)
    size = int(images.shape[1]), int(images.shape[2])
    operation = operation_at_size(network, layer, size)
    shape = operation.output_shape  # [1,h,w,C] or [1,C]
    channels = tf.constant(_channel_of_each(channel, len(images), layer, shape[-1]), tf.int32)
    places = tf.constant(_places(position, shape, len(images), layer), tf.int32)
    project = _compiled_projection(network, layer, METHODS[method], seed, size, compile)
    pictures, activations, found = (tensor.numpy() for tensor in project(images, channels, places))
    positions = np.stack(np.divmod(found, shape[2] if len(shape) == 4 else 1), axis=1)  # [B,2]
    boxes = [operation.receptive_field.box((int(row), int(column)), size) for row, column in positions]
    return Deconvolution(pictures, activations, positions, boxes)


# Around it -------------------------------------------------------------------------------------------------------


def _compiled_projection(
    network: Network, layer: str, rule: BackwardRule, start: str, size: tuple[int, int], compile: str
) -> Callable:
    """The compiled `project_back`: (images [B,H,W,3], channels [B], places [B]) → (pictures, activations, places)."""

    def project(images, channels, places):
        return project_back(network, layer, rule, start, images, channels, places)

    per_image = tf.TensorSpec((None,), tf.int32)
    signature = [tf.TensorSpec((None, *size, 3), tf.float32), per_image, per_image]
    return compiled(project, choose(compile, network.devices, network.precision), signature)


def _channel_of_each(channel: int | Sequence[int], batch: int, layer: str, count: int) -> list[int]:
    """The channel of each image; `count` is how many the layer has."""
    channels = check_channels(channel, layer, count)
    if is_integer(channel):
        return channels * batch
    if len(channels) != batch:
        raise ValueError(f"there are {len(channels)} channels for {batch} images; expected one, or one for each image")
    return channels


def _places(position, shape: tuple[int, ...], batch: int, layer: str) -> np.ndarray:
    """[B]: row·width + column of each position in a map [1,h,w,C]; −1 where the most active one is requested."""
    if position is None:
        return np.full(batch, -1)
    several = all(len(listed(one)) > 1 for one in listed(position))
    if several and len(position) != batch:
        raise ValueError(f"there are {len(position)} positions for {batch} images; expected one, or one for each image")
    positions = [map_position(one, shape, layer) for one in (position if several else [position])]
    return np.broadcast_to(np.array(positions) @ (shape[-2], 1), batch)
