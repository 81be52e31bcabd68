"""The lecture's slide: the same units with no remedy against noise, with each alone, and with several.

Olah et al., "Feature Visualization", Distill 2017, "The Enemy of Feature Visualization" and "The Spectrum of
Regularization".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.visualize.optimization import Optimized, Progress, optimize
from rawcnn.visualize.regularization import COMPARED, Regularization


def compare(
    network: Network,
    layer: str,
    channels: Sequence[int],
    *,
    regularizations: Mapping[str, Regularization] = COMPARED,
    progress: Progress | None = None,
    **settings,
) -> dict[str, Optimized]:
    """The images of these channels for each regularisation, all else equal: the same noise, steps and rate.

    `settings` are those of `optimize`. ValueError for what the network has not.
    """
    found = {}
    for number, (name, regularization) in enumerate(regularizations.items()):

        def told(done: int, total: int, number=number) -> None:
            if progress:
                progress(number * total + done, len(regularizations) * total)

        found[name] = optimize(network, layer, channels, regularization=regularization, progress=told, **settings)
    return found


def noise_ratios(compared: Mapping[str, Optimized]) -> dict[str, float]:
    """High-frequency energy of each over that of the first, median over the images."""
    first = next(iter(compared.values())).high_frequency
    return {name: float(np.median(found.high_frequency / first)) for name, found in compared.items()}
