"""Batch normalisation, and its folding into a convolution: Ioffe & Szegedy 2015, algorithms 1 and 2.

Statistics and sums are computed in float32 (float64 for float64 input), whatever x is; results have the type
of x. No gradient flows through returned statistics. Any of batch, height and width may be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.choice import compiler, form_of, measured, pixels_of
from kernels.cost import Cost, elementwise_cost
from kernels.precision import wide, wide_type
from kernels.share import Share, current

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   y = (x − μ)·γ/√(σ² + ε) + β       μ, σ² of each channel, in this batch or in the training set
#
# Training normalises with the biased variance (1/m)·Σ(x − μ)², m = B·H·W, and hands on the unbiased one,
# m/(m − 1) times that, for the running average.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def batch_normalization_reference(x, mean, variance, scale, offset, epsilon: float) -> np.ndarray:
    y = np.array(x, np.float64)
    for c in range(y.shape[-1]):
        gain = 1.0 if scale is None else scale[c]
        shift = 0.0 if offset is None else offset[c]
        y[..., c] = (y[..., c] - mean[c]) / np.sqrt(variance[c] + epsilon) * gain + shift
    return y


def batch_normalization_training_reference(
    x, scale, offset, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    algorithm: str = "auto",
) -> tf.Tensor:
    """[…,C] → […,C], with statistics and parameters [C]; no `scale` is 1, no `offset` is 0.

    Forms: "fused" (auto for float32 and bfloat16 [B,H,W,C]) is TensorFlow's kernel, which reads x once, with the
    gradient by hand; "explicit" writes the equation. Either has gradients to x, statistics and parameters.
    Raises ValueError for "fused" in other types and shapes.
    """
    mean, variance, scale, offset = _parameters(x, mean, variance, scale, offset)
    fusible = x.shape.rank == 4 and x.dtype in (tf.float32, tf.bfloat16)
    if algorithm == "fused" and x.shape.rank != 4:
        raise ValueError(f'x has shape {x.shape}; expected [batch, height, width, channels] for algorithm "fused"')
    if form_of(algorithm, x.dtype, ("fused", "explicit") if fusible else ("explicit",)) == "fused":
        return _normalize_fused(x, mean, variance, scale, offset, epsilon)
    gain = tf.math.rsqrt(variance + epsilon) * scale  # [C]
    # Not x·gain + (β − μ·gain), which saves a subtraction and loses digits where |μ| is much larger than σ.
    return tf.cast((wide(x) - mean) * gain + offset, x.dtype)


def _normalize_fused(x, mean, variance, scale, offset, epsilon: float) -> tf.Tensor:
    """TensorFlow's kernel; its own gradient always takes the sums that only the parameters need, and is slower."""

    @tf.custom_gradient
    def normalize(x, mean, variance, scale, offset):
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon, is_training=False)

        def backward(gradient):
            return batch_normalization_inference_gradient(x, gradient, scale, mean, variance, epsilon)

        return y, backward

    return normalize(x, mean, variance, scale, offset)


BATCH_NORMS = ("fused", "explicit")  # forms of the normalization by the moments of the batch


def batch_normalization_training(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    algorithm: str = "auto",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """[B,H,W,C] → (y [B,H,W,C], mean [C], unbiased variance [C]).

    Forms, of which "auto" takes the one that was measured to be the fastest: "fused" is TensorFlow's, which has no
    float64; "explicit" (auto for float64, and under XLA on a CPU) writes the equation, and the gradient by hand. Raises
    ValueError for "fused" in float64, and for x that is not [B,H,W,C].
    """
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected [batch, height, width, channels]")
    forms = ("explicit",) if x.dtype == tf.float64 else BATCH_NORMS
    form = form_of(algorithm, x.dtype, forms)
    if algorithm == "auto":
        form = measured("batch_norm", x.dtype, str(x.shape[-1]), pixels_of(x), forms)
    scale, offset = _parameters(x, scale=scale, offset=offset)[2:]

    if share := current():
        return _normalize_shared(x, scale, offset, epsilon, share)
    if form == "fused":  # returns the unbiased variance, and has no gradient through the statistics
        return tf.compat.v1.nn.fused_batch_norm(x, scale, offset, epsilon=epsilon)
    y, mean, variance = _normalize_explicitly(x, scale, offset, epsilon)
    m = _count(x)
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance * m / tf.maximum(m - 1, 1))


def _normalize_shared(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float, share: Share):
    """The same of a batch of which x is a part: y of x, the moments of all; forward and backward two sums over all."""
    m = _count(x) * share.count

    @tf.custom_gradient
    def normalize(x, scale, offset):
        own_mean, own_variance = _moments(x)
        (mean,) = share.mean([own_mean])
        (variance,) = share.mean([own_variance + tf.square(own_mean - mean)])
        y = batch_normalization(x, mean, variance, scale, offset, epsilon)

        def backward(gradient, *_):
            return batch_normalization_gradient(x, gradient, scale, mean, variance, epsilon)

        return (y, mean, variance), backward

    y, mean, variance = normalize(x, scale, offset)
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance * m / tf.maximum(m - 1, 1))


