"""Objectives of visualization by optimization. An objective gives one value per image of a batch, to be maximized.

Olah, Mordvintsev, Schubert: "Feature Visualization", Distill 2017, "Optimization Objectives". Objectives can be added,
subtracted and scaled:

    channel(net, "mixed4a", 11) - 0.5 * channel(net, "mixed4a", 12)

The channel, the class or the direction may differ between the images of a batch; then each image is a problem of its
own. Below, B is the number of images and N the number of problems of an objective, which is B or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import tensorflow as tf

from rawcnn.nn.arguments import any_position, map_position, real, whole_number
from rawcnn.nn.network import Network
from rawcnn.visualize.layer_maps import as_map, check_channels, check_classes

COSINE_FLOOR = 0.1  # of a direction's cosine, so that activations that point elsewhere still have a gradient
Activations = Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Objective:
    """A function of activations, to be maximized for each image.

    Attributes:
        name: A description for people.
        layers: The layers whose activations it reads.
        value: The function (activations by layer, *rows) → values [B].
        rows: Arrays [N,…] or [1,…] with one row per image, such as the one-hot channel of each.
    """

    name: str
    layers: tuple[str, ...]
    value: Callable[..., tf.Tensor] = field(repr=False)
    rows: tuple[np.ndarray, ...] = field(default=(), repr=False)

    @property
    def images(self) -> int:
        """The number N of images that it is for; 1 if it is the same for any number of images."""
        return max((len(array) for array in self.rows), default=1)

    def repeated_rows(self, count: int) -> tuple[np.ndarray, ...]:
        """Repeat the arrays `rows` for several images of each problem.

        Args:
            count: Images per problem.

        Returns:
            An array [N·count,…] for each array [N,…].
        """
        return tuple(
            np.repeat(np.broadcast_to(array, (self.images, *array.shape[1:])), count, axis=0) for array in self.rows
        )

    def __add__(self, other: Objective) -> Objective:
        return self._combined(other, "+", lambda a, b: a + b)

    def __sub__(self, other: Objective) -> Objective:
        return self._combined(other, "−", lambda a, b: a - b)

    def __mul__(self, factor: float) -> Objective:
        layers, value = self.layers, self.value
        return Objective(f"{factor:g}·({self.name})", layers, lambda a, *rows: factor * value(a, *rows), self.rows)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        layers, value = self.layers, self.value
        return Objective(f"−({self.name})", layers, lambda a, *rows: -value(a, *rows), self.rows)

    def _combined(self, other: Objective, sign: str, combine: Callable) -> Objective:
        if 1 not in (self.images, other.images) and self.images != other.images:
            raise ValueError(
                f"{self.name} is for {self.images} images and {other.name} for {other.images}; expected equal numbers"
            )
        count, first, second = len(self.rows), self.value, other.value
        return Objective(
            f"{self.name} {sign} {other.name}",
            tuple(dict.fromkeys(self.layers + other.layers)),
            lambda a, *rows: combine(first(a, *rows[:count]), second(a, *rows[count:])),
            self.rows + other.rows,
        )


# One unit, one layer ---------------------------------------------------------------------------------------------


def neuron(
    network: Network, layer: str, channel: int | Sequence[int], position: tuple[int, int] | None = None
) -> Objective:
    """One neuron: a channel at one position of the map.

    Args:
        network: The network.
        layer: The name of the layer.
        channel: One channel for all images, or one per image.
        position: (row, column) in the map; by default its middle.

    Raises:
        ValueError: For an unknown layer or channel, and for a position that is not a pair of whole numbers; when the
            objective is computed, for a position outside the map.
    """
    chosen = _chosen_channels(network, layer, channel)
    position = None if position is None else any_position(position)

    def value(activations: Activations, one_hot: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(_at(activations[layer], position, layer) * one_hot, axis=-1)  # [B]

    where = "the middle" if position is None else f"{position}"
    name = f"{layer} channel {_words(chosen)} at {where}"
    return Objective(name, (layer,), value, (_one_hot(network, layer, chosen),))


def channel(network: Network, layer: str, channel: int | Sequence[int]) -> Objective:
    """The mean of a channel over its map; in a layer without a map, the unit itself.

    Args:
        network: The network.
        layer: The name of the layer.
        channel: One channel for all images, or one per image.

    Raises:
        ValueError: For an unknown layer or channel.
    """
    chosen = _chosen_channels(network, layer, channel)

    def value(activations: Activations, one_hot: tf.Tensor) -> tf.Tensor:
        means = tf.reduce_mean(as_map(activations[layer]), axis=(1, 2))  # [B,C]
        return tf.reduce_sum(means * one_hot, axis=-1)  # [B]

    return Objective(f"{layer} channel {_words(chosen)}", (layer,), value, (_one_hot(network, layer, chosen),))


def logit(network: Network, classes: int | Sequence[int]) -> Objective:
    """A class before the softmax: a probability could also rise because all other logits fall (Simonyan et al. 2014).

    Args:
        network: The network.
        classes: One class for all images, or one per image.

    Raises:
        ValueError: For an unknown class.
    """
    return channel(network, network.head, check_classes(classes, network))


def layer(network: Network, layer: str) -> Objective:
    """The mean square of all activations of a layer (DeepDream; Mordvintsev et al. 2015).

    It strengthens whatever the layer already detects. ValueError for an unknown layer.
    """
    network.operation(layer)

    def value(activations: Activations) -> tf.Tensor:
        return tf.reduce_mean(tf.square(as_map(activations[layer])), axis=(1, 2, 3))  # [B]

    return Objective(f"{layer}, all channels", (layer,), value)


# Directions ------------------------------------------------------------------------------------------------------


def direction(
    network: Network,
    layer: str,
    vectors,
    *,
    cosine_power: float = 1.0,
    position: tuple[int, int] | str | None = None,
) -> Objective:
    """A direction v in the space of a layer's channels: the mean over the map of (a·v) · max(0.1, cos(a, v))^power.

    The dot product alone is satisfied by the largest component of v. The cosine keeps all components in proportion
    (Carter et al., "Activation Atlas", Distill 2019, "Feature Visualization").

    Args:
        network: The network.
        layer: The name of the layer, with C channels.
        vectors: One direction [C] for all images, or one per image [N,C].
        cosine_power: Exponent of the cosine; 0 gives the dot product.
        position: (row, column) or "middle" of the map; by default the mean over the map.

    Raises:
        ValueError: For an unknown layer, and for vectors that are zero, not finite or of another length than C.
    """
    channels, cosine_power = network.operation(layer).output_shape[-1], real("cosine_power", cosine_power)
    if position is not None and not isinstance(position, str):
        position = any_position(position)
    elif position not in (None, "middle"):
        raise ValueError(f'position is {position!r}; expected (row, column) or "middle"')
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))  # [N,C]
    if vectors.ndim != 2 or vectors.shape[1] != channels or not np.isfinite(vectors).all():
        raise ValueError(f"the direction has shape {vectors.shape}; expected finite numbers, {channels} for {layer}")
    if not np.abs(vectors).max(axis=1).all():
        raise ValueError("the direction is zero; expected a vector with a nonzero component")

    def value(activations: Activations, vectors: tf.Tensor) -> tf.Tensor:
        maps = as_map(activations[layer])  # [B,h,w,C]
        if position is not None:
            maps = _at(maps, None if isinstance(position, str) else position, layer)[:, None, None]  # [B,1,1,C]
        return _dot_times_cosine(maps, vectors, cosine_power)

    return Objective(f"a direction of {layer}", (layer,), value, (vectors,))


def weighted_units(
    network: Network, layer: str, weights: Mapping[int, float], *, cosine_power: float = 4.0
) -> Objective:
    """A weighted sum of channels: {5: 2, 16: 1} aims at twice as much of channel 5 as of channel 16, everywhere.

    It is a direction in the space of these channels alone; the other channels are free. The cosine holds the
    proportion approximately. Channels whose features exclude or contain each other cannot have every proportion. Of
    twelve random pairs of a trained ResNet-20 that should have the proportion 2, the images had 1.5 to 3.1; those of
    the plain sum had 0.7 to 4.2. Larger powers of the cosine come no closer. Read the proportion off the activations.

    Args:
        network: The network.
        layer: The name of the layer.
        weights: The weight of each channel.
        cosine_power: Exponent of the cosine.

    Raises:
        ValueError: For an unknown layer or channel, and for weights that are not finite or all zero.
    """
    units = check_channels(list(weights), layer, network.operation(layer).output_shape[-1])
    values = [real("a weight", weight, "positive or negative", least=-inf) for weight in weights.values()]
    vector, cosine_power = np.array([values], np.float32), real("cosine_power", cosine_power)  # [1,n]
    if not np.isfinite(vector).all() or not vector.any():
        raise ValueError(f"the weights are {list(weights.values())}; expected finite numbers, not all zero")

    def value(activations: Activations, vector: tf.Tensor) -> tf.Tensor:
        maps = tf.gather(as_map(activations[layer]), units, axis=-1)  # [B,h,w,n]
        return _dot_times_cosine(maps, vector, cosine_power)

    words = " + ".join(f"{weight:g}·{unit}" for unit, weight in zip(units, values, strict=True))
    return Objective(f"{layer} channels {words}", (layer,), value, (vector,))


# Several images --------------------------------------------------------------------------------------------------


def interpolation(first: Objective, second: Objective, count: int) -> Objective:
    """From one objective to another in `count` images: (1 − t)·first + t·second with t from 0 to 1.

    Raises:
        ValueError: For a count below 2, and for objectives of more than one problem.
    """
    count = whole_number("count", count, least=2)
    if max(first.images, second.images) > 1:
        raise ValueError(f"{first.name} and {second.name} have several units; expected objectives of one unit each")
    shares = np.linspace(0, 1, count, dtype=np.float32)  # t of each image, [N]
    split = len(first.rows)

    def value(activations: Activations, share: tf.Tensor, *rows: tf.Tensor) -> tf.Tensor:
        return (1 - share) * first.value(activations, *rows[:split]) + share * second.value(activations, *rows[split:])

    layers = tuple(dict.fromkeys(first.layers + second.layers))
    name = f"from {first.name} to {second.name}"
    return Objective(name, layers, value, (shares, *first.rows, *second.rows))


def diversity(network: Network, layer: str, group: int) -> Objective:
    """How much the images of a group differ in style: −Σ_{j≠i} ⟨Gᵢ,Gⱼ⟩ / group for image i.

    G is the Gram matrix of the layer's channels, normalized to length one (Distill 2017, "Diversity"; after Gatys et
    al. 2015).

    Args:
        network: The network.
        layer: The name of the layer.
        group: How many consecutive images of the batch form a group.

    Raises:
        ValueError: For an unknown layer and for a group below 2.
    """
    network.operation(layer)
    group = whole_number("group", group, least=2)

    def value(activations: Activations) -> tf.Tensor:
        maps = as_map(activations[layer])  # [B,h,w,C]
        grams = tf.einsum("bhwc,bhwd->bcd", maps, maps)  # [B,C,C]
        grams = tf.reshape(grams, (-1, group, maps.shape[-1] ** 2))  # [B/group, group, C²]
        grams /= tf.norm(grams, axis=-1, keepdims=True) + 1e-12
        products = tf.matmul(grams, grams, transpose_b=True)  # ⟨Gᵢ,Gⱼ⟩: [B/group, group, group]
        others = tf.reduce_sum(products, axis=-1) - tf.linalg.diag_part(products)  # Σ_{j≠i}: [B/group, group]
        return -tf.reshape(others, (-1,)) / group  # [B]

    return Objective(f"diversity of {layer}", (layer,), value)


def diverse(network: Network, objective: Objective, weight: float, group: int) -> Objective:
    """The objective plus `weight` times the diversity of each group, in units of the objective's present value."""
    unlike = diversity(network, objective.layers[0], group)

    def value(activations, *rows):
        activation = objective.value(activations, *rows)  # [B]
        return activation + weight * tf.stop_gradient(tf.abs(activation)) * unlike.value(activations)

    return Objective(f"{objective.name}, diverse", objective.layers, value, objective.rows)


