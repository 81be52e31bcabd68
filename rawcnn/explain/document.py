"""The document that the page of an explanation computes from.

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
    One step of training: `name`, `optimizer` (a rule of `rawcnn.optim.optimizers`), `momentum`, `decay` and
    `epsilon` (of RMSProp), `weight_decay` λ, `decay_all`, `rate` η at the first step, `clip` (or None) and `norm`, the
    global norm of all gradients with weight decay, before clipping. All slots are at their start: `slots` is
    {"velocity": 0} or {"mean_square": 1, "velocity": 0}.
`sources`
    The model's files: [{`file`, `lines`: [text, …]}].
`operations`
    In the order in which they run. The first is "preprocessed" (kind "preprocessing", which reads "images"), the last
    is "loss" (kind "cross_entropy", which reads the logits). Each has:

    `name`, `kind`, `inputs` (names), `shape` [H,W,C] (a vector is a map of one pixel), `counts` and `statistics` (see
    `rawcnn.explain.statistics`; None for the first and last), `places` [{`source` (a number of `sources`), `line`,
    `function`, `loops`}] with the innermost call first, `equation` {`file`, `line`, `text`} as it stands in the source,
    `file` (a key of `kernels`, or None), `form` (what ran, see `rawcnn.explain.kernel_source`), `settings`. For windows
    these are `size`, `stride`, `dilation` [vertical, horizontal] and `pads` [[top, bottom], [left, right]]; for others
    `groups`, `epsilon`, `radius`, `scale`, `margins`, `count_padding`, …; for preprocessing `rule` and the coefficients
    of `rawcnn.nn.preprocessing.Coefficients`.

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
    through the inputs 0 and 1 of an operation that reads it twice; otherwise the part is "∂x" itself. "images" are RGB
    in [0,1]; without preprocessing the page has "preprocessed" alone, which equals them.
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
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import kernels
from rawcnn.explain import kernel_source
from rawcnn.explain.embedding import Piece, embed, whole
from rawcnn.explain.recording import GRADIENT, IMAGES, LOSS, Recording, enclosing_function
from rawcnn.explain.selection import Selection, image_pieces
from rawcnn.explain.source import short_name, source_of
from rawcnn.explain.statistics import counts, statistics
from rawcnn.explain.units import as_map, map_shape, plain_settings
from rawcnn.nn.backpropagation import PREPROCESSED, Applied
from rawcnn.nn.kinds import NAMES
from rawcnn.nn.preprocessing import COEFFICIENTS
from rawcnn.nn.weight_decay import with_weight_decay
from rawcnn.optim.optimizers import UPDATE_RULES, global_norm
from rawcnn.training.recipes import learning_rate

LEAD = (
    "Choose a line, an operation and a pixel. This page computes its value and its gradient from the network's arrays."
)


def write_document(
    recording: Recording, name: str, selections: Mapping[str, Selection], pieces: Sequence[Piece]
) -> tuple[dict[str, Any], str]:
    """Return the document and its arrays.

    Args:
        recording: The network on an image.
        name: The image's name.
        selections: Layer → what of it can be selected.
        pieces: All pieces of tensors that the page holds.

    Returns:
        The document that this module describes, and its arrays as base64.
    """
    loss = np.array([recording.loss], np.float32)
    tensors, arrays = embed(pieces, {**recording.tensors, LOSS: loss})
    document = {
        "title": f"{recording.network.name}: {_valid(name)}",
        "lead": LEAD,
        **_network_and_image(recording, name),
        "loss": {"value": recording.loss, "smoothing": recording.recipe.label_smoothing},
        "recipe": _training_step(recording),
        **_sources_and_operations(recording, selections),
        "tensors": tensors,
    }
    return document, arrays


def pieces_of_every_page(recording: Recording) -> list[Piece]:
    """Return what every page holds: the image, the logits and the loss."""
    head, shape = recording.network.head, (recording.network.classes,)
    return [*image_pieces(recording), whole(head, shape), whole(GRADIENT + head, shape), whole(LOSS, (1,))]


def _network_and_image(recording: Recording, name: str) -> dict[str, Any]:
    """Return what the document says about the network and the image."""
    network = recording.network
    classes = network.labels or map("class {}".format, range(network.classes))
    return {
        "network": {
            "name": network.name,
            "classes": network.classes,
            "parameters": network.parameter_count,
            "preprocessing": network.preprocessing,
            "size": list(network.image_size),
            "head": network.head,
        },
        "image": {
            "name": _valid(name),
            "label": recording.label,
            "predicted": recording.predicted,
            "names": [_valid(one) for one in classes],
        },
    }


def _valid(name: str) -> str:
    """Return a name as UTF-8 can write it; a file name may hold bytes that are none."""
    return name.encode("utf-8", "replace").decode()


def _training_step(recording: Recording) -> dict[str, Any]:
    """Return the recipe of one training step."""
    recipe, network = recording.recipe, recording.network
    gradients = {
        path: recording.tensors.get(GRADIENT + path, np.zeros(variable.shape, variable.dtype.as_numpy_dtype))
        for path, variable in network.trained_variables.items()
    }
    gradients = with_weight_decay(gradients, network.trained_variables, recipe)
    return {
        "name": recipe.name,
        "optimizer": recipe.optimizer,
        "momentum": recipe.momentum,
        "decay": recipe.decay,
        "epsilon": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
        "decay_all": recipe.decay_all,
        "rate": learning_rate(recipe, 0),
        "clip": recipe.clip,
        "norm": float(global_norm(list(gradients.values()))),
        "slots": dict(UPDATE_RULES[recipe.optimizer][2]),
    }


def _sources_and_operations(recording: Recording, selections: Mapping[str, Selection]) -> dict[str, Any]:
    """Return the document's sources, operations and kernels."""
    files = list(dict.fromkeys(call.file for calls in recording.places.values() for call in calls))
    operations = [
        _preprocessing(recording),
        *(_operation(recording, op, files, selections.get(op.name)) for op in recording.operations),
        _cross_entropy(recording),
    ]
    used = dict.fromkeys(operation["file"] for operation in operations if operation["file"])
    return {
        "sources": [{"file": short_name(file), "lines": source_of(file).splitlines()} for file in files],
        "operations": operations,
        "kinds": NAMES,
        "kernels": {file: kernel_source.sections(file) for file in used},
    }


