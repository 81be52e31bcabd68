"""The section on attribution and neuron groups: which positions of a layer raise a class's logit in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.blocks_sheet import effect_overlay, group_colors, group_overlay
from rawcnn.report.page import Gallery, Section, Text
from rawcnn.visualize import attribution, neuron_groups
from rawcnn.visualize.class_attribution import Attribution
from rawcnn.visualize.factorization import Groups


@dataclass(frozen=True)
class Attributed:
    """One image, its attribution and its neuron groups in a layer."""

    layer: str
    image: np.ndarray
    effects: Attribution
    groups: Groups

    def to_dict(self) -> dict[str, object]:
        return {"layer": self.layer, "classes": self.effects.classes.tolist()}


def attribute(network: Network, image: np.ndarray, layer: str, *, seed: int) -> Attributed:
    """Compute both for an image [H,W,3]."""
    return Attributed(layer, image, attribution(network, image, layer), neuron_groups(network, image, layer, seed=seed))


def section(found: Attributed, labels: Sequence[str], album: Album) -> Section:
    """Return the section. `labels` names the classes."""
    effects, largest = found.effects, float(np.abs(found.effects.spatial).max())
    tiles = [album.tile("attributed", found.image, alt="A test image", label="image")]
    for k, number in enumerate(effects.classes):
        overlay = effect_overlay(found.image, effects.spatial[k], largest)
        detail = f"logit {effects.logits[k]:.2f}"
        label = f"“{labels[number]}”"
        tiles.append(
            album.tile(f"attribution-{k}", overlay, alt=f"Attribution for {label}", label=label, detail=detail)
        )
    colors = group_colors(found.groups.count)
    overlay = group_overlay(found.image, found.groups.maps, colors)
    tiles.append(album.tile("groups", overlay, alt="Groups of neurons", label="groups", detail="one color each"))
    return Section(
        "Attribution and neuron groups",
        (
            Text(
                "Two techniques of The Building Blocks of Interpretability (Olah et al. 2018). Attribution estimates "
                "linearly, as activation × gradient, how much each position of a layer raises a class's logit. A "
                f"non-negative matrix factorization finds {found.groups.count} groups of neurons that are active "
                "together in this image."
            ),
            Gallery(tuple(tiles), f"`{found.layer}`: red positions raise the class's logit, blue ones lower it."),
        ),
    )
