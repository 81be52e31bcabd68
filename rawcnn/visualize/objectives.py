"""What an image is to excite. An objective gives one number for each image of a batch; it is to be as large as can be.

Olah, Mordvintsev, Schubert: "Feature Visualization", Distill 2017, "Optimization Objectives". Objectives add up:

    channel(net, "mixed4a", 11) - 0.5 * channel(net, "mixed4a", 12)

A channel, a class or a direction may differ from image to image: give one for each, and each image is its own problem.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from rawcnn.nn.network import Network
from rawcnn.visualize.filters import check_channels

COSINE_FLOOR = 0.1  # of a direction's cosine: what points elsewhere still has a gradient
Activations = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Objective:
    """`value(activations of layers, *given)` → [B]. The `given` arrays, [N,…] or [1,…], hold a row for each image."""

    name: str
    layers: tuple[str, ...]
    value: Callable[..., tf.Tensor] = field(repr=False)
    given: tuple[np.ndarray, ...] = field(default=(), repr=False)

    @property
    def images(self) -> int:
        """For how many images it is made; 1: the same for any number."""
        return max((len(rows) for rows in self.given), default=1)

    def __add__(self, other: Objective) -> Objective:
        return self._with(other, "+", lambda a, b: a + b)

    def __sub__(self, other: Objective) -> Objective:
        return self._with(other, "−", lambda a, b: a - b)

    def __mul__(self, factor: float) -> Objective:
        layers, value = self.layers, self.value
        return Objective(f"{factor:g}·({self.name})", layers, lambda a, *given: factor * value(a, *given), self.given)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        layers, value = self.layers, self.value
        return Objective(f"−({self.name})", layers, lambda a, *given: -value(a, *given), self.given)

    def _with(self, other: Objective, sign: str, combine: Callable) -> Objective:
        if 1 not in (self.images, other.images) and self.images != other.images:
            raise ValueError(
                f"{self.name} is for {self.images} images and {other.name} for {other.images}; expected equal numbers"
            )
        count, mine, yours = len(self.given), self.value, other.value
        return Objective(
            f"{self.name} {sign} {other.name}",
            tuple(dict.fromkeys(self.layers + other.layers)),
            lambda a, *given: combine(mine(a, *given[:count]), yours(a, *given[count:])),
            self.given + other.given,
        )


def neuron(
    network: Network, layer: str, channel: int | Sequence[int], position: tuple[int, int] | None = None
) -> Objective:
    """A channel at one (row, column) of the map, the middle if None. ValueError for what the layer has not."""

    def value(activations: Activations, chosen: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(_at(activations[layer], position, layer) * chosen, axis=-1)  # [B]

    chosen = _one_hot(network, layer, channel)
    where = "the middle" if position is None else f"{tuple(position)}"
    return Objective(f"{layer} channel {_words(channel)} at {where}", (layer,), value, (chosen,))


def channel(network: Network, layer: str, channel: int | Sequence[int]) -> Objective:
    """The mean of a channel over its map; of a layer without map, the unit itself."""

    def value(activations: Activations, chosen: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.reduce_mean(as_map(activations[layer]), axis=(1, 2)) * chosen, axis=-1)

    return Objective(f"{layer} channel {_words(channel)}", (layer,), value, (_one_hot(network, layer, channel),))


def logit(network: Network, classes: int | Sequence[int]) -> Objective:
    """A class before the softmax, which could be raised by lowering all others."""
    return channel(network, network.head, classes)


def layer(network: Network, layer: str) -> Objective:
    """The mean square of a whole layer: whatever it sees, more of it (DeepDream; Mordvintsev et al. 2015)."""
    network.operation(layer)

    def value(activations: Activations) -> tf.Tensor:
        return tf.reduce_mean(tf.square(as_map(activations[layer])), axis=(1, 2, 3))

    return Objective(f"{layer}, all channels", (layer,), value)


def direction(
    network: Network,
    layer: str,
    vectors,
    *,
    cosine_power: float = 1.0,
    position: tuple[int, int] | str | None = None,
) -> Objective:
    """Activations along a vector [C], or one for each image [N,C]: mean over the map of dot · max(.1, cos)^power.

    The cosine keeps the activations to the direction, where the dot product alone is content with its largest part. A
    `position`, (row, column) or "middle", takes the activations there alone.
    """
    channels = network.operation(layer).output_shape[-1]
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))  # [N,C]
    if vectors.ndim != 2 or vectors.shape[1] != channels or not np.isfinite(vectors).all():
        raise ValueError(f"the direction has shape {vectors.shape}; expected finite numbers, {channels} for {layer}")
    if not np.abs(vectors).max(axis=1).all():
        raise ValueError("the direction is zero; expected one that points somewhere")

    def value(activations: Activations, vectors: tf.Tensor) -> tf.Tensor:
        maps = as_map(activations[layer])
        if position is not None:
            maps = _at(maps, None if position == "middle" else position, layer)[:, None, None]  # type: ignore[arg-type]
        return _along(maps, vectors, cosine_power)

    return Objective(f"a direction of {layer}", (layer,), value, (vectors,))


def weighted_units(
    network: Network, layer: str, weights: Mapping[int, float], *, cosine_power: float = 4.0
) -> Objective:
    """{5: 2, 16: 1}: the fifth map is to be excited twice as much as the sixteenth, at every position.

    A direction in the space of these channels alone; the others may do as they like. The cosine keeps the proportion.
    """
    units = check_channels(list(weights), layer, network.operation(layer).output_shape[-1])
    vector = np.array([list(weights.values())], np.float32)  # [1,n]
    if not np.isfinite(vector).all() or not vector.any():
        raise ValueError(f"the weights are {list(weights.values())}; expected finite numbers, not all zero")

    def value(activations: Activations, vector: tf.Tensor) -> tf.Tensor:
        return _along(tf.gather(as_map(activations[layer]), units, axis=-1), vector, cosine_power)

    words = " + ".join(f"{weight:g}·{unit}" for unit, weight in weights.items())
    return Objective(f"{layer} channels {words}", (layer,), value, (vector,))


def interpolation(first: Objective, second: Objective, count: int) -> Objective:
    """From one objective to another in `count` images: (1 − t)·first + t·second, t from 0 to 1."""
    if count < 2 or max(first.images, second.images) > 1:
        raise ValueError(f"count is {count}; expected 2 or more images between two objectives of one unit each")
    shares = np.linspace(0, 1, count, dtype=np.float32)  # [N]
    number = len(first.given)

    def value(activations: Activations, share: tf.Tensor, *given: tf.Tensor) -> tf.Tensor:
        return (1 - share) * first.value(activations, *given[:number]) + share * second.value(
            activations, *given[number:]
        )

    layers = tuple(dict.fromkeys(first.layers + second.layers))
    name = f"from {first.name} to {second.name}"
    return Objective(name, layers, value, (shares, *first.given, *second.given))


def diversity(network: Network, layer: str, group: int) -> Objective:
    """How unlike the images of each `group` of neighbours are in style: −Σ_{j≠i} ⟨Gᵢ,Gⱼ⟩ / group.

    G is the Gram matrix of the layer's channels, of length one (Distill 2017, "Diversity"; after Gatys et al. 2015).
    """
    network.operation(layer)
    if group < 2:
        raise ValueError(f"group is {group}; expected 2 or more images that are to differ")

    def value(activations: Activations) -> tf.Tensor:
        maps = as_map(activations[layer])  # [B,h,w,C]
        grams = tf.einsum("bhwc,bhwd->bcd", maps, maps)
        grams = tf.reshape(grams, (-1, group, maps.shape[-1] ** 2))  # [B/group, group, C²]
        grams /= tf.norm(grams, axis=-1, keepdims=True) + 1e-12
        alike = tf.matmul(grams, grams, transpose_b=True)  # ⟨Gᵢ,Gⱼ⟩
        others = tf.reduce_sum(alike, axis=-1) - tf.linalg.diag_part(alike)
        return -tf.reshape(others, (-1,)) / group

    return Objective(f"diversity of {layer}", (layer,), value)


def _along(maps: tf.Tensor, vectors: tf.Tensor, power: float) -> tf.Tensor:
    """Maps [B,h,w,C] along vectors [B,C]: mean over the map of dot · max(.1, cos)^power, [B]."""
    dot = tf.reduce_sum(maps * vectors[:, None, None], axis=-1)  # [B,h,w]
    lengths = tf.norm(maps, axis=-1) * tf.norm(vectors, axis=-1)[:, None, None]
    cosine = tf.maximum(dot / (lengths + 1e-6), COSINE_FLOOR)
    return tf.reduce_mean(dot * cosine**power, axis=(1, 2))


def as_map(activations: tf.Tensor) -> tf.Tensor:
    """[B,h,w,C] as float32; a vector [B,C] as a map of one pixel."""
    activations = tf.cast(activations, tf.float32)
    return activations if len(activations.shape) == 4 else activations[:, None, None]


def _at(activations: tf.Tensor, position: tuple[int, int] | None, layer: str) -> tf.Tensor:
    """[B,C]: the activations at one place of the map."""
    maps = as_map(activations)
    height, width = maps.shape[1:3]
    row, column = (height // 2, width // 2) if position is None else position
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"position is {(row, column)}; the map of {layer} is {height}×{width}")
    return maps[:, row, column]


def _one_hot(network: Network, layer: str, channel: int | Sequence[int]) -> np.ndarray:
    """[N,C]: 1 at each image's channel."""
    count = network.operation(layer).output_shape[-1]
    chosen = check_channels([channel] if isinstance(channel, (int, np.integer)) else channel, layer, count)
    return np.eye(count, dtype=np.float32)[chosen]


def _words(channel: int | Sequence[int]) -> str:
    return str(channel) if isinstance(channel, (int, np.integer)) else ", ".join(map(str, channel))
