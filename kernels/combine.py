"""Where branches meet: Inception's concatenation and ResNet's sum.

Sources: Szegedy et al. 2015, figure 2, for the concatenation; He et al. 2016, section 3.2, for the sum; Szegedy et al.
2017 (Inception-ResNet), section 3.3, for the scaled sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   concatenate(x₁ … xₙ)        the channels of all branches, one after another;   each gets its slice of the gradient
#   residual_sum(x, s)          y = x + s;                                         both get the whole gradient
#   scaled_residual_sum(x, r)   y = x + a·r for a number a;                        x gets the gradient, r a times it


# 2. NumPy reference -----------------------------------------------------------------------------------------


def concatenate_reference(branches: Sequence[np.ndarray]) -> np.ndarray:
    """The concatenation value by value. Args and Returns as `concatenate`."""
    y = np.zeros((*branches[0].shape[:3], sum(branch.shape[3] for branch in branches)))
    start = 0
    for branch in branches:
        for b, i, j, c in np.ndindex(branch.shape):
            y[b, i, j, start + c] = branch[b, i, j, c]
        start += branch.shape[3]
    return y


def residual_sum_reference(x: np.ndarray, shortcut: np.ndarray) -> np.ndarray:
    """x + shortcut, value by value. Args and Returns as `residual_sum`."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = float(x[place]) + float(shortcut[place])
    return y


def scaled_residual_sum_reference(x: np.ndarray, residual: np.ndarray, scale: float) -> np.ndarray:
    """x + scale·residual, value by value. Args and Returns as `scaled_residual_sum`."""
    y = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        y[place] = float(x[place]) + scale * float(residual[place])
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def concatenate(branches: Sequence[tf.Tensor]) -> tf.Tensor:
    """Concatenate the channels of branches.

    Args:
        branches: [B,H,W,Cᵢ] each.

    Returns:
        [B,H,W,ΣCᵢ].

    Raises:
        ValueError: Unless they agree in batch, height and width.
    """
    shapes = [branch.shape for branch in branches]
    if not shapes or not all(shape[:-1].is_compatible_with(shapes[0][:-1]) for shape in shapes):
        raise ValueError(
            f"cannot concatenate branches of shapes {', '.join(map(str, shapes)) or 'none'}; "
            "expected one batch, height and width, with channels free"
        )
    return tf.concat(branches, axis=-1)


def residual_sum(x: tf.Tensor, shortcut: tf.Tensor) -> tf.Tensor:
    """Add two tensors of one shape.

    Args:
        x: The residual branch, any shape. (In `scaled_residual_sum`, x is the shortcut.)
        shortcut: The same shape.

    Returns:
        x + shortcut.

    Raises:
        ValueError: For different shapes, which TensorFlow might broadcast.
    """
    if not x.shape.is_compatible_with(shortcut.shape):
        raise ValueError(
            f"the residual branch has shape {x.shape} and its shortcut {shortcut.shape}; expected one shape: "
            "give the shortcut the same stride and channels"
        )
    return x + shortcut


def scaled_residual_sum(x: tf.Tensor, residual: tf.Tensor, scale: float) -> tf.Tensor:
    """Add a scaled residual branch to its shortcut: x + scale·residual.

    Args:
        x: The shortcut, any shape. (In `residual_sum`, x is the residual branch.)
        residual: The residual branch, the same shape.
        scale: a of the equation; Inception-ResNet uses 0.1 to 0.3.

    Returns:
        x + scale·residual.

    Raises:
        ValueError: For different shapes, as `residual_sum`.
    """
    return residual_sum(scale * residual, x)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def concatenate_gradient(gradient: tf.Tensor, channels: Sequence[int]) -> list[tf.Tensor]:
    """Give each branch its slice of the gradient.

    Args:
        gradient: ∂L/∂y [B,H,W,ΣCᵢ].
        channels: C₁ … Cₙ.

    Returns:
        ∂L/∂branch [B,H,W,Cᵢ] of each branch.
    """
    return tf.split(gradient, channels, axis=-1)


def residual_sum_gradient(gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the complete gradient to each summand, so that no layer weakens it on its way down.

    Args:
        gradient: ∂L/∂y, any shape.

    Returns:
        (∂L/∂x, ∂L/∂shortcut) of that shape.
    """
    return gradient, gradient


def scaled_residual_sum_gradient(gradient: tf.Tensor, scale: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Give the gradient to the shortcut, and `scale` times the gradient to the residual branch.

    Args:
        gradient: ∂L/∂y, any shape.
        scale: a of the equation.

    Returns:
        (∂L/∂x, ∂L/∂residual) of that shape.
    """
    return gradient, scale * gradient


# 5. Cost ----------------------------------------------------------------------------------------------------


def concatenate_cost(output_shape: Sequence[int]) -> Cost:
    """Count nothing: a concatenation only moves bytes.

    Args:
        output_shape: [B,H,W,ΣCᵢ].

    Returns:
        A cost of zero.
    """
    return Cost()


def residual_sum_cost(input_shape: Sequence[int]) -> Cost:
    """Count an addition per value; the gradient is a copy.

    Args:
        input_shape: The shape of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=1, backward=0)


def scaled_residual_sum_cost(input_shape: Sequence[int]) -> Cost:
    """Count a product and an addition per value; backward a product.

    Args:
        input_shape: The shape of x.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, forward=2, backward=1)
