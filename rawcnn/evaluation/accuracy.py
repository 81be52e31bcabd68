"""Top-1 and top-5 accuracy of a network over a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.data import DataSet
from rawcnn.evaluation.class_names import check_classes, match_classes
from rawcnn.files.journal import Journal, Row
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import Size, image_size
from rawcnn.nn.execution import Choice, choose, compiled
from rawcnn.nn.folding import program
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop

BATCH = 256  # images; the result does not depend on it


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        count: The number of images.
        correct: How many are classified right.
        correct5: For how many the label is among the five largest logits.
        loss: The mean cross-entropy.
        predictions: int32 [count], the predicted classes in the data set's order.
        labels: int32 [count].
    """

    count: int
    correct: int
    correct5: int
    loss: float
    predictions: np.ndarray
    labels: np.ndarray

    @property
    def accuracy(self) -> float:
        """The top-1 accuracy, from 0 to 1."""
        return self.correct / self.count

    @property
    def accuracy5(self) -> float:
        """The top-5 accuracy, from 0 to 1."""
        return self.correct5 / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the top-1 accuracy."""
        return wilson(self.accuracy, self.count)

    @property
    def interval5(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the top-5 accuracy."""
        return wilson(self.accuracy5, self.count)

    def summary(self) -> dict[str, object]:
        """Return accuracies, errors, their intervals and the loss as plain values for JSON."""
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
        """Return the errors in percent, as the papers print them, with intervals and loss."""
        (low, high), (low5, high5) = self.interval, self.interval5
        return (
            f"top-1 error {1 - self.accuracy:.2%} (95 % interval {1 - high:.2%} to {1 - low:.2%}), "
            f"top-5 error {1 - self.accuracy5:.2%} ({1 - high5:.2%} to {1 - low5:.2%}), "
            f"loss {self.loss:.4f}, {self.count} images"
        )


def wilson(p: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a probability that was estimated as the fraction p of n trials (Wilson 1927)."""
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
    force: bool = False,
    journal: Journal | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Classify the images of a split and compare the predictions with the labels.

    Args:
        network: The network. Images larger than its input are cropped at the center.
        data: The data set.
        split: One of the data set's splits.
        batch: The number of images in a batch.
        compile: How the step runs: one of `rawcnn.nn.execution.MODES`.
        step: The `counting_step` to use, for callers that evaluate often; None creates one.
        part: (index, count): evaluate this part of each batch, as in `DataSet.batches`.
        force: Compare classes by number even if their names differ.
        journal: Receives each batch. Batches that it already has are not evaluated again.
        progress: Called as progress(done, total) after each batch.

    Raises:
        ValueError: The numbers or the names of the classes differ, the split is unknown, or an image cannot be read.
    """
    check_classes(network, data)
    if step is None:  # callers with a step of their own evaluate the classes that they train
        data = match_classes(network, data, force=force)
    choice = choose(compile, network.devices, network.precision)
    step = step or counting_step(program(network, compile), network.image_size, choice)
    total = -(-data.count(split) // part[1])
    rows: list[Row] = list(journal.rows) if journal else []
    for images, labels in data.batches(split, batch, shuffle=False, first=len(rows), part=part):
        predictions, right, right5, losses = step(images, labels)
        counts = {"right": int(right), "right5": int(right5), "loss": finite(float(losses))}
        rows.append({"predictions": predictions.numpy().tolist(), "labels": labels.numpy().tolist(), **counts})
        if journal:
            journal.add(rows[-1])
        if progress:
            progress(min(len(rows) * batch, total), total)
    return joined(rows)


def finite(loss: float) -> float | None:
    """Return the loss, or None if it is not finite: JSON has no NaN and no infinity."""
    return loss if isfinite(loss) else None


def joined(rows: Sequence[Row]) -> Evaluation:
    """Return the evaluation of these batches: predictions, labels, right, right5 and the summed loss of each."""
    predictions, labels = (np.array([n for r in rows for n in r[key]], np.int32) for key in ("predictions", "labels"))
    right, right5 = (sum(r[key] for r in rows) for key in ("right", "right5"))
    loss = 0.0
    for row in rows:
        loss += nan if row["loss"] is None else row["loss"]
    count = len(labels)  # 0 if a worker's part is empty
    return Evaluation(count, right, right5, loss / max(count, 1), predictions, labels)


def counting_step(model: Callable[[tf.Tensor], tf.Tensor], size: Size, choice: Choice) -> Callable:
    """Return the compiled step (images [B,H,W,3], labels [B]) → (predictions [B], right, right5, summed loss).

    Args:
        model: Images [B,H,W,3] → logits [B,classes].
        size: The side, or height and width, in pixels to which larger images are cropped.
        choice: How the step runs.
    """

    height, width = image_size(size)

    def count(images, labels):
        if images.shape[1] > height and images.shape[2] > width:
            images = center_crop(images, size)
        logits = model(images)
        predictions = tf.argmax(logits, axis=1, output_type=tf.int32)
        rank = ranks(logits, labels)
        right, right5 = (tf.reduce_sum(tf.cast(rank < n, tf.int32)) for n in (1, 5))
        return predictions, right, right5, tf.reduce_sum(kernels.cross_entropy(logits, labels))

    return compiled(count, choice)


def ranks(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return how many classes rank before the label: [B,classes], [B] → [B]. Of equal scores the first class wins."""
    of_label = tf.gather(scores, labels, axis=1, batch_dims=1)[:, None]  # [B,1]
    later = tf.range(scores.shape[1]) >= tf.cast(labels, tf.int32)[:, None]
    below = (scores < of_label) | ((scores == of_label) & later)
    return tf.reduce_sum(tf.cast(~below, tf.int32), axis=1)  # NaN is below nothing, so the label ranks last
