"""One image seen through one layer: what it detects where, how that affects the classes, and in which groups.

Olah et al., "The Building Blocks of Interpretability", Distill 2018. A channel has no name, so its icon stands for it:
the image that activates it most (`optimization`). A semantic dictionary lists the most active channels at each
position. The other two blocks are `class_attribution` and `factorization`; `building_blocks` combines all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels.geometry import is_integer
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import Size, whole_number
from rawcnn.nn.network import Network
from rawcnn.nn.receptive_field import ReceptiveField
from rawcnn.nn.trace import Operation
from rawcnn.visualize.class_attribution import Attribution, attribution, different_classes, ranked_channels
from rawcnn.visualize.factorization import Groups, check_groups, factorize, group_effects
from rawcnn.visualize.input_images import one_image
from rawcnn.visualize.layer_maps import as_map, operation_at_size
from rawcnn.visualize.objectives import channel, direction
from rawcnn.visualize.optimization import AscentSettings, maximize, optimize
from rawcnn.visualize.progress import part_from
from rawcnn.visualize.regularization import ROBUST, Regularization

LIMIT = 64  # icons of channels
COSINE_POWER = 2.0  # keeps the icon of a group to the group's direction


@dataclass(frozen=True)
class Dictionary:
    """The most active channels at each position of a layer, the most active first."""

    channels: np.ndarray  # int32 [h,w,top]
    activations: np.ndarray  # float32 [h,w,top]
    map_shape: tuple[int, int]  # (h, w)
    boxes: np.ndarray  # int32 [h,w,4]: (top, left, bottom, right) of each receptive field, in pixels of the image


@dataclass(frozen=True)
class BuildingBlocks:
    """All building blocks of one image and one layer, with icons of channels and groups.

    Attributes:
        network: The name of the network.
        layer: The name of the layer.
        image: float32 [H,W,3] in [0,1].
        dictionary: The most active channels at each position.
        attribution: The effect of the layer's activations on K classes.
        groups: G neuron groups.
        group_effects: float32 [K,G], the effect of each group on each class, in logits.
        channel_icons: Optimized images of the main channels, by channel, float32 [s,s,3] in [0,1].
        group_icons: float32 [G,s,s,3] in [0,1], optimized images of the groups.
    """

    network: str
    layer: str
    image: np.ndarray = field(repr=False)
    dictionary: Dictionary
    attribution: Attribution
    groups: Groups
    group_effects: np.ndarray
    channel_icons: dict[int, np.ndarray] = field(repr=False)
    group_icons: np.ndarray = field(repr=False)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name, for `np.savez`."""
        icons = self.channel_icons
        return {
            "image": self.image,
            "dictionary_channels": self.dictionary.channels,
            "dictionary_activations": self.dictionary.activations,
            "boxes": self.dictionary.boxes,
            "classes": self.attribution.classes,
            "logits": self.attribution.logits,
            "probabilities": self.attribution.probabilities,
            "activations": self.attribution.activations,
            "gradients": self.attribution.gradients,
            "spatial_attribution": self.attribution.spatial,
            "channel_attribution": self.attribution.channels,
            "group_maps": self.groups.maps,
            "group_directions": self.groups.directions,
            "group_effects": self.group_effects,
            "icon_channels": np.array(list(icons), np.int32),
            "channel_icons": np.stack(list(icons.values())),
            "group_icons": self.group_icons,
        }

    def figures(self) -> dict[str, object]:
        """Return the main results as plain values for JSON."""
        effects, channels = self.attribution, self.attribution.channels
        classes = [
            {
                "class": int(effects.classes[k]),
                "logit": float(effects.logits[k]),
                "probability": float(effects.probabilities[k]),
                "attribution": float(channels[k].sum()),
                "for": [{"channel": c, "effect": float(channels[k, c])} for c in supporting],
                "against": [{"channel": c, "effect": float(channels[k, c])} for c in opposing],
                "groups": self.group_effects[k].tolist(),
            }
            for k, (supporting, opposing) in enumerate(ranked_channels(effects))
        ]
        return {
            "network": self.network,
            "layer": self.layer,
            "map": list(self.dictionary.map_shape),
            "channels": int(channels.shape[1]),
            "classes": classes,
            "groups": self.groups.count,
            "groups_leave_out": self.groups.error,
            "groups_of_rectified": self.groups.rectified,
            "groups_converged": self.groups.converged,
        }