def _moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance [C], by TensorFlow's kernel, which reads x twice; it has no float64."""
    if x.dtype == tf.float64:
        return tf.nn.moments(x, (0, 1, 2))
    ones, m = tf.ones(x.shape[-1:]), _count(x)
    _, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, ones, ones)
    return mean, variance * (m - 1) / m


def _normalize_explicitly(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float):
    """(y, mean, biased variance) of which only y has a gradient, the one derived below."""

    @tf.custom_gradient
    def normalize(x, scale, offset):
        mean = _channel_sums(wide(x)) / _count(x)
        variance = _channel_sums(tf.square(wide(x) - mean)) / _count(x)
        y = batch_normalization(x, mean, variance, scale, offset, epsilon, "explicit")

        def backward(gradient, *_):
            return batch_normalization_gradient(x, gradient, scale, mean, variance, epsilon)

        return (y, mean, variance), backward

    return normalize(x, scale, offset)


def fold_batch_normalization(
    filters: tf.Tensor,
    bias: tf.Tensor | None,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Filters [kh,kw,Cin/groups,Cout] and bias [Cout] of a convolution that normalises its own output.

    (w∗x + b − μ)·gain + β = (w·gain)∗x + (b − μ)·gain + β, with gain = γ/√(σ² + ε).
    """
    mean, variance, scale, offset = _parameters(filters, mean, variance, scale, offset)
    gain = tf.math.rsqrt(variance + epsilon) * scale  # [Cout]
    shift = -mean if bias is None else wide(bias) - mean
    return tf.cast(wide(filters) * gain, filters.dtype), tf.cast(shift * gain + offset, filters.dtype)


def _parameters(x: tf.Tensor, mean=0.0, variance=1.0, scale=None, offset=None) -> list[tf.Tensor]:
    """Mean, variance, scale and offset of x's channels as wide [C]; None is 1 for scale, 0 for offset."""
    values = mean, variance, 1.0 if scale is None else scale, 0.0 if offset is None else offset
    return [tf.broadcast_to(tf.cast(value, wide_type(x)), x.shape[-1:]) for value in values]


def _count(x: tf.Tensor) -> tf.Tensor:
    """m = B·H·W as a wide scalar."""
    return tf.reduce_prod(tf.cast(tf.shape(x)[:-1], wide_type(x)))


def _channel_sums(x: tf.Tensor) -> tf.Tensor:
    """[B,H,W,C] → [C]; by XLA for a CPU as ones[2,m] · x[m,C], of which one row is taken.

    Its reductions over pixels take up to seven times as long there, and so do its products with one row. On GPUs
    products may round to TF32.
    """
    flat = tf.reshape(x, (-1, x.shape[-1]))
    if compiler() != "xla":
        return tf.reduce_sum(flat, axis=0)
    return tf.matmul(tf.ones((2, tf.shape(flat)[0]), x.dtype), flat)[0]


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# Let g = dy and x̂ = (x − μ)·inv, inv = (σ² + ε)^(−½), so y = γ·x̂ + β. Sums run over the m values of
# one channel.
#   dβ = Σ g,   dγ = Σ g·x̂
# With statistics given (inference), ∂inv/∂σ² = −½·inv³ and
#   dx_i = γ·inv·g_i,   dμ = −γ·inv·dβ,   dσ² = −½·inv³·γ·Σ g·(x − μ) = −½·inv²·γ·dγ
# With statistics of x itself (training),
#   x_i moves y_j in three ways: by itself (j = i), by ∂μ/∂x_i = 1/m, and by ∂σ²/∂x_i = 2(x_i − μ)/m
#   (σ² also depends on μ, but ∂σ²/∂μ = −2/m·Σ(x − μ) = 0):
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
    """(dx […,C], dmean [C], dvariance [C], dscale [C], doffset [C]) of inference, with given statistics."""
    mean, variance, scale, _ = _parameters(x, mean, variance, scale)
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
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """(dx [B,H,W,C], dscale [C], doffset [C]) of training, with the statistics of x itself.

    Where x is a part of a batch, with those of the whole: dx then is of the sum of all parts' losses, the others are
    sums over this part.
    """
    mean, variance, scale, _ = _parameters(x, mean, variance_biased, scale)
    inverse, m, g = tf.math.rsqrt(variance + epsilon), _count(x), wide(gradient)
    normalized = (wide(x) - mean) * inverse
    doffset, dscale = _channel_sums(g), _channel_sums(g * normalized)
    share = current()
    means = [doffset / m, dscale / m] if share is None else share.mean([doffset / m, dscale / m])
    dx = scale * inverse * (g - means[0] - normalized * means[1])
    return tf.cast(dx, x.dtype), dscale, doffset


# 5. Cost ----------------------------------------------------------------------------------------------------


def batch_normalization_cost(input_shape: Sequence[int], training: bool = False) -> Cost:
    """Operations an element; those on [C] alone are left out.

    Forward: −μ, ·gain, +β. Backward: dβ 1, dγ 4 (the two of x̂, a product, a sum), dx 1 (·gain).
    Training adds 1 forward for μ and 3 for σ², and 3 backward: dx = gain·(g − dβ/m − x̂·dγ/m).
    """
    return elementwise_cost(input_shape, *((7, 9) if training else (3, 6)))
