"""What an activation atlas is drawn from: of each image a layer's activations at one position, taken at random.

Carter et al., "Activation Atlas", Distill 2019. One position an image, for all of them would be thousands alike. With
it goes what these activations do to the classes that the network finds likeliest there: a·∂logit/∂a, the linear
estimate of `rawcnn.visualize.class_attribution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet, Split
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop
from rawcnn.nn.trace import find_operation, symbolic_trace
from rawcnn.visualize.objectives import as_map

EXPLAINED = 3  # classes of each image, those of the largest logits, whose gradients are taken
EDGE = 1  # positions at each side of a map that are left out: padding is seen there
Progress = Callable[[int, int, str], None]  # (done, total, stage)


@dataclass(frozen=True)
class Sample:
    """One activation vector of each of N images, and what it does to the image's likeliest classes."""

    activations: np.ndarray = field(repr=False)  # float32 [N,C]
    indices: np.ndarray = field(repr=False)  # int32 [N], of the image in its split
    positions: np.ndarray = field(repr=False)  # int32 [N,2] (row, column); (0, 0) in a layer without map
    classes: np.ndarray = field(repr=False)  # int32 [N,K], the largest logit first
    effects: np.ndarray = field(repr=False)  # float32 [N,K], a·∂logit_k/∂a at the position

    def __len__(self) -> int:
        return len(self.activations)

    def only(self, kept: np.ndarray) -> Sample:
        """The part of the sample where `kept` [N] is true."""
        arrays = (self.activations, self.indices, self.positions, self.classes, self.effects)
        return Sample(*(array[kept] for array in arrays))


def sample(
    network: Network,
    data: DataSet,
    layer: str,
    *,
    images: int | None = None,
    split: str = "train",
    batch: int = 256,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> Sample:
    """Activations of a layer at one random position of each image of a split, or of `images` of it drawn at random.

    Along an axis of three positions or more, the first and the last are not drawn. Images larger than the network's
    are cropped. The data pass once. ValueError for an unknown layer or split, and fewer than one image.
    """
    network.operation(layer)
    data, indices = _drawn(data, split, images, seed)
    side = network.input_size
    shape = (side, side) if min(data.size) > side else data.size
    positions = _positions(_map_size(network, layer, shape), len(indices), seed)
    step = _sampling_step(network, layer, shape, compile)
    parts, done = [], 0
    for pixels, _ in data.batches(split, batch, shuffle=False):
        if pixels.shape[1:3] != shape:
            pixels = center_crop(pixels, side)
        parts.append([t.numpy() for t in step(pixels, tf.constant(positions[done : done + len(pixels)]))])
        done += len(pixels)
        if progress:
            progress(done, len(indices), "activations")
    activations, classes, effects = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not np.isfinite(activations).all():
        raise ValueError(f"{layer} has activations that are not finite; check the network's weights")
    return Sample(activations, indices, positions, classes, effects)


def _drawn(data: DataSet, split: str, images: int | None, seed: int) -> tuple[DataSet, np.ndarray]:
    """The data with only the images drawn in this split, in their order, and their indices [N]."""
    count = data.count(split)
    if images is not None and images < 1:
        raise ValueError(f"images is {images}; expected 1 or more")
    if images is None or images >= count:
        return data, np.arange(count, dtype=np.int32)
    generator = np.random.Generator(np.random.PCG64([seed, 0]))
    indices = np.sort(generator.choice(count, images, replace=False)).astype(np.int32)
    old = data.splits[split]
    pixels = None if old.images is None else tf.gather(old.images, indices)
    items = tuple(old.items[i] for i in indices) if old.items else ()
    return replace(data, splits={**data.splits, split: Split(old.labels[indices], pixels, items)}), indices


def _map_size(network: Network, layer: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the layer's map for images of `size`; 1×1 of a layer without map."""
    operations = symbolic_trace(network.model, (1, *size, 3), layers=(layer,)).operations
    shape = find_operation(operations, layer).output_shape
    return (shape[1], shape[2]) if len(shape) == 4 else (1, 1)


def _positions(size: tuple[int, int], count: int, seed: int) -> np.ndarray:
    """A random (row, column) for each image: int32 [N,2]."""
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    edges = [EDGE if length > 2 * EDGE else 0 for length in size]
    axes = [generator.integers(edge, length - edge, count) for edge, length in zip(edges, size, strict=True)]
    return np.stack(axes, axis=1).astype(np.int32)


def _sampling_step(network: Network, layer: str, size: tuple[int, int], compile: str) -> Callable:
    """The compiled step (images, positions) → activations [B,C], classes [B,K], effects [B,K]."""
    count = min(EXPLAINED, network.classes)

    def step(images, positions):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(images)  # and with it all that is made of them
            logits, activations, _ = network.forward(images)
        classes = tf.math.top_k(logits, count).indices  # [B,K]
        here = tf.gather_nd(as_map(activations[layer]), positions, batch_dims=1)  # [B,C]
        effects = []
        for rank in range(count):
            alone = tf.one_hot(classes[:, rank], logits.shape[-1])
            slope = tape.gradient(
                logits, activations[layer], output_gradients=alone, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            effects.append(tf.reduce_sum(here * tf.gather_nd(as_map(slope), positions, batch_dims=1), axis=-1))
        return here, classes, tf.stack(effects, axis=-1)

    signature = [tf.TensorSpec((None, *size, 3), tf.float32), tf.TensorSpec((None, 2), tf.int32)]
    return compiled(step, choose(compile, network.devices, network.precision), signature)
