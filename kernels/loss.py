"""What training minimises: cross-entropy of the logits, with label smoothing, and weight decay.

Label smoothing is that of Szegedy et al. 2015 (Rethinking the Inception Architecture), section 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from kernels.activation import log_softmax, softmax, widened
from kernels.cost import Cost, elementwise_cost

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   q  = (1 − ε)·onehot(label) + ε/K          targets over K classes, ε the label smoothing
#   L  = −Σₖ qₖ · log softmax(z)ₖ             one loss for each example
#   ∂L/∂z = softmax(z) − q                    because Σ q = 1
#
#   weight decay = Σ w²/2 over all weights,   ∂/∂w = w


# 2. NumPy reference -----------------------------------------------------------------------------------------


def cross_entropy_reference(logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0) -> np.ndarray:
    """[B,K], [B] → [B], one class of one example at a time."""
    examples, classes = np.shape(logits)
    losses = np.zeros(examples)
    for b in range(examples):
        highest = float(max(logits[b]))
        log_total = np.log(sum(np.exp(float(z) - highest) for z in logits[b]))
        for k in range(classes):
            target = (1 - label_smoothing) * (labels[b] == k) + label_smoothing / classes
            losses[b] -= target * (float(logits[b, k]) - highest - log_total)
    return losses


def weight_decay_reference(variables: Iterable[np.ndarray]) -> float:
    """Half the sum of all squares, one weight at a time."""
    return sum(float(weight) ** 2 / 2 for variable in variables for weight in np.ravel(variable))


# 3. Tensor forms --------------------------------------------------------------------------------------------


def smoothed_targets(
    labels: tf.Tensor, classes: int, label_smoothing: float = 0.0, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """int [B] → target distribution [B,K]. A label outside 0…K−1 makes its row NaN, so that its loss tells.

    Raises ValueError if the labels are not a list of ints or the smoothing is not in [0, 1].
    """
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank != 1 or not labels.dtype.is_integer:
        raise ValueError(f"labels are {labels.dtype.name} {labels.shape}; expected class numbers, ints [B]")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; expected a number from 0 to 1, such as 0.1")
    rest = label_smoothing / classes
    targets = tf.one_hot(labels, classes, on_value=1 - label_smoothing + rest, off_value=rest, dtype=dtype)
    known = (labels >= 0) & (labels < classes)
    return tf.where(known[:, None], targets, float("nan"))  # [B,K]


def cross_entropy(
    logits: tf.Tensor,
    labels: tf.Tensor,
    label_smoothing: float = 0.0,
    algorithm: Literal["auto", "nn", "explicit"] = "auto",
) -> tf.Tensor:
    """Cross-entropy of each example in nats: [B,K], int [B] → [B], float32 (float64 for float64 logits).

    A label outside 0…K−1 gives NaN. Raises ValueError for labels that are not ints [B], smoothing outside
    [0, 1], or an unknown algorithm.
    """
    z = widened(logits)
    targets = smoothed_targets(labels, z.shape[-1], label_smoothing, z.dtype)
    if algorithm in ("auto", "nn"):
        return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=z)
    if algorithm == "explicit":
        return -tf.reduce_sum(targets * log_softmax(z), axis=-1)
    raise ValueError(f'algorithm is {algorithm!r}; expected "auto", "nn" or "explicit"')


def weight_decay(variables: Iterable[tf.Tensor]) -> tf.Tensor:
    """Σ w²/2 over the weights of all `variables`, a scalar; 0 if there are none."""
    penalties = [tf.nn.l2_loss(widened(variable)) for variable in variables]
    return tf.add_n(penalties) if penalties else tf.zeros(())


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def cross_entropy_gradient(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Of each example's loss to its logits, softmax(z) − q: [B,K], in the dtype of the logits."""
    z = widened(logits)
    targets = smoothed_targets(labels, z.shape[-1], label_smoothing, z.dtype)
    return tf.cast(softmax(z) - targets, logits.dtype)


def weight_decay_gradient(variables: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    """To each variable: the variable itself."""
    return [tf.identity(variable) for variable in variables]


# 5. Cost ----------------------------------------------------------------------------------------------------


def cross_entropy_cost(input_shape: Sequence[int]) -> Cost:
    """Forward log softmax (5), product with the targets, sum; backward exp, difference, upstream factor."""
    return elementwise_cost(input_shape, forward=7, backward=3)


def weight_decay_cost(input_shape: Sequence[int]) -> Cost:
    """Forward a square and an addition for each weight; backward the upstream factor."""
    return elementwise_cost(input_shape, forward=2)
