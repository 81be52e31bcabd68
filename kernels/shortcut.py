"""The shortcut without parameters: every stride-th pixel, and channels of zeros.

Source: He et al. 2016, section 3.3, "option A".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from kernels.cost import Cost
from kernels.geometry import Pair, pair, place_view

Zeros = Literal["end", "both"]

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y[b,i,j,c + front] = x[b,i·sh,j·sw,c], and 0 in the other channels
#
#   front = 0 (zeros="end", the paper's "extra zero entries padded") or half of the extra channels
#   (zeros="both", the widespread PyTorch code for CIFAR).


# 2. NumPy reference -----------------------------------------------------------------------------------------


def zero_padded_shortcut_reference(x: np.ndarray, channels: int, stride: Pair, zeros: Zeros = "end") -> np.ndarray:
    """The shortcut value by value. Args and Returns as `zero_padded_shortcut`."""
    sh, sw = (stride, stride) if isinstance(stride, int) else stride
    batch, height, width, c_in = x.shape
    front = (channels - c_in) // 2 if zeros == "both" else 0
    y = np.zeros((batch, -(-height // sh), -(-width // sw), channels))
    for b, i, j, c in np.ndindex(*y.shape[:3], c_in):
        y[b, i, j, front + c] = x[b, i * sh, j * sw, c]
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def zero_padded_shortcut(x: tf.Tensor, channels: int, stride: Pair, zeros: Zeros = "end") -> tf.Tensor:
    """Take every stride-th pixel and add channels of zeros.

    Args:
        x: [B,H,W,C].
        channels: The number of output channels.
        stride: An int or a pair.
        zeros: Where the zero channels go: all at the "end", or half in front and half behind ("both").

    Returns:
        [B,⌈H/sh⌉,⌈W/sw⌉,channels].

    Raises:
        ValueError: If x is not [B,H,W,C] or has more than `channels`, or "both" would have to halve an odd number.
    """
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected images [batch, height, width, channels]")
    padding = _extra_channels(x.shape[-1], channels, zeros)
    # An average over one pixel is x[:, ::sh, ::sw], and on TensorFlow's CPU it takes half the time, with its gradient.
    pixels = tf.nn.avg_pool2d(x, 1, pair(stride, "stride"), "VALID")
    return tf.pad(pixels, ((0, 0), (0, 0), (0, 0), padding))


def _extra_channels(channels_in: int, channels: int, zeros: Zeros) -> tuple[int, int]:
    """The number of zero channels in front and behind. ValueError if they cannot be placed."""
    extra = channels - channels_in
    if extra < 0:
        raise ValueError(
            f"a zero-padded shortcut cannot go from {channels_in} channels to {channels}; "
            "expected at least as many as there are: use a projection to have fewer"
        )
    if zeros == "end":
        return 0, extra
    if zeros != "both":
        raise ValueError(f'zeros is {zeros!r}; expected "end" or "both"')
    if extra % 2:
        raise ValueError(
            f'zeros="both" cannot split {extra} extra channels ({channels_in} to {channels}) in half; '
            'expected an even number: use zeros="end"'
        )
    return extra // 2, extra // 2


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def zero_padded_shortcut_gradient(
    gradient: tf.Tensor, input_shape: Sequence[int], stride: Pair, zeros: Zeros = "end"
) -> tf.Tensor:
    """Compute the gradient to x: drop the extra channels, set zeros where pixels were skipped.

    Args:
        gradient: ∂L/∂y [B,⌈H/sh⌉,⌈W/sw⌉,channels].
        input_shape: [B,H,W,C] of x.
        stride, zeros: As in `zero_padded_shortcut`.

    Returns:
        ∂L/∂x [B,H,W,C].

    Raises:
        ValueError: As `zero_padded_shortcut`.
    """
    _, height, width, channels = input_shape
    front, _ = _extra_channels(channels, gradient.shape[-1], zeros)
    return place_view(gradient[..., front : front + channels], (0, 0), stride, 1, (height, width))


# 5. Cost ----------------------------------------------------------------------------------------------------


def zero_padded_shortcut_cost(input_shape: Sequence[int], output_shape: Sequence[int]) -> Cost:
    """Count nothing: the shortcut only moves bytes.

    Args:
        input_shape: [B,H,W,C].
        output_shape: [B,⌈H/sh⌉,⌈W/sw⌉,channels].

    Returns:
        A cost of zero.
    """
    return Cost()
