"""Choose what the page embeds: the operations, and of each the positions and channels that can be selected.

An operation is embedded at one of several levels of detail. The poorest has a grid of 16×16 positions and one channel.
All operations begin there, and each is raised in turn while the page stays within its limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rawcnn.explain.embedding import BASE64, BYTES, Piece, distinct, whole
from rawcnn.explain.paths import path_pieces
from rawcnn.explain.recording import GRADIENT, IMAGES, Recording, parts_of
from rawcnn.explain.units import as_map, channels_read, map_shape, pixels_read
from rawcnn.nn.backpropagation import PREPROCESSED, Applied
from rawcnn.nn.trace import find_operation

GRID = 16  # positions per side of a large convolution's grid, at least
MOST_PATHS = 12  # units of an operation with a path to the image, at most: the largest value of each channel
SHARE_WITHOUT_PATHS = 0.85  # of the page's values; the rest is for paths of other units than the first
VECTOR_UNITS = 10  # units of a vector, at least: those with the largest values
MIXING = ("conv", "dense")  # kinds whose outputs read many channels


class Detail(NamedTuple):
    """How much of an operation is embedded; None is everything."""

    grid: int | None
    channels: int | None


DETAILS = (  # from the richest to the poorest
    Detail(None, None), Detail(None, 32), Detail(None, 16), Detail(None, 8), Detail(32, 8), Detail(24, 8),
    Detail(GRID, 8), Detail(GRID, 4), Detail(GRID, 2), Detail(GRID, 1),
)  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """What of an operation can be selected in the page.

    Attributes:
        rows, columns: The positions of its output.
        channels: The channels of its output, ascending.
        input_channels: For each input, the channels whose complete maps are embedded, ascending.
        initial: The unit that is selected first: (row, column, channel).
        pieces: What must be embedded for it.
        paths: The units whose paths to the image are embedded.
    """

    rows: range
    columns: range
    channels: tuple[int, ...]
    input_channels: tuple[tuple[int, ...], ...]
    initial: tuple[int, int, int]
    pieces: tuple[Piece, ...]
    paths: tuple[tuple[int, int, int], ...]


def default_layers(operations: Sequence[Applied]) -> list[str]:
    """Return the first operation of each kind, the last convolution and the classifier, in order."""
    first: dict[str, str] = {}
    for op in operations:
        first.setdefault(op.kind, op.name)
    chosen = {*first.values(), operations[-1].name}
    deep = [op.name for op in operations if op.kind == "conv"][-1:]  # a convolution whose path to the image is long
    return [op.name for op in operations if op.name in {*chosen, *deep}]


@dataclass(frozen=True)
class RequiredUnits:
    """Units that must be selectable.

    Attributes:
        position: The (row, column) that the grid surrounds; None: that of the largest value.
        channels: Channels that are embedded besides those with the largest values; the first is selected first.
    """

    position: tuple[int, int] | None = None
    channels: tuple[int, ...] = ()


def choose_selections(
    recording: Recording,
    layers: Sequence[str],
    values: int | None,
    required: RequiredUnits = RequiredUnits(),
) -> dict[str, Selection]:
    """Choose the units of each layer.

    Args:
        recording: The network on an image.
        layers: The names of operations.
        values: How many float32 values the page can hold; None: everything is embedded.
        required: Units of the layers that must be selectable.

    Returns:
        Layer → its selection.

    Raises:
        ValueError: A layer is unknown, or even the poorest levels do not fit.
    """
    operations = {op.name: op for op in recording.operations}
    for layer in layers:
        find_operation(recording.network.operations, layer)
    best = 0 if values is None else len(DETAILS) - 1
    levels = dict.fromkeys(layers, best)
    selections = {layer: selection_at(recording, operations[layer], DETAILS[best], required) for layer in layers}
    if values is None:
        return _with_paths(recording, selections, None)
    if (needed := _size(selections)) > values:
        raise ValueError(_too_large(selections, needed, values))
    rising = list(layers)
    while rising:
        for layer in list(rising):
            if levels[layer] == 0:
                rising.remove(layer)
                continue
            richer = selection_at(recording, operations[layer], DETAILS[levels[layer] - 1], required)
            if _size(selections | {layer: richer}) > SHARE_WITHOUT_PATHS * values:
                rising.remove(layer)
            else:
                levels[layer] -= 1
                selections[layer] = richer
    return _with_paths(recording, selections, values)


def _size(selections: Mapping[str, Selection]) -> int:
    """Return the number of values of all pieces."""
    return sum(piece.size for piece in distinct(piece for one in selections.values() for piece in one.pieces))


def _with_paths(recording: Recording, selections: Mapping[str, Selection], values: int | None) -> dict[str, Selection]:
    """Add the paths of the largest value of each channel, best channels first, while the page can hold them."""
    found = dict(selections)
    kept = distinct(piece for one in selections.values() for piece in one.pieces)
    for layer, selection in selections.items():
        for unit in _peaks(recording, layer, selection)[:MOST_PATHS]:
            added = distinct([*kept, *path_pieces(recording, layer, unit)])
            total = sum(piece.size for piece in added)
            if unit in found[layer].paths or (values is not None and total > values):
                continue
            kept = added
            pieces = (*found[layer].pieces, *path_pieces(recording, layer, unit))
            found[layer] = replace(found[layer], pieces=pieces, paths=(*found[layer].paths, unit))
    return found


def _peaks(recording: Recording, layer: str, selection: Selection) -> list[tuple[int, int, int]]:
    """Return the largest unit of each channel, within the positions that can be selected; the largest first."""
    (top, bottom), (left, right) = ((axis.start, axis.stop) for axis in (selection.rows, selection.columns))
    maps = as_map(recording.tensors[layer])[top:bottom, left:right]
    units = []
    for channel in sorted(selection.channels, key=lambda c: -maps[..., c].max()):
        row, column = np.unravel_index(np.argmax(maps[..., channel]), maps.shape[:2])
        units.append((top + int(row), left + int(column), channel))
    return units


def _too_large(selections: Mapping[str, Selection], needed: int, values: int) -> str:
    """Say which layers do not fit into the page."""
    largest = max(selections, key=lambda layer: sum(piece.size for piece in distinct(selections[layer].pieces)))
    return (
        f"the layers need {needed * BYTES * BASE64 / 1e6:.1f} MB in the page, {largest} most of all, and "
        f"{values * BYTES * BASE64 / 1e6:.1f} MB fit; choose fewer or smaller layers with --layer, or give --all"
    )


def selection_at(recording: Recording, op: Applied, detail: Detail, required: RequiredUnits) -> Selection:
    """Return the units of an operation at a level of detail."""
    output = as_map(recording.tensors[op.name])
    channels = tuple(sorted({*_channels(op, output, detail, recording), *required.channels}))
    strongest = max(channels, key=lambda c: (output[..., c].max(), -c))
    first = required.channels[0] if required.channels else strongest
    row, column = required.position or np.unravel_index(np.argmax(output[..., first]), output.shape[:2])
    grid = None if op.kind not in MIXING else detail.grid  # other kinds need only the maps of their channels
    rows, columns = _around(int(row), output.shape[0], grid), _around(int(column), output.shape[1], grid)
    input_channels = tuple(_input_channels(op, number, recording, channels, detail) for number in range(len(op.inputs)))
    initial = (int(row), int(column), first)
    selection = Selection(rows, columns, channels, input_channels, initial, (), (initial,))
    pieces = (*_pieces(op, recording, selection), *path_pieces(recording, op.name, initial))
    return replace(selection, pieces=pieces)


def _channels(op: Applied, output: np.ndarray, detail: Detail, recording: Recording) -> tuple[int, ...]:
    """Return the output channels with the largest values; for the classifier, the label's, too."""
    total = output.shape[2]
    ranked = np.argsort(-output.max((0, 1)), kind="stable").tolist()
    if op.kind == "concatenate":  # the best of each branch first
        ranked = _interleaved(ranked, [map_shape(x.shape)[2] for x in op.inputs])
    vector = output.shape[:2] == (1, 1)
    count = total if detail.channels is None else max(detail.channels, VECTOR_UNITS) if vector else detail.channels
    chosen = set(ranked[:count])
    if op.name == recording.network.head:
        chosen.add(recording.label)
    return tuple(sorted(chosen))


