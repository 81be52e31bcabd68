"""Windows that slide over images: pairs, padding, output sizes, and the descriptor of a convolution.

Convolution and pooling share one geometry. A window of `size` taps that lie `dilation` pixels apart visits the padded
image every `stride` pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from numbers import Integral
from operator import index
from typing import Any, Literal, cast

import tensorflow as tf

LARGEST = 2**31 - 1  # pixels; larger attributes end the process in TensorFlow's graph optimizer
Sides = tuple[int, int]
Pair = int | Sides
Pads = tuple[Sides, Sides]
Padding = Literal["SAME", "VALID"] | Pads


def is_integer(value: Any) -> bool:
    """Whether a value is an int of Python or NumPy, or an array or tensor that holds one, but no bool."""
    if isinstance(value, Integral):
        return not isinstance(value, bool)
    if not hasattr(value, "dtype") or getattr(value, "shape", None) != ():
        return False
    try:
        index(value)  # refuses floats, and tensors of a graph
    except (TypeError, AttributeError):
        return False
    return "bool" not in str(value.dtype)


def pair(value: Pair, what: str = "value") -> Sides:
    """Turn a positive int or a (vertical, horizontal) pair of them into a pair.

    Raises:
        ValueError: If `value` is anything else; `what` names it in the message.
    """
    several = isinstance(value, Iterable) and getattr(value, "shape", None) != ()
    numbers: tuple[Any, ...] = tuple(cast(Iterable, value)) if several else (value, value)
    if len(numbers) != 2 or not all(is_integer(n) and 1 <= index(n) <= LARGEST for n in numbers):
        found = f"{what} is {shown(value)}; expected a positive int"
        raise ValueError(f"{found} or a pair of them, such as 2 or (2, 1), at most {LARGEST:,}")
    return index(numbers[0]), index(numbers[1])


def shown(value: object) -> str:
    """A value for a message, on one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def same_padding(length: int, window: int, stride: int, dilation: int) -> Sides:
    """TensorFlow's "SAME" along one axis: ⌈length/stride⌉ outputs; an odd pixel of padding goes to the end.

    A length that is unknown while tracing may be a scalar tensor.
    """
    reach = (window - 1) * dilation + 1
    missing = (-(-length // stride) - 1) * stride + reach - length
    total = max(missing, 0) if isinstance(length, int) else tf.maximum(missing, 0)
    return total // 2, total - total // 2


def window_padding(
    padding: Padding, size: Sequence[int | None], window: Pair, stride: Pair, dilation: Pair = 1
) -> Pads:
    """Padding in pixels, ((top, bottom), (left, right)), for an image of `size` (height, width).

    Raises:
        ValueError: For an unknown word, negative padding, or "SAME" with an unknown image size.
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
        pixels = all(is_integer(n) and 0 <= index(n) <= LARGEST for n in (top, bottom, left, right))
    except (TypeError, ValueError):
        pixels = False
    if not pixels:
        raise ValueError(
            f'padding is {shown(padding)}; expected "SAME", "VALID" or ((top, bottom), (left, right)) in pixels'
        )
    return (index(top), index(bottom)), (index(left), index(right))


def no_padding(pads: Pads) -> bool:
    """Whether nothing is padded; False for tensors, which are padding that is unknown while tracing."""
    return all(isinstance(n, int) and n == 0 for side in pads for n in side)


def padding_reference(padding, size, window, stride, dilation=1) -> Pads:
    """`window_padding` for the NumPy references, which call nothing else here.

    "SAME" adds pixels, one after the other and the first at the end, until the windows that start at every stride-th
    pixel of the image all fit.
    """
    if padding == "VALID":
        return (0, 0), (0, 0)
    if padding != "SAME":
        return padding
    pads = []
    for axis in (0, 1):
        taps, step, gap = (n[axis] if isinstance(n, (tuple, list)) else n for n in (window, stride, dilation))
        last_start = max(range(0, size[axis], step))
        before = after = 0
        while size[axis] + before + after < last_start + (taps - 1) * gap + 1:
            before, after = (before, after + 1) if before == after else (before + 1, after)
        pads.append((before, after))
    return pads[0], pads[1]


def padding_word(
    padding: Padding, size: Sequence[int | None], window: Pair, stride: Pair, dilation: Pair = 1
) -> Literal["SAME", "VALID"] | None:
    """ "SAME" or "VALID" if `padding` in pixels is the same for all windows, else None."""
    if padding == "SAME" or padding == "VALID":
        return padding
    pads = window_padding(padding, size, window, stride, dilation)
    known = [side for side in size if side is not None]
    if len(known) < len(size):
        if no_padding(pads):
            return "VALID"
        if pair(stride) != (1, 1):
            return None
        known = [1, 1]  # with stride 1, "SAME" pads all sizes equally
    pads = _read_padding(pads, known, window, stride, dilation)
    if no_padding(pads):
        return "VALID"
    return "SAME" if pads == window_padding("SAME", known, window, stride, dilation) else None


def _read_padding(pads: Pads, size: Sequence[int], window: Pair, stride: Pair, dilation: Pair) -> Pads:
    """The padding without the pixels at the end that no window reads, because a stride leaves them over."""
    out, read = output_size(pads, size, window, stride, dilation), []
    axes = zip(pads, size, out, pair(window), pair(stride), pair(dilation), strict=True)
    for (before, after), length, outputs, taps, step, gap in axes:
        end = (outputs - 1) * step + (taps - 1) * gap + 1 - before  # one past the last pixel that is read
        read.append((before, min(after, max(end - length, 0))))
    return read[0], read[1]


def output_size(padding: Padding, size: Sequence[int], window: Pair, stride: Pair, dilation: Pair = 1) -> Sides:
    """Height and width of the output of a window that slides over an image of `size`.

    Raises:
        ValueError: If the window does not fit, or the size is unknown or not positive.
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


@dataclass(frozen=True)
class Convolution:
    """How filters slide over an image: what cuDNN calls a convolution descriptor."""

    stride: Sides = (1, 1)
    padding: Padding = "SAME"
    dilation: Sides = (1, 1)
    groups: int = 1

    @property
    def plain(self) -> bool:
        """One group and no dilation."""
        return self.groups == 1 and self.dilation == (1, 1)

    def in_one_group(self) -> Convolution:
        """The same for all channels together."""
        return replace(self, groups=1)

    def pads(self, size: Sequence[int | None], kernel: Sides) -> Pads:
        """`window_padding` of a filter of `kernel` (kh, kw) over an image of `size`."""
        return window_padding(self.padding, size, kernel, self.stride, self.dilation)

    def padding_word(self, size: Sequence[int | None], kernel: Sides) -> Literal["SAME", "VALID"] | None:
        """The padding as a word if it equals one, else None."""
        return padding_word(self.padding, size, kernel, self.stride, self.dilation)

    def output_size(self, size: Sequence[int], kernel: Sides) -> Sides:
        """Height and width of the output."""
        return output_size(self.padding, size, kernel, self.stride, self.dilation)


def kernel_size(filters: tf.Tensor) -> Sides:
    """(kh, kw) of filters [kh,kw,…]."""
    return filters.shape[0], filters.shape[1]


def pad_image(x: tf.Tensor, pads: Pads, value: float = 0.0) -> tf.Tensor:
    """[B,H,W,C] → [B,H+top+bottom,W+left+right,C], filled with `value`."""
    if no_padding(pads):
        return x
    return tf.pad(x, ((0, 0), *pads, (0, 0)), constant_values=tf.constant(value, x.dtype))


def crop_image(x: tf.Tensor, pads: Pads) -> tf.Tensor:
    """Remove the padding again: the adjoint of `pad_image`."""
    (top, bottom), (left, right) = pads
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def crop_or_pad(x: tf.Tensor, margins: Pads) -> tf.Tensor:
    """Add `margins` ((top, bottom), (left, right)) of zeros; a negative margin removes pixels."""
    (top, bottom), (left, right) = margins  # pad first: one side may remove more pixels than there are without padding
    x = pad_image(x, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    return crop_image(x, ((max(-top, 0), max(-bottom, 0)), (max(-left, 0), max(-right, 0))))


def crop_or_pad_gradient(gradient: tf.Tensor, margins: Pads) -> tf.Tensor:
    """The gradient of `crop_or_pad` to x: what was added is removed, what was removed gets zeros."""
    (top, bottom), (left, right) = margins
    return crop_or_pad(gradient, ((-top, -bottom), (-left, -right)))


def window_views(x: tf.Tensor, window: Pair, stride: Pair, dilation: Pair, out: tuple[int, int]) -> list[tf.Tensor]:
    """What each tap of the window reads, row by row: kh·kw strided views [B,H',W',C] of the padded image.

    If the size is known, a reshape gives each stride an axis of its own. TensorFlow's strided slices copy pixel by
    pixel and take ten times as long.
    """
    (kh, kw), (sh, sw), (dh, dw) = pair(window), pair(stride), pair(dilation)
    taps = list(product(range(0, kh * dh, dh), range(0, kw * dw, dw)))
    if (sh, sw) == (1, 1) or None in x.shape[1:3]:
        return [x[:, i : i + (out[0] - 1) * sh + 1 : sh, j : j + (out[1] - 1) * sw + 1 : sw] for i, j in taps]
    rows, columns = out[0] + (kh - 1) * dh // sh, out[1] + (kw - 1) * dw // sw
    margins = (0, rows * sh - x.shape[1]), (0, columns * sw - x.shape[2])  # negative for pixels that no window reads
    blocks = tf.reshape(crop_or_pad(x, margins), (-1, rows, sh, columns, sw, x.shape[-1]))
    return [blocks[:, i // sh : i // sh + out[0], i % sh, j // sw : j // sw + out[1], j % sw] for i, j in taps]


def insert_zeros(x: tf.Tensor, stride: Pair) -> tf.Tensor:
    """Insert stride − 1 zeros between neighbors: [B,H,W,C] → [B,(H−1)·sh+1,(W−1)·sw+1,C].

    This is the adjoint of taking every stride-th pixel. It reshapes, so that XLA needs neither scatter nor loop.
    """
    sh, sw = pair(stride)
    if (sh, sw) == (1, 1):
        return x
    _, height, width, channels = x.shape
    x = tf.reshape(x, (-1, height, 1, width, 1, channels))
    x = tf.pad(x, ((0, 0), (0, 0), (0, sh - 1), (0, 0), (0, sw - 1), (0, 0)))  # [B,H,sh,W,sw,C]
    x = tf.reshape(x, (-1, height * sh, width * sw, channels))
    return x[:, : (height - 1) * sh + 1, : (width - 1) * sw + 1]


def place_view(view: tf.Tensor, tap: Sides, stride: Pair, dilation: Pair, size: Sequence[int]) -> tf.Tensor:
    """Put what tap (i, j) reads back into a padded image of `size`: the adjoint of one of `window_views`."""
    (i, j), (dh, dw) = tap, pair(dilation)
    x = insert_zeros(view, stride)
    below, right = size[0] - i * dh - x.shape[1], size[1] - j * dw - x.shape[2]
    return tf.pad(x, ((0, 0), (i * dh, below), (j * dw, right), (0, 0)))
