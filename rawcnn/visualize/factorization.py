"""Neuron groups: the activations of a layer for one image, as a non-negative matrix factorization of a few groups.

    a[x,y,:]  ≈  Σ_g  maps[x,y,g] · directions[g,:]        maps, directions ≥ 0

A group is a direction in the space of channels that are active together, and a map of their strength. Olah et al.,
"The Building Blocks of Interpretability", Distill 2018, "Making Things Human-Scale". The factorization is that of
scikit-learn, by coordinate descent.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels.geometry import is_integer
from rawcnn.nn.arguments import whole_number
from rawcnn.nn.network import Network
from rawcnn.visualize.class_attribution import Attribution
from rawcnn.visualize.input_images import one_image
from rawcnn.visualize.layer_maps import as_map

GROUPS = 6  # as in the article
ITERATIONS = 1000
EXACT = 1e-6  # relative error of rounding: such a factorization has converged, although its steps never settle


@dataclass(frozen=True)
class Groups:
    """G groups, ordered by their share of the activations. Groups without any activation are left out.

    Attributes:
        maps: float32 [h,w,G], the strength of each group at each position.
        directions: float32 [G,C], each of length one.
        error: ‖a − maps·directions‖ / ‖a‖.
        rectified: Whether the layer has negative activations, which count as zero here.
        converged: Whether the factorization reached its tolerance.
    """

    maps: np.ndarray = field(repr=False)
    directions: np.ndarray = field(repr=False)
    error: float
    rectified: bool
    converged: bool

    @property
    def count(self) -> int:
        """The number of groups."""
        return len(self.directions)


def neuron_groups(network: Network, image, layer: str, groups: int | None = None, *, seed: int = 0) -> Groups:
    """Factorize the activations of a layer for one image.

    Negative activations count as zero; a layer after a ReLU has none.

    Args:
        network: The network.
        image: [H,W,3] in [0,1].
        layer: The name of the layer.
        groups: The number of groups; by default six, or fewer if the map has fewer positions or the layer fewer
            channels.
        seed: The seed of the initial factors.

    Returns:
        The strength of each group at each position, and its direction among the channels.

    Raises:
        ValueError: For an unknown layer, more groups than positions or channels, and activations of which none is
            positive.

    Source:
        Olah et al., "The Building Blocks of Interpretability", Distill 2018, "Making Things Human-Scale".
    """
    activations = network.activations(one_image(image), [layer])[layer]
    return factorize(as_map(activations)[0].numpy(), groups, seed=seed, layer=layer)


def factorize(activations: np.ndarray, groups: int | None = None, *, seed: int = 0, layer: str = "the layer") -> Groups:
    """Factorize activations [h,w,C], as `neuron_groups` does."""
    count, seed = check_groups(groups, activations.shape, layer), whole_number("seed", seed, least=0, most=None)
    positive = np.maximum(activations, 0).reshape(-1, activations.shape[-1]).astype(np.float64)  # [h·w,C]
    if not positive.any():
        raise ValueError(f"{layer} has no positive activation in this image, so there is nothing to group")
    maps, directions, settled = _nmf(positive, count, seed)
    error = np.linalg.norm(positive - maps @ directions) / np.linalg.norm(positive)
    lengths = np.linalg.norm(directions, axis=1)  # [G]
    maps, directions = maps * lengths, directions / np.maximum(lengths, np.finfo(np.float64).tiny)[:, None]
    share = maps.sum(axis=0)  # [G]
    order = [g for g in np.argsort(-share, kind="stable") if share[g] > 0]
    return Groups(
        maps[:, order].reshape(*activations.shape[:2], -1).astype(np.float32),
        directions[order].astype(np.float32),
        float(error),
        bool((activations < 0).any()),
        bool(settled or error < EXACT),
    )


def _nmf(positive: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Activations [h·w,C] → maps [h·w,G], directions [G,C], and whether the steps settled."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    generator = np.random.RandomState(np.random.PCG64([seed]))
    model = NMF(count, init="nndsvda", tol=1e-5, max_iter=ITERATIONS, random_state=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `Groups.converged` says it
        maps = model.fit_transform(positive)
    return maps, model.components_, model.n_iter_ < ITERATIONS


def check_groups(groups: int | None, shape: Sequence[int], layer: str) -> int:
    """Return the number of groups for activations [h,w,C], [1,h,w,C] or [1,C].

    Raises:
        ValueError: If there are fewer positions or channels than groups.
    """
    positions, channels = (int(np.prod(shape[-3:-1])) if len(shape) > 2 else 1), shape[-1]
    most = min(positions, channels)
    count = min(GROUPS, most) if groups is None else groups
    if not is_integer(count) or not 1 <= int(count) <= most:
        raise ValueError(
            f"groups is {groups!r}; {layer} has {positions} positions and {channels} channels: expected 1 to {most}"
        )
    return int(count)


def group_effects(groups: Groups, attribution: Attribution) -> np.ndarray:
    """Compute how much each group raises each class: Σ_xy maps[x,y,g] · (∂logit_k/∂a[x,y,:] · directions[g,:]).

    Where the factorization is exact, the effects of the groups sum to those of the positive activations.

    Args:
        groups: G groups of a layer.
        attribution: That of K classes, for the same layer and image.

    Returns:
        [K,G], in logits.
    """
    along = attribution.gradients @ groups.directions.T  # [K,h,w,G]
    return (groups.maps * along).sum(axis=(1, 2))