# From the arguments of `optimize` --------------------------------------------------------------------------------


def objective_of(
    network: Network,
    target: str | Objective,
    channel_index: int | Sequence[int] | None = None,
    position: tuple[int, int] | None = None,
) -> Objective:
    """The objective that `optimize` maximizes: `target` itself, or a neuron, a channel or all of the layer `target`."""
    if isinstance(target, Objective):
        if channel_index is not None or position is not None:
            raise ValueError("the target is an objective, which names its channels; give no channel or position")
        return target
    if channel_index is None:
        if position is not None:
            raise ValueError("position needs a channel; give a channel too")
        return layer(network, target)
    if position is None:
        return channel(network, target, channel_index)
    return neuron(network, target, channel_index, position)


# Parts -----------------------------------------------------------------------------------------------------------


def _dot_times_cosine(maps: tf.Tensor, vectors: tf.Tensor, power: float) -> tf.Tensor:
    """Maps [B,h,w,C] and vectors [B,C] → mean over the map of dot · max(0.1, cos)^power: [B]."""
    dot = tf.reduce_sum(maps * vectors[:, None, None], axis=-1)  # [B,h,w]
    lengths = tf.norm(maps, axis=-1) * tf.norm(vectors, axis=-1)[:, None, None]  # [B,h,w]
    cosine = tf.maximum(dot / (lengths + 1e-6), COSINE_FLOOR)
    return tf.reduce_mean(dot * cosine**power, axis=(1, 2))


def _at(activations: tf.Tensor, position: tuple[int, int] | None, layer: str) -> tf.Tensor:
    """The activations [B,C] at one position of the map, by default its middle."""
    maps = as_map(activations)
    height, width = maps.shape[1:3]
    row, column = (height // 2, width // 2) if position is None else map_position(position, tuple(maps.shape), layer)
    return maps[:, row, column]


def _chosen_channels(network: Network, layer: str, channel: int | Sequence[int]) -> list[int]:
    """The channel of each image, checked."""
    return check_channels(channel, layer, network.operation(layer).output_shape[-1])


def _one_hot(network: Network, layer: str, channels: Sequence[int]) -> np.ndarray:
    """[N,C]: 1 at the channel of each image."""
    return np.eye(network.operation(layer).output_shape[-1], dtype=np.float32)[channels]


def _words(channels: Sequence[int]) -> str:
    """The channels separated by commas."""
    return ", ".join(map(str, channels))