# The blocks ------------------------------------------------------------------------------------------------------


def semantic_dictionary(network: Network, image, layer: str, *, top: int = 4) -> Dictionary:
    """List the most active channels of a layer at each position.

    Of equally active channels the lower one comes first. A layer without a map has one position.

    Args:
        network: The network.
        image: [H,W,3] in [0,1].
        layer: The name of the layer.
        top: Channels per position.

    Returns:
        The channels at each position, their activations and their receptive fields.

    Raises:
        ValueError: For an unknown layer, for more channels than it has, and for anything but one image.

    Source:
        Olah et al., "The Building Blocks of Interpretability", Distill 2018, "Making Sense of Hidden Layers".
    """
    images = one_image(image)
    size = int(images.shape[1]), int(images.shape[2])
    operation = operation_at_size(network, layer, size)
    _check_top(top, layer, operation.output_shape[-1])
    activations = as_map(network.activations(images, [layer])[layer])[0].numpy()
    return most_active_channels(activations, top, operation.receptive_field, size)


def most_active_channels(
    activations: np.ndarray, top: int, receptive_field: ReceptiveField, size: tuple[int, int]
) -> Dictionary:
    """The dictionary of activations [h,w,C] with this receptive field, over an image of `size` (height, width)."""
    height, width, _ = activations.shape
    order = np.argsort(-activations, axis=-1, kind="stable")[..., :top]  # [h,w,top]
    values = np.take_along_axis(activations, order, axis=-1)
    boxes = [[receptive_field.box((row, column), size) for column in range(width)] for row in range(height)]
    return Dictionary(order.astype(np.int32), values, (height, width), np.array(boxes, np.int32))


def channel_icons(
    network: Network, layer: str, channels: Sequence[int] | np.ndarray, *, limit: int | None = LIMIT, **settings
) -> dict[int, np.ndarray]:
    """Optimize the image that activates each channel most, all in one optimization.

    Args:
        network: The network.
        layer: The name of the layer.
        channels: Channels in an array of any shape.
        limit: The largest number of icons; the most frequent channels are taken.
        **settings: Keywords of `optimize`.

    Returns:
        The icons [size,size,3] by channel.

    Raises:
        ValueError: For an unknown layer or channel, and for a limit below 1.
    """
    _check_limit(limit)
    chosen = most_frequent(channels, limit)
    return dict(zip(chosen, optimize(network, layer, chosen, **settings).images, strict=True))


