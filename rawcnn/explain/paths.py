"""The path of the largest contribution: from a unit of a deep layer back to a pixel of the image.

A convolution adds products, a pool takes or averages values, a sum adds branches. From a unit, the path goes to the
input with the largest term, from there to that unit's largest term, and so on. The largest term is the one with the
largest absolute value, of equal ones the first; a maximum goes to its winner. The page computes the same path (by
`largestTerm` in forward.js) from the values that it embeds; this module finds which values these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rawcnn.explain.embedding import Piece, whole
from rawcnn.explain.recording import IMAGES, Recording
from rawcnn.explain.units import as_map, channels_in_front, slide_of
from rawcnn.nn.backpropagation import Applied

Unit = tuple[int, int, int]


class Step(NamedTuple):
    """A unit on the path, and what its value is computed from."""

    operation: str
    unit: Unit
    pieces: tuple[Piece, ...]


def path_of(recording: Recording, name: str, unit: Unit) -> Iterator[Step]:
    """Yield the units from `unit` of the operation `name` back to the image, which comes last.

    The path ends earlier at a value that depends on nothing, such as padding.
    """
    operations = {op.name: op for op in recording.operations}
    while name != IMAGES:
        op = operations[name]
        reads = _reads(op, recording, unit)
        yield Step(name, unit, (_one(recording, name, unit), *reads.pieces))
        if reads.best is None:
            return
        name, unit = reads.best
    yield Step(IMAGES, unit, (_one(recording, IMAGES, unit),))


def path_pieces(recording: Recording, name: str, unit: Unit) -> list[Piece]:
    """Return what the page embeds to compute the path of a unit."""
    return [piece for step in path_of(recording, name, unit) for piece in step.pieces]


class Reads(NamedTuple):
    """What a unit reads: the pieces, and the (operation, unit) with the largest contribution."""

    pieces: tuple[Piece, ...]
    best: tuple[str, Unit] | None


def _reads(op: Applied, recording: Recording, unit: Unit) -> Reads:
    """Return what a unit of any kind of operation reads."""
    if op.kind == "conv":
        return _conv(op, recording, unit)
    if op.kind == "dense":
        return _dense(op, recording, unit)
    if op.kind in ("max_pool", "average_pool", "global_average_pool"):
        return _pool(op, recording, unit)
    return _elementwise(op, recording, unit)


def _conv(op: Applied, recording: Recording, unit: Unit) -> Reads:
    row, column, channel = unit
    (source,), filters = op.sources, recording.tensors[f"{op.name}/filters"]
    x, slide, depth = as_map(recording.tensors[source]), slide_of(op), filters.shape[2]
    group = channel * op.settings["groups"] // filters.shape[3]
    channels = range(group * depth, (group + 1) * depth)
    taps = [  # (i, row) and (j, column) of the taps inside the map
        [(i, place) for i in range(slide.size[axis])
         if 0 <= (place := at * slide.stride[axis] + i * slide.dilation[axis] - slide.pads[axis][0]) < x.shape[axis]]
        for axis, at in enumerate((row, column))
    ]  # fmt: skip
    (i, rows), (j, columns) = (zip(*axis, strict=True) if axis else ((), ()) for axis in taps)
    window = x[np.ix_(rows, columns, channels)].astype(np.float64)  # [kh,kw,C/G] inside the map
    products = window * filters[np.ix_(i, j, range(depth), [channel])][..., 0]
    pieces = [
        Piece(source, (_span(rows), _span(columns), channels)),
        Piece(f"{op.name}/filters", (*map(range, filters.shape[:3]), (channel,))),
        *_parameters(op, recording, "bias"),
    ]
    if not products.size:  # a window of padding alone
        return Reads(tuple(pieces), None)
    a, b, c = np.unravel_index(np.argmax(np.abs(products)), products.shape)
    return Reads(tuple(pieces), (source, (int(rows[a]), int(columns[b]), channels[c])))


def _span(indices) -> range:
    return range(indices[0], indices[-1] + 1) if indices else range(0)


def _dense(op: Applied, recording: Recording, unit: Unit) -> Reads:
    (source,), weights = op.sources, recording.tensors[f"{op.name}/weights"]
    x = as_map(recording.tensors[source])
    products = x.astype(np.float64).ravel() * weights[:, unit[2]]
    pieces = (
        whole(source, recording.tensors[source].shape),
        Piece(f"{op.name}/weights", (range(len(weights)), (unit[2],))),
        *_parameters(op, recording, "bias"),
    )
    row, column, channel = np.unravel_index(np.argmax(np.abs(products)), x.shape)
    return Reads(pieces, (source, (int(row), int(column), int(channel))))


def _pool(op: Applied, recording: Recording, unit: Unit) -> Reads:
    """A maximum has its winner; of a mean, the value with the largest absolute value is the largest term."""
    row, column, channel = unit
    (source,) = op.sources
    x, slide = as_map(recording.tensors[source]), slide_of(op)
    if op.kind == "global_average_pool":
        rows, columns = range(x.shape[0]), range(x.shape[1])
    else:
        rows, columns = slide.span(0, row, row, x.shape[0]), slide.span(1, column, column, x.shape[1])
    window = x[rows.start : rows.stop, columns.start : columns.stop, channel]
    terms = window if op.kind == "max_pool" else np.abs(window)
    a, b = np.unravel_index(np.argmax(terms), window.shape)
    best = (source, (rows[a], columns[b], channel))
    return Reads((Piece(source, (rows, columns, (channel,))),), best)


def _elementwise(op: Applied, recording: Recording, unit: Unit) -> Reads:
    """All other kinds read one unit of one or of each input; the path follows the largest."""
    row, column, channel = unit
    sources = [(op.sources[0], unit)]
    if op.kind == "zero_padded_shortcut":
        (sh, sw), inside = slide_of(op).stride, channel - channels_in_front(op)
        sources = [(op.sources[0], (row * sh, column * sw, inside))]
    elif op.kind == "pad":
        (top, _), (left, _) = op.settings["margins"]
        sources = [(op.sources[0], (row - top, column - left, channel))]
    elif op.kind == "discretize":
        sources = [(op.sources[0], (row, column, channel // op.settings["levels"]))]
    elif op.kind == "concatenate":
        sources = [_branch(op, unit)]
    elif op.kind == "residual_sum":
        sources = [(source, unit) for source in op.sources]
    sources = [(name, at) for name, at in sources if _inside(recording, name, at)]
    pieces = [_one(recording, name, at) for name, at in sources]
    if op.kind == "scale_channels":
        pieces.append(_one(recording, op.sources[1], (0, 0, channel)))
    if op.kind == "lrn":
        reach, channels = op.settings["radius"], as_map(recording.tensors[op.name]).shape[2]
        near = range(max(channel - reach, 0), min(channel + reach + 1, channels))
        pieces.append(Piece(op.sources[0], (range(row, row + 1), range(column, column + 1), near)))
    pieces += _parameters(op, recording, *op.parameters)
    factors = [1.0, float(op.settings.get("scale", 1.0))] if op.kind == "residual_sum" else [1.0]
    terms = [
        factor * float(as_map(recording.tensors[name])[at])
        for factor, (name, at) in zip(factors, sources, strict=False)
    ]
    return Reads(tuple(pieces), sources[int(np.argmax(np.abs(terms)))] if terms else None)


def _branch(op: Applied, unit: Unit) -> tuple[str, Unit]:
    """Return the branch that a channel of a concatenation comes from."""
    row, column, channel = unit
    for source, x in zip(op.sources, op.inputs, strict=True):
        if channel < x.shape[-1]:
            return source, (row, column, channel)
        channel -= x.shape[-1]
    raise ValueError(f"{op.name} has no channel {unit[2]}")


def _inside(recording: Recording, name: str, unit: Unit) -> bool:
    shape = as_map(recording.tensors[name]).shape
    return all(0 <= index < length for index, length in zip(unit, shape, strict=True))


def _one(recording: Recording, name: str, unit: Unit) -> Piece:
    """Return the piece of a single value."""
    if recording.tensors[name].ndim == 1:
        return Piece(name, (range(unit[2], unit[2] + 1),))
    return Piece(name, tuple(range(index, index + 1) for index in unit))


def _parameters(op: Applied, recording: Recording, *leaves: str) -> list[Piece]:
    return [whole(f"{op.name}/{leaf}", op.parameters[leaf].shape) for leaf in leaves if leaf in op.parameters]
