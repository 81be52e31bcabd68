"""Exercises 5 to 7: batch normalization in training, its folding into a convolution, response normalization."""

from __future__ import annotations

import numpy as np

from kernels.normalization import batch_normalization_reference, batch_normalization_training_reference
from kernels.response import local_response_normalization_reference
from rawcnn.explain.exercises.exercise import Exercise, integers, normal


def batch_norm(x, scale, offset, epsilon):
    """Normalize each channel with the statistics of the batch.

    Args:
        x: [B,H,W,C].
        scale: γ [C].
        offset: β [C].
        epsilon: ε, a number.

    Returns:
        Three arrays: y [B,H,W,C], the mean [C], and the unbiased variance [C], which the running average takes.
    """
    pixels = x.reshape(-1, x.shape[-1])  # [m,C]
    mean, biased = pixels.mean(0), pixels.var(0)
    y = (x - mean) / np.sqrt(biased + epsilon) * scale + offset
    return y, mean, biased * len(pixels) / (len(pixels) - 1)


def fold_batch_norm(filters, mean, variance, scale, offset, epsilon):
    """Make a batch norm part of the convolution before it, which has no bias.

    Args:
        filters: [kh,kw,C,O].
        mean: μ [O], the running average.
        variance: σ² [O], the running average.
        scale: γ [O].
        offset: β [O].
        epsilon: ε, a number.

    Returns:
        Two arrays: filters [kh,kw,C,O] and bias [O], so that the convolution with them gives the normalized output.
    """
    gain = scale / np.sqrt(variance + epsilon)
    return filters * gain, offset - mean * gain


def local_response_normalization(x, radius, bias, alpha, beta):
    """Divide each value by a function of its neighbors in other channels.

    Args:
        x: [B,H,W,C].
        radius: r: the channels i − r to i + r are neighbors of channel i.
        bias: k.
        alpha: α.
        beta: β.

    Returns:
        y [B,H,W,C].
    """
    y = np.zeros(x.shape)
    for i in range(x.shape[-1]):
        neighbors = x[..., max(i - radius, 0) : i + radius + 1]
        y[..., i] = x[..., i] / (bias + alpha * np.sum(neighbors**2, -1)) ** beta
    return y


# Inputs and right values -----------------------------------------------------------------------------------------


def _folded(filters, mean, variance, scale, offset, epsilon):
    """From the reference of batch norm: it is linear, with the bias as its value at 0 and the gain as its slope."""
    settings = mean, variance, scale, offset, epsilon
    bias = batch_normalization_reference(np.zeros((1, len(mean))), *settings)[0]
    gain = batch_normalization_reference(np.ones((1, len(mean))), *settings)[0] - bias
    return filters * gain, bias


def _channel(index, x, scale, offset, epsilon):
    c = index[-1]
    return {f"channel {c} of x, all pixels": x[..., c].ravel(), "γ, β": [scale[c], offset[c]], "ε": epsilon}


def _output_channel(index, filters, mean, variance, scale, offset, epsilon):
    o = index[-1]
    return {
        "μ, σ², γ, β": [mean[o], variance[o], scale[o], offset[o]],
        f"filter {o}, first channel": filters[:, :, 0, o],
    }


def _neighbors(index, x, radius, bias, alpha, beta):
    *pixel, i = index
    first, last = max(i - radius, 0), min(i + radius, x.shape[-1] - 1)
    return {f"channels {first} to {last} of this pixel": x[tuple(pixel)][first : last + 1]}


TRAINING = Exercise(
    title="batch norm in training",
    task="""
    y = γ · (x − μ) / √(σ² + ε) + β

In training, μ and σ² are the mean and the variance of each channel over all m = B·H·W pixels of the batch. The variance
in this equation is the biased one, Σ(x − μ)²/m. The one that is kept for inference is unbiased: Σ(x − μ)²/(m − 1)
(Ioffe and Szegedy 2015, algorithms 1 and 2).
""",
    solution=batch_norm,
    expected=lambda x, scale, offset, epsilon: batch_normalization_training_reference(x, scale, offset, epsilon),
    cases={
        "four pixels, one channel": dict(
            x=np.array([1.0, 3.0, 3.0, 5.0]).reshape(1, 2, 2, 1), scale=np.ones(1), offset=np.zeros(1), epsilon=0.0
        ),
        "three channels": dict(x=integers(2, 3, 3, 3), scale=normal(3), offset=normal(3, seed=1), epsilon=1e-3),
        "a large mean and a small spread": dict(
            x=30 + 0.01 * normal(4, 3, 3, 2), scale=normal(2), offset=normal(2, seed=1), epsilon=1e-5
        ),
    },
    hints=(
        "x.reshape(-1, C) puts all pixels of all images below each other.",
        "NumPy's var is the biased variance. The unbiased one is m/(m − 1) times as large.",
        "Do not compute E[x²] − E[x]²: where the mean is large, nothing is left of the digits.",
    ),
    source="kernels/normalization.py",
    look=_channel,
)

FOLD = Exercise(
    title="the folding of a batch norm into a convolution",
    task="""
In inference, μ and σ² are fixed, so the batch norm after a convolution is linear and can become part of it:

    γ · (conv(x, W) − μ) / √(σ² + ε) + β  =  conv(x, W') + b'

Find W' and b'.
""",
    solution=fold_batch_norm,
    expected=_folded,
    cases={
        "one 1×1 filter": dict(
            filters=np.full((1, 1, 1, 1), 6.0),
            mean=np.array([1.0]),
            variance=np.array([4.0]),
            scale=np.array([3.0]),
            offset=np.array([5.0]),
            epsilon=0.0,
        ),
        "3×3, two channels in, four out": dict(
            filters=normal(3, 3, 2, 4),
            mean=normal(4, seed=1),
            variance=normal(4, seed=2) ** 2,
            scale=normal(4, seed=3),
            offset=normal(4, seed=4),
            epsilon=1e-3,
        ),
    },
    hints=(
        "Sort the left side: what is multiplied with conv(x, W), and what is added?",
        "conv(x, W) · s = conv(x, s·W): a factor for each output channel.",
        "s = γ/√(σ² + ε); W' = s·W; b' = β − s·μ.",
    ),
    source="rawcnn/nn/folding.py",
    look=_output_channel,
)

RESPONSE = Exercise(
    title="local response normalization",
    task="""
AlexNet's normalization divides each value by a power of a sum over neighboring channels of the same pixel:

    y_i = x_i / (k + α · Σ_j x_j²)^β        |j − i| ≤ r

(Krizhevsky et al. 2012, section 3.3). At the first and the last channels the sum has fewer terms.
""",
    solution=local_response_normalization,
    expected=local_response_normalization_reference,
    cases={
        "one pixel, β = 1": dict(
            x=np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4), radius=1, bias=1.0, alpha=1.0, beta=1.0
        ),
        "AlexNet's constants": dict(x=100 * normal(2, 2, 3, 7), radius=2, bias=2.0, alpha=1e-4, beta=0.75),
        "fewer channels than neighbors": dict(x=normal(1, 2, 2, 3), radius=5, bias=2.0, alpha=0.1, beta=0.5),
    },
    hints=(
        "A loop over the channels i is enough; NumPy does all pixels at once.",
        "x[..., i − r : i + r + 1] are the neighbors. Take care that the first index is not negative.",
        "(k + α · np.sum(neighbors², axis=-1)) ** β",
    ),
    source="kernels/response.py",
    look=_neighbors,
)