def building_blocks(
    network: Network,
    image,
    layer: str,
    *,
    top: int = 4,
    classes: Sequence[int] | None = None,
    groups: int | None = None,
    icon_size: Size | None = None,
    steps: int = 512,
    regularization: Regularization = ROBUST,
    limit: int = LIMIT,
    batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> BuildingBlocks:
    """Compute semantic dictionary, attribution and neuron groups of a layer for one image, with icons.

    Every group has an icon, and so do at most `limit` channels: first the channels with the largest effects for and
    against the classes, then those that are most often the strongest at a position, then those that are most often
    in the dictionary. The same seed gives the same icons and groups.

    Args:
        network: The network.
        image: [H,W,3] in [0,1].
        layer: The name of the layer.
        top: Channels per position in the dictionary.
        classes: By default the two most likely classes.
        groups: Neuron groups; by default six, or fewer if the layer does not allow six.
        icon_size: Side of an icon in pixels, or (height, width); by default the network's image size.
        steps: Steps of the optimization of icons.
        regularization: Of the optimization of icons.
        limit: The largest number of channel icons.
        batch: Icons that are optimized at a time.
        seed: Of the groups and the icons.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (steps done, steps in total) of the icons.

    Returns:
        The three views, and the icons of groups and of the main channels.

    Raises:
        ValueError: For an unknown layer or class, and for a number out of range, before the work begins.

    Source:
        Olah et al., "The Building Blocks of Interpretability", Distill 2018.
    """
    images = one_image(image)
    size = int(images.shape[1]), int(images.shape[2])
    operation = check_blocks(network, layer, top, groups, limit, classes, size)
    settings = AscentSettings(
        size=network.input_size if icon_size is None else icon_size,
        steps=steps,
        regularization=regularization,
        seed=seed,
        batch=batch,
        compile=compile,
    )
    effects = attribution(network, image, layer, classes, compile=compile)
    dictionary = most_active_channels(effects.activations, top, operation.receptive_field, size)
    factors = factorize(effects.activations, groups, seed=seed, layer=layer)
    chosen = _main_channels(effects, dictionary)[:limit]
    icons, group_icons = _icons(network, layer, chosen, factors, settings, progress)
    of_groups, pixels = group_effects(factors, effects), images[0].numpy()
    return BuildingBlocks(network.name, layer, pixels, dictionary, effects, factors, of_groups, icons, group_icons)


# Icons -----------------------------------------------------------------------------------------------------------


def _main_channels(effects: Attribution, dictionary: Dictionary) -> list[int]:
    """The channels that need an icon, each once, the most important first."""
    largest = [channel for ranks in ranked_channels(effects) for side in ranks for channel in side]
    strongest = most_frequent(dictionary.channels[..., 0])
    return list(dict.fromkeys(largest + strongest + most_frequent(dictionary.channels)))


def most_frequent(channels, limit: int | None = None) -> list[int]:
    """At most `limit` distinct channels of an array, the most frequent first, of equally frequent ones the lower."""
    found, counts = np.unique(np.asarray(channels), return_counts=True)
    return found[np.argsort(-counts, kind="stable")][:limit].tolist()


def _icons(
    network: Network,
    layer: str,
    channels: Sequence[int],
    groups: Groups,
    settings: AscentSettings,
    progress: Progress | None,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """(icons by channel, icons of the groups [G,s,s,3]), with one progress for both."""
    chosen = most_frequent(channels)
    first, second = (-(-count // settings.batch) * settings.steps for count in (len(chosen), groups.count))
    of_channels = maximize(
        network, channel(network, layer, chosen), settings, part_from(progress, 0, first + second)
    ).images
    along = direction(network, layer, groups.directions, cosine_power=COSINE_POWER)
    of_groups = maximize(network, along, settings, part_from(progress, first, first + second)).images
    return dict(zip(chosen, of_channels, strict=True)), of_groups


# Checks ----------------------------------------------------------------------------------------------------------


def check_blocks(
    network: Network,
    layer: str,
    top: int,
    groups: int | None,
    limit: int,
    classes: Sequence[int] | None,
    size: tuple[int, int] | None = None,
) -> Operation:
    """Check the arguments of `building_blocks` before any work, for images of `size`, by default the network's own.

    Returns:
        The layer's operation at this size.

    Raises:
        ValueError: for an unknown layer or class, and for a number out of range.
    """
    operation = operation_at_size(network, layer, size or network.image_size)
    network.check_classifier()
    _check_top(top, layer, operation.output_shape[-1])
    _check_limit(limit)
    check_groups(groups, operation.output_shape, layer)
    if classes is not None:
        different_classes(classes, network)
    return operation


def _check_top(top: int, layer: str, channels: int) -> None:
    """ValueError for a dictionary of more channels than the layer has."""
    if not is_integer(top) or not 1 <= int(top) <= channels:
        raise ValueError(f"top is {top!r}; {layer} has {channels} channels: expected 1 to {channels}")


def _check_limit(limit: int | None) -> None:
    """ValueError for a limit below 1."""
    if limit is not None:
        whole_number("limit", limit)
