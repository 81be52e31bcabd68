"""A learning-rate range test: a short training in which the rate rises exponentially from batch to batch.

Rates that are too small change nothing, suitable ones lower the loss, and too large ones make it diverge. The test
trains a copy of the variables and stops when the loss diverges.

Sources: Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 2015), section 3.3. There the rate
rises linearly over several epochs, and a person reads two rates off the plotted accuracy: where it begins to rise, and
where it slows down, becomes ragged or falls. The library fastai (`lr_find`) raises the rate exponentially from batch to
batch, 100 times from 10⁻⁷ to 10, and smooths the loss. It stops where the smoothed loss is above four times its lowest
value, leaves out the first tenth of the steps, and can suggest a tenth of the rate of the lowest loss. The steps, the
smoothing and the omission are its; when to stop and what to suggest are ours (`diverges`, `suggest`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.dataset import check_data_set
from rawcnn.evaluation.accuracy import check_classes
from rawcnn.files.progress import StageProgress
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.training.batches import TrainingBatches
from rawcnn.training.recipes import Recipe, check_recipe
from rawcnn.training.recovery import Position
from rawcnn.training.step import Adversary, State, make_step
from rawcnn.training.suitable import check_sizes

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100
LEAST_STEPS = 20  # with fewer, hardly any are left after the warm-up
SMOOTHING = 0.9  # share of the previous average in the moving average of the loss
SMOOTHED = math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))  # standard deviation of the average of independent losses
WARM_UP = 10  # steps; the smoothed loss after them is the first that counts, because single losses vary
LEAST_FALL = 0.05  # of that loss; with less, no rate lowers the loss
RISE = 0.2  # of the fall; if the smoothed loss rises by so much from its lowest value, it diverges
CHANCE = 8.0  # standard deviations of the smoothed loss; of 100 values, some differ by almost so much by chance
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
        steps: The number of steps, 20 or more, if the loss does not diverge before.
        progress: Called as progress(done, total, message).

    Returns:
        Rates, losses and a suggestion.

    Raises:
        ValueError: The network cannot be trained on the data, or the rates are no range.
    """
    if not 0 < lowest < highest < math.inf or steps < LEAST_STEPS:
        raise ValueError(
            f"the rates {lowest} to {highest} in {steps} steps are no range; expected 0 < lowest < highest, and "
            f"{LEAST_STEPS} steps or more"
        )
    check_recipe(recipe)
    check_data_set(data)
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
        if diverges(losses):
            break
    return RateRange(tuple(rates[: len(losses)]), tuple(losses), tuple(smooth(losses)), *suggest(rates, losses))


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


def chance(losses: Sequence[float]) -> float:
    """Return how much the smoothed loss may change by chance, because each step has another batch.

    If losses have the standard deviation σ, their moving average has σ·√((1 − β)/(1 + β)), and the median of
    |Lₜ − Lₜ₋₁| is 0.954 σ. A median ignores the few large differences of a loss that diverges.
    """
    differences = np.abs(np.diff([loss for loss in losses if math.isfinite(loss)]))
    if not len(differences):
        return 0.0
    return CHANCE * SMOOTHED * float(np.median(differences)) / 0.954


def falls(losses: Sequence[float]) -> bool:
    """Say whether the smoothed loss falls, after the warm-up, by more than `LEAST_FALL` and more than by chance.

    A fall from above the first loss, which rates that were too large caused, does not count.
    """
    counted = [loss for loss in smooth(losses)[WARM_UP - 1 :] if math.isfinite(loss)]
    if not counted:
        return False
    start = min(counted[0], losses[0] + chance(losses) / SMOOTHED)
    return start - min(counted) > max(LEAST_FALL * start, chance(losses))


def diverges(losses: Sequence[float]) -> bool:
    """Say whether the loss diverges at the last step.

    It does if it is not finite, or if its moving average has risen from its lowest value by `RISE` of its fall and more
    than by chance. If it has not fallen, it diverges if it doubles.
    """
    smoothed = smooth(losses)
    if not math.isfinite(smoothed[-1]):
        return True
    if len(losses) < WARM_UP:
        return False
    counted = smoothed[WARM_UP - 1 :]
    if falls(losses):
        return smoothed[-1] - min(counted) > max(RISE * (counted[0] - min(counted)), chance(losses))
    # From the first step on, because the lowest rate may be too large; that one is a single loss
    return smoothed[-1] > 2 * min(smoothed) + chance(losses) / SMOOTHED


def suggest(rates: Sequence[float], losses: Sequence[float]) -> tuple[float | None, str]:
    """Choose a learning rate.

    Where the smoothed loss is lowest it is about to rise, so that rate is too large. The library fastai takes a tenth
    of it. Here it is a third, because the rate is the largest of a schedule that ends with small ones.

    Args:
        rates: The rates of the steps, rising.
        losses: The losses of the steps; the test ends after the last.

    Returns:
        (rate, reason); the rate is None if no rate lowers the loss.
    """
    smoothed, last = smooth(losses), rates[len(losses) - 1]
    ends = f"diverges at {last:.2g}" if diverges(losses) else f"does not diverge up to {last:.2g}"
    if not falls(losses):
        return None, f"no rate lowers the smoothed loss by more than {LEAST_FALL:.0%} and chance, and it {ends}"
    counted = [loss if math.isfinite(loss) else math.inf for loss in smoothed[WARM_UP - 1 :]]
    best = counted.index(min(counted)) + WARM_UP - 1
    why = "because there the loss is about to rise"
    if best == len(rates) - 1:
        why = "the largest that was tried, so a larger one may suit"
    reason = (
        f"the smoothed loss falls from {counted[0]:.3g} to its lowest, {smoothed[best]:.3g}, at {rates[best]:.2g}, and "
        f"{ends}; the suggestion is a third of the rate of the lowest loss, {why}"
    )
    return rates[best] / BELOW_LOWEST, reason
