"""What training minimizes: the cross-entropy of softmax, with label smoothing, and weight decay.

Source of label smoothing: Szegedy et al. 2016 ("Rethinking the Inception Architecture"), section 7.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost, elementwise_cost
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   softmax(z)ᵢ = exp(zᵢ − max z) / Σⱼ exp(zⱼ − max z)          over the last axis; the maximum cancels, and keeps
#   log_softmax(z)ᵢ = zᵢ − max z − log Σⱼ exp(zⱼ − max z)       exp from overflowing
#
#   q  = (1 − ε)·onehot(label) + ε/K          targets over K classes, ε the label smoothing
#   L  = −Σₖ qₖ · log_softmax(z)ₖ             one loss per example
#   ∂L/∂z = softmax(z) − q                    because Σ q = 1
#
#   weight decay = Σ w²/2 over all weights,   ∂/∂w = w


# 2. NumPy reference -----------------------------------------------------------------------------------------


def softmax_reference(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, row by row, in float64. Args and Returns as `softmax`."""
    return np.exp(log_softmax_reference(logits))


def log_softmax_reference(logits: np.ndarray) -> np.ndarray:
    """The logarithm of softmax, row by row, in float64. Args and Returns as `log_softmax`."""
    logits = np.asarray(logits, np.float64)
    y = np.zeros(logits.shape)
    for row in np.ndindex(logits.shape[:-1]):
        highest = max(logits[row])
        total = sum(np.exp(z - highest) for z in logits[row])
        for i, z in enumerate(logits[row]):
            y[row][i] = z - highest - np.log(total)
    return y


def cross_entropy_reference(logits: np.ndarray, labels: np.ndarray, label_smoothing: float = 0.0) -> np.ndarray:
    """The loss one class of one example at a time, in float64. Args and Returns as `cross_entropy`."""
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
    """Half the sum of all squares, one weight at a time. Args and Returns as `weight_decay`."""
    return sum(float(weight) ** 2 / 2 for variable in variables for weight in np.ravel(variable))


# 3. Tensor forms --------------------------------------------------------------------------------------------


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """Compute probabilities from logits; the largest logit is subtracted first, so none overflows.

    Args:
        logits: [...,K].

    Returns:
        [...,K] in the type of the logits; each row sums to 1.
    """
    z = wide(logits)
    powers = tf.exp(z - tf.stop_gradient(tf.reduce_max(z, axis=-1, keepdims=True)))
    return tf.cast(powers / tf.reduce_sum(powers, axis=-1, keepdims=True), logits.dtype)


def log_softmax(logits: tf.Tensor) -> tf.Tensor:
    """Compute log probabilities, which are finite where softmax underflows to 0.

    Args:
        logits: [...,K].

    Returns:
        [...,K] in the type of the logits, in nats.
    """
    z = wide(logits)
    z -= tf.stop_gradient(tf.reduce_max(z, axis=-1, keepdims=True))
    return tf.cast(z - tf.math.log(tf.reduce_sum(tf.exp(z), axis=-1, keepdims=True)), logits.dtype)


def smoothed_targets(
    labels: tf.Tensor, classes: int, label_smoothing: float = 0.0, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Turn labels into target distributions.

    Args:
        labels: int [B].
        classes: K.
        label_smoothing: ε of the equation, from 0 to 1.
        dtype: The type of the result.

    Returns:
        [B,K]. The row of a label outside 0 … K−1 is NaN, so that its loss is NaN.

    Raises:
        ValueError: If the labels are not ints [B], or the smoothing is not in [0, 1].
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


def _logits_and_targets(logits: tf.Tensor, labels: tf.Tensor, smoothing: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits in float32 or wider and their targets, both [B,K]. ValueError for other shapes."""
    z, batch = wide(logits), labels.shape[0] if labels.shape.rank == 1 else None
    if z.shape[-1] == 0 or not z.shape.is_compatible_with((batch, None)):
        raise ValueError(f"logits {z.shape} do not fit labels {labels.shape}; expected [B,K] and [B]")
    return z, smoothed_targets(labels, z.shape[-1], smoothing, z.dtype)


def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0, algorithm: str = "auto"
) -> tf.Tensor:
    """Compute the cross-entropy of each example in nats.

    Args:
        logits: [B,K].
        labels: int [B]; a label outside 0 … K−1 gives NaN.
        label_smoothing: ε of the equation, from 0 to 1.
        algorithm: "nn" (TensorFlow's; "auto" is the same) or "explicit".

    Returns:
        [B] in float32, or float64 for float64 logits.

    Raises:
        ValueError: For logits or labels of other shapes, smoothing outside [0, 1], or an unknown algorithm.
    """
    z, targets = _logits_and_targets(logits, labels, label_smoothing)
    if algorithm in ("auto", "nn"):
        return tf.nn.softmax_cross_entropy_with_logits(labels=targets, logits=z)
    if algorithm == "explicit":
        return -tf.reduce_sum(targets * log_softmax(z), axis=-1)
    raise ValueError(f'algorithm is {algorithm!r}; expected "auto", "nn" or "explicit"')


def weight_decay(variables: Iterable[tf.Tensor]) -> tf.Tensor:
    """Sum w²/2 over the weights of all variables.

    Args:
        variables: Tensors of any shapes.

    Returns:
        A scalar; 0 if there are no variables.
    """
    penalties = [tf.nn.l2_loss(wide(variable)) for variable in variables]
    return tf.add_n(penalties) if penalties else tf.zeros(())


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def softmax_gradient(probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """`probabilities` p = softmax(z) and `gradient` g = ∂L/∂p, both [...,K] → ∂L/∂z [...,K].

    ∂pᵢ/∂zⱼ = pᵢ·([i = j] − pⱼ), so dz = p · (g − Σ g·p).
    """
    p, g = wide(probabilities), wide(gradient)
    return tf.cast(p * (g - tf.reduce_sum(g * p, axis=-1, keepdims=True)), gradient.dtype)


def log_softmax_gradient(log_probabilities: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """`log_probabilities` l = log_softmax(z) and `gradient` g = ∂L/∂l, both [...,K] → ∂L/∂z [...,K].

    ∂lᵢ/∂zⱼ = [i = j] − exp lⱼ, so dz = g − exp(l) · Σ g.
    """
    log_p, g = wide(log_probabilities), wide(gradient)
    return tf.cast(g - tf.exp(log_p) * tf.reduce_sum(g, axis=-1, keepdims=True), gradient.dtype)


def cross_entropy_gradient(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Each example's loss to its logits: softmax(z) − q. Args as `cross_entropy` → [B,K] in the type of the logits."""
    z, targets = _logits_and_targets(logits, labels, label_smoothing)
    return tf.cast(softmax(z) - targets, logits.dtype)


def weight_decay_gradient(variables: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    """`variables` → the gradient to each, which is the variable itself."""
    return [tf.identity(variable) for variable in variables]


# 5. Cost ----------------------------------------------------------------------------------------------------


def softmax_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [...,K] → the cost: max, difference, exp, sum, division; backward 2 products, sum, difference."""
    return elementwise_cost(input_shape, forward=5, backward=4)


def cross_entropy_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` [B,K] → the cost: log softmax (5), product with q, sum; backward exp, difference, factor g."""
    return elementwise_cost(input_shape, forward=7, backward=3)


def weight_decay_cost(input_shape: Sequence[int]) -> Cost:
    """`input_shape` of a variable → the cost: a square and an addition per weight; backward the upstream factor."""
    return elementwise_cost(input_shape, forward=2)
