"""Depth hurts a plain network and not a residual one (He et al. 2016, §4.2 and figure 6), repeated on given data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rawcnn.data import DataSet
from rawcnn.training.recipes import RECIPES, Recipe
from rawcnn.training.trainer import Training
from rawcnn.zoo import create

MARGIN = 1.0  # percentage points of training error that one run of each cannot tell apart
Summaries = list[dict[str, float]]


def networks(depths: Sequence[int]) -> list[str]:
    """Names of the plain and residual CIFAR networks of these depths, in the order of figure 6."""
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
    """Train each network alike (data, recipe, order, seed) → the summaries of its epochs by name.

    With `folder`, each run keeps its checkpoints there and goes on from them when it is called again.
    """
    histories = {}
    for name in networks(depths):
        network = create(name, classes=len(data.labels), seed=seed, size=data.size[0])
        training = Training(network, recipe, seed=seed, folder=folder / name if folder else None, compile=compile)
        training.restore()
        training.fit(
            data,
            on_step=partial(on_step, name) if on_step else None,
            on_epoch=partial(on_epoch, name) if on_epoch else None,
        )
        histories[name] = training.history
    return histories


def verdict(histories: dict[str, Summaries], depths: Sequence[int] = (20, 56)) -> str:
    """What the last epochs' training errors say, in a sentence a kind; differences below MARGIN say nothing."""
    shallow, deep = min(depths), max(depths)
    sentences = []
    for kind in ("plain", "resnet"):
        few, many = (100 * (1 - histories[f"cifar_{kind}{depth}"][-1]["train_accuracy"]) for depth in (shallow, deep))
        word = "makes no difference" if abs(many - few) < MARGIN else "hurts" if many > few else "helps"
        sentences.append(
            f"{kind}: depth {word}, training error {many:.1f} % at {deep} layers, {few:.1f} % at {shallow}"
        )
    return "; ".join(sentences)
