"""An explanation of a network on one image: the document that the page computes from.

The page is written by `rawcnn.report.explanation_page`. It holds this document as JSON, and the arrays as one base64
text. Every number of the page's arithmetic is computed in the page from these arrays.

The document
------------

`title`, `lead`
    Texts.
`network`
    `name`, `classes`, `parameters` (a count), `preprocessing`, `size` [H, W], `head` (the operation of the logits).
`image`
    `name`, `label` (a class number), `predicted` (a class number), `names` (class number → name, for known classes).
`loss`
    `value`, `smoothing`.
`recipe`
    One step of training: `name`, `source`, `optimizer` (a rule of `rawcnn.optim.optimizers`), `momentum`, `decay` and
    `epsilon` (of RMSProp), `weight_decay` λ, `decay_all`, `rate` η at the first step, `clip` (or None) and `norm`, the
    global norm of all gradients with weight decay, before clipping. All slots are at their start: `slots` is
    {"velocity": 0} or {"mean_square": 1, "velocity": 0}.
`sources`
    The model's files: [{`file`, `lines`: [text, …]}].
`operations`
    In the order in which they run. The first is "images" (kind "preprocessing", which reads "pixels"), the last is
    "loss" (kind "cross_entropy", which reads the logits). Each has:

    `name`, `kind`, `inputs` (names), `shape` [H,W,C] (a vector is a map of one pixel), `counts` and `statistics` (see
    `rawcnn.explain.statistics`; None for the first and last), `places` [{`source`, `line`, `function`, `loops`}] with
    the innermost call first, `equation` {`file`, `line`, `text`} as it stands in the source, `file` (a key of
    `kernels`, or None), `form` (what ran, see `rawcnn.explain.kernel_source`), `settings`. For windows these are
    `size`, `stride`, `dilation` [vertical, horizontal] and `pads` [[top, bottom], [left, right]]; for others
    `groups`, `epsilon`, `radius`, `scale`, `margins`, `count_padding`, ….

    `selection` is None for an operation whose arrays are not embedded. Otherwise it has `rows` [start, stop],
    `columns`, `channels` (of the output), `inputs` (for each input the channels whose complete maps are embedded),
    `initial` [row, column, channel], `paths` (the units whose paths to the image are embedded), and `left_out` (a text,
    empty if everything is embedded).
`kinds`
    Kind of operation → its name in words.
`tensors`
    Name → {`shape`, `pieces`} as in `rawcnn.explain.embedding`. An activation has its operation's name, [H,W,C] or [C];
    a parameter has its path, such as "conv1/filters"; "∂" before a name is the gradient of the loss to that value,
    without weight decay. If an input x of a selected operation is read more than once, "∂x←conv2" is the part of its
    gradient that comes through conv2, for each operation that reads it, and "∂x←sum[0]", "∂x←sum[1]" are the parts
    through the inputs 0 and 1 of an operation that reads it twice; otherwise the part is "∂x" itself. "images" are the
    preprocessed pixels, "pixels" are RGB in [0,1].
`kernels`
    File → its five sections.

What is embedded for an operation that is selected: the complete maps of `selection.channels` of its output, of
`selection.inputs` of its inputs, and of the gradients to all of these; its parameters and their gradients. For a
convolution or a dense layer the parameters are those that lead to `channels` and those that come from `inputs`, the
gradients to parameters are those from `inputs` to `channels`; in the grid of `rows` and `columns` all output channels'
gradients and all input channels' values are there, so that sums over channels can be formed.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import kernels
from rawcnn.explain import kernel_source
from rawcnn.explain.embedding import BASE64, BYTES, Piece, distinct, embed, whole
from rawcnn.explain.kinds import NAMES
from rawcnn.explain.recording import (
    GRADIENT,
    IMAGES,
    LOSS,
    PIXELS,
    Recording,
    enclosing_function,
    gradient_parts,
    record_image,
)
from rawcnn.explain.selection import Selection, Wish, default_layers, image_pieces, select
from rawcnn.explain.source import short_name, source_of
from rawcnn.explain.statistics import counts, statistics
from rawcnn.explain.units import as_map, map_shape, plain_settings
from rawcnn.files.progress import StageProgress
from rawcnn.nn.arguments import indices, listed, map_position, whole_number
from rawcnn.nn.network import Network
from rawcnn.nn.trace import decays
from rawcnn.optim.optimizers import RULES, global_norm
from rawcnn.training.recipes import Recipe, find_recipe, learning_rate
from rawcnn.training.run import DEFAULT_RECIPE
from rawcnn.visualize.input_images import one_image

PAGE = 15_000_000  # bytes of the page, unless everything is embedded
OTHERS = 1_000_000  # of these, for what is not arrays: sources, kernels, scripts, class names,
EACH = 4_000  # and for the statistics and the strip of each operation
LEAD = (
    "Choose a line, an operation and a pixel. This page computes its value and its gradient from the network's arrays."
)
LARGEST = 400_000_000  # characters of a text in a browser, at most
VANISHED = 1e-4  # gradients to logits, softmax − target, below this are of a network that is certain


@dataclass(frozen=True)
class Explanation:
    """A network on one image, ready to be written as a page.

    Attributes:
        recording: All operations and values.
        document: The document that this module describes.
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
        if np.abs(recording.tensors[GRADIENT + recording.network.head]).max() >= VANISHED:
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
    wish = check(network, label, layers, position, channels)
    recipe = recipe or default_recipe(network.name)
    report(0, 3, "running the network")
    recording = record_image(network, image, label, recipe)
    report(1, 3, "choosing what the page holds")
    chosen = list(dict.fromkeys(layers)) or default_layers(recording.operations)
    recording = replace(recording, tensors={**recording.tensors, **gradient_parts(recording, chosen)})
    first = distinct(_always(recording))
    room = PAGE - OTHERS - EACH * len(recording.operations)  # characters
    room = int(room / BASE64 / BYTES) - sum(piece.size for piece in first)  # values
    selections = select(recording, chosen, None if everything else room, wish)
    pieces = distinct([*first, *(piece for one in selections.values() for piece in one.pieces)])
    if (size := sum(piece.size for piece in pieces) * BYTES * BASE64) > LARGEST:
        raise ValueError(
            f"the layers have {size / 1e6:,.0f} MB of values, and a browser reads at most {LARGEST / 1e6:,.0f} MB; "
            "choose fewer or smaller layers with --layer, or do without --all"
        )
    report(2, 3, "writing the arrays")
    tensors, arrays = embed(pieces, _with_loss(recording))
    document = {**_about(recording, name), **_operations(recording, selections), "tensors": tensors}
    report(3, 3, "done")
    return Explanation(recording, document, arrays)


