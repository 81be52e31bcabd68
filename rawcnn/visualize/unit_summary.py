"""Everything about a unit in one row: optimized, diverse and negative images, top and bottom inputs, deconvolutions.

The views are those of the appendix of Olah et al., "Feature Visualization", Distill 2017, with the deconvolutions of
Zeiler & Fergus 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rawcnn.data import DataSet
from rawcnn.files.progress import StageProgress
from rawcnn.nn.arguments import Size
from rawcnn.nn.network import Network
from rawcnn.visualize.dataset_examples import Excitation, TopInput, excitations
from rawcnn.visualize.deconvolution import deconvolve
from rawcnn.visualize.layer_maps import check_channels
from rawcnn.visualize.objectives import channel as channel_objective
from rawcnn.visualize.optimization import AscentSettings, maximize
from rawcnn.visualize.progress import stage
from rawcnn.visualize.regularization import ROBUST, Regularization

DIVERSITY = 1.0


@dataclass(frozen=True)
class Unit:
    """All views of one channel of a layer.

    Attributes:
        channel: The number of the channel.
        optimized: [H,W,3] in [0,1], the optimized image.
        value: Mean activation of the channel that the optimized image reaches.
        diverse: [N,H,W,3] in [0,1], several different optimized images.
        negative: [H,W,3] in [0,1], the image that minimizes the channel.
        negative_value: Mean activation that it reaches, before the rectifier if there is one.
        inputs: The images of the data set that activate it most and least.
        deconvolutions: [N,H,W,3], signed, of the top inputs.
    """

    channel: int
    optimized: np.ndarray = field(repr=False)
    value: float
    diverse: np.ndarray = field(repr=False)
    negative: np.ndarray = field(repr=False)
    negative_value: float
    inputs: Excitation
    deconvolutions: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain values."""
        return {
            "channel": self.channel,
            "optimized": self.value,
            "negative": self.negative_value,
            "top": [_plain(example) for example in self.inputs.top],
            "bottom": [_plain(example) for example in self.inputs.bottom],
            "quantiles": [{"quantile": q, **_plain(example)} for q, example in self.inputs.quantiles],
            "histogram": {"counts": self.inputs.counts.tolist(), "edges": self.inputs.edges.tolist()},
            "images": self.inputs.images,
        }


def _plain(example: TopInput) -> dict[str, object]:
    """Which image it is, its activation and its receptive field."""
    return {
        "index": example.index,
        "activation": example.activation,
        "position": example.position,
        "box": example.box,
    }


def rectified(network: Network, layer: str) -> str:
    """Return the input of a rectifier, or any other layer itself: a rectifier does not show what inhibits a unit."""
    operation = network.operation(layer)
    return operation.inputs[0] if operation.kind == "relu" else layer


def units(
    network: Network,
    data: DataSet,
    layer: str,
    channels: Sequence[int] | None = None,
    *,
    count: int = 4,
    split: str = "train",
    size: Size | None = None,
    steps: int = 256,
    regularization: Regularization = ROBUST,
    batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: StageProgress | None = None,
) -> list[Unit]:
    """Compute all views of each channel of a layer.

    Of a rectified unit, the negative image and the bottom inputs are computed before the rectifier.

    Args:
        network: The network.
        data: The data set for top and bottom inputs.
        layer: The name of the layer.
        channels: Channels of the layer; by default all.
        count: Diverse images, and inputs at each extreme.
        split: "train" or "test".
        size: Side of the optimized images in pixels, or (height, width); by default the network's own.
        steps: Steps of each optimization.
        regularization: Of each optimization.
        batch: Images that are optimized at a time.
        seed: Of the optimizations and of the sample of activations.
        compile: "auto", "xla", "graph", "mixed" or "eager".
        progress: Called with (done, total, stage).

    Returns:
        One `Unit` per channel, in the order of `channels`.

    Raises:
        ValueError: For an unknown layer or channel, and for a number out of range.

    Source:
        Olah et al., "Feature Visualization", Distill 2017, appendix.
    """
    chosen = check_channels(channels, layer, network.operation(layer).output_shape[-1])
    below = rectified(network, layer)
    settings = AscentSettings(
        size=network.input_size if size is None else size,
        steps=steps,
        regularization=regularization,
        seed=seed,
        batch=batch,
        compile=compile,
    )
    search: dict = {"count": count, "split": split, "seed": seed, "compile": compile}
    inputs = excitations(network, data, layer, chosen, progress=stage(progress, "real images"), **search)
    if below != layer:
        report = stage(progress, "real images that inhibit")
        lowest = excitations(network, data, below, chosen, progress=report, **search)
        inputs = {c: replace(inputs[c], bottom=lowest[c].bottom) for c in chosen}
    objective, negative = channel_objective(network, layer, chosen), -channel_objective(network, below, chosen)
    several = replace(settings, count=count, diversity=DIVERSITY)
    best = maximize(network, objective, settings, stage(progress, "optimizing"))
    diverse = maximize(network, objective, several, stage(progress, "diverse images"))
    worst = maximize(network, negative, settings, stage(progress, "negative units"))
    varied = diverse.images.reshape(len(chosen), count, *diverse.images.shape[1:])  # [channels,count,H,W,3]
    return [
        Unit(
            channel=channel,
            optimized=best.images[i],
            value=float(best.values[i]),
            diverse=varied[i],
            negative=worst.images[i],
            negative_value=-float(worst.values[i]),
            inputs=inputs[channel],
            deconvolutions=_deconvolutions(network, layer, inputs[channel], compile),
        )
        for i, channel in enumerate(chosen)
    ]


def _deconvolutions(network: Network, layer: str, inputs: Excitation, compile: str) -> np.ndarray:
    """[N,H,W,3]: the projection of the channel's activation in each top input, at its position."""
    images = np.stack([top.image for top in inputs.top])
    has_map = len(network.operation(layer).output_shape) == 4
    positions = [top.position for top in inputs.top] if has_map else None
    return deconvolve(network, images, layer, inputs.channel, positions, compile=compile).pictures
