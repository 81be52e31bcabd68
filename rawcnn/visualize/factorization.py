"""A few groups of neurons that explain a layer's activations for one image: a non-negative matrix factorisation.

    a[x,y,:]  ≈  Σ_g  maps[x,y,g] · directions[g,:]        maps, directions ≥ 0

A group is a direction of channels that are active together, and a map of where. Olah et al., "The Building Blocks of
Interpretability", Distill 2018, "Making Things Human-Scale". It is scikit-learn's, by coordinate descent.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.visualize.class_attribution import Attribution, one_image
from rawcnn.visualize.objectives import as_map

GROUPS = 6  # as the article has
ITERATIONS = 1000
EXACT = 1e-6  # an error that is rounding: the factorisation is done, though its steps never settle


@dataclass(frozen=True)
class Groups:
    """G groups, those that carry most of the activations first. Groups that nothing belongs to are left out."""

    maps: np.ndarray = field(repr=False)  # float32 [h,w,G], how much of each group is at each position
    directions: np.ndarray = field(repr=False)  # float32 [G,C], each of length one
    error: float  # ‖a − maps·directions‖ / ‖a‖: what the groups leave out
    rectified: bool  # the layer has negative activations, which count as zero here
    converged: bool

    @property
    def count(self) -> int:
        return len(self.directions)


def neuron_groups(network: Network, image, layer: str, groups: int | None = None, *, seed: int = 0) -> Groups:
    """Factorise the activations of a layer for an image [H,W,3] in [0,1].

    Six `groups`, or fewer where the map has fewer positions or the layer fewer channels. Negative activations count as
    zero: in a layer after a ReLU there are none. ValueError for an unknown layer, more groups than positions or
    channels, and activations of which none is positive.
    """
    activations = network.activations(one_image(image), [layer])[layer]
    return factorise(as_map(activations)[0].numpy(), groups, seed=seed, layer=layer)


def factorise(activations: np.ndarray, groups: int | None = None, *, seed: int = 0, layer: str = "the layer") -> Groups:
    """`neuron_groups` of given activations [h,w,C]."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    height, width, channels = activations.shape
    count = check_groups(groups, activations.shape, layer)
    positive = np.maximum(activations, 0).reshape(-1, channels).astype(np.float64)  # [h·w,C]
    if not positive.any():
        raise ValueError(f"{layer} has no positive activation in this image, so there is nothing to group")
    generator = np.random.RandomState(np.random.PCG64([seed]))
    model = NMF(count, init="nndsvda", tol=1e-5, max_iter=ITERATIONS, random_state=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the result says whether it has converged
        maps = model.fit_transform(positive)  # [h·w,G]
    directions = model.components_  # [G,C]
    error = np.linalg.norm(positive - maps @ directions) / np.linalg.norm(positive)
    lengths = np.linalg.norm(directions, axis=1)
    maps, directions = maps * lengths, directions / np.maximum(lengths, np.finfo(np.float64).tiny)[:, None]
    size = maps.sum(axis=0)
    order = [g for g in np.argsort(-size, kind="stable") if size[g] > 0]
    return Groups(
        maps[:, order].reshape(height, width, -1).astype(np.float32),
        directions[order].astype(np.float32),
        float(error),
        bool((activations < 0).any()),
        bool(model.n_iter_ < ITERATIONS or error < EXACT),
    )


def check_groups(groups: int | None, shape: Sequence[int], layer: str) -> int:
    """The number of groups for activations of this shape, […,h,w,C] or […,C]; ValueError where it is too large."""
    positions, channels = (int(np.prod(shape[-3:-1])) if len(shape) > 2 else 1), shape[-1]
    most = min(positions, channels)
    count = min(GROUPS, most) if groups is None else groups
    if not 1 <= count <= most:
        raise ValueError(
            f"groups is {groups}; {layer} has {positions} positions and {channels} channels: expected 1 to {most}"
        )
    return count


def group_effects(groups: Groups, attribution: Attribution) -> np.ndarray:
    """[K,G]: how much each group raises each class, Σ_xy maps[x,y,g] · (∂logit_k/∂a[x,y,:] · directions[g,:]).

    Where the factorisation is exact, the groups' effects add up to those of the (positive) activations.
    """
    along = attribution.gradients @ groups.directions.T  # [K,h,w,G]
    return (groups.maps * along).sum(axis=(1, 2))
