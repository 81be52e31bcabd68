"""Pooling: one number for each window of each channel. The largest, the average, and the way back.

Overlapping max pooling: Krizhevsky et al. 2012, §3.4. Switches and unpooling: Zeiler & Fergus 2014, §2.1.
Global average pooling: Lin et al. 2013 (Network in Network), §3.2.

Every function raises ValueError for a window that does not fit, and for padding as wide as the window: such a
window could see no pixel at all. Batch, height and width may be unknown when tracing, but for "SAME" with a
stride outside tf.nn's own pools: how much that pads depends on the size, so it is a ValueError.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from math import prod

import numpy as np
import tensorflow as tf

from kernels.choice import form_of, measured, pixels_of, shape_name
from kernels.cost import Cost, elementwise_cost
from kernels.geometry import (
    Padding,
    Pads,
    Pair,
    output_size,
    pad_image,
    pair,
    window_padding,
    window_views,
)
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   maximum  y[b,i,j,c] = max    x[b, i·sh + p − top, j·sw + q − left, c]    0 ≤ p < kh, 0 ≤ q < kw
#   average  y[b,i,j,c] = 1/n Σ  of the same pixels
#   global   y[b,c]     = 1/HW Σ x[b,h,w,c]
#
# Only pixels inside the image take part: padding never wins a maximum, and n is the number of pixels summed,
# or kh·kw with `count_padding`. The switch of a window is p·kw + q of its first largest pixel, row by row;
# unpooling puts each pooled number back where its switch points.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def _windows_reference(image: Sequence[int], size: Pair, stride: Pair, padding: Padding) -> list[list]:
    """windows[i][j] = [(tap, row, column), …]: the pixels inside the image that output (i, j) sees."""
    (height, width), (kh, kw), (sh, sw) = image, np.broadcast_to(size, 2), np.broadcast_to(stride, 2)
    if padding == "SAME":
        missing_rows = max(((height + sh - 1) // sh - 1) * sh + kh - height, 0)
        missing_columns = max(((width + sw - 1) // sw - 1) * sw + kw - width, 0)
        top, left = missing_rows // 2, missing_columns // 2
        bottom, right = missing_rows - top, missing_columns - left
    else:
        (top, bottom), (left, right) = ((0, 0), (0, 0)) if padding == "VALID" else padding
    windows: list[list] = []
    for first_row in range(-top, height + bottom - kh + 1, sh):
        windows.append([])
        for first_column in range(-left, width + right - kw + 1, sw):
            seen = [(p * kw + q, first_row + p, first_column + q) for p in range(kh) for q in range(kw)]
            windows[-1].append([(t, r, c) for t, r, c in seen if 0 <= r < height and 0 <= c < width])
    return windows


def max_pool_reference(x, size: Pair, stride: Pair, padding: Padding = "VALID") -> np.ndarray:
    x = np.asarray(x, np.float64)
    windows = _windows_reference(x.shape[1:3], size, stride, padding)
    y = [[np.max([x[:, r, c] for _, r, c in seen], axis=0) for seen in line] for line in windows]
    return np.transpose(y, (2, 0, 1, 3))  # [H',W',B,C] → [B,H',W',C]


def max_pool_switches_reference(x, size: Pair, stride: Pair, padding: Padding = "VALID") -> np.ndarray:
    x = np.asarray(x, np.float64)
    windows = _windows_reference(x.shape[1:3], size, stride, padding)
    switches = np.zeros((x.shape[0], len(windows), len(windows[0]), x.shape[3]), np.int32)
    for b, i, j, c in np.ndindex(*switches.shape):
        largest = -np.inf
        for tap, row, column in windows[i][j]:
            if x[b, row, column, c] > largest:
                largest, switches[b, i, j, c] = x[b, row, column, c], tap
    return switches


def max_unpool_reference(
    pooled, switches, size: Pair, stride: Pair, padding: Padding = "VALID", *, input_size: tuple[int, int]
) -> np.ndarray:
    pooled = np.asarray(pooled, np.float64)
    windows = _windows_reference(input_size, size, stride, padding)
    x = np.zeros((pooled.shape[0], *input_size, pooled.shape[3]))
    for b, i, j, c in np.ndindex(*pooled.shape):
        for tap, row, column in windows[i][j]:
            if tap == switches[b, i, j, c]:
                x[b, row, column, c] += pooled[b, i, j, c]
    return x


def average_pool_reference(
    x, size: Pair, stride: Pair, padding: Padding = "VALID", count_padding: bool = False
) -> np.ndarray:
    x, area = np.asarray(x, np.float64), np.prod(np.broadcast_to(size, 2))
    windows = _windows_reference(x.shape[1:3], size, stride, padding)
    y = [
        [sum(x[:, r, c] for _, r, c in seen) / (area if count_padding else len(seen)) for seen in line]
        for line in windows
    ]
    return np.transpose(y, (2, 0, 1, 3))


def global_average_pool_reference(x) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return sum(x[:, r, c] for r, c in np.ndindex(*x.shape[1:3])) / (x.shape[1] * x.shape[2])


# 3. Tensor forms --------------------------------------------------------------------------------------------


POOLS = ("nn", "lines")  # forms


def max_pool(x: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID", algorithm: str = "auto") -> tf.Tensor:
    """[B,H,W,C] → [B,H',W',C]. Forms: "nn" is tf.nn's; "lines" compares kw views along the rows, kh down the columns.

    "auto" takes what was measured to be faster with its gradient: "nn" in a plain graph on the CPU, "lines" under XLA.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    form = _form("max_pool", algorithm, x, window, stride)
    if form == "nn" and padding == "SAME":
        return tf.nn.max_pool2d(x, window, stride, "SAME")
    pads = _pool_padding(_image_size(x), window, stride, padding)
    if form == "nn":  # XLA has no pool with explicit padding
        return tf.nn.max_pool2d(pad_image(x, pads, x.dtype.min), window, stride, "VALID")

    @tf.custom_gradient
    def by_lines(x):
        largest = pad_image(wide(x), pads, x.dtype.min)
        for line, step in _lines(window, stride):
            largest = reduce(tf.maximum, _views(largest, line, step))
        return tf.cast(largest, x.dtype), lambda gradient: max_pool_input_gradient(x, gradient, window, stride, pads)

    return by_lines(x)


