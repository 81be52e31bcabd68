"""The adjoint of pooling with few additions: sums of whole images, one per phase of the stride.

Taps p, p + s, p + 2s, … read the rows ≡ p modulo s, whole strides apart. So their sums are computed in sh·sw small
images, one per phase, which are interleaved at the end. Sizes may be unknown while tracing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import tensorflow as tf

from kernels.geometry import Pads, Sides, pad_image
from kernels.pooling import image_size, pixels_inside
from kernels.precision import wide


def phases_max_unpool(
    pooled: tf.Tensor, switches: tf.Tensor, image: Sequence, window: Sides, stride: Sides, pads: Pads
) -> tf.Tensor:
    """[B,H',W',C] → [B,H,W,C] for an `image` (H, W): each value goes where its switch points."""
    placed = zip(_placed(pooled, window, stride), _placed(switches, window, stride, padding_value=-1), strict=True)
    parts = [tf.where(switch == tap, value, 0) for tap, (value, switch) in enumerate(placed)]
    return _interleaved(parts, image, window, stride, pads)


def phases_average_pool_input_gradient(
    gradient: tf.Tensor, image: Sequence, window: Sides, stride: Sides, pads: Pads, count_padding: bool = False
) -> tf.Tensor:
    """∂L/∂y [B,H',W',C] → ∂L/∂x [B,H,W,C]: each pixel of a window gets an equal share of its gradient."""
    pixels = None if count_padding else pixels_inside(image, window, stride, pads)
    share = wide(gradient)
    share /= tf.cast(prod(window) if pixels is None else pixels, share.dtype)
    return tf.cast(_interleaved(_placed(share, window, stride), image, window, stride, pads), gradient.dtype)


def _placed(y: tf.Tensor, window: Sides, stride: Sides, padding_value: float = 0) -> list[tf.Tensor]:
    """[B,H',W',C] → kh·kw tensors [B,rows,columns,C]: y where each tap read it, in the image of its phase."""
    (kh, kw), (sh, sw) = window, stride
    below, right = -(-(kh - 1) // sh), -(-(kw - 1) // sw)  # strides from a window's first pixel past its last
    height, width = image_size(y)
    y = pad_image(y, ((below, below), (right, right)), padding_value)  # once, because XLA copies y for each pad
    corners = [(below - p // sh, right - q // sw) for p, q in product(range(kh), range(kw))]
    return [y[:, i : i + height + below, j : j + width + right] for i, j in corners]


def _interleaved(parts: list[tf.Tensor], image: Sequence, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor:
    """Add up the `_placed` parts of each phase, interleave the phases and remove the padding → [B,H,W,C]."""
    (kh, kw), (sh, sw), ((top, _), (left, _)) = window, stride, pads
    phases: list[list] = [[[] for _ in range(sw)] for _ in range(sh)]
    for part, (p, q) in zip(parts, product(range(kh), range(kw)), strict=True):
        phases[p % sh][q % sw].append(part)
    sums = [[tf.add_n(phase) if phase else tf.zeros_like(parts[0]) for phase in row] for row in phases]
    rows, columns = image_size(parts[0])
    padded = tf.stack([tf.stack(row, axis=3) for row in sums], axis=2)  # [B,rows,sh,columns,sw,C]
    padded = tf.reshape(padded, (-1, rows * sh, columns * sw, parts[0].shape[-1]))
    return padded[:, top : top + image[0], left : left + image[1]]
