"""The training batches of a run: their number, order and seeds are functions of (seed, epoch, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.training.recovery import Position


class ImageUnreadable(ValueError):
    """A training image cannot be read or decoded."""


@dataclass(frozen=True)
class TrainingBatches:
    """The training images of a data set, in complete batches.

    Attributes:
        data: The data set.
        size: The number of images in a batch, B.
        seed: The seed of the run.
        part: (worker, workers): the part of each batch that this process reads.

    Raises:
        ValueError: There are fewer images than a batch.
    """

    data: DataSet
    size: int
    seed: int
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if self.steps == 0:
            raise ValueError(
                f"{self.data.name} has {self.data.count('train')} training images, fewer than a batch of {self.size}; "
                "give a smaller --batch"
            )

    @property
    def steps(self) -> int:
        """The number of steps per epoch."""
        return self.data.count("train") // self.size

    def rest_of_epoch(self, at: Position) -> Iterator[tuple[int, tf.Tensor, tf.Tensor]]:
        """Yield (step of the epoch, images [B,H,W,3], labels [B]), from a position on. Raises ImageUnreadable."""
        batches = self.data.batches(
            "train", self.size, seed=self.seed, epoch=at.epoch, drop_remainder=True, first=at.steps, part=self.part
        )
        try:
            for index, (images, labels) in enumerate(batches, at.steps):
                yield index, images, labels
        except ValueError as error:
            raise ImageUnreadable(str(error)) from error

    def step_seed(self, epoch: int, index: int) -> tf.Tensor:
        """Return the seed of step `index` of an epoch: int [2], the run's seed and the number of the step."""
        return tf.constant([self.seed, epoch * self.steps + index])
