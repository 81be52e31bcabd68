"""The metrics of an epoch's steps: they stay on the device until some steps are done, because reading them waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from rawcnn.training.recovery import Position
from rawcnn.training.step import Tensors

CHECK_EVERY = 20  # steps between two looks at the metrics; each look waits for the device


class EpochMetrics:
    """The metrics of steps that were not read yet, and the sums of those that were, in a `Position`."""

    def __init__(self, at: Position, steps: int):
        """Start the clock at a position in an epoch of so many steps."""
        self.at, self.steps = at, steps
        self._pending: list[tuple[int, float, Tensors]] = []
        self.start_clock()

    def start_clock(self) -> None:
        """Start the clock. What happens between `read` and this, such as saving, does not count as training time."""
        self._start = time.perf_counter()

    def add(self, index: int, rate: float, tensors: Tensors) -> None:
        """Add the metrics of step `index` of the epoch, scalars on the device."""
        self._pending.append((index, rate, tensors))

    @property
    def due(self) -> bool:
        """Whether the metrics should be read now: after CHECK_EVERY steps, and after the last of the epoch."""
        return len(self._pending) == CHECK_EVERY or self._pending[-1][0] == self.steps - 1

    def read(self, check: Callable[[dict[str, float]], None]) -> list[dict[str, float]]:
        """Wait for the device and return the metrics of the steps since the last call, "step" and "rate" among them.

        Args:
            check: Called with the metrics of each step before any is counted; it may raise.
        """
        found = []
        for index, rate, tensors in self._pending:
            values = {name: float(value) for name, value in tensors.items()}
            found.append({"step": self.at.epoch * self.steps + index, "rate": rate, **values})
            check(found[-1])
        self._pending.clear()
        for values in found:  # one by one, so that a resumed run adds in the same order, to the same bits
            self.at.loss += values["loss"]
            self.at.accuracy += values["accuracy"]
            self.at.steps += 1
        self.at.seconds += time.perf_counter() - self._start
        return found
