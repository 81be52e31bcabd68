"""Pooling along the rows, then down the columns: kh + kw taps instead of kh·kw.

The maximum of maxima is the maximum, and of equal values the first of the first row stays the first. The gradient goes
down the columns first, then along the rows. (The average's gradient compares nothing and needs no lines.)
"""

from __future__ import annotations

from math import inf

import tensorflow as tf

from kernels.forms.phases import phases_max_unpool
from kernels.geometry import Pads, Sides, no_padding, pad_image
from kernels.pooling import first_maximum, image_size, views
from kernels.precision import wide

NO_PADS = (0, 0), (0, 0)


def lines_max_pool(x: tf.Tensor, window: Sides, stride: Sides, pads: Pads) -> tf.Tensor:
    """[B,H,W,C] → [B,H',W',C]."""
    largest = pad_image(wide(x), pads, -inf)
    for line, step in _lines(window, stride):
        largest, _ = first_maximum(views(largest, line, step))
    return tf.cast(largest, x.dtype)


def lines_max_pool_input_gradient(
    x: tf.Tensor, gradient: tf.Tensor, window: Sides, stride: Sides, pads: Pads
) -> tf.Tensor:
    """∂L/∂y [B,H',W',C] → ∂L/∂x [B,H,W,C]; of equal maxima the first in its window, row by row, gets the gradient."""
    image, (top, _), (left, _) = image_size(x), *pads
    largest, steps = pad_image(wide(x), pads, -inf), []
    inside = pad_image(tf.zeros((1, *image, 1)), pads, -1)
    for line, step in _lines(window, stride):
        size = image_size(largest)
        largest, switches = first_maximum(views(largest, line, step))
        if not no_padding(pads):
            inside, first = first_maximum(views(inside, line, step))
            switches = tf.where(largest == -inf, first, switches)  # of −∞ alone: the first inside the image
        steps.append((switches, size, line, step))
    dx = wide(gradient)
    for switches, size, line, step in reversed(steps):
        dx = phases_max_unpool(dx, switches, size, line, step, NO_PADS)
    return tf.cast(dx[:, top : top + image[0], left : left + image[1]], x.dtype)


def lines_average_pool(x: tf.Tensor, window: Sides, stride: Sides, pads: Pads, pixels: tf.Tensor | int) -> tf.Tensor:
    """[B,H,W,C] → [B,H',W',C]; `pixels` are the pixels inside each window, a number or [1,H',W',1]."""
    total = pad_image(wide(x), pads)
    for line, step in _lines(window, stride):
        total = tf.add_n(views(total, line, step))
    return tf.cast(total / tf.cast(pixels, total.dtype), x.dtype)


def _lines(window: Sides, stride: Sides) -> list[tuple[Sides, Sides]]:
    """(window, stride) along the rows and down the columns."""
    (kh, kw), (sh, sw) = window, stride
    return [((1, kw), (1, sw)), ((kh, 1), (sh, 1))]
