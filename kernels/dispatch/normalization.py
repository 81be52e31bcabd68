"""The public batch normalization: checks, the choice of a form, and batches that several devices share."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from kernels import normalization as textbook
from kernels.dispatch.replica import Replica, current_replica
from kernels.dispatch.selection import form_of, measured, pixels_of
from kernels.forms.channel_sums import matmul_channel_sums
from kernels.forms.compiler import by_xla, compiler
from kernels.forms.differentiable import with_gradient
from kernels.forms.fused import fused_batch_normalization, fused_batch_normalization_training, fused_moments

BATCH_NORMS = ("fused", "explicit")  # forms of the normalization by the moments of the batch


def batch_normalization(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Normalize by given statistics (Ioffe & Szegedy 2015, algorithm 2).

    Args:
        x: […,C].
        mean, variance: [C].
        scale: γ [C]; None is 1.
        offset: β [C]; None is 0.
        epsilon: ε, added to the variance.
        algorithm: "fused" (TensorFlow's kernel; "auto" for float32 and bfloat16 [B,H,W,C]) or "explicit" (the
            equation; "auto" otherwise). Both have gradients to x, statistics and parameters.

    Returns:
        […,C] in the type of x.

    Raises:
        ValueError: For "fused" in other types and shapes, and unless there is one value for each channel.
    """
    _check_channels(x, mean=mean, variance=variance, scale=scale, offset=offset)
    fusible = x.shape.rank == 4 and x.dtype in (tf.float32, tf.bfloat16)
    if algorithm == "fused" and x.shape.rank != 4:
        raise ValueError(f'x has shape {x.shape}; expected [batch, height, width, channels] for algorithm "fused"')
    if form_of(algorithm, x.dtype, ("fused", "explicit") if fusible else ("explicit",)) == "fused":
        mean, variance, scale, offset = textbook.parameters(x, mean, variance, scale, offset)
        return fused_batch_normalization(x, mean, variance, scale, offset, epsilon)
    return textbook.batch_normalization(x, mean, variance, scale, offset, epsilon)


def batch_normalization_training(
    x: tf.Tensor,
    scale: tf.Tensor | None,
    offset: tf.Tensor | None,
    epsilon: float,
    algorithm: str = "auto",
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalize by the moments of the batch (Ioffe & Szegedy 2015, algorithm 1).

    Args:
        x: [B,H,W,C], or this device's part of a shared batch, whose moments then count.
        scale: γ [C]; None is 1.
        offset: β [C]; None is 0.
        epsilon: ε, added to the variance.
        algorithm: "fused" (TensorFlow's, which has no float64), "explicit" (the equation and the gradient by hand) or
            "auto", the form that was the fastest. XLA has no fused kernel, only an expansion of it whose variance
            loses digits where |μ| is much larger than σ; so it always compiles the explicit form.

    Returns:
        (y [B,H,W,C], mean [C], unbiased variance [C]). No gradient flows through the statistics, which are 0 for an
        empty batch.

    Raises:
        ValueError: For "fused" in float64, if x is not [B,H,W,C], and unless there is one value for each channel.
    """
    if x.shape.rank != 4:
        raise ValueError(f"x has shape {x.shape}; expected [batch, height, width, channels]")
    _check_channels(x, scale=scale, offset=offset)
    forms = ("explicit",) if x.dtype == tf.float64 else BATCH_NORMS
    form = form_of(algorithm, x.dtype, forms)
    if algorithm == "auto":
        form = measured("batch_norm", x.dtype, str(x.shape[-1]), pixels_of(x), forms)
    scale, offset = textbook.parameters(x, scale=scale, offset=offset)[2:]
    if replica := current_replica():
        m = textbook.count(x) * replica.count
        y, mean, variance = _differentiable(_normalize_shared(replica, epsilon), epsilon)(x, scale, offset)
    elif form == "fused" and not by_xla():
        return fused_batch_normalization_training(x, scale, offset, epsilon)
    else:
        y, mean, variance = _differentiable(_normalize_explicitly(epsilon), epsilon)(x, scale, offset)
        m = textbook.count(x)
    return y, tf.stop_gradient(mean), tf.stop_gradient(textbook.unbiased(variance, m))


def _check_channels(x: tf.Tensor, **parameters: tf.Tensor | None) -> None:
    """ValueError unless each of the parameters has one value for each channel of x, or one for all."""
    for name, value in parameters.items():
        if value is None or value.shape.is_compatible_with(x.shape[-1:]) or value.shape in ((), (1,)):
            continue
        raise ValueError(f"{name} has shape {value.shape}; expected {x.shape[-1:]}, one value for each channel of x")


def _normalize_explicitly(epsilon: float) -> Callable:
    """(x, scale, offset) → (y, mean, biased variance) by the equation."""

    def forward(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return textbook.batch_normalization_training(x, scale, offset, epsilon, _channel_sums())

    return forward


def _normalize_shared(replica: Replica, epsilon: float) -> Callable:
    """(x, scale, offset) → (y, mean, biased variance), with the moments of all parts of the batch."""

    def forward(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        fusible = x.dtype != tf.float64 and not by_xla()
        local_mean, local_variance = fused_moments(x) if fusible else textbook.moments(x, _channel_sums())
        (mean,) = replica.mean([local_mean])
        (variance,) = replica.mean([local_variance + tf.square(local_mean - mean)])
        return batch_normalization(x, mean, variance, scale, offset, epsilon), mean, variance

    return forward


def _differentiable(forward: Callable, epsilon: float) -> Callable:
    """(x, scale, offset) → (y, mean, biased variance), of which only y has a gradient: the one by hand."""

    def backward(inputs, outputs, gradient, *_):
        (x, scale, _), (_, mean, variance) = inputs, outputs
        return batch_normalization_gradient(x, gradient, scale, mean, variance, epsilon)

    return with_gradient(forward, backward)


def batch_normalization_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    scale: tf.Tensor | None,
    mean: tf.Tensor,
    variance_biased: tf.Tensor,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Compute the gradients of training, with the statistics of x itself.

    Args:
        x: [B,H,W,C], or this device's part of a shared batch.
        gradient: ∂L/∂y [B,H,W,C].
        scale: γ [C]; None is 1.
        mean, variance_biased: [C], of the complete batch.
        epsilon: ε, added to the variance.

    Returns:
        (dx [B,H,W,C], dscale [C], doffset [C]). For a part of a shared batch, dx is the gradient of the sum of the
        losses of all parts, and the others are sums over this part.
    """
    replica = current_replica()
    average = {"average": replica.mean} if replica else {}
    return textbook.batch_normalization_gradient(
        x, gradient, scale, mean, variance_biased, epsilon, _channel_sums(), **average
    )


def biased_variance(x: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
    """Turn the unbiased variance, which running averages keep, back into that by which training normalizes.

    Args:
        x: [B,H,W,C], or this device's part of a shared batch.
        variance: The unbiased variance [C] of `batch_normalization_training`.

    Returns:
        The biased variance [C]: (m − 1)/m of it, m the number of values per channel in the complete batch.
    """
    replica = current_replica()
    m = tf.cast(textbook.count(x) * (replica.count if replica else 1), variance.dtype)
    return variance * tf.maximum(m - 1, 1) / m


def _channel_sums() -> textbook.Sums:
    """The faster sums over pixels for the compiler in use."""
    return matmul_channel_sums if compiler() == "xla" else textbook.channel_sums