def max_pool_switches(x: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID") -> tf.Tensor:
    """[B,H,W,C] → int32 [B,H',W',C]: the number, 0 … kh·kw−1, of the first maximum in each window."""
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(_image_size(x), window, stride, padding)
    return _first_maximum(_views(pad_image(x, pads, x.dtype.min), window, stride))[1]


def max_unpool(
    pooled: tf.Tensor,
    switches: tf.Tensor,
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    *,
    input_size: Sequence[int | tf.Tensor],
) -> tf.Tensor:
    """[B,H',W',C] → [B,H,W,C] with `input_size` = (H, W): each number goes where its switch points.

    The other pixels are zero; numbers from overlapping windows that meet in one pixel are added.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(input_size, window, stride, padding)
    _check_pooled(pooled, window, stride, pads, input_size)
    seen = zip(_placed(pooled, window, stride), _placed(switches, window, stride, padding_value=-1), strict=True)
    views = [tf.where(switch == tap, number, 0) for tap, (number, switch) in enumerate(seen)]
    return _interleave(views, window, stride, pads, input_size)


def average_pool(
    x: tf.Tensor,
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    count_padding: bool = False,
    algorithm: str = "auto",
) -> tf.Tensor:
    """[B,H,W,C] → [B,H',W',C]. Forms: "nn" is tf.nn's; "lines" adds kw views along the rows, then kh down the columns.

    "auto" takes what was measured to be faster. `count_padding` divides by kh·kw everywhere, otherwise padding counts
    as absent.
    """
    window, stride = pair(size, "size"), pair(stride, "stride")
    form = _form("average_pool", algorithm, x, window, stride)
    if form == "nn" and padding == "SAME" and not count_padding:
        return tf.nn.avg_pool2d(x, window, stride, "SAME")
    image = _image_size(x)
    pads = _pool_padding(image, window, stride, padding)
    n = prod(window) if count_padding else _pixels_inside(image, window, stride, pads)
    if form == "nn":
        average = tf.nn.avg_pool2d(pad_image(x, pads), window, stride, "VALID")
        return average if isinstance(n, int) else average * (prod(window) / tf.cast(n, x.dtype))

    @tf.custom_gradient
    def by_lines(x):
        total = pad_image(wide(x), pads)
        for line, step in _lines(window, stride):
            total = tf.add_n(_views(total, line, step))

        def backward(gradient):
            return average_pool_input_gradient(gradient, image, window, stride, pads, count_padding)

        return tf.cast(total / tf.cast(n, total.dtype), x.dtype), backward

    return by_lines(x)


def global_average_pool(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C] → [B,C]."""
    return tf.cast(tf.reduce_mean(wide(x), axis=(1, 2)), x.dtype)


def _form(job: str, algorithm: str, x: tf.Tensor, window: tuple[int, int], stride: tuple[int, int]) -> str:
    """The form to compute; for "auto" the one measured for this shape. ValueError for an unknown one."""
    form = form_of(algorithm, x.dtype, POOLS)
    if algorithm != "auto" or x.shape.rank != 4 or None in x.shape[1:]:
        return form
    return measured(job, x.dtype, shape_name((*window, x.shape[-1]), stride), pixels_of(x), POOLS)


def _image_size(x: tf.Tensor) -> list:
    """[height, width]; a scalar tensor for what is unknown when tracing."""
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected images [batch, height, width, channels]")
    return [tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2)]


