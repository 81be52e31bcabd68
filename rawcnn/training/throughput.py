"""Does the input keep up? Images a second of the pipeline alone, beside those of the training step alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import Adversary, State, step_of


@dataclass(frozen=True)
class Pace:
    """Images a second."""

    input: float  # read, decoded and batched, with nobody who takes them but a clock
    step: float  # of a training step on one batch that lies in memory

    @property
    def ratio(self) -> float:
        """Above 1 the input keeps up, and a processor is left for it."""
        return self.input / self.step

    def sentence(self) -> str:
        """For people."""
        told = f"the input gives {self.input:,.0f} images/s, the step takes {self.step:,.0f} images/s: "
        if self.ratio >= 1:
            return told + f"it keeps up, {self.ratio:.1f} times as fast as they are taken"
        return told + (
            f"the step waits for {1 - self.ratio:.0%} of its time. `rawcnn data pack --size` makes images smaller "
            "once, --memory keeps decoded ones"
        )


def pace(
    network: Network,
    recipe: Recipe,
    data: DataSet,
    *,
    compile: str = "auto",
    adversary: Adversary | None = None,
    seconds: float = 5.0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Pace:
    """Measure both, each for so many seconds after a first batch that is not counted. The network is trained by it.

    With an `adversary` the step attacks its images first, as in training.
    """
    told = progress or (lambda done, total, text: None)
    images, labels = next(data.batches("train", recipe.batch, drop_remainder=True))
    choice = choose(compile, network.devices, network.precision)
    step = step_of(network, recipe, State.begin(network, recipe), choice, adversary)
    numbers, rate = tf.constant([0, 0]), tf.constant(0.0)

    def take() -> None:
        float(step(images, labels, numbers, rate)["loss"])  # waits

    take()
    told(1, 3, "the step is compiled")
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        take()
        count += 1
    by_step = recipe.batch * count / passed
    told(2, 3, f"the step takes {by_step:,.0f} images/s")
    count, start, epoch = -1, 0.0, 0
    while count < 1 or time.perf_counter() - start < seconds:
        for _ in data.batches("train", recipe.batch, epoch=epoch, drop_remainder=True):
            count += 1
            if count == 0:
                start = time.perf_counter()
            elif time.perf_counter() - start >= seconds:
                break
        epoch += 1
    by_input = recipe.batch * count / (time.perf_counter() - start)
    told(3, 3, f"the input gives {by_input:,.0f} images/s")
    return Pace(by_input, by_step)
