"""Comparison of two implementations, which precedes the timing in every race.

The logits must agree within `TOLERANCE` of the largest logit, and the gradient of each variable within `TOLERANCE` of
its own largest value. Rounding alone can break the second rule: the derivative of ReLU jumps at zero, and among a
million inputs of ReLUs one may lie within rounding of zero. In a CIFAR ResNet-20 one such unit changes the gradients by
0.2 % of their length.

All gradients are then compared as one vector. Their difference may be `FEW_UNITS` of their length, or `TIMES_ROUNDING`
times the change that rounding the images causes in the reference. In float64 rounding is negligible, and the tests show
that the Keras twin agrees to 1e-6. In bfloat16 the direction of a deep network's gradients can be lost; then only their
lengths are compared, and the race first compares the two networks in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import tensorflow as tf

import kernels
from benchmarks.twins.keras import copy_weights, twin_variables
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.nn.trace import Trace

Gradients = Mapping[str, np.ndarray]

# Largest allowed difference, relative to the largest expected value. A bfloat16 rounding is 2⁻⁸ = 4e-3.
TOLERANCE = {
    ("float64", "logits"): 1e-6,
    ("float64", "gradient"): 1e-6,
    ("float32", "logits"): 1e-4,
    ("float32", "gradient"): 1e-3,
    ("bfloat16", "logits"): 5e-2,
    ("bfloat16", "gradient"): 5e-2,
}
ROUNDING = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}
FEW_UNITS = {"float64": 0.0, "float32": 1e-2, "bfloat16": 1e-1}  # relative change by a few ReLUs within rounding of 0
TIMES_ROUNDING = 4  # allowed difference of all gradients, as a multiple of the change by rounding the images
LARGEST_DIFFERENCE = 0.5  # upper bound of that allowance, as a share of the gradients' length


class Disagreement(RuntimeError):
    """Raised if two implementations that should compute the same differ; they are then not timed."""


@dataclass(frozen=True)
class Agreement:
    """The difference of two implementations: the largest difference, relative to the largest value."""

    logits: float
    gradient: float


class ComparableTrace(Trace):
    """A trace without dropout, whose masks differ between libraries; optionally all in float64."""

    def apply(self, name, kind, kernel, inputs, parameters=(), **settings):
        kernel = tf.identity if kind == "dropout" else kernel
        return super().apply(name, kind, kernel, inputs, parameters, **settings)

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        dtype = tf.float64 if self.dtype == tf.float64 else dtype
        return super().variable(path, shape, initial, trained=trained, dtype=dtype)


def _logits(network: Network, images: tf.Tensor, dtype: str, train: bool) -> tf.Tensor:
    """Images [B,H,W,3] → logits [B,classes], without dropout."""
    inputs = tf.cast(PREPROCESSING[network.preprocessing](images), dtype)
    net = ComparableTrace(network.variables, inputs, train=train, seed=tf.constant([0, 0]), dtype=tf.as_dtype(dtype))
    return tf.cast(network.model(net, inputs), tf.float64 if dtype == "float64" else tf.float32)


def network_gradients(network: Network, images: tf.Tensor, labels: tf.Tensor, dtype: str = "float32") -> Gradients:
    """Return the gradients of the mean cross-entropy by path, in training mode without dropout.

    Args:
        network: The network; its variables stay unchanged.
        images: float32 [B,H,W,3] in [0,1].
        labels: int32 [B].
        dtype: The precision of the computation: "float64", "float32" or "bfloat16".
    """
    with tf.GradientTape() as tape:
        logits = _logits(network, images, dtype, train=True)
        if dtype == "float64":  # kernels.cross_entropy computes in float32
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        else:
            losses = kernels.cross_entropy(logits, labels)
        loss = tf.reduce_mean(losses)
    return _arrays(tape.gradient(loss, network.trained_variables))


def twin_gradients(network: Network, twin: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> Gradients:
    """Return the same gradients of the Keras twin, by the network's paths. The twin stays unchanged."""
    dropouts = {layer: layer.rate for layer in twin.layers if isinstance(layer, keras.layers.Dropout)}
    variables = twin_variables(network, twin)
    trained = {path: variables[path] for path in network.trained_variables}
    averages = {path: v for path, v in variables.items() if path not in trained}
    before = _arrays(averages)  # a forward pass in training mode updates them
    for layer in dropouts:
        layer.rate = 0.0
    with tf.GradientTape() as tape:
        logits = twin(images, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    for layer, rate in dropouts.items():
        layer.rate = rate
    copy_weights(before, averages)
    return _arrays(tape.gradient(loss, trained))


def check_twin(network: Network, twin: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> Agreement:
    """Compare the logits and the gradients of all weights on one batch, in the twin's precision.

    Args:
        network: The network, with the twin's weights.
        twin: The network's Keras twin.
        images: float32 [B,H,W,3] in [0,1].
        labels: int32 [B].

    Raises:
        Disagreement: If they differ by more than the tolerance.
    """
    dtype = twin.layers[-2].compute_dtype
    logits = compare_logits(_logits(network, images, dtype, train=False), twin(images, training=False), dtype)
    expected, actual = network_gradients(network, images, labels, dtype), twin_gradients(network, twin, images, labels)
    sensitivity = partial(rounding_sensitivity, network, images, labels, dtype)
    return Agreement(logits, compare_gradients(expected, actual, dtype, sensitivity))


def rounded(images: tf.Tensor, dtype: str) -> tf.Tensor:
    """Return the images with each value changed at random by at most one rounding of `dtype`."""
    noise = np.random.default_rng(0).uniform(-1, 1, images.shape).astype(np.float32)
    return images * (1 + noise * max(ROUNDING[dtype], ROUNDING["float32"]))


def compare_logits(expected, actual, dtype: str, name: str = "the Keras twin") -> float:
    """Return the largest difference divided by the largest logit.

    Args:
        expected: Logits [B,classes] of the reference.
        actual: Logits [B,classes] of the implementation called `name`.
        dtype: The precision, which selects the tolerance.
        name: The implementation's name for the error message.

    Raises:
        Disagreement: If the difference is above the tolerance.
    """
    expected, actual = np.asarray(expected), np.asarray(actual)
    error = float(np.max(np.abs(expected - actual)) / max(np.max(np.abs(expected)), 1e-30))
    if not error <= TOLERANCE[dtype, "logits"]:  # this form also rejects NaN
        raise Disagreement(f"{name} gives other logits: they differ by {error:.2g} of the largest")
    return error


def compare_gradients(
    expected: Gradients,
    actual: Gradients,
    dtype: str,
    sensitivity: Callable[[], float] | None = None,
    name: str = "the Keras twin",
) -> float:
    """Compare gradients by variable, and all together if a variable is above the tolerance.

    Args:
        expected: Gradients of the reference, by path.
        actual: Gradients of the implementation called `name`, by path.
        dtype: The precision, which selects the tolerance.
        sensitivity: Returns the relative change of all gradients by rounding the images; called only if needed.
        name: The implementation's name for the error message.

    Returns:
        The largest difference over all variables, each relative to its own largest value, or to a thousandth of the
        network's largest value if that is more. Above the tolerance: the length of the difference of all gradients,
        relative to their length (in bfloat16 the relative difference of the lengths, if no direction is left).

    Raises:
        Disagreement: If neither a few ReLUs nor rounding explains the difference.
    """
    actual = {path: np.reshape(actual[path], g.shape) for path, g in expected.items()}
    floor = 1e-3 * max(float(np.max(np.abs(g))) for g in expected.values())
    errors = {
        path: float(np.max(np.abs(g - actual[path])) / max(float(np.max(np.abs(g))), floor, 1e-30))
        for path, g in expected.items()
    }
    worst = max(errors, key=lambda path: np.nan_to_num(errors[path], nan=np.inf))
    if errors[worst] <= TOLERANCE[dtype, "gradient"]:
        return errors[worst]
    error, explained = distance(expected, actual), FEW_UNITS[dtype]
    if error > explained and sensitivity is not None:
        explained = max(explained, TIMES_ROUNDING * sensitivity())
        if dtype == "bfloat16" and explained > LARGEST_DIFFERENCE:  # the direction is lost
            error = abs(length(actual) / length(expected) - 1)
    explained = min(explained, LARGEST_DIFFERENCE)
    if not error <= explained:
        raise Disagreement(
            f"{name} gives other gradients: those to {worst} differ by {errors[worst]:.2g} of their largest, all "
            f"together by {error:.2g} of their length; rounding would explain {explained:.2g}"
        )
    return error


def rounding_sensitivity(network: Network, images: tf.Tensor, labels: tf.Tensor, dtype: str) -> float:
    """Return the relative change of all gradients when the images are rounded."""
    here = network_gradients(network, images, labels, dtype)
    return distance(here, network_gradients(network, rounded(images, dtype), labels, dtype))


def distance(a: Gradients, b: Gradients) -> float:
    """Return ‖a − b‖ / ‖a‖ over all variables."""
    return length({path: a[path] - b[path] for path in a}) / max(length(a), 1e-30)


def length(gradients: Gradients) -> float:
    """Return ‖g‖ over all variables."""
    return sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values()) ** 0.5


def _arrays(tensors: Mapping[str, tf.Tensor]) -> Gradients:
    return {path: np.asarray(tensor) for path, tensor in tensors.items()}
