"""Batch normalization, and its folding into a convolution: Ioffe & Szegedy 2015, algorithms 1 and 2.

Statistics and sums are float32, float64 for float64 input. Batch, height and width may be unknown while tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.precision import wide, wide_type

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y = (x − μ)·γ/√(σ² + ε) + β       μ, σ² of each channel, in this batch or in the training set
#
# Training normalizes by the biased variance (1/m)·Σ(x − μ)², m = B·H·W. The running average is taken of the unbiased
# variance, m/(m − 1) times the biased one: the tensor form returns the biased variance, and `dispatch` corrects it.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def batch_normalization_reference(
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    scale: np.ndarray | None,
    offset: np.ndarray | None,
    epsilon: float,
) -> np.ndarray:
    """The equation channel by channel, in float64. Args and Returns as `batch_normalization`."""
    y = np.array(x, np.float64)
    for c in range(y.shape[-1]):
        gain = 1.0 if scale is None else scale[c]
        shift = 0.0 if offset is None else offset[c]
        y[..., c] = (y[..., c] - mean[c]) / np.sqrt(variance[c] + epsilon) * gain + shift
    return y


def batch_normalization_training_reference(
    x: np.ndarray, scale: np.ndarray | None, offset: np.ndarray | None, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The equation channel by channel, in float64. Args and Returns as `batch_normalization_training`."""
    channels = [channel.ravel() for channel in np.moveaxis(np.asarray(x, np.float64), -1, 0)]
    m = channels[0].size
    mean = np.array([sum(channel) / m for channel in channels])
    biased = np.array([sum((channel - mu) ** 2) / m for channel, mu in zip(channels, mean, strict=True)])
    y = batch_normalization_reference(x, mean, biased, scale, offset, epsilon)
    return y, mean, biased * m / max(m - 1, 1)


# 3. Tensor forms --------------------------------------------------------------------------------------------


def batch_normalization(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
) -> tf.Tensor:
    """[…,C] → […,C], with statistics and parameters [C]; a missing `scale` is 1, a missing `offset` is 0."""
    mean, variance, scale, offset = parameters(x, mean, variance, scale, offset)
    gain = tf.math.rsqrt(variance + epsilon) * scale  # [C]
    # Not x·gain + (β − μ·gain), which saves a subtraction but loses digits where |μ| is much larger than σ.
    return tf.cast((wide(x) - mean) * gain + offset, x.dtype)


def channel_sums(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C] → [C]."""
    return tf.reduce_sum(tf.reshape(x, (-1, x.shape[-1])), axis=0)


Sums = Callable[[tf.Tensor], tf.Tensor]  # [B,H,W,C] → [C]


def batch_normalization_training(
    x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float, sums: Sums = channel_sums
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """[B,H,W,C] → (y [B,H,W,C], mean [C], biased variance [C]), by the moments of the batch."""
    mean, variance = moments(x, sums)
    return batch_normalization(x, mean, variance, scale, offset, epsilon), mean, variance


def moments(x: tf.Tensor, sums: Sums = channel_sums) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance [C] of [B,H,W,C]; 0 and 0 of an empty batch."""
    mean = sums(wide(x)) / count(x)
    return mean, sums(tf.square(wide(x) - mean)) / count(x)  # not E[x²] − μ², which loses digits where |μ| ≫ σ


