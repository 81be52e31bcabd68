"""Pooling: one value per window and channel, the largest or the average.

Sources: Krizhevsky et al. 2012, section 3.4; Zeiler & Fergus 2014, section 2.1 (switches); Lin et al. 2014, sec. 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import inf, prod

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.geometry import (
    Padding,
    Pads,
    Pair,
    Sides,
    crop_image,
    no_padding,
    pad_image,
    padding_reference,
    pair,
    place_view,
    window_views,
)
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   maximum  y[b,p,q,c] = max    x[b, p·sh + i − top, q·sw + j − left, c]    0 ≤ i < kh, 0 ≤ j < kw
#   average  y[b,p,q,c] = 1/n Σ  x[b, p·sh + i − top, q·sw + j − left, c]    0 ≤ i < kh, 0 ≤ j < kw
#   global   y[b,c]     = 1/HW Σ x[b,p,q,c]
#
# Only pixels inside the image count: padding is never the maximum, and n is their number, or kh·kw with
# `count_padding`. A NaN is the largest. The switch of a window is i·kw + j of its first largest pixel. Unpooling puts
# values where their switches point, and adds those that meet.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def _windows_reference(image: Sequence[int], size: Pair, stride: Pair, padding: Padding) -> list[list]:
    """windows[p][q] = [(tap, row, column), …]: the pixels inside the image that output (p, q) reads."""
    (height, width), (kh, kw), (sh, sw) = image, np.broadcast_to(size, 2), np.broadcast_to(stride, 2)
    (top, bottom), (left, right) = padding_reference(padding, image, size, stride)
    windows: list[list] = []
    for first_row in range(-top, height + bottom - kh + 1, sh):
        windows.append([])
        for first_column in range(-left, width + right - kw + 1, sw):
            pixels = [(i * kw + j, first_row + i, first_column + j) for i in range(kh) for j in range(kw)]
            windows[-1].append([(t, r, c) for t, r, c in pixels if 0 <= r < height and 0 <= c < width])
    return windows


def max_pool_reference(x: np.ndarray, size: Pair, stride: Pair, padding: Padding = "VALID") -> np.ndarray:
    """The largest pixel of each window, in float64. Args and Returns as `max_pool`."""
    x, windows = np.asarray(x, np.float64), _windows_reference(np.shape(x)[1:3], size, stride, padding)
    y = [[np.max([x[:, r, c] for _, r, c in pixels], axis=0) for pixels in row] for row in windows]
    return np.moveaxis(np.array(y), 2, 0)  # [H',W',B,C] → [B,H',W',C]


def max_pool_switches_reference(x: np.ndarray, size: Pair, stride: Pair, padding: Padding = "VALID") -> np.ndarray:
    """The first largest pixel of each window, window by window. Args and Returns as `max_pool_switches`."""
    x, windows = np.asarray(x, np.float64), _windows_reference(np.shape(x)[1:3], size, stride, padding)
    switches = np.zeros((x.shape[0], len(windows), len(windows[0]), x.shape[3]), np.int32)
    for b, p, q, c in np.ndindex(*switches.shape):
        switches[b, p, q, c] = windows[p][q][np.argmax([x[b, row, column, c] for _, row, column in windows[p][q]])][0]
    return switches


def max_unpool_reference(
    pooled: np.ndarray, switches: np.ndarray, size: Pair, stride: Pair, padding: Padding = "VALID", *, input_size: Sides
) -> np.ndarray:
    """Each pooled value where its switch points, value by value, in float64. Args and Returns as `max_unpool`."""
    windows = _windows_reference(input_size, size, stride, padding)
    x = np.zeros((pooled.shape[0], *input_size, pooled.shape[3]))
    for b, p, q, c in np.ndindex(*pooled.shape):
        for tap, row, column in windows[p][q]:
            if tap == switches[b, p, q, c]:
                x[b, row, column, c] += pooled[b, p, q, c]
    return x


def average_pool_reference(
    x: np.ndarray, size: Pair, stride: Pair, padding: Padding = "VALID", count_padding: bool = False
) -> np.ndarray:
    """The average of each window, in float64. Args and Returns as `average_pool`."""
    x, area = np.asarray(x, np.float64), np.prod(np.broadcast_to(size, 2))
    windows = _windows_reference(x.shape[1:3], size, stride, padding)
    sums = [[sum(x[:, r, c] for _, r, c in pixels) for pixels in row] for row in windows]
    n = [[area if count_padding else len(pixels) for pixels in row] for row in windows]
    return np.moveaxis(np.array(sums) / np.array(n)[:, :, None, None], 2, 0)


def global_average_pool_reference(x: np.ndarray) -> np.ndarray:
    """The average of each channel, in float64. Args and Returns as `global_average_pool`."""
    return sum(np.float64(x[:, r, c]) for r, c in np.ndindex(*x.shape[1:3])) / (x.shape[1] * x.shape[2])


# 3. Tensor forms --------------------------------------------------------------------------------------------


def max_pool(x: tf.Tensor, window: Sides, stride: Sides, padding: Padding) -> tf.Tensor:
    """TensorFlow's max pooling: [B,H,W,C] → [B,H',W',C]. On a CPU, it is right for finite pixels only."""
    if isinstance(padding, str):
        return tf.nn.max_pool2d(x, window, stride, padding)
    return tf.nn.max_pool2d(pad_image(x, padding, -inf), window, stride, "VALID")  # XLA has no explicit padding


