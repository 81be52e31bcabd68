"""Which values an operation reads for one output: the geometry that the page, the selection and the paths share.

A unit is one value of an activation: (row, column, channel). A vector [C] counts as a map of one pixel, [1,1,C].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kernels.geometry import Pads, Sides, pair, window_padding
from rawcnn.nn.backpropagation import Applied

WINDOWS = ("conv", "max_pool", "average_pool", "zero_padded_shortcut")  # kinds that slide a window over a map


class Slide(NamedTuple):
    """How a window slides over a map."""

    size: Sides
    stride: Sides
    pads: Pads
    dilation: Sides

    def span(self, axis: int, first: int, last: int, length: int) -> range:
        """Return which of `length` rows (axis 0) or columns (axis 1) the outputs `first` … `last` read."""
        reach = (self.size[axis] - 1) * self.dilation[axis]
        start = first * self.stride[axis] - self.pads[axis][0]
        stop = last * self.stride[axis] - self.pads[axis][0] + reach + 1
        return range(min(max(start, 0), length), min(max(stop, 0), length))


def slide_of(op: Applied) -> Slide:
    """Return how the window of an operation slides; that of an elementwise operation is one pixel."""
    settings = op.settings
    if op.kind == "conv":
        size = (int(op.parameters["filters"].shape[0]), int(op.parameters["filters"].shape[1]))
    else:
        size = pair(settings.get("size", 1))
    stride, dilation = pair(settings.get("stride", 1)), pair(settings.get("dilation", 1))
    padding: Any = settings.get("padding", "VALID")
    pads = window_padding(padding, op.inputs[0].shape[1:3], size, stride, dilation) if op.kind in WINDOWS else None
    return Slide(size, stride, pads or ((0, 0), (0, 0)), dilation)


def as_map(x: np.ndarray) -> np.ndarray:
    """Return an activation as a map [H,W,C]: a vector [C] becomes one pixel."""
    return x if x.ndim == 3 else x[None, None]


def map_shape(shape) -> tuple[int, int, int]:
    """Return the shape [H,W,C] of an activation of shape [B,H,W,C] or [B,C]."""
    height, width, channels = shape[1:] if len(shape) == 4 else (1, 1, shape[1])
    return height, width, channels


def channels_read(op: Applied, source: int, channels: list[int]) -> list[int]:
    """Return the channels of an input that some output channels of an operation read.

    Convolutions and dense layers read all channels of their group; this function is for all other kinds.
    """
    count = map_shape(op.inputs[source].shape)[2]
    if op.kind == "lrn":  # the sums of its neighbors, too, because the gradient needs them
        reach = 2 * op.settings["radius"]
        return sorted({c for one in channels for c in range(one - reach, one + reach + 1) if 0 <= c < count})
    if op.kind == "concatenate":
        first = sum(map_shape(x.shape)[2] for x in op.inputs[:source])
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
        slide = slide_of(op)
        settings |= {name: _plain(value) for name, value in slide._asdict().items()}
    if op.kind == "zero_padded_shortcut":
        settings["front"] = channels_in_front(op)
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
