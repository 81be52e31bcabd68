"""All that is known of a unit, in a row: optimised, diverse, negative, top and bottom inputs, deconvolutions.

As the appendix of Olah et al., "Feature Visualization", Distill 2017, has it, with Zeiler & Fergus's deconvolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.visualize import objectives
from rawcnn.visualize.dataset_examples import Excitation, excitations
from rawcnn.visualize.deconvolution import deconvolve
from rawcnn.visualize.filters import check_channels
from rawcnn.visualize.optimization import optimize
from rawcnn.visualize.regularization import ROBUST, Regularization

DIVERSITY = 1.0
Progress = Callable[..., None]  # (done, total, what)


@dataclass(frozen=True)
class Unit:
    """A channel of a layer, looked at in every way."""

    channel: int
    optimized: np.ndarray = field(repr=False)  # [H,W,3] in [0,1]
    value: float  # mean activation of the channel that the optimised image reaches
    diverse: np.ndarray = field(repr=False)  # [N,H,W,3]
    negative: np.ndarray = field(repr=False)  # [H,W,3]
    negative_value: float  # what the negative one reaches, before the rectifier if the layer is one
    inputs: Excitation  # real images
    deconvolutions: np.ndarray = field(repr=False)  # [N,H,W,3], signed, of the top inputs

    def to_dict(self) -> dict[str, object]:
        """Its figures, as plain values."""

        def told(inputs):
            return [
                {"index": t.index, "activation": t.activation, "position": t.position, "box": t.box} for t in inputs
            ]

        return {
            "channel": self.channel,
            "optimized": self.value,
            "negative": self.negative_value,
            "top": told(self.inputs.top),
            "bottom": told(self.inputs.bottom),
            "quantiles": [{"quantile": q, **told([t])[0]} for q, t in self.inputs.quantiles],
            "histogram": {"counts": self.inputs.counts.tolist(), "edges": self.inputs.edges.tolist()},
            "images": self.inputs.images,
        }


def rectified(network: Network, layer: str) -> str:
    """The layer itself, or what it rectifies: a rectifier cannot show what inhibits it."""
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
    size: int | None = None,
    steps: int = 256,
    regularization: Regularization = ROBUST,
    batch: int = 32,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> list[Unit]:
    """The `channels` (all) of a layer, each with `count` diverse images, top and bottom inputs and deconvolutions.

    What inhibits a rectified unit, the negative image and the bottom inputs, is looked for before the rectifier.
    ValueError for what the network has not.
    """
    chosen = check_channels(channels, layer, network.operation(layer).output_shape[-1])
    before = rectified(network, layer)
    made: dict = {"size": size, "steps": steps, "regularization": regularization, "seed": seed, "batch": batch}
    made["compile"] = compile

    def told(what: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(done, total, what)) if progress else None

    search: dict = {"count": count, "split": split, "seed": seed, "compile": compile}
    found = excitations(network, data, layer, chosen, progress=told("real images"), **search)
    if before != layer:
        lows = excitations(network, data, before, chosen, progress=told("real images that inhibit"), **search)
        found = {c: _with_bottom(found[c], lows[c]) for c in chosen}
    best = optimize(network, layer, chosen, progress=told("optimising"), **made)
    diverse = optimize(
        network, layer, chosen, count=count, diversity=DIVERSITY, progress=told("diverse images"), **made
    )
    worst = optimize(network, -objectives.channel(network, before, chosen), progress=told("negative units"), **made)
    varied = diverse.images.reshape(len(chosen), count, *diverse.images.shape[1:])
    return [
        Unit(
            channel,
            best.images[i],
            float(best.values[i]),
            varied[i],
            worst.images[i],
            -float(worst.values[i]),
            found[channel],
            _deconvolved(network, layer, found[channel], compile),
        )
        for i, channel in enumerate(chosen)
    ]


def _with_bottom(excitation: Excitation, other: Excitation) -> Excitation:
    """With the bottom inputs of the other layer."""
    return replace(excitation, bottom=other.bottom)


def _deconvolved(network: Network, layer: str, excitation: Excitation, compile: str) -> np.ndarray:
    """[N,H,W,3]: what each top input shows the unit at its position."""
    images = np.stack([top.image for top in excitation.top])
    has_map = len(network.operation(layer).output_shape) == 4
    positions = [top.position for top in excitation.top] if has_map else None
    return deconvolve(network, images, layer, excitation.channel, positions, compile=compile).pictures