def average_pool(
    x: tf.Tensor, window: Sides, stride: Sides, padding: Padding, pixels: tf.Tensor | None = None
) -> tf.Tensor:
    """TensorFlow's average pooling: [B,H,W,C] → [B,H',W',C]. `pixels` are n, if they are not kh·kw everywhere."""
    if isinstance(padding, str):
        return tf.nn.avg_pool2d(x, window, stride, padding)
    y = tf.nn.avg_pool2d(pad_image(x, padding), window, stride, "VALID")
    return y if pixels is None else y * (prod(window) / tf.cast(pixels, x.dtype))


def pixels_inside(image: Sequence, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor | None:
    """How many pixels of an `image` (H, W) each window reads: float32 [1,H',W',1], or None for kh·kw everywhere."""
    if no_padding(pads):
        return None
    return tf.add_n(views(pad_image(tf.ones((1, *image, 1)), pads), window, stride))


def global_average_pool(x: tf.Tensor) -> tf.Tensor:
    """The mean of each channel: [B,H,W,C] → [B,C] in the type of x. The sum is accumulated in float32 or wider."""
    return tf.cast(tf.reduce_mean(wide(x), axis=(1, 2)), x.dtype)


def image_size(x: tf.Tensor) -> list:
    """[H, W] of x [B,H,W,C]; a scalar tensor for a length that is unknown while tracing."""
    return [tf.shape(x)[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2)]


def views(x: tf.Tensor, window: Sides, stride: Sides) -> list[tf.Tensor]:
    """What each tap of the window reads of the padded x [B,H,W,C]: kh·kw tensors [B,H',W',C]."""
    height, width = image_size(x)
    out = (height - window[0]) // stride[0] + 1, (width - window[1]) // stride[1] + 1
    return window_views(x, window, stride, 1, out)


def first_maximum(tensors: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Elementwise over tensors of one shape: (the largest value, int32: the number of the first tensor that has it)."""
    largest, *others = tensors
    switches = tf.zeros_like(largest, tf.int32)
    for tap, view in enumerate(others, 1):
        stays = (largest >= view) | tf.math.is_nan(largest)  # not tf.maximum, because XLA's may skip NaN
        largest, switches = tf.where(stays, largest, view), tf.where(stays, switches, tap)
    return largest, switches


def max_pool_switches(x: tf.Tensor, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor:
    """The number of the first maximum of each window: [B,H,W,C] → int32 [B,H',W',C]."""
    largest, switches = first_maximum(views(pad_image(x, pads, -inf), window, stride))
    inside = views(pad_image(tf.zeros((1, *image_size(x), 1)), pads, -1), window, stride)
    return tf.where(largest == -inf, first_maximum(inside)[1], switches)  # of −∞ alone: the first inside the image


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# With known switches, a pool is linear: y = Σ_tap w_tap ⊙ view_tap(x), w_tap = [switch = tap] for the maximum, 1/n for
# the average. So ∂L/∂x = Σ_tap view_tapᵀ(w_tap ⊙ ∂L/∂y). `kernels/forms/lines.py` and `phases.py` do this faster.


def max_unpool(pooled: tf.Tensor, switches: tf.Tensor, image: Sides, window: Sides, stride: Sides, pads: Pads):
    """[B,H',W',C] → [B,H,W,C] for an `image` (H, W): each value goes where its switch points."""
    parts = [tf.where(switches == tap, pooled, 0) for tap in range(prod(window))]
    return _put_back(parts, image, window, stride, pads)


def max_pool_input_gradient(x: tf.Tensor, gradient: tf.Tensor, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor:
    """∂L/∂y [B,H',W',C] → ∂L/∂x [B,H,W,C]: each window's gradient goes to its first maximum."""
    return max_unpool(gradient, max_pool_switches(x, window, stride, pads), tuple(x.shape[1:3]), window, stride, pads)


def average_pool_input_gradient(
    gradient: tf.Tensor, image: Sides, window: Sides, stride: Sides, pads: Pads, count_padding: bool = False
) -> tf.Tensor:
    """∂L/∂y [B,H',W',C] → ∂L/∂x [B,H,W,C]: each pixel of a window gets an equal share of its gradient."""
    pixels = None if count_padding else pixels_inside(image, window, stride, pads)
    share = gradient / (prod(window) if pixels is None else tf.cast(pixels, gradient.dtype))
    return _put_back([share] * prod(window), image, window, stride, pads)


def _put_back(parts: list[tf.Tensor], image: Sides, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor:
    """The adjoint of padding and `views`: put each tap's part [B,H',W',C] where the tap read, and add → [B,H,W,C]."""
    padded = [length + sum(pad) for length, pad in zip(image, pads, strict=True)]
    taps = product(range(window[0]), range(window[1]))
    placed = [place_view(part, tap, stride, 1, padded) for part, tap in zip(parts, taps, strict=True)]
    return crop_image(tf.add_n(placed), pads)


def global_average_pool_input_gradient(gradient: tf.Tensor, input_size: Sequence[int]) -> tf.Tensor:
    """`gradient` ∂L/∂y [B,C] and `input_size` (H, W) → ∂L/∂x [B,H,W,C]."""
    return tf.tile(gradient[:, None, None, :] / prod(input_size), (1, *input_size, 1))


# 5. Cost ----------------------------------------------------------------------------------------------------


def pool_cost(input_shape: Sequence[int], output_shape: Sequence[int], size: Pair) -> Cost:
    """`input_shape`, `output_shape` [B,H',W',C], `size` (kh, kw) → the cost: kh·kw operations per output and pass."""
    return elementwise_cost(output_shape, forward=prod(pair(size)), backward=prod(pair(size)))


def global_average_pool_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [B,H,W,C] → the cost: H·W − 1 additions and one division per output; backward one division."""
    return Cost(flops=prod(input_shape), backward_flops=input_shape[0] * input_shape[-1])
