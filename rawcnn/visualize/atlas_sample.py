"""The sample of an activation atlas: the activations of a layer at one random position of each image.

Carter et al., "Activation Atlas", Distill 2019. One position per image is enough, because neighbors look alike. Each
vector a comes with its effect on the classes that the network finds most likely: a·∂logit/∂a at the position, the
linear estimate of `rawcnn.visualize.attribution`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet, Split
from rawcnn.files.progress import StageProgress
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop
from rawcnn.visualize.input_images import size_read
from rawcnn.visualize.layer_maps import as_map, operation_at_size

EXPLAINED = 3  # classes of each image whose gradients are taken: those with the largest logits
EDGE = 1  # positions at each side of a map that are not drawn, because they see the padding


@dataclass(frozen=True)
class AtlasSample:
    """One activation vector of each of N images, and its effect on the K most likely classes of the image."""

    activations: np.ndarray = field(repr=False)  # float32 [N,C]
    indices: np.ndarray = field(repr=False)  # int32 [N], of the image in its split
    positions: np.ndarray = field(repr=False)  # int32 [N,2] (row, column); (0, 0) in a layer without a map
    classes: np.ndarray = field(repr=False)  # int32 [N,K], the largest logit first; K is 0 without a classifier
    effects: np.ndarray = field(repr=False)  # float32 [N,K], a·∂logit_k/∂a at the position

    def __len__(self) -> int:
        return len(self.activations)

    def where(self, selected: np.ndarray) -> AtlasSample:
        """The part of the sample where `selected` [N] is true."""
        arrays = (self.activations, self.indices, self.positions, self.classes, self.effects)
        return AtlasSample(*(array[selected] for array in arrays))


def sample_activations(
    network: Network,
    data: DataSet,
    layer: str,
    *,
    images: int | None = None,
    split: str = "train",
    batch: int = 256,
    seed: int = 0,
    compile: str = "auto",
    progress: StageProgress | None = None,
) -> AtlasSample:
    """Collect the activations of a layer at one random position of each image, in one pass over the data.

    Along an axis of three positions or more, the first and the last position are not drawn. Images that are larger
    than the network's are cropped.

    Args:
        network: The network.
        data: The data set.
        layer: The name of the layer.
        images: How many images to draw at random from the split; by default all.
        split: "train" or "test".
        batch: Images at a time.
        seed: The seed of the images and the positions.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (images done, images in total, "activations").

    Raises:
        ValueError: For an unknown layer or split, fewer than one image, and activations that are not finite.
    """
    network.operation(layer)  # raises a ValueError that names similar layers
    data, indices = _draw_images(data, split, images, seed)
    size = size_read(network, data)
    positions = draw_positions(_map_size(network, layer, size), len(indices), seed)
    step = _compiled_step(network, layer, size, compile)
    parts, done = [], 0
    for pixels, _ in data.batches(split, batch, shuffle=False):
        if tuple(pixels.shape[1:3]) != size:
            pixels = center_crop(pixels, size)
        parts.append([t.numpy() for t in step(pixels, tf.constant(positions[done : done + len(pixels)]))])
        done += len(pixels)
        if progress:
            progress(done, len(indices), "activations")
    activations, classes, effects = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not np.isfinite(activations).all():
        raise ValueError(f"{layer} has activations that are not finite; check the network's weights")
    return AtlasSample(activations, indices, positions, classes, effects)


def activations_and_effects(
    network: Network, layer: str, images: tf.Tensor, positions: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute the activations at one position of each image, and their effect on the most likely classes.

    Args:
        network: The network.
        layer: The name of the layer.
        images: [B,H,W,3] in [0,1].
        positions: int32 [B,2], (row, column) in the map.

    Returns:
        The activations a [B,C], the K most likely classes [B,K] and the effects a·∂logit_k/∂a [B,K]. K is 0 for a
        network without a classifier.
    """
    if network.last is not None:
        vectors = tf.gather_nd(as_map(network.activations(images, [layer])[layer]), positions, batch_dims=1)  # [B,C]
        none = tf.zeros((tf.shape(images)[0], 0))  # [B,0]
        return vectors, tf.cast(none, tf.int32), none
    count = min(EXPLAINED, network.classes)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)  # so that the tape records the activations
        logits, activations, _ = network.forward(images)
    classes = tf.math.top_k(logits, count).indices  # [B,K]
    vectors = tf.gather_nd(as_map(activations[layer]), positions, batch_dims=1)  # [B,C]
    effects = []
    for rank in range(count):
        one_hot = tf.one_hot(classes[:, rank], logits.shape[-1])  # [B,classes]
        gradient = tape.gradient(
            logits, activations[layer], output_gradients=one_hot, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        effects.append(tf.reduce_sum(vectors * tf.gather_nd(as_map(gradient), positions, batch_dims=1), axis=-1))
    return vectors, classes, tf.stack(effects, axis=-1)


def draw_positions(size: tuple[int, int], count: int, seed: int) -> np.ndarray:
    """A random (row, column) in a map of `size` for each of `count` images: int32 [N,2]."""
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    edges = [EDGE if length > 2 * EDGE else 0 for length in size]
    axes = [generator.integers(edge, length - edge, count) for edge, length in zip(edges, size, strict=True)]
    return np.stack(axes, axis=1).astype(np.int32)


def _draw_images(data: DataSet, split: str, images: int | None, seed: int) -> tuple[DataSet, np.ndarray]:
    """The data set with only the drawn images in this split, in their order, and their indices [N]."""
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
    """Height and width of the layer's map for images of `size`; 1×1 for a layer without a map."""
    shape = operation_at_size(network, layer, size).output_shape
    return (shape[1], shape[2]) if len(shape) == 4 else (1, 1)


def _compiled_step(network: Network, layer: str, size: tuple[int, int], compile: str) -> Callable:
    """The compiled `activations_and_effects`: (images [B,H,W,3], positions [B,2]) → its results."""

    def step(images, positions):
        return activations_and_effects(network, layer, images, positions)

    signature = [tf.TensorSpec((None, *size, 3), tf.float32), tf.TensorSpec((None, 2), tf.int32)]
    return compiled(step, choose(compile, network.devices, network.precision), signature)
