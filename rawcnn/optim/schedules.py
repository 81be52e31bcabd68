"""Learning-rate schedules: functions of the epoch that multiply a recipe's largest learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol


class Schedule(Protocol):
    """A function that returns the factor on a recipe's learning rate.

    Args:
        epoch: The epoch from 0, with its fraction.
        epochs: The number of epochs of the training.
        drops: The number of plateaus so far, as `Plateau` counts them.
    """

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float: ...


@dataclass(frozen=True)
class Constant:
    """The factor 1."""

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        return 1.0


@dataclass(frozen=True)
class Step:
    """Multiply by `factor` at each of the fractions `at` of the training."""

    at: tuple[float, ...]
    factor: float = 0.1

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        return self.factor ** sum(epoch >= fraction * epochs for fraction in self.at)


@dataclass(frozen=True)
class Exponential:
    """Multiply by `factor` after every `every` epochs, in steps."""

    factor: float
    every: float

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        return self.factor ** math.floor(epoch / self.every)


@dataclass(frozen=True)
class OnPlateau:
    """Multiply by `factor` each time the validation error stops falling, at most `most` times."""

    factor: float = 0.1
    most: int = 3

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        return self.factor ** min(drops, self.most)


@dataclass(frozen=True)
class OneCycle:
    """Rise linearly from `start` to 1 over the first `rise` of the training, then fall linearly to `end`.

    Source: Smith & Topin, "Super-Convergence", 2019, section 3, without the cycle of the momentum.
    """

    rise: float = 0.25
    start: float = 0.1
    end: float = 0.0

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        done = min(epoch / epochs, 1.0)
        if done < self.rise:
            return self.start + (1 - self.start) * done / self.rise
        return 1 + (self.end - 1) * (done - self.rise) / (1 - self.rise)


@dataclass(frozen=True)
class WarmUp:
    """Go linearly from `start` to `end` for `length` epochs, then follow the schedule `then`.

    start = 0 and end = 1 is the gradual warm-up of Goyal et al. 2017, section 2.2. start = end is the constant warm-up
    of He et al. 2016, section 4.2.
    """

    then: Schedule
    length: float
    start: float = 0.0
    end: float = 1.0

    def __call__(self, epoch: float, epochs: float, drops: int = 0) -> float:
        if epoch < self.length:
            return self.start + (self.end - self.start) * epoch / self.length
        return self.then(epoch, epochs, drops)


@dataclass(frozen=True)
class Plateau:
    """Watch the validation error and count the drops of the learning rate: `plateau = plateau.observe(error)`.

    The papers only say "when the error stops improving". Here the rate drops after `patience` epochs in which the error
    was not below the best one by its fraction `gain`. All fields are plain numbers, so that a checkpoint can hold them.

    Attributes:
        best: The lowest error so far.
        waited: The epochs since then, or since the last drop.
        drops: The number of drops.
        patience: The number of epochs to wait.
        gain: The relative improvement that counts.
    """

    best: float = math.inf
    waited: int = 0
    drops: int = 0
    patience: int = 3
    gain: float = 1e-3

    def observe(self, error: float) -> Plateau:
        """Return the state after an epoch with this error. NaN counts as no improvement."""
        if error < self.best * (1 - self.gain):
            return replace(self, best=error, waited=0)
        if self.waited + 1 < self.patience:
            return replace(self, waited=self.waited + 1)
        return replace(self, waited=0, drops=self.drops + 1)
