"""An explanation of a network on one image, forward and backward: what the page of `rawcnn explain` computes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rawcnn.explain.document import pieces_of_every_page, write_document
from rawcnn.explain.embedding import BASE64, BYTES, Piece, distinct
from rawcnn.explain.recording import GRADIENT, Recording, gradient_parts, record_image
from rawcnn.explain.selection import RequiredUnits, choose_selections, default_layers
from rawcnn.files.progress import StageProgress
from rawcnn.nn.arguments import indices, listed, map_position, whole_number
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe, find_recipe
from rawcnn.training.run import DEFAULT_RECIPE
from rawcnn.visualize.input_images import one_image

PAGE_CHARACTERS = 15_000_000  # the longest page, unless everything is embedded
TEXT_CHARACTERS = 1_000_000  # the part of it for sources, kernels, scripts and class names
OPERATION_CHARACTERS = 4_000  # the part of it for the statistics and the strip of one operation
LONGEST_TEXT = 400_000_000  # a browser's longest text, in characters
VANISHING_GRADIENT = 1e-4  # if all gradients to logits, softmax − target, are smaller, the network is certain


@dataclass(frozen=True)
class Explanation:
    """A network on one image, ready to be written as a page.

    Attributes:
        recording: All operations and values.
        document: What the page computes from, as `rawcnn.explain.document` describes it.
        arrays: The arrays of the document, base64.
    """

    recording: Recording
    document: dict[str, Any]
    arrays: str

    @property
    def left_out(self) -> dict[str, str]:
        """Layer → what of it the page does not hold; without layers that are complete."""
        chosen = ((op["name"], op["selection"]) for op in self.document["operations"] if op["selection"])
        return {name: selection["left_out"] for name, selection in chosen if selection["left_out"]}

    @property
    def warning(self) -> str | None:
        """Why the gradients say little, as a sentence; None if they do not vanish."""
        recording = self.recording
        if np.abs(recording.tensors[GRADIENT + recording.network.head]).max() >= VANISHING_GRADIENT:
            return None
        return (
            "softmax gives the class of the loss nearly all of the probability, so the loss and its gradients are "
            "nearly zero; choose another class with --label, or trained weights with --weights"
        )

    def summary(self) -> dict[str, Any]:
        """Return the classes, the loss, and the counts and statistics of each operation as plain values."""
        keys = ("name", "kind", "counts", "statistics")
        operations = [op for op in self.document["operations"] if op["counts"]]
        return {
            "predicted": self.recording.predicted,
            "label": self.recording.label,
            "loss": self.recording.loss,
            "layers": [op["name"] for op in operations if op["selection"]],
            "left_out": self.left_out,
            "operations": [{key: op[key] for key in keys} for op in operations],
        }


def explain(
    network: Network,
    image: np.ndarray,
    *,
    name: str = "image",
    label: int | None = None,
    layers: Sequence[str] = (),
    position: tuple[int, int] | None = None,
    channels: Sequence[int] = (),
    everything: bool = False,
    recipe: Recipe | None = None,
    progress: StageProgress | None = None,
) -> Explanation:
    """Explain what a network computes for an image, forward and backward.

    Args:
        network: The network.
        image: [H,W,3], float RGB in [0,1], of the network's size.
        name: The image's name.
        label: The class that the loss is computed for; by default the predicted one.
        layers: The operations whose arrays are embedded; by default the first and the last convolution, one operation
            of each other kind, and the classifier.
        position: The (row, column) of the layer's output that is selected first and that its grid surrounds; by default
            that of the largest value. This and `channels` need one layer.
        channels: Channels of the layer that are embedded in any case; the first is selected first.
        everything: Embed all values of these layers, whatever their size.
        recipe: The training recipe of the loss and of the step; by default the one that `rawcnn train` takes.
        progress: Called as progress(done, total, what is done).

    Returns:
        The explanation.

    Raises:
        ValueError: A layer, the label, the position or a channel is unknown, the image does not fit or has other values
            than [0,1], the layers are too large for a page, the network computes in bfloat16, or its logits are not
            finite.
    """
    report = progress or (lambda done, total, what: None)
    image = one_image(image)[0].numpy()
    layers = listed(layers)
    if image.shape != (*network.image_size, 3):
        raise ValueError(f"the image has shape {image.shape}; {network.name} takes {(*network.image_size, 3)}")
    required = check(network, label, layers, position, channels)
    report(0, 3, "running the network")
    recording = record_image(network, image, label, recipe or default_recipe(network.name))
    report(1, 3, "choosing what the page holds")
    chosen = list(dict.fromkeys(layers)) or default_layers(recording.operations)
    recording = replace(recording, tensors={**recording.tensors, **gradient_parts(recording, chosen)})
    in_any_case = distinct(pieces_of_every_page(recording))
    room = None if everything else _values_of_page(recording) - sum(piece.size for piece in in_any_case)
    selections = choose_selections(recording, chosen, room, required)
    pieces = distinct([*in_any_case, *(piece for one in selections.values() for piece in one.pieces)])
    _check_readable(pieces)
    report(2, 3, "writing the arrays")
    document, arrays = write_document(recording, name, selections, pieces)
    report(3, 3, "done")
    return Explanation(recording, document, arrays)


def _values_of_page(recording: Recording) -> int:
    """Return how many float32 values a page can hold."""
    characters = PAGE_CHARACTERS - TEXT_CHARACTERS - OPERATION_CHARACTERS * len(recording.operations)
    return int(characters / BASE64 / BYTES)


def _check_readable(pieces: Sequence[Piece]) -> None:
    """Raise ValueError for more values than a browser can read."""
    if (size := sum(piece.size for piece in pieces) * BYTES * BASE64) > LONGEST_TEXT:
        raise ValueError(
            f"the layers have {size / 1e6:,.0f} MB of values, and a browser reads at most {LONGEST_TEXT / 1e6:,.0f} "
            "MB; choose fewer or smaller layers with --layer, or do without --all"
        )


def check(
    network: Network,
    label: int | None,
    layers: Sequence[str],
    position: tuple[int, int] | None = None,
    channels: Sequence[int] = (),
) -> RequiredUnits:
    """Check before the network runs that it has this label, these layers and these units; return the units.

    Raises:
        ValueError: It does not, it computes in bfloat16, or a position or channels are given without a single layer.
    """
    if label is not None:
        whole_number("the label", label, 0, network.classes - 1)
    if network.precision == "bfloat16":  # a page that computes in float64 would find other values
        raise ValueError("the network's precision is bfloat16, which rounds every value; expected a network in float32")
    shapes = [network.operation(layer).output_shape for layer in layers]
    network.check_labels()
    check_one_layer(layers, position, channels)
    if position is None and not listed(channels):
        return RequiredUnits()
    (layer,), (shape,) = layers, shapes
    if position is not None:
        position = map_position(position, shape, layer)
    channels = listed(channels)
    return RequiredUnits(position, tuple(indices("channels", channels, shape[-1], layer)) if channels else ())


def check_one_layer(layers: Sequence[str], position: tuple[int, int] | None, channels: Sequence[int]) -> None:
    """Raise ValueError for a position or channels without exactly one layer."""
    if len(layers) != 1 and (position is not None or listed(channels)):
        raise ValueError(f"a position or a channel is of one layer, but there are {len(layers)} layers; name one layer")


def default_recipe(model: str) -> Recipe:
    """Return the recipe that `rawcnn train` takes by default; for an unknown model that of the digits."""
    names = [recipe for start, recipe in DEFAULT_RECIPE.items() if model.startswith(start)]
    return find_recipe(names[0] if names else "digits")
