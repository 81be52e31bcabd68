"""One image seen through one layer: what it detects where, what that says of the classes, and in which groups.

Olah et al., "The Building Blocks of Interpretability", Distill 2018. A channel has no name, so it is shown by the image
that excites it most, its icon (`optimization`). A semantic dictionary lists the channels that are active at each
position. `attribution` and `neuron_groups` are the other two blocks; here they are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.nn.receptive_field import ReceptiveField
from rawcnn.visualize.class_attribution import Attribution, attribution, one_image, ranked_channels
from rawcnn.visualize.factorization import Groups, check_groups, factorise, group_effects
from rawcnn.visualize.layer_maps import seen_at
from rawcnn.visualize.objectives import as_map, direction
from rawcnn.visualize.optimization import optimize
from rawcnn.visualize.regularization import ROBUST, Regularization

LIMIT = 64  # icons of channels
COSINE_POWER = 2.0  # keeps a group's icon to the group's direction
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Dictionary:
    """The most active channels at each position of a layer, the most active first."""

    channels: np.ndarray  # int32 [h,w,top]
    activations: np.ndarray  # float32 [h,w,top]
    map_shape: tuple[int, int]  # (h, w)
    boxes: np.ndarray  # int32 [h,w,4]: (top, left, bottom, right) of what each position sees, in pixels of the image


@dataclass(frozen=True)
class BuildingBlocks:
    """All of it for one image and one layer, with icons of channels and groups."""

    network: str
    layer: str
    image: np.ndarray = field(repr=False)  # float32 [H,W,3] in [0,1]
    dictionary: Dictionary
    attribution: Attribution
    groups: Groups
    group_effects: np.ndarray  # float32 [K,G]
    channel_icons: dict[int, np.ndarray] = field(repr=False)  # by channel, float32 [s,s,3]; of those wanted most
    group_icons: np.ndarray = field(repr=False)  # float32 [G,s,s,3]

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers by name, for `np.savez`."""
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
        """What is worth reading, as plain values for JSON."""
        told, channels = self.attribution, self.attribution.channels
        classes = [
            {
                "class": int(told.classes[k]),
                "logit": float(told.logits[k]),
                "probability": float(told.probabilities[k]),
                "attribution": float(channels[k].sum()),
                "for": [{"channel": c, "effect": float(channels[k, c])} for c in supporting],
                "against": [{"channel": c, "effect": float(channels[k, c])} for c in opposing],
                "groups": self.group_effects[k].tolist(),
            }
            for k, (supporting, opposing) in enumerate(ranked_channels(told))
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


def semantic_dictionary(network: Network, image, layer: str, *, top: int = 4) -> Dictionary:
    """The `top` most active channels of a layer at each position, for an image [H,W,3] in [0,1].

    Of equals the lower channel comes first; a layer without map has one position. Raises ValueError for an unknown
    layer, for more channels than it has, and for what is no image.
    """
    images = one_image(image)
    shape, receptive = seen_at(network, layer, (int(images.shape[1]), int(images.shape[2])))
    _check_top(top, layer, shape[-1])
    activations = as_map(network.activations(images, [layer])[layer])[0].numpy()
    return _most_active(activations, top, receptive, (int(images.shape[1]), int(images.shape[2])))


def most_frequent(channels, limit: int | None = None) -> list[int]:
    """The distinct channels of an array, the most frequent first, of equals the lower; at most `limit`."""
    found, counts = np.unique(np.asarray(channels), return_counts=True)
    return found[np.argsort(-counts, kind="stable")][:limit].tolist()


def channel_icons(
    network: Network, layer: str, channels: Sequence[int] | np.ndarray, *, limit: int | None = LIMIT, **settings
) -> dict[int, np.ndarray]:
    """The image [size,size,3] that excites each channel most, by channel: one optimisation for all.

    Where there are more than `limit` distinct `channels` (an array of any shape), the most frequent are taken.
    `settings` are those of `optimize`. ValueError for an unknown layer or channel, or a limit below 1.
    """
    _check_limit(limit)
    wanted = most_frequent(channels, limit)
    return dict(zip(wanted, optimize(network, layer, wanted, **settings).images, strict=True))


def building_blocks(
    network: Network,
    image,
    layer: str,
    *,
    top: int = 4,
    classes: Sequence[int] | None = None,
    groups: int | None = None,
    icon_size: int | None = None,
    steps: int = 512,
    regularization: Regularization = ROBUST,
    limit: int = LIMIT,
    batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> BuildingBlocks:
    """Semantic dictionary, attribution and neuron groups of a layer for an image [H,W,3] in [0,1], with icons.

    `classes` and `groups` as in `attribution` and `neuron_groups`. Icons of `icon_size` pixels (the network's own) are
    made of every group and of at most `limit` channels: those that speak loudest for and against the classes, then
    those most often the strongest of a position, then those most often in the dictionary. The same seed gives the same
    icons and groups. ValueError for what the network has not, before the work begins.
    """
    images = one_image(image)
    size = int(images.shape[1]), int(images.shape[2])
    shape, receptive = seen_at(network, layer, size)
    _check_top(top, layer, shape[-1])
    _check_limit(limit)
    check_groups(groups, shape, layer)
    told = attribution(network, image, layer, classes, compile=compile)
    dictionary = _most_active(told.activations, top, receptive, size)
    grouped = factorise(told.activations, groups, seed=seed, layer=layer)
    wanted = _wanted(told, dictionary)[:limit]
    settings = {"size": icon_size, "steps": steps, "regularization": regularization, "seed": seed, "batch": batch}
    icons, group_icons = _icons(network, layer, wanted, grouped, progress, settings | {"compile": compile})
    effects = group_effects(grouped, told)
    pixels = images[0].numpy()
    return BuildingBlocks(network.name, layer, pixels, dictionary, told, grouped, effects, icons, group_icons)


def _wanted(told: Attribution, dictionary: Dictionary) -> list[int]:
    """The channels that a reader wants to see, each once, the most wanted first."""
    loudest = [channel for ranks in ranked_channels(told) for side in ranks for channel in side]
    strongest = most_frequent(dictionary.channels[..., 0])
    return list(dict.fromkeys(loudest + strongest + most_frequent(dictionary.channels)))


def _icons(network: Network, layer: str, wanted: list[int], grouped: Groups, progress: Progress | None, settings):
    """(icons by channel, icons of the groups [G,s,s,3]); their progress counts as that of one work."""
    batch, steps = max(settings["batch"], 1), settings["steps"]
    first, second = (-(-count // batch) * steps for count in (len(wanted), grouped.count))  # steps of each

    def told(start: int) -> Progress | None:
        return (lambda done, _: progress(start + done, first + second)) if progress else None

    icons = channel_icons(network, layer, wanted, limit=None, progress=told(0), **settings)
    along = direction(network, layer, grouped.directions, cosine_power=COSINE_POWER)
    return icons, optimize(network, along, progress=told(first), **settings).images


def _most_active(activations: np.ndarray, top: int, receptive: ReceptiveField, size: tuple[int, int]) -> Dictionary:
    """The dictionary of activations [h,w,C] over an image of `size`."""
    height, width, _ = activations.shape
    order = np.argsort(-activations, axis=-1, kind="stable")[..., :top]
    boxes = [[receptive.box((row, column), size) for column in range(width)] for row in range(height)]
    values = np.take_along_axis(activations, order, axis=-1)
    return Dictionary(order.astype(np.int32), values, (height, width), np.array(boxes, np.int32))


def _check_top(top: int, layer: str, channels: int) -> None:
    if not 1 <= top <= channels:
        raise ValueError(f"top is {top}; {layer} has {channels} channels: expected 1 to {channels}")


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; expected 1 icon or more")
