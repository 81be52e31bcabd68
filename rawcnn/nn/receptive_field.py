"""Receptive fields: which pixels of the image a position in the network can see.

Along one axis, position p of a layer sees the `size` pixels from `start + p·stride`. A window of k taps, d apart,
moving by s over a padded map grows the field:  start −= padding·stride,  size += (k−1)·d·stride,  stride ·= s.
Branches that meet see the union of what each sees. (Araujo et al., "Computing Receptive Fields of Convolutional
Neural Networks", Distill 2019.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.geometry import Padding, Pads, Pair, pair, window_padding


@dataclass(frozen=True)
class Axis:
    """The receptive field along one axis, in pixels of the image; `whole`: every position sees all of it."""

    start: int = 0
    size: int = 1
    stride: int = 1
    whole: bool = False

    def window(self, taps: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """The field after a window of `taps` over this layer."""
        return Axis(
            self.start - padding * self.stride,
            self.size + (taps - 1) * dilation * self.stride,
            self.stride * stride,
            self.whole,
        )

    def union(self, other: Axis) -> Axis:
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Axis(start, end - start, max(self.stride, other.stride), self.whole or other.whole)

    def pixels(self, position: int, length: int) -> tuple[int, int]:
        """First and one-past-last pixel that `position` sees, clipped to an image of `length` pixels."""
        if self.whole:
            return 0, length
        first = self.start + position * self.stride
        return min(max(first, 0), length), min(max(first + self.size, 0), length)


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer: one `Axis` down the image and one across."""

    rows: Axis = Axis()
    columns: Axis = Axis()

    @property
    def size(self) -> int | None:
        """The longer side, in pixels; None where it is the whole image, however large."""
        return None if self.rows.whole or self.columns.whole else max(self.rows.size, self.columns.size)

    @property
    def stride(self) -> int:
        """Pixels of the image between neighbouring positions."""
        return max(self.rows.stride, self.columns.stride)

    def box(self, position: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the pixels that `position` (row, column) sees, clipped to the image.

        The box is what the windows cover. Where a stride leaves the last pixels of a map unread, a position at that
        edge may see a little less of them than its box says.
        """
        top, bottom = self.rows.pixels(position[0], image_size[0])
        left, right = self.columns.pixels(position[1], image_size[1])
        return top, left, bottom, right


@dataclass(frozen=True)
class Window:
    """A window that slides over a map: what a convolution or a pool does to the receptive field."""

    size: Pair
    stride: Pair = 1
    padding: Padding = "VALID"
    dilation: Pair = 1

    def over(self, field: Field, input_size: Sequence[int]) -> Field:
        """The field of this window's output, over a map of `input_size` whose own field is `field`."""
        (top, _), (left, _) = window_padding(self.padding, input_size, self.size, self.stride, self.dilation)
        taps, strides, gaps = pair(self.size), pair(self.stride), pair(self.dilation)
        return Field(
            field.rows.window(taps[0], strides[0], top, gaps[0]),
            field.columns.window(taps[1], strides[1], left, gaps[1]),
        )


@dataclass(frozen=True)
class Margins:
    """Pixels put around a map, ((top, bottom), (left, right)), or taken off where negative."""

    pixels: Pads

    def over(self, field: Field, input_size: Sequence[int]) -> Field:
        (top, _), (left, _) = self.pixels
        return Field(field.rows.window(1, 1, top), field.columns.window(1, 1, left))


class Everywhere:
    """What each position sees of a map that was scaled by what the whole map told (squeeze and excitation)."""

    def over(self, field: Field, input_size: Sequence[int]) -> Field:
        return Field(replace(field.rows, whole=True), replace(field.columns, whole=True))


def union(fields: Sequence[Field]) -> Field:
    """What a position sees through any of several branches."""
    first, *others = fields
    for other in others:
        first = Field(first.rows.union(other.rows), first.columns.union(other.columns))
    return first
