"""Which values an operation reads for one output: the geometry that the page, the selection and the paths share.

A unit is one value of an activation: (row, column, channel). A vector [C] counts as a map of one pixel, [1,1,C].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels.geometry import kernel_size, pair, window_padding
from rawcnn.nn.backpropagation import Applied
from rawcnn.nn.receptive_field import Axis, ReceptiveField, Window

WINDOWS = ("conv", "max_pool", "average_pool", "zero_padded_shortcut")  # kinds that slide a window over a map


def sliding_window(op: Applied) -> Window:
    """Return the window that an operation slides over its input; one pixel for those that slide none."""
    if op.kind not in WINDOWS:
        return Window(1)
    settings: Mapping[str, Any] = op.settings
    size = kernel_size(op.parameters["filters"]) if op.kind == "conv" else settings.get("size", 1)
    return Window(size, settings.get("stride", 1), settings.get("padding", "VALID"), settings.get("dilation", 1))


def field_of(op: Applied) -> ReceptiveField:
    """Return the receptive field of an operation in its own first input."""
    return sliding_window(op).over(ReceptiveField(), op.inputs[0].shape[1:3])


def pixels_read(op: Applied, rows: range, columns: range) -> tuple[range, range]:
    """Return the rows and the columns of its input that an operation reads for some rows and columns of its output."""
    field, (height, width) = field_of(op), op.inputs[0].shape[1:3]
    return _pixels(field.rows, rows, height), _pixels(field.columns, columns, width)


def _pixels(axis: Axis, positions: range, length: int) -> range:
    """Return what the first to the last position see along one axis."""
    return range(axis.pixels(positions[0], length)[0], axis.pixels(positions[-1], length)[1])


def taps_inside(op: Applied, position: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return which taps of a unit's window lie inside the map, and what they read.

    Args:
        op: An operation that slides a window.
        position: The (row, column) of the unit in the operation's output; further indices are not read.

    Returns:
        For rows and for columns: (numbers of the taps, ascending from 0; the rows or columns of the input that they
        read). The page computes the same (`tapsInside` in rawcnn/report/explanation/windows.js).
    """
    window, field = sliding_window(op), field_of(op)
    taps = []
    for axis, count, gap, index, length in zip(
        (field.rows, field.columns), pair(window.size), pair(window.dilation), position, op.inputs[0].shape[1:3],
        strict=False,
    ):  # fmt: skip
        first = axis.start + index * axis.stride
        inside = [tap for tap in range(count) if 0 <= first + tap * gap < length]
        taps.append((inside, [first + tap * gap for tap in inside]))
    return taps


def as_map(x: np.ndarray) -> np.ndarray:
    """Return an activation as a map [H,W,C]: a vector [C] becomes one pixel."""
    return x if x.ndim == 3 else x[None, None]


def map_shape(shape) -> tuple[int, int, int]:
    """Return the shape [H,W,C] of an activation of shape [B,H,W,C] or [B,C]."""
    height, width, channels = shape[1:] if len(shape) == 4 else (1, 1, shape[1])
    return height, width, channels


def channels_read(op: Applied, number: int, channels: list[int]) -> list[int]:
    """Return the channels of an input (of this number) that some output channels of an operation read.

    A convolution reads all channels of its group and a dense layer all channels; this function is for all other kinds.
    """
    count = map_shape(op.inputs[number].shape)[2]
    if op.kind == "lrn":  # the sums of its neighbors, too, because the gradient needs them
        reach = 2 * op.settings["radius"]
        return sorted({c for one in channels for c in range(one - reach, one + reach + 1) if 0 <= c < count})
    if op.kind == "concatenate":
        first = sum(map_shape(x.shape)[2] for x in op.inputs[:number])
        return [c - first for c in channels if first <= c < first + count]
    if op.kind == "zero_padded_shortcut":
        front = channels_in_front(op)
        return [c - front for c in channels if front <= c < front + count]
    if op.kind == "discretize":
        return sorted({c // op.settings["levels"] for c in channels})
    return channels


def channels_in_front(op: Applied) -> int:
    """Return how many channels of zeros a zero-padded shortcut puts before those of its input."""
    extra = op.settings["channels"] - map_shape(op.inputs[0].shape)[2]
    return extra // 2 if op.settings["zeros"] == "both" else 0


def plain_settings(op: Applied) -> dict[str, Any]:
    """Return the settings of an operation as JSON has them, with its padding in pixels."""
    settings: dict[str, Any] = {
        name: _plain(value) for name, value in op.settings.items() if name not in ("seed", "padding", "initial")
    }
    if op.kind in WINDOWS:
        window = sliding_window(op)
        size, stride, dilation = pair(window.size), pair(window.stride), pair(window.dilation)
        pads = window_padding(window.padding, op.inputs[0].shape[1:3], size, stride, dilation)
        settings |= _plain({"size": size, "stride": stride, "pads": pads, "dilation": dilation})
    if op.kind == "zero_padded_shortcut":
        settings["front"] = channels_in_front(op)
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
