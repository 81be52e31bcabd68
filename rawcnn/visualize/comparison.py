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
        network: the network.
        layer: the name of the layer.
        channels: the channels of the layer, one image each.
        regularizations: the regularizations by name.
        progress: called with (steps done, steps in total).
        **settings: keywords of `optimize`.

    Returns:
        The optimized images by the name of the regularization.

    Raises:
        ValueError: for an unknown layer or channel, and for a setting out of range.
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
    """Return the high-frequency energy of each regularization relative to the first one, as the median over images."""
    first = next(iter(compared.values())).high_frequency
    return {name: float(np.median(found.high_frequency / first)) for name, found in compared.items()}
