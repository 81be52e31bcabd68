"""Windows that slide over images: pairs, padding and output sizes.

Convolution and pooling share one geometry. A window of `size` taps, `dilation` apart, visits the padded
image every `stride` pixels; the functions here turn the words "SAME" and "VALID" into pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from numbers import Integral
from typing import Literal

import tensorflow as tf

Pair = int | tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = Literal["SAME", "VALID"] | Pads


def pair(value: Pair, what: str = "value") -> tuple[int, int]:
    """A positive int or a (vertical, horizontal) pair of them → a pair. Raises ValueError for anything else."""
    numbers = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(numbers) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in numbers):
        raise ValueError(f"{what} is {value!r}; expected a positive int or a pair of them, such as 2 or (2, 1)")
    return int(numbers[0]), int(numbers[1])


def same_padding(length: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's "SAME" along one axis: ⌈length/stride⌉ outputs, the odd pixel of padding goes last."""
    reach = (window - 1) * dilation + 1
    total = max((-(-length // stride) - 1) * stride + reach - length, 0)
    return total // 2, total - total // 2


def window_padding(
    padding: Padding, size: Sequence[int | None], window: Pair, stride: Pair, dilation: Pair = 1
) -> Pads:
    """Padding in pixels, ((top, bottom), (left, right)), for an image of `size` (height, width).

    Raises ValueError for unknown words, negative padding, or "SAME" over an image of unknown size.
    """
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding == "SAME":
        known = [length for length in size if length is not None]
        if len(known) != 2:
            raise ValueError('padding "SAME" in pixels needs a known image size; give explicit padding instead')
        rows, columns = zip(known, pair(window), pair(stride), pair(dilation), strict=True)
        return same_padding(*rows), same_padding(*columns)
    try:
        (top, bottom), (left, right) = padding
        pixels = all(isinstance(n, int) and n >= 0 for n in (top, bottom, left, right))
    except (TypeError, ValueError):
        pixels = False
    if not pixels:
        raise ValueError(
            f'padding is {padding!r}; expected "SAME", "VALID" or ((top, bottom), (left, right)) in pixels'
        )
    return (top, bottom), (left, right)


def padding_word(
    padding: Padding, size: Sequence[int | None], window: Pair, stride: Pair, dilation: Pair = 1
) -> Literal["SAME", "VALID"] | None:
    """ "SAME" or "VALID" where that is what `padding` comes to, else None."""
    if padding == "SAME" or padding == "VALID":
        return padding
    pads = window_padding(padding, size, window, stride, dilation)
    if pads == ((0, 0), (0, 0)):
        return "VALID"
    if None in size:
        if pair(stride) != (1, 1):
            return None
        size = (1, 1)  # at stride 1 "SAME" is the same for all sizes
    return "SAME" if pads == window_padding("SAME", size, window, stride, dilation) else None


def output_size(
    padding: Padding, size: Sequence[int], window: Pair, stride: Pair, dilation: Pair = 1
) -> tuple[int, int]:
    """Height and width of what a window sliding over an image of `size` gives.

    Raises ValueError where the window does not fit, or the size is unknown or not positive.
    """
    if None in size or min(size) < 1:
        raise ValueError(f"the image size is {tuple(size)}; expected a known, positive height and width")
    pads = window_padding(padding, size, window, stride, dilation)
    out = tuple(
        (length + sum(pad) - (taps - 1) * gap - 1) // step + 1
        for length, pad, taps, gap, step in zip(size, pads, pair(window), pair(dilation), pair(stride), strict=True)
    )
    if min(out) < 1:
        raise ValueError(
            f"a window of {pair(window)} (dilation {pair(dilation)}) does not fit into an image of "
            f"{tuple(size)} padded by {pads}; use a larger image or more padding"
        )
    return out[0], out[1]


def pad_image(x: tf.Tensor, pads: Pads, value: float = 0.0) -> tf.Tensor:
    """[B,H,W,C] → [B,H+top+bottom,W+left+right,C], filled with `value`."""
    if pads == ((0, 0), (0, 0)):
        return x
    return tf.pad(x, ((0, 0), *pads, (0, 0)), constant_values=tf.constant(value, x.dtype))


def window_views(x: tf.Tensor, window: Pair, stride: Pair, dilation: Pair, out: tuple[int, int]) -> list[tf.Tensor]:
    """What each tap of the window sees, row by row: kh·kw strided views [B,H',W',C] of the padded image.

    Of images of known size strides are taken by folding them into axes of their own: TensorFlow's strided slices go
    pixel by pixel, and take ten times as long.
    """
    (kh, kw), (sh, sw), (dh, dw) = pair(window), pair(stride), pair(dilation)
    places = list(product(range(0, kh * dh, dh), range(0, kw * dw, dw)))
    if (sh, sw) == (1, 1) or None in x.shape[1:3]:
        return [x[:, i : i + (out[0] - 1) * sh + 1 : sh, j : j + (out[1] - 1) * sw + 1 : sw] for i, j in places]
    rows, columns = out[0] + (kh - 1) * dh // sh, out[1] + (kw - 1) * dw // sw
    margins = (0, rows * sh - x.shape[1]), (0, columns * sw - x.shape[2])  # what no window reaches may go
    folded = tf.reshape(crop_or_pad(x, margins), (-1, rows, sh, columns, sw, x.shape[-1]))
    return [folded[:, i // sh : i // sh + out[0], i % sh, j // sw : j // sw + out[1], j % sw] for i, j in places]


def spread(x: tf.Tensor, stride: Pair) -> tf.Tensor:
    """Set stride − 1 zeros between neighbours: [B,H,W,C] → [B,(H−1)·sh+1,(W−1)·sw+1,C].

    The adjoint of taking every stride-th pixel. Done by reshaping, so that XLA sees neither scatter nor loop.
    """
    sh, sw = pair(stride)
    if (sh, sw) == (1, 1):
        return x
    _, height, width, channels = x.shape
    x = tf.reshape(x, (-1, height, 1, width, 1, channels))
    x = tf.pad(x, ((0, 0), (0, 0), (0, sh - 1), (0, 0), (0, sw - 1), (0, 0)))
    x = tf.reshape(x, (-1, height * sh, width * sw, channels))
    return x[:, : (height - 1) * sh + 1, : (width - 1) * sw + 1]


def place_view(view: tf.Tensor, tap: tuple[int, int], stride: Pair, dilation: Pair, size: Sequence[int]) -> tf.Tensor:
    """The adjoint of one of `window_views`: put what tap (i, j) saw back into a padded image of `size`."""
    (i, j), (dh, dw) = tap, pair(dilation)
    back = spread(view, stride)
    below, right = size[0] - i * dh - back.shape[1], size[1] - j * dw - back.shape[2]
    return tf.pad(back, ((0, 0), (i * dh, below), (j * dw, right), (0, 0)))


def crop_image(x: tf.Tensor, pads: Pads) -> tf.Tensor:
    """The adjoint of `pad_image`: take the padding off again."""
    (top, bottom), (left, right) = pads
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def crop_or_pad(x: tf.Tensor, margins: Pads) -> tf.Tensor:
    """Add `margins` ((top, bottom), (left, right)) of zeros; a negative margin takes pixels off."""
    (top, bottom), (left, right) = margins
    # Padded first, because one side may take off more than there is and get it back from the other.
    x = pad_image(x, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    return crop_image(x, ((max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0))))
