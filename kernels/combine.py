"""Where branches meet: Inception's concatenation, ResNet's sum, and the shortcut that has no parameters.

Concatenation: Szegedy et al. 2014, figure 2. Sum and zero-padded shortcut ("option A"): He et al. 2015,
sections 3.2 and 3.3. Scaled sum: Szegedy et al. 2016 (Inception-ResNet), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.geometry import Pair, pair, place_view

Zeros = Literal["end", "both"]

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   concatenate(x₁ … xₙ)   every branch's channels, one after another;   each branch gets its slice back
#   residual_sum(x, s)     y = x + s;                                    both get the whole gradient
#   scaled_residual_sum    y = x + a·r for a number a;               x gets all of the gradient, r gets a times it
#   zero_padded_shortcut   y[b,i,j,c + front] = x[b,i·sh,j·sw,c], else 0; the gradient goes the same way back
#
#   front = 0 (zeros="end", the paper's "extra zero entries padded") or half of the extra channels
#   (zeros="both", the widespread PyTorch code for CIFAR).


# 2. NumPy reference -----------------------------------------------------------------------------------------


def concatenate_reference(branches: Sequence[np.ndarray]) -> np.ndarray:
    """[B,H,W,Cᵢ] … → [B,H,W,ΣCᵢ], one number at a time."""
    y = np.zeros((*branches[0].shape[:3], sum(branch.shape[3] for branch in branches)))
    start = 0
    for branch in branches:
        for b, i, j, c in np.ndindex(branch.shape):
            y[b, i, j, start + c] = branch[b, i, j, c]
        start += branch.shape[3]
    return y


def residual_sum_reference(x: np.ndarray, shortcut: np.ndarray) -> np.ndarray:
    """x + shortcut, one number at a time."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = float(x[place]) + float(shortcut[place])
    return y


def scaled_residual_sum_reference(x: np.ndarray, residual: np.ndarray, scale: float) -> np.ndarray:
    """x + scale·residual, one number at a time."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = float(x[place]) + scale * float(residual[place])
    return y


def zero_padded_shortcut_reference(x: np.ndarray, channels: int, stride: Pair, zeros: Zeros = "end") -> np.ndarray:
    """[B,H,W,C] → [B,⌈H/sh⌉,⌈W/sw⌉,channels], one number at a time."""
    sh, sw = (stride, stride) if isinstance(stride, int) else stride
    batch, height, width, c_in = x.shape
    front = (channels - c_in) // 2 if zeros == "both" else 0
    y = np.zeros((batch, -(-height // sh), -(-width // sw), channels))
    for b, i, j, c in np.ndindex(*y.shape[:3], c_in):
        y[b, i, j, front + c] = x[b, i * sh, j * sw, c]
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def concatenate(branches: Sequence[tf.Tensor]) -> tf.Tensor:
    """Branches [B,H,W,Cᵢ] → [B,H,W,ΣCᵢ]. Raises ValueError unless they agree in all but their channels."""
    shapes = [branch.shape for branch in branches]
    if not shapes or not all(shape[:-1].is_compatible_with(shapes[0][:-1]) for shape in shapes):
        raise ValueError(
            f"cannot concatenate branches of shapes {', '.join(map(str, shapes)) or 'none'}; "
            "expected one batch, height and width, with channels free"
        )
    return tf.concat(branches, axis=-1)


def residual_sum(x: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
    """x + shortcut, of one shape. Raises ValueError for two shapes, which TensorFlow might broadcast."""
    if not x.shape.is_compatible_with(shortcut.shape):
        raise ValueError(
            f"the residual branch has shape {x.shape} and its shortcut {shortcut.shape}; expected one shape: "
            "give the shortcut the same stride and channels"
        )
    return x + shortcut


def scaled_residual_sum(x: tf.Tensor, residual: tf.Tensor, scale: float) -> tf.Tensor:
    """x + scale·residual, of one shape. Raises ValueError as `residual_sum` does."""
    return residual_sum(scale * residual, x)


def extra_channels(channels_in: int, channels: int, zeros: Zeros) -> tuple[int, int]:
    """Zero channels in front of and behind the given ones. Raises ValueError where they cannot be placed."""
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


def zero_padded_shortcut(x: tf.Tensor, channels: int, stride: Pair, zeros: Zeros = "end") -> tf.Tensor:
    """[B,H,W,C] → [B,⌈H/sh⌉,⌈W/sw⌉,channels]: every stride-th pixel, and channels of zeros.

    `zeros` says where they go: all at the "end", or half in front and half behind ("both"). Raises ValueError
    if x has more than `channels`, or "both" would have to halve an odd number.
    """
    padding = extra_channels(x.shape[-1], channels, zeros)
    # A mean over one pixel is x[:, ::sh, ::sw], and TensorFlow's CPU takes half the time for it and its gradient.
    pixels = tf.nn.avg_pool2d(x, 1, pair(stride, "stride"), "VALID")
    return tf.pad(pixels, ((0, 0), (0, 0), (0, 0), padding))


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def concatenate_gradient(gradient: tf.Tensor, channels: Sequence[int]) -> list[tf.Tensor]:
    """To each branch: its slice of [B,H,W,ΣCᵢ], for `channels` C₁ … Cₙ."""
    return tf.split(gradient, channels, axis=-1)


def residual_sum_gradient(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """To x and to the shortcut: all of it to each, so that nothing weakens a gradient on its way down."""
    return gradient, gradient


def scaled_residual_sum_gradient(gradient: tf.Tensor, scale: float) -> tuple[tf.Tensor, tf.Tensor]:
    """To x and to the residual branch."""
    return gradient, scale * gradient


def zero_padded_shortcut_gradient(
    gradient: tf.Tensor, input_shape: Sequence[int], stride: Pair, zeros: Zeros = "end"
) -> tf.Tensor:
    """To x of `input_shape` [B,H,W,C]: drop the extra channels, set zeros where pixels were skipped."""
    _, height, width, channels = input_shape
    front, _ = extra_channels(channels, gradient.shape[-1], zeros)
    return place_view(gradient[..., front : front + channels], (0, 0), stride, 1, (height, width))


# 5. Cost ----------------------------------------------------------------------------------------------------


def concatenate_cost(output_shape: Sequence[int]) -> Cost:
    """No arithmetic: bytes are moved."""
    return Cost()


def residual_sum_cost(input_shape: Sequence[int]) -> Cost:
    """An addition an element; its gradient is a copy."""
    return elementwise_cost(input_shape, forward=1, backward=0)


def scaled_residual_sum_cost(input_shape: Sequence[int]) -> Cost:
    """A product and an addition an element; backward a product."""
    return elementwise_cost(input_shape, forward=2, backward=1)


def zero_padded_shortcut_cost(input_shape: Sequence[int], output_shape: Sequence[int]) -> Cost:
    """No arithmetic: bytes are moved."""
    return Cost()
