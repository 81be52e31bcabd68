"""Exercise 4: the gradient of max-pooling, with ties."""

from __future__ import annotations

import numpy as np

from kernels.pooling import max_pool_reference, max_pool_switches_reference, max_unpool_reference
from rawcnn.explain.exercises.exercise import Exercise, Inputs, central_differences, integers, normal


def max_pool_gradient(x, gradient, size, stride):
    """Compute ∂L/∂x of max-pooling without padding from ∂L/∂y.

    Args:
        x: [B,H,W,C].
        gradient: ∂L/∂y [B,H',W',C].
        size: Side of the windows in pixels, an int.
        stride: Distance of the windows in pixels, an int.

    Returns:
        ∂L/∂x [B,H,W,C]. Of equal largest pixels, the first one in reading order gets the gradient.
    """
    result = np.zeros(x.shape)
    for b, p, q, c in np.ndindex(*gradient.shape):
        window = x[b, p * stride : p * stride + size, q * stride : q * stride + size, c]
        i, j = np.unravel_index(np.argmax(window), window.shape)
        result[b, p * stride + i, q * stride + j, c] += gradient[b, p, q, c]
    return result


def _expected(x: np.ndarray, gradient: np.ndarray, size: int, stride: int) -> np.ndarray:
    switches = max_pool_switches_reference(x, size, stride)
    return max_unpool_reference(gradient, switches, size, stride, input_size=x.shape[1:3])


def _differences(inputs: Inputs) -> np.ndarray:
    def loss(x: np.ndarray) -> float:
        return float(np.sum(inputs["gradient"] * max_pool_reference(x, inputs["size"], inputs["stride"])))

    return central_differences(loss, inputs["x"])


def _windows(index, x, gradient, size, stride):
    b, row, column, c = index
    windows = {}
    for p, q in np.ndindex(*gradient.shape[1:3]):
        if 0 <= row - p * stride < size and 0 <= column - q * stride < size:
            window = x[b, p * stride : p * stride + size, q * stride : q * stride + size, c]
            windows[f"window ({p}, {q}) with gradient {gradient[b, p, q, c]:.4g}"] = window
    return windows or {"windows": "none reads this pixel"}


TIES = Exercise(
    title="max-pool's gradient, with ties",
    task="""
Max-pooling passes on the largest pixel of each window:

    y[b, p, q, c] = max_{i,j}  x[b, p·s + i, q·s + j, c]

So only this pixel gets the gradient of the output. Two things are easily overlooked: windows overlap, and a pixel may
be the largest of several; and of equal pixels only one counts, the first in reading order. (After a ReLU, windows of
nothing but zeros are common.)
""",
    solution=max_pool_gradient,
    expected=_expected,
    cases={
        "a 4×4 image, windows that do not overlap": dict(
            x=np.arange(16.0).reshape(1, 4, 4, 1) % 7, gradient=integers(1, 2, 2, 1, low=1), size=2, stride=2
        ),
        "AlexNet's windows of 3 with stride 2 overlap": dict(
            x=normal(2, 7, 7, 2), gradient=normal(2, 3, 3, 2, seed=1), size=3, stride=2
        ),
        "ties": dict(x=integers(1, 5, 5, 2, low=0, high=2), gradient=integers(1, 2, 2, 2, low=1), size=3, stride=2),
    },
    hints=(
        "Go through all outputs. For each, find the pixel that it came from.",
        "np.argmax of a window gives its first largest value, counted in reading order; np.unravel_index turns this "
        "number into a row and a column.",
        "Add with +=, because a pixel can be the largest of several windows.",
    ),
    source="kernels/pooling.py",
    look=_windows,
    differences=_differences,
    differentiable=("AlexNet's windows of 3 with stride 2 overlap",),
)
