"""A learning-rate range test: a short training in which the rate rises exponentially from batch to batch.

Rates that are too small change nothing, suitable ones lower the loss, and too large ones make it diverge. The test
trains a copy of the variables and stops when the loss diverges.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 2015), section 3.3; there the rate
rises linearly over some epochs. Exponential steps within an epoch and a smoothed loss are those of the library fastai.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import check_classes
from rawcnn.files.progress import StageProgress
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.batches import TrainingBatches
from rawcnn.training.recipes import Recipe
from rawcnn.training.recovery import Position
from rawcnn.training.step import Adversary, State, make_step
from rawcnn.training.suitable import check_sizes

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
SMOOTHING = 0.9  # share of the previous average in the moving average of the loss
WARM_UP = 10  # steps; the smoothed loss after them is the first that counts, because single losses vary
LEAST_FALL = 0.05  # of that loss; with less, no rate lowers the loss
RISE = 0.2  # of the fall; if the smoothed loss rises by so much from its lowest value, it diverges
BELOW_LOWEST = 3.0  # the suggestion is so many times smaller than the rate of the lowest loss


@dataclass(frozen=True)
class RateRange:
    """The result of a range test.

    Attributes:
        rates: The learning rate of each step.
        losses: The loss of each step's batch, before the step.
        smoothed: The moving average of the losses, without its bias towards 0.
        suggestion: The largest rate for a recipe; None if no rate lowers the loss.
        reason: Why, as a sentence.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    reason: str


def find_rate(
    network: Network,
    recipe: Recipe,
    data: DataSet,
    *,
    seed: int = 0,
    compile: str = "auto",
    adversary: Adversary | None = None,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    progress: StageProgress | None = None,
) -> RateRange:
    """Train a copy of a network with rising learning rates.

    Args:
        network: The network. Its variables stay as they are.
        recipe: The recipe; its rate and its schedule are not used.
        data: The data set.
        seed: The seed of the order of images, of augmentation and of dropout.
        compile: How the step runs.
        adversary: Replaces the images of each step by attacked ones.
        lowest: The rate of the first step.
        highest: The rate of the last step.
        steps: The number of steps, if the loss does not diverge before.
        progress: Called as progress(done, total, message).

    Returns:
        Rates, losses and a suggestion.

    Raises:
        ValueError: The network cannot be trained on the data, or the rates are no range.
    """
    if not 0 < lowest < highest < math.inf or steps < 2:
        raise ValueError(
            f"the rates {lowest} to {highest} in {steps} steps are no range; expected 0 < lowest < highest, and 2 steps"
        )
    batches = TrainingBatches(data, recipe.batch, seed)
    check_classes(network, data)
    check_sizes(network, recipe, data)
    copies = {path: tf.Variable(v, trainable=v.trainable) for path, v in network.variables.items()}
    state = replace(State.begin(network, recipe), variables=copies)
    step = make_step(network, recipe, state, choose(compile, network.devices, network.precision), adversary)
    rates = [float(rate) for rate in np.geomspace(lowest, highest, steps)]
    losses: list[float] = []
    for rate, (images, labels, number) in zip(rates, _endless(batches), strict=False):
        losses.append(float(step(images, labels, number, tf.constant(rate, tf.float32))["loss"]))
        if progress:
            progress(len(losses), steps, f"rate {rate:.2g}  loss {losses[-1]:.4f}")
        if diverges(smooth(losses)):
            break
    smoothed = smooth(losses)
    return RateRange(tuple(rates[: len(losses)]), tuple(losses), tuple(smoothed), *suggest(rates, smoothed))


def _endless(batches: TrainingBatches) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Yield (images [B,H,W,3], labels [B], seed [2]) of one epoch after the other."""
    epoch = 0
    while True:
        for index, images, labels in batches.rest_of_epoch(Position(epoch=epoch)):
            yield images, labels, batches.step_seed(epoch, index)
        epoch += 1


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the moving average of losses: mₜ = β·mₜ₋₁ + (1 − β)·Lₜ, m₀ = 0, divided by 1 − βᵗ (Kingma & Ba 2015)."""
    average, smoothed = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**number))
    return smoothed


def diverges(smoothed: Sequence[float]) -> bool:
    """Say whether a smoothed loss is not finite, or has risen by `RISE` of its fall; without a fall, has doubled."""
    if not math.isfinite(smoothed[-1]):
        return True
    counted = smoothed[WARM_UP - 1 :]
    if not counted:
        return False
    fall = counted[0] - min(counted)
    limit = RISE * fall if fall > LEAST_FALL * counted[0] else counted[0]
    return smoothed[-1] > min(counted) + limit


def suggest(rates: Sequence[float], smoothed: Sequence[float]) -> tuple[float | None, str]:
    """Choose a learning rate.

    Where the smoothed loss is lowest it is about to rise, so that rate is too large. The library fastai takes a tenth
    of it. Here it is a third, because the rate is the largest of a schedule that ends with small ones.

    Args:
        rates: The rates of the steps, rising.
        smoothed: The smoothed losses; the test ends after the last.

    Returns:
        (rate, reason); the rate is None if no rate lowers the loss.
    """
    ends = f"diverges at {rates[len(smoothed) - 1]:.2g}"
    if not diverges(smoothed):
        ends = f"does not diverge up to {rates[len(smoothed) - 1]:.2g}"
    counted = [loss if math.isfinite(loss) else math.inf for loss in smoothed[WARM_UP - 1 :]]
    if not counted or not counted[0] - min(counted) > LEAST_FALL * counted[0]:
        return None, f"no rate lowers the smoothed loss by {LEAST_FALL:.0%} or more, and it {ends}"
    best = counted.index(min(counted)) + WARM_UP - 1
    reason = (
        f"the smoothed loss falls from {counted[0]:.3g} to its lowest, {smoothed[best]:.3g}, at {rates[best]:.2g}, and "
        f"{ends}; the suggestion is a third of the rate of the lowest loss, because there the loss is about to rise"
    )
    return rates[best] / BELOW_LOWEST, reason
