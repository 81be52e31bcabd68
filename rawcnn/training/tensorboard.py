"""What TensorBoard shows of a run: scalars of steps and epochs; by request pictures, and a trace of the profiler."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import augment
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.training.trainer import CHECK_EVERY, Training
from rawcnn.visualize.filters import filter_grid, first_layers

SHOWN = 8  # images of each kind


class Events:
    """The event files in `folder`; None writes none. Steps are told when the run has looked at them, some at a time."""

    def __init__(self, folder: Path | None, *, images: bool = False, trace: bool = False):
        self.folder, self.images = folder, images and folder is not None
        self._writer = tf.summary.create_file_writer(str(folder)) if folder else tf.summary.create_noop_writer()
        self._trace = "wanted" if trace and folder else "none"

    @property
    def untraced(self) -> bool:
        """Was a trace wanted, and never begun? It begins behind the first steps that are looked at."""
        return self._trace == "wanted"

    def step(self, index: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Step `index`, from 1, of an epoch's: its loss, accuracy, gradient's length and rate; the trace's limits."""
        if index % CHECK_EVERY and index != steps:
            return
        with self._writer.as_default(step=int(metrics["step"]) + 1):
            for name, value in metrics.items():
                if name != "step":
                    tf.summary.scalar(f"step/{name}", value)
        if self._trace == "wanted":  # not from the first step on: that one compiles
            tf.profiler.experimental.start(str(self.folder))
            self._trace = "begun"
        elif self._trace == "begun":
            self._end_trace()

    def epoch(self, summary: Mapping[str, float], training: Training, data: DataSet, result: Evaluation) -> None:
        """An epoch's summary, and pictures if they are wanted."""
        with self._writer.as_default(step=int(summary["epoch"])):
            for name, value in summary.items():
                tf.summary.scalar(name, value)
            if self.images:
                self._pictures(training, data, result)
        self._writer.flush()

    def close(self) -> None:
        if self._trace == "begun":
            self._end_trace()
        self._writer.close()

    def _end_trace(self) -> None:
        tf.profiler.experimental.stop()
        self._trace = "done"

    def _pictures(self, training: Training, data: DataSet, result: Evaluation) -> None:
        """Images as the step sees them, the first layer's filters, and what is taken for something else."""
        count = min(SHOWN, data.count("train"))
        images, _ = next(data.batches("train", count, seed=training.seed, epoch=training.epoch))
        seen = augment(images, tf.constant([training.seed, training.epoch]), training.recipe.augmentation)
        tf.summary.image("images/augmented", tf.clip_by_value(seen, 0, 1), max_outputs=SHOWN)
        if layers := first_layers(training.network):
            grid = filter_grid(training.network, layers[0])  # [H,W,3] in [0,1]
            tf.summary.image("filters", tf.constant(grid[None], tf.float32))
        wrong = np.flatnonzero(result.predictions != result.labels)[:SHOWN]
        if len(wrong) and len(result.labels) == data.count("test"):
            tf.summary.image("images/wrong", data.take("test", wrong.tolist()), max_outputs=SHOWN)
            names = [f"{data.labels[result.predictions[n]]} for {data.labels[result.labels[n]]}" for n in wrong]
            readable = [name.encode(errors="replace") for name in names]  # a folder's name may be no UTF-8
            tf.summary.text("images/wrong", tf.constant(readable))
