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
XI = (0.01, 0.1, 1.0)  # the paper's, and larger ones


@dataclass(frozen=True)
class Levelled:
    """What logit-space PGA does to a network of levels, by ξ."""

    series: dict[float, Series]

    @property
    def strongest(self) -> float:
        """The ξ that leaves the least accuracy, over all ε."""
        return min(self.series, key=lambda xi: sum(self.series[xi].accuracies))

    def to_dict(self) -> dict[str, object]:
        return {str(xi): series.to_dict() for xi, series in self.series.items()}


def fool(network: Network, images: np.ndarray, labels: np.ndarray, *, seed: int, progress: Progress) -> Levelled:
    """The attack at every ε, for each ξ, on a network that was created with `discretize`."""
    found = {}
    for number, xi in enumerate(XI):
        results = [logit_pga(network, images, labels, epsilon=e, xi=xi, steps=STEPS, seed=seed) for e in EPSILONS]
        found[xi] = Series(f"logit-space PGA, ξ = {xi:g}", EPSILONS, results)
        progress(number + 1, len(XI))
    return Levelled(found)


def section(found: Levelled, labels: Sequence[str], album: Album) -> Section:
    """Levels as a defence, and how it falls."""
    strongest = found.series[found.strongest]
    shown = [number for number in range(len(EPSILONS)) if number % 3 == 0]
    rows = tuple((f"ξ = {xi:g}", *(f"{s.accuracies[n]:.1%}" for n in shown)) for xi, s in found.series.items())
    return Section(
        "Logit-space projected gradient ascent",
        (
            Text(
                f"This network reads each pixel as a thermometer of {LEVELS} levels: which of them it passes. Such a "
                "code has no gradient, so the attacks above have nothing to follow. This one lets each pixel be, with "
                f"some probability, every level that lies within ε, and climbs the logits of these probabilities: "
                f"{STEPS} steps of ξ in the direction of the gradient's sign, the softmax a little sharper each time. "
                "What is likeliest in the end is the attacked image (Buckman et al. 2018)."
            ),
            Sums(
                tuple(sum_of(strongest, image, labels, album, "noise / ε") for image in choose([strongest], 2)),
                f"With ξ = {found.strongest:g}, each at the smallest ε that suffices.",
            ),
            Table(
                ("accuracy at ε =", *(f"{EPSILONS[n]:g}" for n in shown)),
                rows,
                f"{len(strongest.results[0].labels)} test images. The paper's ξ is {XI[0]:g}; what suits depends on "
                f"the network, so it is swept. The network trained for {EPOCHS} epochs.",
            ),
        ),
    )