def _pool_padding(image: Sequence, window: tuple[int, int], stride: tuple[int, int], padding: Padding) -> Pads:
    """Padding in pixels, checked: the window fits and always sees a pixel."""
    if any(length is None for length in image):
        raise ValueError(f"input_size is {tuple(image)}; expected (height, width), ints or scalar tensors")
    known = [length if isinstance(length, int) else None for length in image]
    # At stride 1 "SAME" pads window − 1 whatever the length, so any length stands for an unknown one.
    lengths = [1 if step == 1 else length for length, step in zip(known, stride, strict=True)]
    pads = window_padding(padding, lengths, window, stride)
    if any(max(pad) >= taps for pad, taps in zip(pads, window, strict=True)):
        raise ValueError(f"padding {pads} can hide a whole window of {window}; pad each side by less than it")
    if None not in known:
        output_size(pads, image, window, stride)
    return pads


def _check_pooled(
    pooled: tf.Tensor, window: tuple[int, int], stride: tuple[int, int], pads: Pads, image: Sequence
) -> None:
    """ValueError where `pooled` is not of the size that such images pool to, as far as that is known when tracing."""
    if all(isinstance(length, int) for length in image):
        out = output_size(pads, image, window, stride)
        if not pooled.shape[1:3].is_compatible_with(out):
            raise ValueError(f"an image of {tuple(image)} pools to {out}; got {pooled.shape[1:3]}")


