"""The smallest ε that still fools, image by image: doubling until it does, then bisection.

With a longer step FGSM may miss what a shorter one hit: success does not have to rise with ε. So the search begins with
the smallest ε and doubles, and what it gives is a boundary between an ε that fools and one that does not.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import numpy as np

from rawcnn.attacks.common import Model, real
from rawcnn.attacks.gradient import fgsm
from rawcnn.attacks.result import AttackResult

Attack = Callable[..., AttackResult]
Progress = Callable[[int, int], None]


def smallest(
    network: Model,
    images,
    labels,
    *,
    attack: Attack = fgsm,
    largest: float = 1.0,
    tolerance: float = 1 / 2550,
    progress: Progress | None = None,
    **settings,
) -> tuple[np.ndarray, AttackResult]:
    """(the smallest ε of each image, float32 [B]; the attack there), to within `tolerance`.

    `attack` takes an ε for each image, as `fgsm` and `pgd` do; a setting that is a function is called with them [B]:
    `step=lambda epsilon: epsilon / 4`. ε is 0 of an image that is wrong before, and ∞ of one that `largest` does not
    fool, which then is attacked with that.
    """
    if not 0 < float(real("tolerance", tolerance)) <= float(real("largest", largest, 1.0)):
        raise ValueError(f"tolerance is {tolerance} and largest {largest}; expected 0 < tolerance ≤ largest ≤ 1")

    def fools(epsilon: np.ndarray) -> AttackResult:
        here = {name: value(epsilon) if callable(value) else value for name, value in settings.items()}
        return attack(network, images, labels, epsilon=epsilon, **here)

    nothing = fools(np.zeros(len(labels)))
    low, high = np.zeros(len(labels)), np.full(len(labels), np.inf)
    high[nothing.success] = 0.0
    rungs = [min(tolerance * 2.0**k, largest) for k in range(ceil(log2(largest / tolerance)) + 1)]
    halvings = ceil(log2(max(rungs[-1] / 2, tolerance) / tolerance))
    total = len(rungs) + halvings + 1
    for number, rung in enumerate(rungs):
        if np.isinf(high).any():
            found = fools(np.full(len(labels), rung)).success & np.isinf(high)
            high[found] = rung
            low[np.isinf(high)] = rung
        _tell(progress, number + 1, total)
    for number in range(halvings):
        wide = np.isfinite(high) & (high - low > tolerance)
        if wide.any():
            middle = np.where(wide, (low + high) / 2, np.minimum(high, largest))
            hit = fools(middle).success
            high[wide & hit], low[wide & ~hit] = middle[wide & hit], middle[wide & ~hit]
        _tell(progress, len(rungs) + number + 1, total)
    result = fools(np.minimum(high, largest))
    _tell(progress, total, total)
    return high.astype(np.float32), result


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress:
        progress(done, total)