def fold_batch_normalization(
    filters: tf.Tensor,
    bias: tf.Tensor | None,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Fold a batch norm into the convolution in front of it.

    (w∗x + b − μ)·gain + β = (w·gain)∗x + (b − μ)·gain + β, with gain = γ/√(σ² + ε).

    Args:
        filters: [kh,kw,C/groups,Cout].
        bias: [Cout], or None.
        mean, variance: [Cout], of the batch norm.
        scale, offset: γ and β [Cout]; a missing `scale` is 1, a missing `offset` is 0.
        epsilon: ε of the batch norm.

    Returns:
        The filters and the bias of a convolution that normalizes its own output.
    """
    mean, variance, scale, offset = parameters(filters, mean, variance, scale, offset)
    gain = tf.math.rsqrt(variance + epsilon) * scale  # [Cout]
    shift = -mean if bias is None else tf.cast(bias, mean.dtype) - mean
    return tf.cast(wide(filters) * gain, filters.dtype), tf.cast(shift * gain + offset, filters.dtype)


def parameters(x: tf.Tensor, mean=0.0, variance=1.0, scale=None, offset=None) -> list[tf.Tensor]:
    """Mean, variance, scale and offset of x's channels, [C] each, in the type of sums."""
    values = mean, variance, 1.0 if scale is None else scale, 0.0 if offset is None else offset
    return [tf.broadcast_to(tf.cast(value, wide_type(x)), x.shape[-1:]) for value in values]


def count(x: tf.Tensor) -> tf.Tensor:
    """m = B·H·W as a scalar, in the type of sums; 1 for an empty batch, so that its means are 0."""
    return tf.maximum(tf.reduce_prod(tf.cast(tf.shape(x)[:-1], wide_type(x))), 1)


def unbiased(variance: tf.Tensor, m: tf.Tensor) -> tf.Tensor:
    """The unbiased variance of m values from the biased one."""
    return variance * m / tf.maximum(m - 1, 1)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Let g = ∂L/∂y and x̂ = (x − μ)·inv, inv = (σ² + ε)^(−½), so y = γ·x̂ + β. Sums run over the m values of one channel.
#   dβ = Σ g,   dγ = Σ g·x̂
# With given statistics (inference), ∂inv/∂σ² = −½·inv³ and
#   dx_i = γ·inv·g_i,   dμ = −γ·inv·dβ,   dσ² = −½·inv³·γ·Σ g·(x − μ) = −½·inv²·γ·dγ
# With the statistics of x itself (training), x_i moves y_j in three ways: directly (j = i), by ∂μ/∂x_i = 1/m, and by
# ∂σ²/∂x_i = 2(x_i − μ)/m. (σ² also depends on μ, but ∂σ²/∂μ = −2/m·Σ(x − μ) = 0.)
#   dx_i = γ·inv·g_i  −  1/m · γ·inv·Σ g  −  ½·inv³ · 2(x_i − μ)/m · γ·Σ g·(x − μ)
#        = γ·inv · (g_i − dβ/m − x̂_i·dγ/m)


def batch_normalization_inference_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor | None,
    mean: tf.Tensor,
    variance: tf.Tensor,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute the gradients of inference, with given statistics.

    Args:
        x: […,C].
        gradient: ∂L/∂y […,C].
        scale: γ [C]; None is 1.
        mean, variance: [C], the statistics of the forward pass.
        epsilon: ε, added to the variance.

    Returns:
        (dx […,C], dmean [C], dvariance [C], dscale [C], doffset [C]).
    """
    mean, variance, scale, _ = parameters(x, mean, variance, scale)
    inverse, g, pixels = tf.math.rsqrt(variance + epsilon), wide(gradient), tuple(range(x.shape.rank - 1))
    doffset = tf.reduce_sum(g, pixels)
    dscale = tf.reduce_sum(g * (wide(x) - mean), pixels) * inverse
    gain = scale * inverse
    return tf.cast(gain * g, x.dtype), -gain * doffset, -gain * inverse * dscale / 2, dscale, doffset


def batch_normalization_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor | None,
    mean: tf.Tensor,
    variance_biased: tf.Tensor,
    epsilon: float,
    sums: Sums = channel_sums,
    average: Callable[[list[tf.Tensor]], list[tf.Tensor]] = lambda tensors: tensors,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """x and ∂L/∂y [B,H,W,C] → (dx [B,H,W,C], dscale [C], doffset [C]) of training.

    `average` averages over the devices that share the batch; dscale and doffset are this device's sums.
    """
    mean, variance, scale, _ = parameters(x, mean, variance_biased, scale)
    inverse, m, g = tf.math.rsqrt(variance + epsilon), count(x), wide(gradient)
    normalized = (wide(x) - mean) * inverse
    doffset, dscale = sums(g), sums(g * normalized)
    mean_doffset, mean_dscale = average([doffset / m, dscale / m])
    dx = scale * inverse * (g - mean_doffset - normalized * mean_dscale)
    return tf.cast(dx, x.dtype), dscale, doffset


# 5. Cost ----------------------------------------------------------------------------------------------------


def batch_normalization_cost(input_shape: Sequence[int], training: bool = False) -> Cost:
    """Count the operations per value; those on [C] alone are left out.

    Forward: −μ, ·gain, +β. Backward: dβ 1, dγ 4 (the two of x̂, a product, a sum), dx 1 (·gain).
    Training adds 1 forward for μ and 3 for σ², and 3 backward: dx = gain·(g − dβ/m − x̂·dγ/m).

    Args:
        input_shape: […,C].
        training: Normalize by the moments of the batch instead of given statistics.

    Returns:
        The cost of one call.
    """
    return elementwise_cost(input_shape, *((7, 9) if training else (3, 6)))
