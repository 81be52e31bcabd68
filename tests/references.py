"""Numeric comparisons of the tests: shape and dtype first, then values, then gradients.

There are three independent references: naive NumPy in float64 (in each kernel's test), a central difference in one
random direction, and Keras with copied weights. A test that does not use the tolerance table says why.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Largest allowed error, relative to the largest expected value, by dtype and kind of comparison. bfloat16 has 8 bits of
# mantissa (a rounding is 2⁻⁸ = 4e-3). Gradients sum more terms than a forward pass.
TOLERANCE = {
    ("float64", "forward"): 1e-12,
    ("float64", "gradient"): 1e-11,
    ("float64", "difference"): 1e-5,  # truncation and cancellation of the central difference
    ("float32", "forward"): 3e-6,
    ("float32", "gradient"): 1e-5,
    ("float32", "network"): 1e-4,  # a hundred layers deep, summed in another order
    ("float32", "gated network"): 1e-3,  # in each of 50 blocks a gate multiplies a map, and its rounding error
    ("bfloat16", "forward"): 3e-2,
    ("bfloat16", "gradient"): 5e-2,
}


def random(shape, seed: int = 0, dtype="float32", low: float | None = None) -> tf.Tensor:
    """Return standard normal values, or uniform ones in [low, low+1); equal for all dtypes up to rounding."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(shape) if low is None else generator.uniform(low, low + 1, shape)
    return tf.cast(tf.constant(values), dtype)


def error(actual, expected) -> float:
    """Return the largest difference, relative to the largest expected value; assert equal shapes and finite values."""
    actual, expected = (np.asarray(v).astype(np.float64) for v in (actual, expected))
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    assert np.isfinite(actual).all(), "not finite"
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-30)
    return float(np.max(np.abs(actual - expected), initial=0.0)) / scale


def close(actual, expected, kind: str = "forward", dtype: str | None = None, wobble: float = 0.0) -> None:
    """Assert equal shapes, and equal values within the tolerance of `dtype` (by default that of `actual`).

    `wobble` replaces a smaller tolerance; it is the measured error that the computation cannot avoid.
    """
    dtype = dtype or tf.as_dtype(getattr(actual, "dtype", "float64")).name
    found = error(actual, expected)
    assert found <= max(TOLERANCE[dtype, kind], wobble), f"{dtype} {kind} error {found:.2e} of the largest value"


def close_each(actual, expected, tolerance: float) -> None:
    """Assert that each entry agrees to `tolerance` of itself; an entry below the median size, of that size.

    `close` compares with the largest entry, which hides faults in small ones. Use this where both are in float64, so
    that rounding does not decide.
    """
    error(actual, expected)  # equal shapes, finite
    actual, expected = (np.asarray(v).astype(np.float64) for v in (actual, expected))
    size = np.maximum(np.abs(expected), np.median(np.abs(expected)))
    worst = float(np.max(np.abs(actual - expected) / np.maximum(size, 1e-30), initial=0.0))
    assert worst <= tolerance, f"an entry differs by {worst:.2e} of its size"


def same_everywhere(function: Callable, *tensors, kind: str = "forward", wobble: float = 0.0) -> None:
    """Assert that eager mode, graph and XLA compute equal values by `close`."""
    eager = tf.nest.flatten(function(*tensors))
    for jit in (False, True):
        compiled = tf.function(function, jit_compile=jit, autograph=False)
        for a, b in zip(tf.nest.flatten(compiled(*tensors)), eager, strict=True):
            assert a.dtype == b.dtype
            close(a, b, kind=kind, wobble=wobble)


def tape_gradient(function: Callable, tensors, upstream) -> list[tf.Tensor]:
    """Return the gradients of Σ upstream·function(*tensors) by tf.GradientTape."""
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = function(*tensors)
    return tape.gradient(y, tensors, output_gradients=upstream)


def central_difference(function: Callable, gradients, *tensors, seed: int = 7, step: float = 1e-5) -> None:
    """Assert that `gradients` of the scalar float64 `function` agree with a central difference.

    One random direction through all `tensors` at once: (f(t + h·d) − f(t − h·d)) / 2h = Σ gradient·d.
    """
    directions = [random(t.shape, seed + i, "float64") for i, t in enumerate(tensors)]
    above = function(*(t + step * d for t, d in zip(tensors, directions, strict=True)))
    below = function(*(t - step * d for t, d in zip(tensors, directions, strict=True)))
    predicted = sum(tf.reduce_sum(g * d) for g, d in zip(gradients, directions, strict=True))
    close((above - below) / (2 * step), predicted, kind="difference", dtype="float64")
