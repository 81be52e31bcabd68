"""The public pools: checks, and the choice between TensorFlow's kernels and pooling by lines.

Every function raises ValueError for a window that does not fit, and for padding as wide as the window, because such a
window could lie outside the image. Batch, height and width may be unknown while tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import tensorflow as tf

from kernels import pooling as textbook
from kernels.dispatch.selection import form_of, measured, pixels_of, shape_name
from kernels.forms.differentiable import with_gradient
from kernels.forms.lines import lines_average_pool, lines_max_pool, lines_max_pool_input_gradient
from kernels.forms.nn_pools import nn_max_pool
from kernels.forms.phases import phases_average_pool_input_gradient, phases_max_unpool
from kernels.geometry import Padding, Pads, Pair, Sides, output_size, padding_word, pair, window_padding

POOLS = ("nn", "lines")  # forms
LARGEST_WINDOW = 2**15  # pooling by lines has an operation for each pixel of a side


def max_pool(x: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID", algorithm: str = "auto") -> tf.Tensor:
    """Take the largest value of each window.

    Args:
        x: [B,H,W,C].
        size: The window, an int or (kh, kw).
        stride: Pixels between two windows, an int or a pair.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)) in pixels; padding is never the maximum. With
            ((0, s − 1), (0, s − 1)) for a stride s, sizes round up, as with PyTorch's `ceil_mode`.
        algorithm: "nn" (TensorFlow's), "lines" (the maximum of kw views along the rows, then of kh down the columns),
            or "auto": the form that was faster, together with its gradient.

    Returns:
        [B,H',W',C]. A window with a NaN gives NaN, one of −∞ alone −∞.

    Raises:
        ValueError: For a window or padding that does not fit.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    form = _form("max_pool", algorithm, x, window, stride)
    pads = _pool_padding(_image_size(x), window, stride, padding)
    if form == "nn":
        word = padding if isinstance(padding, str) else padding_word(pads, x.shape[1:3], window, stride)
        return nn_max_pool(x, window, stride, word or pads, pads)
    return with_gradient(
        lambda x: lines_max_pool(x, window, stride, pads),
        lambda inputs, y, gradient: lines_max_pool_input_gradient(inputs[0], gradient, window, stride, pads),
    )(x)


def max_pool_switches(x: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID") -> tf.Tensor:
    """Find the first maximum of each window (Zeiler & Fergus 2014, section 2.1).

    Args:
        x: [B,H,W,C].
        size, stride, padding: As in `max_pool`.

    Returns:
        int32 [B,H',W',C]: its number in the window, 0 … kh·kw−1, row by row. A NaN counts as the largest.

    Raises:
        ValueError: For a window or padding that does not fit.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(_image_size(x), window, stride, padding)
    return textbook.max_pool_switches(x, window, stride, pads)


def max_unpool(
    pooled: tf.Tensor,
    switches: tf.Tensor,
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    *,
    input_size: Sequence[int | tf.Tensor],
) -> tf.Tensor:
    """Put each pooled value where its switch points (Zeiler & Fergus 2014, section 2.1).

    Args:
        pooled: [B,H',W',C].
        switches: int32 [B,H',W',C] of `max_pool_switches`.
        size, stride, padding: As in `max_pool`.
        input_size: (H, W).

    Returns:
        [B,H,W,C]. The other pixels are zero; values of overlapping windows that meet in one pixel are added.

    Raises:
        ValueError: For a window or padding that does not fit, or if images of this size pool to another size.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(input_size, window, stride, padding)
    _check_pooled(pooled, window, stride, pads, input_size)
    return phases_max_unpool(pooled, switches, input_size, window, stride, pads)


def average_pool(
    x: tf.Tensor,
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    count_padding: bool = False,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Take the average of each window.

    Args:
        x: [B,H,W,C].
        size: The window, an int or (kh, kw).
        stride: Pixels between two windows, an int or a pair.
        padding: "SAME", "VALID" or ((top, bottom), (left, right)) in pixels.
        count_padding: Divide by kh·kw everywhere; otherwise by the number of pixels inside the image.
        algorithm: "nn" (TensorFlow's), "lines" (the sum of kw views along the rows, then of kh down the columns), or
            "auto": the form that was faster.

    Returns:
        [B,H',W',C].

    Raises:
        ValueError: For a window or padding that does not fit.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    form = _form("average_pool", algorithm, x, window, stride)
    image = _image_size(x)
    same = padding == "SAME" and not count_padding
    if form == "nn" and same and all(isinstance(n, int) and k <= n for n, k in zip(image, window, strict=True)):
        return textbook.average_pool(x, window, stride, "SAME")
    pads = _pool_padding(image, window, stride, padding)
    pixels = None if count_padding else textbook.pixels_inside(image, window, stride, pads)
    if form == "nn" and not same:
        return textbook.average_pool(x, window, stride, pads, pixels)

    def forward(x):
        if form == "nn":
            return textbook.average_pool(x, window, stride, "SAME")
        return lines_average_pool(x, window, stride, pads, prod(window) if pixels is None else pixels)

    def backward(inputs, y, gradient):  # TensorFlow's is wrong where a window is larger than the image
        return phases_average_pool_input_gradient(gradient, image, window, stride, pads, count_padding)

    return with_gradient(forward, backward)(x)


def max_pool_input_gradient(
    x: tf.Tensor, gradient: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID"
) -> tf.Tensor:
    """Compute the gradient of `max_pool` to its input.

    Args:
        x: [B,H,W,C].
        gradient: ∂L/∂y [B,H',W',C].
        size, stride, padding: As in `max_pool`.

    Returns:
        ∂L/∂x [B,H,W,C]; of equal maxima the first in its window, row by row, gets the gradient.

    Raises:
        ValueError: For a window or padding that does not fit.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(_image_size(x), window, stride, padding)
    _check_pooled(gradient, window, stride, pads, _image_size(x))
    return lines_max_pool_input_gradient(x, gradient, window, stride, pads)


def average_pool_input_gradient(
    gradient: tf.Tensor,
    input_size: Sequence[int | tf.Tensor],
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> tf.Tensor:
    """Compute the gradient of `average_pool` to its input.

    Args:
        gradient: ∂L/∂y [B,H',W',C].
        input_size: (H, W).
        size, stride, padding, count_padding: As in `average_pool`.

    Returns:
        ∂L/∂x [B,H,W,C]: each pixel of a window gets an equal share.

    Raises:
        ValueError: For a window or padding that does not fit, or if images of this size pool to another size.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(input_size, window, stride, padding)
    _check_pooled(gradient, window, stride, pads, input_size)
    return phases_average_pool_input_gradient(gradient, input_size, window, stride, pads, count_padding)


def global_average_pool(x: tf.Tensor) -> tf.Tensor:
    """Average each channel; the sum is accumulated in float32 or wider.

    Args:
        x: [B,H,W,C].

    Returns:
        [B,C] in the type of x.

    Raises:
        ValueError: If x is not [B,H,W,C].
    """
    _check_images(x)
    return textbook.global_average_pool(x)


def _form(job: str, algorithm: str, x: tf.Tensor, window: Sides, stride: Sides) -> str:
    """The form to compute; for "auto" the one that was measured for this shape. ValueError for an unknown form."""
    form = form_of(algorithm, x.dtype, POOLS)
    if algorithm != "auto" or x.shape.rank != 4 or None in x.shape[1:]:
        return form
    return measured(job, x.dtype, shape_name((*window, x.shape[-1]), stride), pixels_of(x), POOLS)


def _image_size(x: tf.Tensor) -> list:
    """[H, W]. ValueError if x is not [B,H,W,C]."""
    _check_images(x)
    return textbook.image_size(x)


def _check_images(x: tf.Tensor) -> None:
    """ValueError if x is not [B,H,W,C]."""
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected images [batch, height, width, channels]")


def _pool_padding(image: Sequence, window: Sides, stride: Sides, padding: Padding) -> Pads:
    """Padding in pixels. ValueError unless the window fits and always contains a pixel of the image."""
    if (isinstance(image, (tuple, list)) and len(image) != 2) or any(length is None for length in image):
        raise ValueError(f"input_size is {tuple(image)}; expected (height, width), ints or scalar tensors")
    if max(window) > LARGEST_WINDOW:
        raise ValueError(f"size is {window}; expected a window of at most {LARGEST_WINDOW:,} pixels to a side")
    # With stride 1, "SAME" pads window − 1 pixels for every length, so any length stands for an unknown one.
    lengths = [1 if step == 1 else length for length, step in zip(image, stride, strict=True)]
    pads = window_padding(padding, lengths, window, stride)
    if padding != "SAME" and any(max(pad) >= taps for pad, taps in zip(pads, window, strict=True)):
        raise ValueError(f"padding {pads} can hide a whole window of {window}; pad each side by less than it")
    if all(isinstance(length, int) for length in image):
        output_size(pads, image, window, stride)
    return pads


def _check_pooled(pooled: tf.Tensor, window: Sides, stride: Sides, pads: Pads, image: Sequence) -> None:
    """ValueError if such images do not pool to the size of `pooled`, as far as it is known while tracing."""
    if all(isinstance(length, int) for length in image):
        out = output_size(pads, image, window, stride)
        if not pooled.shape[1:3].is_compatible_with(out):
            raise ValueError(
                f"an image of {tuple(image)} pools to {out}; expected a map of that size, got {pooled.shape[1:3]}"
            )
