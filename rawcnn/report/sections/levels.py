"""A network that reads levels instead of pixels, and the attack for it: logit-space projected gradient ascent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rawcnn.attacks import logit_pga
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Sums, Table, Text
from rawcnn.report.sections.adversarial import EPSILONS, Series, choose, sum_of

LEVELS = 16
EPOCHS = 12
STEPS = 7  # the paper's, for CIFAR-10
XI = (0.01, 0.1, 1.0)  # the paper's ξ, and larger ones


@dataclass(frozen=True)
class Leveled:
    """The results of logit-space PGA on a network that reads levels, by ξ."""

    series: dict[float, Series]

    @property
    def strongest(self) -> float:
        """The ξ with the lowest accuracy, summed over all ε."""
        return min(self.series, key=lambda xi: sum(self.series[xi].accuracies))

    def to_dict(self) -> dict[str, object]:
        return {str(xi): series.to_dict() for xi, series in self.series.items()}


def fool(network: Network, images: np.ndarray, labels: np.ndarray, *, seed: int, progress: Progress) -> Leveled:
    """Attack a network that was created with `discretize`, with every ε and every ξ."""
    found = {}
    for number, xi in enumerate(XI):
        results = [logit_pga(network, images, labels, epsilon=e, xi=xi, steps=STEPS, seed=seed) for e in EPSILONS]
        found[xi] = Series(f"logit-space PGA, ξ = {xi:g}", EPSILONS, results)
        progress(number + 1, len(XI))
    return Leveled(found)


def section(found: Leveled, labels: Sequence[str], album: Album) -> Section:
    """Return the section on levels as a defense, and on the attack that breaks it."""
    strongest = found.series[found.strongest]
    shown = [number for number in range(len(EPSILONS)) if number % 3 == 0]
    rows = tuple((f"ξ = {xi:g}", *(f"{s.accuracies[n]:.1%}" for n in shown)) for xi, s in found.series.items())
    return Section(
        "Logit-space projected gradient ascent",
        (
            Text(
                f"This network reads each pixel as a thermometer code of {LEVELS} levels, which shows the levels that "
                "the pixel exceeds. Such a code has no gradient that the attacks above could follow. Logit-space PGA "
                "(Buckman et al. 2018) gives each pixel a probability distribution over the levels within ε, and "
                f"ascends the logits of these probabilities. It takes {STEPS} steps of size ξ along the sign of the "
                "gradient, and sharpens the softmax in each step. The most probable levels are the attacked image."
            ),
            Sums(
                tuple(sum_of(strongest, image, labels, album, "noise / ε") for image in choose([strongest], 2)),
                f"Images with ξ = {found.strongest:g}, each at the smallest ε that succeeds.",
            ),
            Table(
                ("accuracy at ε =", *(f"{EPSILONS[n]:g}" for n in shown)),
                rows,
                f"{len(strongest.results[0].labels)} test images. The paper's ξ is {XI[0]:g}. The best ξ depends on "
                f"the network, so several are tried. The network was trained for {EPOCHS} epochs.",
            ),
        ),
    )
