"""The lecture's comparison: the same units without a remedy against noise, with each remedy, and with several.

Olah et al., "Feature Visualization", Distill 2017, "The Enemy of Feature Visualization" and "The Spectrum of
Regularization".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.visualize.optimization import Optimized, optimize
from rawcnn.visualize.progress import equal_part
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
    """Optimize images of the same channels with each regularization, from the same noise, with the same steps.

    Args:
        network: The network.
        layer: The name of the layer.
        channels: The channels of the layer, one image each.
        regularizations: The regularizations by name.
        progress: Called with (steps done, steps in total).
        **settings: Keywords of `optimize`.

    Returns:
        The optimized images by the name of the regularization.

    Raises:
        ValueError: For an unknown layer or channel, and for a setting out of range.
    """
    return {
        name: optimize(
            network,
            layer,
            channels,
            regularization=regularization,
            progress=equal_part(progress, index, len(regularizations)),
            **settings,
        )
        for index, (name, regularization) in enumerate(regularizations.items())
    }


def noise_ratios(compared: Mapping[str, Optimized]) -> dict[str, float]:
    """Compare the high-frequency energy of regularizations with that of the first one.

    Args:
        compared: The results of `compare`, by name.

    Returns:
        Name → the median, over the images, of the ratio of energies; 1 for the first.
    """
    first = next(iter(compared.values())).high_frequency
    return {name: float(np.median(found.high_frequency / first)) for name, found in compared.items()}
