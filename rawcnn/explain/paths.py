"""The path of the largest contribution: from a unit of a deep layer back to a pixel of the image.

A convolution adds products, a pool takes or averages values, a sum adds branches. These are the terms of a unit. From a
unit, the path goes to the unit of its leading term, from there to that unit's leading term, and so on. The leading term
of a sum is the one with the largest absolute value, of equal ones the first; that of a maximum is the first of the
largest values. The page computes the same path from the values that it embeds (`leadingTerm` in
rawcnn/report/explanation/terms.js); this module finds which values these are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kernels.geometry import pair
from rawcnn.explain.embedding import Piece, whole
from rawcnn.explain.recording import Recording
from rawcnn.explain.units import as_map, channels_in_front, pixels_read, sliding_window, taps_inside
from rawcnn.nn.backpropagation import PREPROCESSED, Applied

Unit = tuple[int, int, int]


class PathStep(NamedTuple):
    """A unit on the path, and what its value is computed from."""

    operation: str
    unit: Unit
    pieces: tuple[Piece, ...]


class UnitTerms(NamedTuple):
    """What the value of a unit is computed from.

    Attributes:
        pieces: The values.
        leading: The (operation, unit) of the leading term; None if the unit depends on nothing.
    """

    pieces: tuple[Piece, ...]
    leading: tuple[str, Unit] | None


def terms_of(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    """Return what the value of a unit of an operation is computed from."""
    return TERMS[op.kind](op, recording, unit)


def leading_term(op: Applied, recording: Recording, unit: Unit) -> tuple[str, Unit] | None:
    """Find the input that contributes most to a unit.

    Args:
        op: The operation.
        recording: The network on an image; only its `tensors` are read.
        unit: (row, column, channel) of the operation's output; a vector is a map of one pixel.

    Returns:
        The name of the operation that computed the input, and its unit there; None if the unit depends on nothing, such
        as one whose window lies in the padding.
    """
    return terms_of(op, recording, unit).leading


def path_of(recording: Recording, name: str, unit: Unit) -> Iterator[PathStep]:
    """Yield the units from `unit` of the operation `name` back to the image, which comes last.

    The path ends earlier at a value that depends on nothing, such as padding.
    """
    operations = {op.name: op for op in recording.operations}
    while name != PREPROCESSED:
        op = operations[name]
        terms = terms_of(op, recording, unit)
        yield PathStep(name, unit, (_one_value(recording, name, unit), *terms.pieces))
        if terms.leading is None:
            return
        name, unit = terms.leading
    yield PathStep(PREPROCESSED, unit, (_one_value(recording, PREPROCESSED, unit),))


def path_pieces(recording: Recording, name: str, unit: Unit) -> list[Piece]:
    """Return what the page embeds to compute the path of a unit."""
    return [piece for step in path_of(recording, name, unit) for piece in step.pieces]


# Sums of products ------------------------------------------------------------------------------------------------


def _conv(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    channel = unit[2]
    (name,), filters = op.input_names, recording.tensors[f"{op.name}/filters"]
    x, depth = as_map(recording.tensors[name]), filters.shape[2]
    group = channel * op.settings["groups"] // filters.shape[3]
    channels = range(group * depth, (group + 1) * depth)
    (i, rows), (j, columns) = taps_inside(op, unit)
    window = x[np.ix_(rows, columns, channels)].astype(np.float64)  # [kh,kw,C/G] inside the map
    products = window * filters[np.ix_(i, j, range(depth), [channel])][..., 0]
    pieces = (
        Piece(name, (_span(rows), _span(columns), channels)),
        Piece(f"{op.name}/filters", (*map(range, filters.shape[:3]), (channel,))),
        *_parameters(op, "bias"),
    )
    if not products.size:  # a window of padding alone
        return UnitTerms(pieces, None)
    a, b, c = np.unravel_index(np.argmax(np.abs(products)), products.shape)
    return UnitTerms(pieces, (name, (rows[a], columns[b], channels[c])))


def _span(indices: list[int]) -> range:
    """Return the range from the first to the last index."""
    return range(indices[0], indices[-1] + 1) if indices else range(0)


def _dense(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    (name,), weights = op.input_names, recording.tensors[f"{op.name}/weights"]
    x = as_map(recording.tensors[name])
    products = x.astype(np.float64).ravel() * weights[:, unit[2]]
    pieces = (
        whole(name, recording.tensors[name].shape),
        Piece(f"{op.name}/weights", (range(len(weights)), (unit[2],))),
        *_parameters(op, "bias"),
    )
    row, column, channel = np.unravel_index(np.argmax(np.abs(products)), x.shape)
    return UnitTerms(pieces, (name, (int(row), int(column), int(channel))))


# Pools: the leading term of a mean is the value with the largest absolute value ---------------------------------------


def _max_pool(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    row, column, channel = unit
    rows, columns = pixels_read(op, range(row, row + 1), range(column, column + 1))
    return _terms_of_window(op, recording, rows, columns, channel, lambda values: values)


def _average_pool(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    row, column, channel = unit
    rows, columns = pixels_read(op, range(row, row + 1), range(column, column + 1))
    return _terms_of_window(op, recording, rows, columns, channel, np.abs)


def _global_average_pool(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    height, width, _ = as_map(recording.tensors[op.input_names[0]]).shape
    return _terms_of_window(op, recording, range(height), range(width), unit[2], np.abs)


def _terms_of_window(
    op: Applied, recording: Recording, rows: range, columns: range, channel: int, terms: Callable
) -> UnitTerms:
    """Return the values of a window; the leading one has the largest of `terms`."""
    (name,) = op.input_names
    x = as_map(recording.tensors[name])
    window = terms(x[rows.start : rows.stop, columns.start : columns.stop, channel])
    a, b = np.unravel_index(np.argmax(window), window.shape)
    return UnitTerms((Piece(name, (rows, columns, (channel,))),), (name, (rows[a], columns[b], channel)))


# One value of one input ----------------------------------------------------------------------------------------------


def _same_unit(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    """Return the inputs of an elementwise operation, with its parameters."""
    terms = _unit_of(op.input_names[0], recording, unit)
    return terms._replace(pieces=(*terms.pieces, *_parameters(op, *op.parameters)))


def _local_response_normalization(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    (row, column, channel), reach = unit, op.settings["radius"]
    channels = as_map(recording.tensors[op.name]).shape[2]
    near = range(max(channel - reach, 0), min(channel + reach + 1, channels))
    neighbors = Piece(op.input_names[0], (range(row, row + 1), range(column, column + 1), near))
    return UnitTerms((neighbors,), (op.input_names[0], unit))


def _scale_channels(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    maps, scales = op.input_names
    pieces = (_one_value(recording, maps, unit), _one_value(recording, scales, (0, 0, unit[2])))
    return UnitTerms(pieces, (maps, unit))


def _zero_padded_shortcut(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    (row, column, channel), (sh, sw) = unit, pair(sliding_window(op).stride)
    return _unit_of(op.input_names[0], recording, (row * sh, column * sw, channel - channels_in_front(op)))


def _pad(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    (row, column, channel), ((top, _), (left, _)) = unit, op.settings["margins"]
    return _unit_of(op.input_names[0], recording, (row - top, column - left, channel))


def _discretize(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    row, column, channel = unit
    return _unit_of(op.input_names[0], recording, (row, column, channel // op.settings["levels"]))


def _concatenate(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    row, column, channel = unit
    for name, x in zip(op.input_names, op.inputs, strict=True):
        if channel < x.shape[-1]:
            return _unit_of(name, recording, (row, column, channel))
        channel -= x.shape[-1]
    raise ValueError(f"{op.name} has no channel {unit[2]}")


def _unit_of(name: str, recording: Recording, unit: Unit) -> UnitTerms:
    """Return one unit of an input; none if it lies outside the map, where zeros are."""
    shape = as_map(recording.tensors[name]).shape
    if not all(0 <= index < length for index, length in zip(unit, shape, strict=True)):
        return UnitTerms((), None)
    return UnitTerms((_one_value(recording, name, unit),), (name, unit))


# One value of each input ---------------------------------------------------------------------------------------------


def _residual_sum(op: Applied, recording: Recording, unit: Unit) -> UnitTerms:
    factors = (1.0, float(op.settings.get("scale", 1.0)))
    terms = [
        abs(factor * float(as_map(recording.tensors[name])[unit]))
        for factor, name in zip(factors, op.input_names, strict=True)
    ]
    pieces = tuple(_one_value(recording, name, unit) for name in op.input_names)
    return UnitTerms(pieces, (op.input_names[int(np.argmax(terms))], unit))


# Parts ---------------------------------------------------------------------------------------------------------------


def _one_value(recording: Recording, name: str, unit: Unit) -> Piece:
    """Return the piece of a single value."""
    if recording.tensors[name].ndim == 1:
        return Piece(name, (range(unit[2], unit[2] + 1),))
    return Piece(name, tuple(range(index, index + 1) for index in unit))


def _parameters(op: Applied, *names: str) -> list[Piece]:
    """Return those of an operation's parameters that it has, complete."""
    return [whole(f"{op.name}/{name}", op.parameters[name].shape) for name in names if name in op.parameters]


# kind of operation → the function that finds what a unit is computed from
TERMS: dict[str, Callable[[Applied, Recording, Unit], UnitTerms]] = {
    "conv": _conv,
    "dense": _dense,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
    "batch_norm": _same_unit,
    "relu": _same_unit,
    "sigmoid": _same_unit,
    "dropout": _same_unit,
    "drop_path": _same_unit,
    "lrn": _local_response_normalization,
    "scale_channels": _scale_channels,
    "zero_padded_shortcut": _zero_padded_shortcut,
    "pad": _pad,
    "discretize": _discretize,
    "concatenate": _concatenate,
    "residual_sum": _residual_sum,
}