def check(
    network: Network,
    label: int | None,
    layers: Sequence[str],
    position: tuple[int, int] | None = None,
    channels: Sequence[int] = (),
) -> Wish:
    """Check before the network runs that it has this label, these layers and these units; return the units.

    Raises:
        ValueError: It does not, it has no classifier, it computes in bfloat16, or a position or channels are given
            without a single layer.
    """
    network.check_classifier()
    if label is not None:
        whole_number("the label", label, 0, network.classes - 1)
    if network.precision == "bfloat16":  # a page that computes in float64 would find other values
        raise ValueError("the network's precision is bfloat16, which rounds every value; expected a network in float32")
    shapes = [network.operation(layer).output_shape for layer in layers]
    channels = listed(channels)
    network.check_labels()
    if position is None and not channels:
        return Wish()
    if len(shapes) != 1:
        raise ValueError(f"a position or a channel is of one layer, but there are {len(shapes)} layers; name one layer")
    (layer,), (shape,) = layers, shapes
    if position is not None:
        position = map_position(position, shape, layer)
    return Wish(position, tuple(indices("channels", channels, shape[-1], layer)) if channels else ())


def default_recipe(model: str) -> Recipe:
    """Return the recipe that `rawcnn train` takes by default; for an unknown model that of the digits."""
    names = [recipe for start, recipe in DEFAULT_RECIPE.items() if model.startswith(start)]
    return find_recipe(names[0] if names else "digits")


def _always(recording: Recording) -> list[Piece]:
    """Return what every page holds: the image and the logits."""
    head, shape = recording.network.head, (recording.network.classes,)
    return [*image_pieces(recording), whole(head, shape), whole(GRADIENT + head, shape), whole(LOSS, (1,))]


def _with_loss(recording: Recording) -> dict[str, np.ndarray]:
    return {**recording.tensors, LOSS: np.array([recording.loss], np.float32)}


def _about(recording: Recording, name: str) -> dict[str, Any]:
    """Return what the document says about the network, the image, the loss and the recipe."""
    network, label = recording.network, recording.label
    known = [_valid(label) for label in network.labels or map("class {}".format, range(network.classes))]
    name = _valid(name)
    return {
        "title": f"{network.name}: {name}",
        "lead": LEAD,
        "network": {
            "name": network.name,
            "classes": network.classes,
            "parameters": network.parameter_count,
            "preprocessing": network.preprocessing,
            "size": list(network.image_size),
            "head": network.head,
        },
        "image": {"name": name, "label": label, "predicted": recording.predicted, "names": known},
        "loss": {"value": recording.loss, "smoothing": recording.recipe.label_smoothing},
        "recipe": _step(recording),
    }


def _valid(name: str) -> str:
    """Return a name as UTF-8 can write it; a file name may hold bytes that are none."""
    return name.encode("utf-8", "replace").decode()


