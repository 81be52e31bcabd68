"""Equal first, then fast: the comparison of two implementations that goes before every race.

Logits must agree to 1e-4 of the largest, gradients of each variable to 1e-3 of its largest. Where the latter fails, a
ReLU may be the reason: its slope jumps at zero, and among a million inputs one lies so near that rounding decides. In a
CIFAR ResNet-20 one such unit moves the gradients by .2 % of their length, so that eager float32 is as far from float64
as from XLA. So then all gradients, as one vector, may differ by 1 % of their length, or by four times what rounding the
images does to the reference itself (2 % in a ResNet-50 at 64 pixels). In float64 nothing is lost: there the Keras twin
of such a network agrees to 1e-6, which the tests show. In bfloat16 a deep network's gradients can lose their direction
altogether; then their lengths are compared, and the race compares the two networks in float32 first.
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

# Largest difference allowed, relative to the largest value expected; a bfloat16 rounding is 2⁻⁸ = 4e-3.
TOLERANCE = {
    ("float64", "logits"): 1e-6,
    ("float64", "gradient"): 1e-6,
    ("float32", "logits"): 1e-4,
    ("float32", "gradient"): 1e-3,
    ("bfloat16", "logits"): 5e-2,
    ("bfloat16", "gradient"): 5e-2,
}
ROUNDING = {"float64": 2.0**-52, "float32": 2.0**-23, "bfloat16": 2.0**-8}
FEW_UNITS = {"float64": 0.0, "float32": 1e-2, "bfloat16": 1e-1}  # what a few ReLUs within rounding of zero can do
TIMES_ROUNDING = 4  # gradients may differ by so many times what rounding the images does
MOST = 0.5  # and never by more than this share of their length


class Disagreement(RuntimeError):
    """Two implementations that should compute the same do not: there is nothing to time."""


@dataclass(frozen=True)
class Agreement:
    """How far two implementations are apart: the largest difference, relative to the largest value."""

    logits: float
    gradient: float


class PlainWalk(Trace):
    """A training walk that drops nothing (the masks of two libraries differ) and can be all float64."""

    def apply(self, name, kind, kernel, inputs, parameters=(), **settings):
        kernel = tf.identity if kind == "dropout" else kernel
        return super().apply(name, kind, kernel, inputs, parameters, **settings)

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        dtype = tf.float64 if self.dtype == tf.float64 else dtype
        return super().variable(path, shape, initial, trained=trained, dtype=dtype)


def _walk(network: Network, images: tf.Tensor, dtype: str, train: bool) -> tf.Tensor:
    inputs = tf.cast(PREPROCESSING[network.preprocessing](images), dtype)
    net = PlainWalk(network.variables, inputs, train=train, seed=tf.constant([0, 0]), dtype=tf.as_dtype(dtype))
    return tf.cast(network.model(net, inputs), tf.float64 if dtype == "float64" else tf.float32)


def network_gradients(network: Network, images: tf.Tensor, labels: tf.Tensor, dtype: str = "float32") -> Gradients:
    """Gradients of the mean cross-entropy by path, in training without dropout, computed in `dtype`."""
    with tf.GradientTape() as tape:
        logits = _walk(network, images, dtype, train=True)
        if dtype == "float64":  # which our loss would round to float32
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        else:
            losses = kernels.cross_entropy(logits, labels)
        loss = tf.reduce_mean(losses)
    return _arrays(tape.gradient(loss, network.trained_variables))


def twin_gradients(network: Network, twin: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> Gradients:
    """The same of the Keras twin, by the network's paths. Leaves the twin as it was."""
    dropouts = {layer: layer.rate for layer in twin.layers if isinstance(layer, keras.layers.Dropout)}
    variables = twin_variables(network, twin)
    trained = {path: variables[path] for path in network.trained_variables}
    averages = {path: v for path, v in variables.items() if path not in trained}
    before = _arrays(averages)  # a training walk moves them
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
    """Compare logits, and the gradient of the loss to every weight, on one batch, in the twin's precision.

    Raises Disagreement where they differ by more than the tolerance.
    """
    dtype = twin.layers[-2].compute_dtype
    logits = compare_logits(_walk(network, images, dtype, train=False), twin(images, training=False), dtype)
    expected, actual = network_gradients(network, images, labels, dtype), twin_gradients(network, twin, images, labels)
    sensitivity = partial(rounding_sensitivity, network, images, labels, dtype)
    return Agreement(logits, compare_gradients(expected, actual, dtype, sensitivity))


def rounded(images: tf.Tensor, dtype: str) -> tf.Tensor:
    """The images, each number moved by at most one rounding of `dtype`, up or down."""
    noise = np.random.default_rng(0).uniform(-1, 1, images.shape).astype(np.float32)
    return images * (1 + noise * max(ROUNDING[dtype], ROUNDING["float32"]))


def compare_logits(expected, actual, dtype: str, who: str = "the Keras twin") -> float:
    """Largest difference over the largest logit. Disagreement above the tolerance."""
    expected, actual = np.asarray(expected), np.asarray(actual)
    error = float(np.max(np.abs(expected - actual)) / max(np.max(np.abs(expected)), 1e-30))
    if not error <= TOLERANCE[dtype, "logits"]:  # so that NaN fails too
        raise Disagreement(f"{who} gives other logits: they differ by {error:.2g} of the largest")
    return error


def compare_gradients(
    expected: Gradients,
    actual: Gradients,
    dtype: str,
    sensitivity: Callable[[], float] | None = None,
    who: str = "the Keras twin",
) -> float:
    """Largest difference over all variables, each relative to its own largest value (but at least to a thousandth of
    the network's largest). Above the tolerance, the length of the difference over that of all gradients is returned,
    if a few ReLUs or `sensitivity`, the share that rounding moves them by, explain it; else Disagreement.
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
        if dtype == "bfloat16" and explained > MOST:  # no direction is left to compare
            error = abs(length(actual) / length(expected) - 1)
    explained = min(explained, MOST)
    if not error <= explained:
        raise Disagreement(
            f"{who} gives other gradients: those to {worst} differ by {errors[worst]:.2g} of their largest, all "
            f"together by {error:.2g} of their length; rounding would explain {explained:.2g}"
        )
    return error


def rounding_sensitivity(network: Network, images: tf.Tensor, labels: tf.Tensor, dtype: str) -> float:
    """How far rounding the images moves all gradients, as a share of their length."""
    here = network_gradients(network, images, labels, dtype)
    return distance(here, network_gradients(network, rounded(images, dtype), labels, dtype))


def distance(a: Gradients, b: Gradients) -> float:
    """‖a − b‖ / ‖a‖ over all variables."""
    return length({path: a[path] - b[path] for path in a}) / max(length(a), 1e-30)


def length(gradients: Gradients) -> float:
    """‖g‖ over all variables."""
    return sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values()) ** 0.5


def _arrays(tensors: Mapping[str, tf.Tensor]) -> Gradients:
    return {path: np.asarray(tensor) for path, tensor in tensors.items()}
