"""The section on a network that the tour trains: its curves, its accuracy, and its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.network import Network
from rawcnn.plots import themed as plots
from rawcnn.report.album import Album
from rawcnn.report.page import Block, Facts, Gallery, Section, Table, Text
from rawcnn.training.recipes import Recipe


@dataclass(frozen=True)
class Trained:
    """A finished training."""

    network: Network
    data: DataSet
    recipe: Recipe
    history: Sequence[dict[str, float]]
    evaluation: Evaluation
    seconds: float

    @property
    def confusion(self) -> np.ndarray:
        """Numbers of test images by true class (row) and prediction (column), [K,K]."""
        matrix = np.zeros((self.network.classes,) * 2, int)
        np.add.at(matrix, (self.evaluation.labels, self.evaluation.predictions), 1)
        return matrix

    def to_dict(self) -> dict[str, object]:
        return {
            "network": self.network.name,
            "parameters": self.network.parameter_count,
            "data": self.data.name,
            "train_images": self.data.count("train"),
            "recipe": self.recipe.name,
            "epochs": self.recipe.epochs,
            "batch": self.recipe.batch,
            "rate": self.recipe.rate,
            "seconds": self.seconds,
            "history": list(self.history),
            "test": self.evaluation.summary(),
            "confusion": self.confusion.tolist(),
        }


def digits(trained: Trained, album: Album) -> Section:
    """Return the section on the residual network that reads handwritten digits."""
    network, data, recipe, evaluation = trained.network, trained.data, trained.recipe, trained.evaluation
    low, high = evaluation.interval
    pixels = f"{data.size[0]}×{data.size[1]}"
    blocks: list[Block] = [
        Text(
            f"The CIFAR ResNet of 20 layers (He et al. 2016, section 4.2) with {network.parameter_count:,} "
            f"parameters is trained on scikit-learn's handwritten digits: {data.count('train'):,} training images of "
            f"{pixels} pixels, and {data.count('test')} test images, every fifth of each class. The training step is "
            "one function: forward pass, cross-entropy, `tf.GradientTape`, weight decay and the momentum rule, which "
            "on a CPU runs as one fused kernel. The chapters below visualize this network and then attack it."
        ),
        Facts(
            (
                (f"{evaluation.accuracy:.1%}", "of the test images classified correctly"),
                (f"{low:.1%} – {high:.1%}", "Wilson's 95 % interval"),
                (f"{trained.seconds:.0f} s", f"for {recipe.epochs:g} epochs of training, including evaluations"),
            )
        ),
        album.plot(
            "training",
            plots.curves(trained.history),
            (5.3, 2.4),
            alt=f"Loss and accuracy over {len(trained.history)} epochs; the test accuracy ends at "
            f"{evaluation.accuracy:.1%}.",
            caption="Loss and accuracy after each epoch. The training curves average over an epoch, while the network "
            "changes, with shifted images and smoothed labels. The test images are unchanged.",
        ),
        album.plot(
            "confusion",
            plots.confusion(trained.confusion, data.labels),
            (4.4, 3.9),
            alt=f"Confusion matrix: {evaluation.correct} of {evaluation.count} test images are on the diagonal.",
            caption="Confusion matrix of the test images: rows are true classes, columns are predictions.",
        ),
    ]
    if mistakes := _mistakes(trained, album):
        blocks.append(mistakes)
    augmentation = recipe.augmentation
    blocks.append(
        Table(
            ("setting", "value"),
            (
                ("recipe", recipe.name),
                (
                    "optimizer",
                    f"{recipe.optimizer}, momentum {recipe.momentum:g}, weight decay {recipe.weight_decay:g}",
                ),
                ("rate", f"up to {recipe.rate:g}, one cycle"),
                ("batch", str(recipe.batch)),
                ("label smoothing", f"{recipe.label_smoothing:g}"),
                (
                    "augmentation",
                    f"shifts of up to {augmentation.shift} pixel, no mirroring: a mirrored 2 is not a digit",
                ),
            ),
            "Settings of the training.",
        )
    )
    return Section("A residual network learns to read digits", tuple(blocks))


def _mistakes(trained: Trained, album: Album, most: int = 8) -> Gallery | None:
    """Return the test images that the network misclassifies, if any."""
    evaluation, names = trained.evaluation, trained.data.labels
    wrong = np.flatnonzero(evaluation.predictions != evaluation.labels)
    if not len(wrong):
        return None
    images, _ = trained.data.arrays("test")
    tiles = [
        album.tile(
            f"mistake-{number}",
            images[number],
            alt=f"A {names[evaluation.labels[number]]} that is read as {names[evaluation.predictions[number]]}",
            label=f"read as {names[evaluation.predictions[number]]}",
            detail=f"is {names[evaluation.labels[number]]}",
        )
        for number in wrong[:most]
    ]
    of = f"The first {most} of the {len(wrong)}" if len(wrong) > most else f"All {len(wrong)}"
    return Gallery(tuple(tiles), f"{of} test images that the network misclassifies.")