def _operation(recording: Recording, op: Applied, files: Sequence[str], selection: Selection | None) -> dict[str, Any]:
    """Return the document's entry of an operation; `files` are the model's source files."""
    return {
        "name": op.name,
        "kind": op.kind,
        "inputs": list(op.input_names),
        "shape": list(map_shape(op.output.shape)),
        "counts": counts(recording.network.operation(op.name)),
        "statistics": statistics(recording, op.name),
        "places": [
            {"source": files.index(call.file), "line": call.line, "function": call.function, "loops": list(call.loops)}
            for call in recording.places[op.name]
        ],
        "equation": kernel_source.equation(op.kind, op.settings),
        "file": kernel_source.FILES[op.kind],
        "form": kernel_source.form(recording.functions[op.name]),
        "settings": plain_settings(op),
        "selection": None if selection is None else _selection(recording, op.name, selection),
    }


def _selection(recording: Recording, name: str, chosen: Selection) -> dict[str, Any]:
    """Return the document's entry of what can be selected of an operation."""
    return {
        "rows": [chosen.rows.start, chosen.rows.stop],
        "columns": [chosen.columns.start, chosen.columns.stop],
        "channels": list(chosen.channels),
        "inputs": [list(channels) for channels in chosen.input_channels],
        "initial": list(chosen.initial),
        "paths": [list(unit) for unit in chosen.paths],
        "left_out": what_is_left_out(recording, name, chosen),
    }


def what_is_left_out(recording: Recording, name: str, chosen: Selection) -> str:
    """Return what of an operation the page does not hold, in sentences; empty if it holds everything."""
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
    return " ".join([*sentences, "--all embeds the rest."]) if sentences else ""


def _preprocessing(recording: Recording) -> dict[str, Any]:
    """Return the first operation: from images to what the first layer reads."""
    height, width, _ = shape = recording.tensors[PREPROCESSED].shape
    rule = recording.network.preprocessing
    coefficients = {name: list(values) for name, values in COEFFICIENTS[rule]._asdict().items()}
    settings = {"rule": rule, **coefficients}
    return _without_line(PREPROCESSED, "preprocessing", [IMAGES], shape, (height // 2, width // 2, 0), settings)


def _cross_entropy(recording: Recording) -> dict[str, Any]:
    """Return the last operation: from logits to the loss."""
    settings = {"label": recording.label, "smoothing": recording.recipe.label_smoothing}
    entry = _without_line(LOSS, "cross_entropy", [recording.network.head], (1, 1, 1), (0, 0, 0), settings)
    return entry | {
        "file": kernel_source.FILES["cross_entropy"],
        "form": _form_of_loss(),
    }


def _form_of_loss() -> dict[str, Any] | None:
    """Return the function that computes the loss."""
    function = inspect.unwrap(kernels.cross_entropy)  # without the check of its arguments
    return kernel_source.form([enclosing_function(function.__code__.co_filename, function.__code__.co_firstlineno)])


def _without_line(name: str, kind: str, inputs: list[str], shape, initial, settings: dict[str, Any]) -> dict[str, Any]:
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
