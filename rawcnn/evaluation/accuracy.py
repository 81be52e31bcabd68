"""How often a network is right: top-1 and top-5 error over a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.data import DataSet
from rawcnn.files.journal import Journal, Row
from rawcnn.files.progress import Progress
from rawcnn.nn.execution import Choice, choose, compiled
from rawcnn.nn.folding import program
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop

BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """Accuracies are fractions of `count` images; `loss` is their mean cross-entropy."""

    count: int
    correct: int
    correct5: int  # the label is among the five largest logits (all of them, with fewer classes)
    loss: float
    predictions: np.ndarray  # [count], in the data set's order
    labels: np.ndarray

    @property
    def accuracy(self) -> float:
        return self.correct / self.count

    @property
    def accuracy5(self) -> float:
        return self.correct5 / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.accuracy, self.count)

    @property
    def interval5(self) -> tuple[float, float]:
        """The same of the top-5 accuracy."""
        return wilson(self.accuracy5, self.count)

    def summary(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
        (low, high), (low5, high5) = self.interval, self.interval5
        return {
            "images": self.count,
            "top1_accuracy": self.accuracy,
            "top1_interval": [low, high],
            "top5_accuracy": self.accuracy5,
            "top5_interval": [low5, high5],
            "top1_error": 1 - self.accuracy,
            "top1_error_interval": [1 - high, 1 - low],
            "top5_error": 1 - self.accuracy5,
            "top5_error_interval": [1 - high5, 1 - low5],
            "loss": finite(self.loss),
        }

    def sentence(self) -> str:
        """The errors, as the papers print them."""
        (low, high), (low5, high5) = self.interval, self.interval5
        return (
            f"top-1 error {1 - self.accuracy:.2%} (95 % interval {1 - high:.2%} to {1 - low:.2%}), "
            f"top-5 error {1 - self.accuracy5:.2%} ({1 - high5:.2%} to {1 - low5:.2%}), "
            f"loss {self.loss:.4f}, {self.count} images"
        )


def wilson(p: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a probability, of which n trials came out as the fraction p (Wilson 1927)."""
    z = 1.959964
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def evaluate(
    network: Network,
    data: DataSet,
    split: str = "test",
    *,
    batch: int = BATCH,
    compile: str = "auto",
    step: Callable | None = None,
    part: tuple[int, int] = (0, 1),
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict every image of `split`, or of a `part` of it as `DataSet.batches` has them, and compare with its label.

    Images larger than the network's are cropped at the centre. `step` is a `counting_step` made before, for those who
    evaluate often. To a `journal` each batch is added; what it has already is not done again.
    """
    check_classes(network, data)
    choice = choose(compile, network.devices, network.precision)
    step = step or counting_step(program(network, compile), network.input_size, choice)
    total = -(-data.count(split) // part[1])
    rows: list[Row] = list(journal.rows) if journal else []
    for images, truth in data.batches(split, batch, shuffle=False, first=len(rows), part=part):
        predictions, right, right5, losses = step(images, truth)
        counts = {"right": int(right), "right5": int(right5), "loss": finite(float(losses))}
        rows.append({"predictions": predictions.numpy().tolist(), "labels": truth.numpy().tolist(), **counts})
        if journal:
            journal.add(rows[-1])
        if progress:
            progress(min(len(rows) * batch, total), total)
    return joined(rows)


def finite(loss: float) -> float | None:
    """The loss of a network that gives numbers; None of others, for JSON has no such numbers."""
    return loss if isfinite(loss) else None


def joined(rows: Sequence[Row]) -> Evaluation:
    """The evaluation of which these are the batches: predictions, labels, right, right5, loss (a sum)."""
    predictions, labels = (np.array([n for r in rows for n in r[key]], np.int32) for key in ("predictions", "labels"))
    right, right5 = (sum(r[key] for r in rows) for key in ("right", "right5"))
    loss = 0.0
    for row in rows:
        loss += nan if row["loss"] is None else row["loss"]
    count = len(labels)  # none, where a worker's part of a few images is empty
    return Evaluation(count, right, right5, loss / max(count, 1), predictions, labels)


def check_classes(network: Network, data: DataSet) -> None:
    """ValueError unless the network has as many classes as the data set."""
    if len(data.labels) != network.classes:
        raise ValueError(
            f"{data.name} has {len(data.labels)} classes, but {network.name} was built for {network.classes}; "
            f"give it --classes {len(data.labels)}, in Python classes={len(data.labels)}"
        )


def counting_step(model: Callable[[tf.Tensor], tf.Tensor], size: int, choice: Choice) -> Callable:
    """The compiled step (images, labels) → (predictions [B], number right, number right in five, summed loss).

    `model` gives logits of images, of which larger ones are cropped to `size`.
    """

    def count(images, labels):
        if min(images.shape[1:3]) > size:
            images = center_crop(images, size)
        logits = model(images)
        predictions = tf.argmax(logits, axis=1, output_type=tf.int32)
        rank = ranks(logits, labels)
        right, right5 = (tf.reduce_sum(tf.cast(rank < n, tf.int32)) for n in (1, 5))
        return predictions, right, right5, tf.reduce_sum(kernels.cross_entropy(logits, labels))

    return compiled(count, choice)


def ranks(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """How many classes are before the label: [B,classes], [B] → [B]. Of equal scores the first class wins."""
    own = tf.gather(scores, labels, axis=1, batch_dims=1)[:, None]  # [B,1]
    later = tf.range(scores.shape[1]) >= tf.cast(labels, tf.int32)[:, None]
    below = (scores < own) | ((scores == own) & later)
    return tf.reduce_sum(tf.cast(~below, tf.int32), axis=1)  # NaN is below nothing: the label comes last
