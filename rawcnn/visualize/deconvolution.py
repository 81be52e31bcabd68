"""From one activation back to the pixels: the deconvolutional network, guided backpropagation and the gradient.

A deconvnet runs the network backwards from a map in which one activation is left (Zeiler & Fergus 2014, section 2.1).
Each of its layers is the gradient of a layer of the network, but for the rectifier:

    convolution, dense          the filters transposed, which is the gradient
    max pool                    unpooling: a number goes where the switch of its window points, which is the gradient;
                                numbers of overlapping windows that meet in one pixel are added
    ReLU                        max(g, 0), wherever the input was; the gradient is g·[x > 0], guided max(g, 0)·[x > 0]
    batch norm                  an affine map at inference, as if folded into the convolution before it: the gradient
    concatenation, sum          every branch gets a copy of its part, and where branches began the copies are added
    local response norm         skipped: forward as it is, backward the identity
    squeeze and excitation      the gates count as constants: channels are scaled, and nothing returns through the gate

So it is a walk with another backward rule, and one tape gradient. Guided backpropagation (Springenberg et al. 2015,
section 3.4) and the gradient are ordinary walks, which differ from each other in the rectifier alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network, check_images
from rawcnn.nn.trace import Trace
from rawcnn.visualize.filters import check_channels
from rawcnn.visualize.layer_maps import seen_at

Box = tuple[int, int, int, int]
SEEDS = ("activation", "one")


class Deconvnet(Trace):
    """The walk whose gradient skips local response normalisation and the gates of squeeze and excitation."""

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if kind == "lrn":
            kernel = _straight_through(kernel)
        elif kind == "scale_channels":
            x, gates = inputs
            inputs = [x, tf.stop_gradient(gates)]
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


def _straight_through(kernel: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """The kernel, with the identity for its gradient."""

    @tf.custom_gradient
    def straight(x):
        return kernel(x), lambda gradient: gradient

    return straight


METHODS: dict[str, tuple[Callable[..., Trace], Callable[[tf.Tensor], tf.Tensor]]] = {
    "deconvnet": (Deconvnet, kernels.deconvnet_relu),
    "guided": (Trace, kernels.guided_relu),
    "gradient": (Trace, kernels.relu),
}


@dataclass(frozen=True)
class Deconvolution:
    """What came back to the pixels from one activation of each image. `picture.diverging` shows it around grey."""

    pictures: np.ndarray = field(repr=False)  # float32 [B,H,W,3], signed: RGB, by how much each pixel raises it
    activations: np.ndarray  # float32 [B]
    positions: np.ndarray  # int [B,2]: (row, column) in the layer's map; (0, 0) in a layer without map
    boxes: list[Box]  # (top, left, bottom, right) of the receptive field, in pixels

    @property
    def crops(self) -> list[np.ndarray]:
        """Of each picture the receptive field."""
        boxed = zip(self.pictures, self.boxes, strict=True)
        return [picture[top:bottom, left:right] for picture, (top, left, bottom, right) in boxed]


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
    """Project one activation of each image [B,H,W,3] in [0,1] back to its pixels.

    `channel` is one for all or one for each image; so is `position`, (row, column), by default where the channel is
    most active in the image. A layer without map has no position. All other activations of the layer are zero; this
    one keeps its value with `seed="activation"`, the paper's way, and is 1 with "one". The seed is linear in the
    gradient, but not in the others: a negative activation turns every sign before it is rectified.

    `method` is "deconvnet", "guided" or "gradient". The preprocessing is transposed too, so pictures are RGB in the
    unit of the images. Pictures are zero outside the receptive field; a network with gates (squeeze and excitation)
    sees the whole image, and its deconvnet, for which gates are constants, less than its box.

    Raises ValueError for an unknown layer, method or seed, and for a channel or position that the layer has not.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if seed not in SEEDS:
        raise ValueError(f"seed is {seed!r}; expected one of {', '.join(SEEDS)}")
    images = check_images(images)
    batch, size = len(images), (int(images.shape[1]), int(images.shape[2]))
    shape, receptive = seen_at(network, layer, size)
    channels = np.full(batch, channel) if np.ndim(channel) == 0 else np.asarray(channel)
    if channels.shape != (batch,):
        raise ValueError(f"there are {len(channels)} channels for {batch} images; expected one, or one for each image")
    chosen = check_channels(channels.tolist(), layer, shape[-1])
    places = _places(position, shape, batch, layer)
    step = _projection(network, layer, method, seed, size, compile)
    pictures, activations, places = (
        tensor.numpy() for tensor in step(images, tf.constant(chosen, tf.int32), tf.constant(places, tf.int32))
    )
    positions = np.stack(np.divmod(places, shape[2] if len(shape) == 4 else 1), axis=1)  # [B,2]
    boxes = [receptive.box((int(row), int(column)), size) for row, column in positions]
    return Deconvolution(pictures, activations, positions, boxes)


def _places(position, shape: tuple[int, ...], batch: int, layer: str) -> np.ndarray:
    """[B]: row·width + column of each position in a map [1,h,w,C]; −1 where the most active one is to be found."""
    if position is None:
        return np.full(batch, -1)
    if len(shape) != 4:
        raise ValueError(f"position is {position}, but {layer} has no map; leave the position out")
    positions = np.asarray(position)
    if positions.shape not in ((2,), (batch, 2)) or not np.issubdtype(positions.dtype, np.integer):
        raise ValueError(f"position is {position}; expected (row, column), or {batch} of them, one for each image")
    height, width = shape[1:3]
    if np.any(positions < 0) or np.any(positions >= (height, width)):
        raise ValueError(f"position is {position}; {layer} has rows 0 to {height - 1} and columns 0 to {width - 1}")
    return np.broadcast_to(positions @ (width, 1), batch)


def _projection(network: Network, layer: str, method: str, seed: str, size: tuple[int, int], compile: str) -> Callable:
    """The compiled step (images [B,H,W,3], channels [B], places [B]) → (pictures, activations, places)."""
    walk, relu = METHODS[method]

    def project(images, channels, places):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            maps = network.activations(images, [layer], relu=relu, trace_type=walk)[layer]  # [B,h,w,C] or [B,C]
            maps = tf.cast(maps, tf.float32)
            maps = tf.reshape(maps, (tf.shape(maps)[0], -1, maps.shape[-1]))  # [B,h·w,C]
        own = tf.gather(maps, channels, axis=2, batch_dims=1)  # [B,h·w]
        places = tf.where(places < 0, tf.argmax(own, axis=1, output_type=tf.int32), places)
        activations = tf.gather(own, places, batch_dims=1)  # [B]
        where = tf.stack([tf.range(tf.shape(places)[0]), places, channels], axis=1)  # [B,3]
        values = activations if seed == "activation" else tf.ones_like(activations)
        alone = tf.scatter_nd(where, values, tf.shape(maps))
        return tape.gradient(maps, images, output_gradients=alone), activations, places

    of_each = tf.TensorSpec((None,), tf.int32)
    signature = [tf.TensorSpec((None, *size, 3), tf.float32), of_each, of_each]
    return compiled(project, choose(compile, network.devices, network.precision), signature)