def _lines(window: tuple[int, int], stride: tuple[int, int]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(window, stride) of the two passes that a window falls into: along the rows, then down the columns."""
    (kh, kw), (sh, sw) = window, stride
    return [((1, kw), (1, sw)), ((kh, 1), (sh, 1))]


def _views(x: tf.Tensor, window: tuple[int, int], stride: tuple[int, int]) -> list[tf.Tensor]:
    """Padded [B,H,W,C] → kh·kw tensors [B,H',W',C]: what each tap of the window sees."""
    height, width = _image_size(x)
    out = (height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1
    return window_views(x, window, stride, 1, out)


def _first_maximum(views: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """(the largest of these tensors, int32: the number of the first that has it), element by element."""
    largest, *others = views
    switches = tf.zeros_like(largest, tf.int32)
    for tap, view in enumerate(others, 1):
        switches = tf.where(view > largest, tap, switches)  # strictly: the first of equals stays
        largest = tf.maximum(view, largest)
    return largest, switches


def _pixels_inside(image: Sequence, window: tuple[int, int], stride: tuple[int, int], pads: Pads) -> tf.Tensor | int:
    """How many pixels each window sees inside the image: kh·kw everywhere, or float32 [1,H',W',1]."""
    if pads == ((0, 0), (0, 0)):
        return prod(window)
    return tf.add_n(_views(pad_image(tf.ones((1, *image, 1)), pads), window, stride))


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# A pool is linear once its switches are known: y = Σ_tap w_tap ⊙ view_tap(x), where w_tap is [switch = tap]
# for the maximum and 1/n for the average. The gradient is the adjoint, dx = Σ_tap view_tapᵀ(w_tap ⊙ dy): what
# a tap saw goes back, a stride apart. Taps p, p + s, p + 2s, … meet on the rows ≡ p modulo s, whole strides
# apart, so the sums are taken in sh·sw small images, one a phase, and interleaved at the end.
#
# A window is also a pool along the rows and then one down the columns, for the maximum of maxima is the maximum, and
# of equal ones the first row's first stays the first. Back it goes down the columns, then along the rows: kh + kw
# taps to compare instead of kh·kw. (The average's gradient compares nothing, and is one sum.)


def max_pool_input_gradient(
    x: tf.Tensor, gradient: tf.Tensor, size: Pair, stride: Pair, padding: Padding = "VALID"
) -> tf.Tensor:
    """[B,H',W',C] → [B,H,W,C]; of equal maxima the first in its window, row by row, gets the gradient."""
    window, stride = pair(size, "size"), pair(stride, "stride")
    image = _image_size(x)
    (top, _), (left, _) = pads = _pool_padding(image, window, stride, padding)
    largest, passes = pad_image(wide(x), pads, x.dtype.min), []
    for line, step in _lines(window, stride):
        seen = _image_size(largest)
        largest, switches = _first_maximum(_views(largest, line, step))
        passes.append((switches, line, step, seen))
    back = wide(gradient)
    for switches, line, step, seen in reversed(passes):
        back = max_unpool(back, switches, line, step, input_size=seen)
    return tf.cast(back[:, top : top + image[0], left : left + image[1]], x.dtype)


def average_pool_input_gradient(
    gradient: tf.Tensor,
    input_size: Sequence[int | tf.Tensor],
    size: Pair,
    stride: Pair,
    padding: Padding = "VALID",
    count_padding: bool = False,
) -> tf.Tensor:
    """[B,H',W',C] → [B,H,W,C] with `input_size` = (H, W): each pixel of a window gets an equal share."""
    window, stride = pair(size, "size"), pair(stride, "stride")
    pads = _pool_padding(input_size, window, stride, padding)
    n = prod(window) if count_padding else _pixels_inside(input_size, window, stride, pads)
    share = wide(gradient)
    share /= tf.cast(n, share.dtype)
    _check_pooled(share, window, stride, pads, input_size)
    dx = _interleave(_placed(share, window, stride), window, stride, pads, input_size)
    return tf.cast(dx, gradient.dtype)


def global_average_pool_input_gradient(gradient: tf.Tensor, input_size: Sequence[int]) -> tf.Tensor:
    """[B,C] → [B,H,W,C] with `input_size` = (H, W)."""
    return tf.tile(gradient[:, None, None, :] / prod(input_size), (1, *input_size, 1))


def _placed(
    y: tf.Tensor, window: tuple[int, int], stride: tuple[int, int], padding_value: float = 0
) -> list[tf.Tensor]:
    """[B,H',W',C] → kh·kw tensors [B,rows,columns,C]: y where each tap saw it, in the image of its phase."""
    (kh, kw), (sh, sw) = window, stride
    below, right = -(-(kh - 1) // sh), -(-(kw - 1) // sw)  # strides from a window's first pixel past its last
    height, width = _image_size(y)
    y = pad_image(y, ((below, below), (right, right)), padding_value)  # once, and views of it: XLA compiles no branches
    corners = [(below - p // sh, right - q // sw) for p, q in product(range(kh), range(kw))]
    return [y[:, i : i + height + below, j : j + width + right] for i, j in corners]


def _interleave(
    placed: list[tf.Tensor], window: tuple[int, int], stride: tuple[int, int], pads: Pads, image: Sequence
) -> tf.Tensor:
    """The adjoint of padding and `_views`: add up what is `_placed` in each phase → [B,H,W,C]."""
    (kh, kw), (sh, sw), ((top, _), (left, _)) = window, stride, pads
    phases: list[list] = [[[] for _ in range(sw)] for _ in range(sh)]
    for view, (p, q) in zip(placed, product(range(kh), range(kw)), strict=True):
        phases[p % sh][q % sw].append(view)
    sums = [[tf.add_n(views) if views else tf.zeros_like(placed[0]) for views in line] for line in phases]
    rows, columns = _image_size(placed[0])
    padded = tf.stack([tf.stack(line, axis=3) for line in sums], axis=2)  # [B,rows,sh,columns,sw,C]
    padded = tf.reshape(padded, (-1, rows * sh, columns * sw, placed[0].shape[-1]))
    return padded[:, top : top + image[0], left : left + image[1]]


# 5. Cost ----------------------------------------------------------------------------------------------------


def pool_cost(input_shape: Sequence[int], output_shape: Sequence[int], size: Pair) -> Cost:
    """kh·kw operations an output, forward (compare, or add and divide) and backward (select and add)."""
    return elementwise_cost(output_shape, forward=prod(pair(size)), backward=prod(pair(size)))


def global_average_pool_cost(input_shape: Sequence[int]) -> Cost:
    """H·W − 1 additions and one division an output; backward one division."""
    batch, _, _, channels = input_shape
    return Cost(flops=prod(input_shape), backward_flops=batch * channels)
