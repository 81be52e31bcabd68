"""Plain and residual networks of different depths, trained alike (He et al. 2016, section 4.2 and figure 6).

In the paper, depth increases the training error of plain networks and decreases that of residual networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rawcnn.data import DataSet
from rawcnn.models import MODELS
from rawcnn.nn.network import Network
from rawcnn.training.recipes import RECIPES, Recipe
from rawcnn.training.trainer import Training
from rawcnn.zoo import create

KINDS = {"plain": "resnet", "resnet": "plain"}  # in the names of models
MARGIN = 1.0  # percentage points of training error; a smaller difference between two runs may be chance
Summaries = list[dict[str, float]]


def networks(depths: Sequence[int]) -> list[str]:
    """Return the names of the plain and residual CIFAR networks of these depths, in the order of figure 6."""
    return [f"cifar_{kind}{depth}" for kind in ("plain", "resnet") for depth in depths]


def compare_depths(
    data: DataSet,
    *,
    depths: Sequence[int] = (20, 56),
    recipe: Recipe = RECIPES["resnet2015_cifar"],
    seed: int = 0,
    folder: Path | None = None,
    compile: str = "auto",
    on_step: Callable[[str, int, int, dict[str, float]], None] | None = None,
    on_epoch: Callable[[str, dict[str, float]], None] | None = None,
) -> dict[str, Summaries]:
    """Train each network with the same data, recipe, order and seed.

    Args:
        data: The data set.
        depths: The depths to compare.
        recipe: The recipe.
        seed: The seed of variables and training.
        folder: Where each run keeps its checkpoints. A second call resumes from them. None keeps none.
        compile: How the steps run.
        on_step: Called as on_step(network, step of the epoch, steps per epoch, metrics).
        on_epoch: Called as on_epoch(network, summary).

    Returns:
        Name of the network → the summaries of its epochs.
    """
    histories = {}
    for name in networks(depths):
        network = create(name, classes=len(data.labels), seed=seed, size=data.size)
        training = Training(network, recipe, seed=seed, folder=folder / name if folder else None, compile=compile)
        training.restore()
        training.fit(
            data,
            on_step=partial(on_step, name) if on_step else None,
            on_epoch=partial(on_epoch, name) if on_epoch else None,
        )
        histories[name] = training.history
    return histories


def counterpart(network: Network, seed: int) -> Network | None:
    """Create the plain network of a residual network's depth, or the reverse, in all else alike.

    Args:
        network: The network.
        seed: The seed of the other's initial values.

    Returns:
        The other network; None if the zoo has none.
    """
    kind = next((kind for kind in KINDS if network.name.removeprefix("cifar_").startswith(kind)), "")
    other = network.name.replace(kind, KINDS[kind]) if kind else ""
    settings: dict[str, Any] = dict(network.settings)
    if other not in MODELS or not settings.pop("residual", True):  # the option makes a "resnet" plain
        return None
    return create(other, seed=seed, precision=network.precision, **settings)


def verdict(histories: dict[str, Summaries], depths: Sequence[int] = (20, 56)) -> str:
    """Return the effect of depth on the last epoch's training error, in a sentence for each kind of network."""
    shallow, deep = min(depths), max(depths)
    sentences = []
    for kind in ("plain", "resnet"):
        few, many = (100 * (1 - histories[f"cifar_{kind}{depth}"][-1]["train_accuracy"]) for depth in (shallow, deep))
        word = "makes no difference" if abs(many - few) < MARGIN else "hurts" if many > few else "helps"
        sentences.append(
            f"{kind}: depth {word}, training error {many:.1f} % at {deep} layers, {few:.1f} % at {shallow}"
        )
    return "; ".join(sentences)
