"""TensorBoard's event files of a run: scalars of steps and epochs; on request pictures and a profiler trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import augment
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.nn.network import Network
from rawcnn.training.metrics import CHECK_EVERY
from rawcnn.training.trainer import Training

SHOWN = 8  # images of each kind
DrawFilters = Callable[[Network], np.ndarray | None]  # → a picture [H,W,3] in [0,1], or None


class Events:
    """The event files of a run in a folder. Not every step is recorded, but one in CHECK_EVERY."""

    def __init__(
        self,
        folder: Path | None,
        *,
        images: bool = False,
        trace: bool = False,
        draw_filters: DrawFilters | None = None,
    ):
        """Open the event files.

        Args:
            folder: The folder; None writes nothing.
            images: Write pictures after each epoch.
            trace: Write a profiler trace of some steps.
            draw_filters: Returns the picture of a network's filters.
        """
        self.folder, self.images, self.draw_filters = folder, images and folder is not None, draw_filters
        self._writer = tf.summary.create_file_writer(str(folder)) if folder else tf.summary.create_noop_writer()
        self._trace = "pending" if trace and folder else "none"

    @property
    def untraced(self) -> bool:
        """Whether a trace was requested but never begun. It begins after the first steps that are recorded."""
        return self._trace == "pending"

    def step(self, index: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Record step `index`, from 1, of an epoch: its metrics and learning rate. Begin and end the trace."""
        if index % CHECK_EVERY and index != steps:
            return
        with self._writer.as_default(step=int(metrics["step"]) + 1):
            for name, value in metrics.items():
                if name != "step":
                    tf.summary.scalar(f"step/{name}", value)
        if self._trace == "pending":  # not at the first step, which compiles
            tf.profiler.experimental.start(str(self.folder))
            self._trace = "begun"
        elif self._trace == "begun":
            self._end_trace()

    def epoch(self, summary: Mapping[str, float], training: Training, data: DataSet, result: Evaluation) -> None:
        """Record the summary of an epoch, and pictures if they are requested."""
        with self._writer.as_default(step=int(summary["epoch"])):
            for name, value in summary.items():
                tf.summary.scalar(name, value)
            if self.images:
                self._pictures(training, data, result)
        self._writer.flush()

    def test(self, summary: Mapping[str, float]) -> None:
        """Record the evaluation of the test images at the end of a run that has validation images."""
        with self._writer.as_default(step=int(summary["epoch"])):
            for name in ("test_loss", "test_accuracy"):
                tf.summary.scalar(name, summary[name])

    def close(self) -> None:
        """End the trace and close the files."""
        if self._trace == "begun":
            self._end_trace()
        self._writer.close()

    def _end_trace(self) -> None:
        tf.profiler.experimental.stop()
        self._trace = "done"

    def _pictures(self, training: Training, data: DataSet, result: Evaluation) -> None:
        """Augmented images as the step sees them, the first layer's filters, and misclassified held-out images."""
        count = min(SHOWN, data.count("train"))
        images, _ = next(data.batches("train", count, seed=training.seed, epoch=training.epoch))
        augmented = augment(images, tf.constant([training.seed, training.epoch]), training.recipe.augmentation)
        tf.summary.image("images/augmented", tf.clip_by_value(augmented, 0, 1), max_outputs=SHOWN)
        filters = self.draw_filters(training.network) if self.draw_filters else None  # [H,W,3] in [0,1]
        if filters is not None:
            tf.summary.image("filters", tf.constant(filters[None], tf.float32))
        wrong = np.flatnonzero(result.predictions != result.labels)[:SHOWN]
        if len(wrong) and len(result.labels) == data.count(training.watched):
            tf.summary.image("images/wrong", data.take(training.watched, wrong.tolist()), max_outputs=SHOWN)
            names = [f"{data.labels[result.predictions[n]]} for {data.labels[result.labels[n]]}" for n in wrong]
            readable = [name.encode(errors="replace") for name in names]  # a folder's name may not be UTF-8
            tf.summary.text("images/wrong", tf.constant(readable))
