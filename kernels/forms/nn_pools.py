"""Max-pooling by TensorFlow's kernels, mended where pixels are not finite.

TensorFlow's CPU kernels skip NaN, and some begin with the smallest float instead of −∞. Where a pixel is not finite,
pooling by lines replaces their result.
"""

from __future__ import annotations

from math import inf

import tensorflow as tf

from kernels.forms.compiler import compiler
from kernels.forms.differentiable import with_gradient
from kernels.forms.empty import batch_size, never_empty
from kernels.forms.finite import where_finite
from kernels.forms.lines import lines_max_pool, lines_max_pool_input_gradient
from kernels.geometry import Padding, Pads, Sides, pad_image
from kernels.pooling import image_size, max_pool


def nn_max_pool(x: tf.Tensor, window: Sides, stride: Sides, padding: Padding, pads: Pads) -> tf.Tensor:
    """[B,H,W,C] → [B,H',W',C]. `padding` is what TensorFlow's kernel gets, `pads` is the same in pixels.

    TensorFlow's kernels run in every case, outside of the condition: oneDNN's gradient, which is 20 times as fast as
    Eigen's, must find its forward kernel in the same graph. It ends the process for a batch without an image.
    """
    if compiler() in ("portable", "gpu"):  # by StableHLO's definition a maximum keeps NaN; not measured on a GPU
        return max_pool(x, window, stride, padding)
    full = never_empty(x)

    def forward(x: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
        x, largest = tf.stop_gradient(x), tf.stop_gradient(largest)  # else a tape would differentiate both branches
        return where_finite((x,), lambda: largest, lambda: lines_max_pool(x, window, stride, pads), batch_size(x))

    def backward(inputs: tuple, y: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, None]:
        x, largest = inputs
        dx = nn_max_pool_input_gradient(full, largest, never_empty(gradient), window, stride, padding)
        exact = lambda: lines_max_pool_input_gradient(x, gradient, window, stride, pads)  # noqa: E731
        return where_finite((x,), lambda: dx, exact, batch_size(x)), None

    return with_gradient(forward, backward)(x, max_pool(full, window, stride, padding))


def nn_max_pool_input_gradient(
    x: tf.Tensor, y: tf.Tensor, gradient: tf.Tensor, window: Sides, stride: Sides, padding: Padding
) -> tf.Tensor:
    """∂L/∂y [B,H',W',C] → ∂L/∂x [B,H,W,C] by TensorFlow, for y = max_pool(x)."""
    word, padded = (padding, x) if isinstance(padding, str) else ("VALID", pad_image(x, padding, -inf))
    dx = tf.raw_ops.MaxPoolGrad(
        orig_input=padded, orig_output=y, grad=gradient, ksize=(1, *window, 1), strides=(1, *stride, 1), padding=word
    )
    if isinstance(padding, str):
        return dx
    (height, width), ((top, _), (left, _)) = image_size(x), padding
    return dx[:, top : top + height, left : left + width]