def _step(recording: Recording) -> dict[str, Any]:
    """Return the recipe of one training step."""
    recipe, network = recording.recipe, recording.network
    gradients = []
    for path, variable in network.trained_variables.items():
        decayed = recipe.weight_decay if decays(path) or recipe.decay_all else 0.0
        loss_gradient = recording.tensors.get(GRADIENT + path, np.zeros(variable.shape, np.float32))
        gradients.append(loss_gradient + decayed * variable.numpy())
    return {
        "name": recipe.name,
        "source": recipe.source,
        "optimizer": recipe.optimizer,
        "momentum": recipe.momentum,
        "decay": recipe.decay,
        "epsilon": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
        "decay_all": recipe.decay_all,
        "rate": learning_rate(recipe, 0),
        "clip": recipe.clip,
        "norm": float(global_norm(gradients)),
        "slots": dict(RULES[recipe.optimizer][2]),
    }


def _operations(recording: Recording, selections: dict[str, Selection]) -> dict[str, Any]:
    """Return the document's sources, operations and kernels."""
    network = recording.network
    files = list(dict.fromkeys(call.file for calls in recording.places.values() for call in calls))
    described = {operation.name: operation for operation in network.operations}
    operations = [_preprocessing(recording)]
    for op in recording.operations:
        places = [
            {"source": files.index(call.file), "line": call.line, "function": call.function, "loops": list(call.loops)}
            for call in recording.places[op.name]
        ]
        operations.append(
            {
                "name": op.name,
                "kind": op.kind,
                "inputs": list(op.sources),
                "shape": list(map_shape(op.output.shape)),
                "counts": counts(described[op.name]),
                "statistics": statistics(recording, op.name),
                "places": places,
                "equation": kernel_source.equation(op.kind, op.settings),
                "file": kernel_source.FILES[op.kind],
                "form": kernel_source.form(recording.functions[op.name]),
                "settings": plain_settings(op),
                "selection": _selection(recording, op.name, selections.get(op.name)),
            }
        )
    operations.append(_cross_entropy(recording))
    used = dict.fromkeys(operation["file"] for operation in operations if operation["file"])
    return {
        "sources": [{"file": short_name(file), "lines": source_of(file).splitlines()} for file in files],
        "operations": operations,
        "kinds": NAMES,
        "kernels": {file: kernel_source.sections(file) for file in used},
    }


def _selection(recording: Recording, name: str, chosen: Selection | None) -> dict[str, Any] | None:
    if chosen is None:
        return None
    height, width, channels = as_map(recording.tensors[name]).shape
    sentences = []
    if len(chosen.channels) != channels:
        kind = "outputs" if (height, width) == (1, 1) else "channels"
        sentences.append(f"The page holds {len(chosen.channels)} of {channels} {kind}, those with the largest values.")
    if (len(chosen.rows), len(chosen.columns)) != (height, width):
        sentences.append(
            f"Inside rows {chosen.rows[0]} to {chosen.rows[-1]} of {height} and columns {chosen.columns[0]} to "
            f"{chosen.columns[-1]} of {width} (dashed in the map) the page has all that the sums over channels read, "
            "forward and backward; outside, some of these sums cannot be computed."
        )
    return {
        "rows": [chosen.rows.start, chosen.rows.stop],
        "columns": [chosen.columns.start, chosen.columns.stop],
        "channels": list(chosen.channels),
        "inputs": [list(channels) for channels in chosen.inputs],
        "initial": list(chosen.initial),
        "paths": [list(unit) for unit in chosen.paths],
        "left_out": " ".join([*sentences, "--all embeds the rest."]) if sentences else "",
    }


def _preprocessing(recording: Recording) -> dict[str, Any]:
    """Return the first operation: from pixels to what the network reads."""
    height, width, _ = shape = recording.tensors[IMAGES].shape
    settings = {"rule": recording.network.preprocessing}
    return _extra(IMAGES, "preprocessing", [PIXELS], shape, (height // 2, width // 2, 0), settings)


def _cross_entropy(recording: Recording) -> dict[str, Any]:
    """Return the last operation: from logits to the loss."""
    settings = {"label": recording.label, "smoothing": recording.recipe.label_smoothing}
    extra = _extra(LOSS, "cross_entropy", [recording.network.head], (1, 1, 1), (0, 0, 0), settings)
    return extra | {
        "file": kernel_source.FILES["cross_entropy"],
        "form": _form_of_loss(recording),
    }


def _form_of_loss(recording: Recording) -> dict[str, Any] | None:
    function = inspect.unwrap(kernels.cross_entropy)  # without the check of its arguments
    return kernel_source.form([enclosing_function(function.__code__.co_filename, function.__code__.co_firstlineno)])


def _extra(name: str, kind: str, inputs: list[str], shape, initial, settings: dict[str, Any]) -> dict[str, Any]:
    """Return an operation that no line of the model applies; all of its values are embedded."""
    height, width, channels = shape
    return {
        "name": name,
        "kind": kind,
        "inputs": inputs,
        "shape": list(shape),
        "counts": None,
        "statistics": None,
        "places": [],
        "equation": kernel_source.equation(kind, settings),
        "file": None,
        "form": None,
        "settings": settings,
        "selection": {
            "rows": [0, height],
            "columns": [0, width],
            "channels": list(range(channels)),
            "inputs": [list(range(channels))],
            "initial": list(initial),
            "paths": [],
            "left_out": "",
        },
    }
