"""The smallest ε that fools the network, for each image: doubling until it does, then bisection.

Success does not have to rise with ε: a longer FGSM step may miss what a shorter one hits. The search therefore begins
with the smallest ε and doubles it. The result lies between an ε that fools the network and one that does not.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import numpy as np

from rawcnn.attacks.checks import check_attack, check_number, count_of
from rawcnn.attacks.common import Classifier
from rawcnn.attacks.gradient import fgsm
from rawcnn.attacks.result import AttackResult
from rawcnn.files.progress import Progress

Attack = Callable[..., AttackResult]


def smallest(
    network: Classifier,
    images,
    labels,
    *,
    attack: Attack = fgsm,
    largest: float = 1.0,
    tolerance: float = 1 / 2550,
    progress: Progress | None = None,
    **settings,
) -> tuple[np.ndarray, AttackResult]:
    """Find each image's smallest ε by doubling and bisection.

    Args:
        network: A `Network`, or any differentiable function images → logits.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        attack: A function that takes one ε per image, such as `fgsm` or `pgd`.
        largest: The largest ε to try, in pixel values of [0,1].
        tolerance: The precision of ε, and the first one tried.
        progress: Called with (attacks done, attacks in all).
        settings: Keywords of the attack. A function is called with ε [B]: `step=lambda epsilon: epsilon / 4`.

    Returns:
        (ε, float32 [B]; the result of the attack with it). ε is 0 for an image that the network is wrong about, and ∞
        for one that `largest` does not fool, or for which the network answers NaN. That image is attacked with
        `largest`.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    check_attack(attack)
    tolerance, largest = check_number("tolerance", tolerance), check_number("largest", largest, 1.0)
    if not 0 < tolerance <= largest:
        raise ValueError(f"tolerance is {tolerance} and largest {largest}; expected 0 < tolerance ≤ largest ≤ 1")

    def attacked(epsilon: np.ndarray) -> AttackResult:
        return attack(network, images, labels, epsilon=epsilon, **at_epsilon(settings, epsilon))

    count = count_of(labels)
    low, high = np.zeros(count), np.full(count, np.inf)  # ε that do not fool, ε that do
    high[attacked(low).success] = 0.0
    doubled = [min(tolerance * 2.0**k, largest) for k in range(ceil(log2(largest / tolerance)) + 1)]
    halvings = ceil(log2(max(doubled[-1] / 2, tolerance) / tolerance))
    report, total = progress or (lambda done, total: None), len(doubled) + halvings + 1
    for number, epsilon in enumerate(doubled, start=1):
        if np.isinf(high).any():
            hit = attacked(np.full(count, epsilon)).success & np.isinf(high)
            high[hit] = epsilon
            low[np.isinf(high)] = epsilon
        report(number, total)
    for number in range(len(doubled) + 1, total):
        wide = np.isfinite(high) & (high - low > tolerance)
        if wide.any():
            middle = np.where(wide, (low + high) / 2, np.minimum(high, largest))
            hit = attacked(middle).success
            high[wide & hit], low[wide & ~hit] = middle[wide & hit], middle[wide & ~hit]
        report(number, total)
    result = attacked(np.minimum(high, largest))
    report(total, total)
    return high.astype(np.float32), result


def at_epsilon(settings, epsilon) -> dict:
    """The settings; those that are functions are called with ε."""
    return {name: value(epsilon) if callable(value) else value for name, value in settings.items()}
