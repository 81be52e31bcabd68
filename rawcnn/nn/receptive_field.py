"""Receptive fields: the pixels of the image that a position in the network depends on.

Along one axis, position p of a layer sees the `size` pixels from `start + p·stride`. A window of k taps with dilation d
that moves by s over a padded map changes them to

    start − padding·stride,   size + (k − 1)·d·stride,   stride·s

Where branches meet, a position sees the union of what it sees through each branch. Source: Araujo et al., "Computing
Receptive Fields of Convolutional Neural Networks", Distill 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kernels.geometry import Padding, Pads, Pair, pair, window_padding


@dataclass(frozen=True)
class Axis:
    """The receptive field along one axis, in pixels. If `spans_image`, every position sees the complete axis."""

    start: int = 0
    size: int = 1
    stride: int = 1
    spans_image: bool = False

    def window(self, taps: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """Return the field after a window of `taps` over this layer."""
        return Axis(
            self.start - padding * self.stride,
            self.size + (taps - 1) * dilation * self.stride,
            self.stride * stride,
            self.spans_image,
        )

    def union(self, other: Axis) -> Axis:
        """Return the smallest field that contains both."""
        start = min(self.start, other.start)
        end = max(self.start + self.size, other.start + other.size)
        return Axis(start, end - start, max(self.stride, other.stride), self.spans_image or other.spans_image)

    def pixels(self, position: int, length: int) -> tuple[int, int]:
        """Return the first and one-past-last pixel that `position` sees, clipped to an image of `length` pixels."""
        if self.spans_image:
            return 0, length
        first = self.start + position * self.stride
        return min(max(first, 0), length), min(max(first + self.size, 0), length)


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive field of a layer: one `Axis` down the image and one across."""

    rows: Axis = Axis()
    columns: Axis = Axis()

    @property
    def size(self) -> int | None:
        """The longer side in pixels, or None if it is the whole image, however large."""
        return None if self.rows.spans_image or self.columns.spans_image else max(self.rows.size, self.columns.size)

    @property
    def stride(self) -> int:
        """The distance of neighboring positions, in pixels of the image."""
        return max(self.rows.stride, self.columns.stride)

    def box(self, position: tuple[int, int], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the pixels that a position sees, clipped to the image.

        If a stride leaves the last pixels of a map unread, a position at that edge may see a little less than its box.

        Args:
            position: (row, column) in the layer's map.
            image_size: (height, width) in pixels.

        Returns:
            (top, left, bottom, right).
        """
        top, bottom = self.rows.pixels(position[0], image_size[0])
        left, right = self.columns.pixels(position[1], image_size[1])
        return top, left, bottom, right


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pool."""

    size: Pair
    stride: Pair = 1
    padding: Padding = "VALID"
    dilation: Pair = 1

    def over(self, field: ReceptiveField, input_size: Sequence[int]) -> ReceptiveField:
        """Return the field of this window's output over a map of `input_size` with the receptive field `field`."""
        (top, _), (left, _) = window_padding(self.padding, input_size, self.size, self.stride, self.dilation)
        taps, strides, dilations = pair(self.size), pair(self.stride), pair(self.dilation)
        return ReceptiveField(
            field.rows.window(taps[0], strides[0], top, dilations[0]),
            field.columns.window(taps[1], strides[1], left, dilations[1]),
        )


@dataclass(frozen=True)
class Margins:
    """Margins that are added around a map, ((top, bottom), (left, right)) in pixels, or cropped where negative."""

    pixels: Pads

    def over(self, field: ReceptiveField, input_size: Sequence[int]) -> ReceptiveField:
        """Return the field of the padded map."""
        (top, _), (left, _) = self.pixels
        return ReceptiveField(field.rows.window(1, 1, top), field.columns.window(1, 1, left))


class Everywhere:
    """The window of an operation that depends on the whole map, as squeeze and excitation does."""

    def over(self, field: ReceptiveField, input_size: Sequence[int]) -> ReceptiveField:
        """Return the whole image."""
        return ReceptiveField(replace(field.rows, spans_image=True), replace(field.columns, spans_image=True))


def union(fields: Sequence[ReceptiveField]) -> ReceptiveField:
    """Return what a position sees through any of several branches."""
    first, *others = fields
    for other in others:
        first = ReceptiveField(first.rows.union(other.rows), first.columns.union(other.columns))
    return first