def _interleaved(ranked: Sequence[int], widths: Sequence[int]) -> list[int]:
    """Return channels in the order: the best of each branch, the second of each branch, …"""
    ends = np.cumsum(widths).tolist()
    branches = [[c for c in ranked if end - width <= c < end] for end, width in zip(ends, widths, strict=True)]
    return [branch[k] for k in range(max(widths)) for branch in branches if k < len(branch)]


def _around(center: int, length: int, grid: int | None) -> range:
    """Return `grid` indices around a center, or all."""
    if grid is None or grid >= length:
        return range(length)
    start = min(max(center - grid // 2, 0), length - grid)
    return range(start, start + grid)


def _input_channels(op, number: int, recording: Recording, channels: Sequence[int], detail: Detail) -> tuple[int, ...]:
    """Return the channels of an input whose complete maps are embedded."""
    x = as_map(recording.tensors[op.input_names[number]])
    if op.kind == "scale_channels" and number == 1:
        return tuple(range(x.shape[2]))
    if op.kind not in MIXING:
        return tuple(channels_read(op, number, list(channels)))
    count = x.shape[2] if detail.channels is None else max(detail.channels // 2, 1)
    if x.shape[:2] == (1, 1):
        count = max(count, VECTOR_UNITS)
    ranked = np.argsort(-np.abs(x).max((0, 1)), kind="stable")
    if op.kind == "conv":
        ranked = _of_groups(ranked, op, channels)
    return tuple(sorted(int(c) for c in ranked[:count]))


def _of_groups(ranked: np.ndarray, op: Applied, channels: Sequence[int]) -> np.ndarray:
    """Return the input channels of the groups that some output channels of a convolution read."""
    _, _, depth, outputs = op.parameters["filters"].shape
    groups = {channel * op.settings["groups"] // outputs for channel in channels}
    return np.array([c for c in ranked if c // depth in groups])


def _pieces(op: Applied, recording: Recording, chosen: Selection) -> Iterator[Piece]:
    """Yield what the forward and backward arithmetic of the selectable units reads."""
    shape = as_map(recording.tensors[op.name]).shape
    for prefix in ("", GRADIENT):
        yield _maps(prefix + op.name, recording, chosen.channels)
        for name, channels in zip(op.input_names, chosen.input_channels, strict=True):
            yield _maps(prefix + name, recording, channels)
    for name, channels in zip(op.input_names, chosen.input_channels, strict=True):
        for part in parts_of(recording.operations, name):
            if part in recording.tensors:
                yield _maps(part, recording, channels)
    if op.kind in MIXING:
        yield from _mixing_pieces(op, recording, chosen, shape)
    else:
        for parameter in op.parameters:
            for prefix in ("", GRADIENT):
                if f"{prefix}{op.name}/{parameter}" in recording.tensors:
                    yield whole(f"{prefix}{op.name}/{parameter}", recording.tensors[f"{op.name}/{parameter}"].shape)
        if op.kind == "lrn":
            yield _maps(GRADIENT + op.name, recording, chosen.input_channels[0])


def _mixing_pieces(op: Applied, recording: Recording, chosen: Selection, shape) -> Iterator[Piece]:
    """Yield what a convolution or a dense layer reads: all input channels, and all output channels' gradients."""
    (name,), (input_channels,), channels = op.input_names, chosen.input_channels, chosen.channels
    x = as_map(recording.tensors[name])
    if op.kind == "conv":
        rows, columns = pixels_read(op, chosen.rows, chosen.columns)
    else:
        rows, columns = range(x.shape[0]), range(x.shape[1])
    yield _box(name, recording, rows, columns, range(x.shape[2]))
    yield _box(GRADIENT + op.name, recording, chosen.rows, chosen.columns, range(shape[2]))
    if "bias" in op.parameters:
        yield whole(f"{op.name}/bias", (shape[2],))
        yield whole(f"{GRADIENT}{op.name}/bias", (shape[2],))
    kernel = "filters" if op.kind == "conv" else "weights"
    path, weights = f"{op.name}/{kernel}", recording.tensors[f"{op.name}/{kernel}"]
    *taps, _, _ = (range(length) for length in weights.shape)
    if op.kind == "conv":
        in_group = weights.shape[2]  # C/G input channels; filters number them from 0 in each group
        local = tuple(sorted({c % in_group for c in input_channels}))
    else:  # a map is flattened: its unit (row, column, channel) is input number (row·W + column)·C + channel
        _, width, depth = x.shape
        local = tuple(
            sorted((row * width + column) * depth + c for row in rows for column in columns for c in input_channels)
        )
    yield Piece(path, (*taps, range(weights.shape[-2]), channels))
    yield Piece(path, (*taps, local, range(weights.shape[-1])))
    yield Piece(GRADIENT + path, (*taps, local, channels))


def _maps(tensor: str, recording: Recording, channels: Sequence[int]) -> Piece:
    """Return the complete maps of some channels."""
    height, width, _ = as_map(recording.tensors[tensor]).shape
    return _box(tensor, recording, range(height), range(width), tuple(channels))


def _box(tensor: str, recording: Recording, rows: range, columns: range, channels) -> Piece:
    """Return a box of an activation or of its gradient; a vector has one axis alone."""
    if recording.tensors[tensor].ndim == 1:
        return Piece(tensor, (channels,))
    return Piece(tensor, (rows, columns, channels))


def image_pieces(recording: Recording) -> list[Piece]:
    """Return the image before and after preprocessing, and the gradients to both."""
    names = [PREPROCESSED, IMAGES] if recording.network.preprocessing != "none" else [PREPROCESSED]
    return [whole(prefix + name, recording.tensors[name].shape) for name in names for prefix in ("", GRADIENT)]
