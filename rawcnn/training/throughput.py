"""Compare the throughput of the input pipeline with that of the training step."""

from __future__ import annotations

import time
from dataclasses import dataclass

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.files.progress import StageProgress
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import Adversary, State, make_step


@dataclass(frozen=True)
class Throughput:
    """Two rates in images per second.

    Attributes:
        input: The input pipeline alone: images that are read, decoded and batched, but not used.
        step: The training step alone, on one batch that is already in memory.
    """

    input: float
    step: float

    @property
    def ratio(self) -> float:
        """Input over step. Above 1 the step never waits, provided that the input has a processor core of its own."""
        return self.input / self.step

    def sentence(self) -> str:
        """Return the comparison as a sentence."""
        rates = f"the input gives {self.input:,.0f} images/s, the step takes {self.step:,.0f} images/s: "
        if self.ratio >= 1:
            return rates + f"the input is {self.ratio:.1f} times as fast as the step"
        return rates + (
            f"the step waits for {1 - self.ratio:.0%} of its time. `rawcnn data pack --size` shrinks the images once, "
            "--memory keeps decoded images"
        )


def measure_throughput(
    network: Network,
    recipe: Recipe,
    data: DataSet,
    *,
    compile: str = "auto",
    adversary: Adversary | None = None,
    seconds: float = 5.0,
    progress: StageProgress | None = None,
) -> Throughput:
    """Measure the input pipeline and the training step, one after the other.

    Args:
        network: The network. The steps change its variables.
        recipe: The recipe.
        data: The data set.
        compile: How the step runs.
        adversary: Attacks the images of each step, as in training.
        seconds: The time for each of the two, after a first batch that is not counted.
        progress: Called as progress(done, total, message).

    Raises:
        ValueError: The data set has fewer images than a batch.
    """
    report = progress or (lambda done, total, text: None)
    images, labels = next(data.batches("train", recipe.batch, drop_remainder=True))
    choice = choose(compile, network.devices, network.precision)
    step = make_step(network, recipe, State.begin(network, recipe), choice, adversary)
    seed, rate = tf.constant([0, 0]), tf.constant(0.0)

    def take_step() -> None:
        float(step(images, labels, seed, rate)["loss"])  # waits for the device

    take_step()
    report(1, 3, "the step is compiled")
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        take_step()
        count += 1
    step_rate = recipe.batch * count / elapsed
    report(2, 3, f"the step takes {step_rate:,.0f} images/s")
    input_rate = recipe.batch * _batches_per_second(data, recipe.batch, seconds)
    report(3, 3, f"the input gives {input_rate:,.0f} images/s")
    return Throughput(input_rate, step_rate)


def _batches_per_second(data: DataSet, batch: int, seconds: float) -> float:
    """The rate of the input pipeline, over as many epochs as fit; the first batch only starts the clock."""
    count, start, epoch = -1, 0.0, 0
    while count < 1 or time.perf_counter() - start < seconds:
        for _ in data.batches("train", batch, epoch=epoch, drop_remainder=True):
            count += 1
            if count == 0:
                start = time.perf_counter()
            elif time.perf_counter() - start >= seconds:
                break
        epoch += 1
    return count / (time.perf_counter() - start)
