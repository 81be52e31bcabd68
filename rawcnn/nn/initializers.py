"""Initializers: functions of (generator, shape) that return a variable's first value as a float32 array.

Filters are [kh,kw,Cin/groups,Cout] and dense weights [Cin,Cout]; the fan-in is the product of all but the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt

import numpy as np

Initial = Callable[[np.random.Generator, Sequence[int]], np.ndarray]


def constant(value: float) -> Initial:
    """Return the initializer that sets every element to `value`."""
    return lambda generator, shape: np.full(shape, value, np.float32)


zeros, ones = constant(0.0), constant(1.0)


def normal(deviation: float) -> Initial:
    """Return the initializer that draws from N(0, deviation²)."""
    return lambda generator, shape: generator.standard_normal(shape, np.float32) * np.float32(deviation)


def he_normal(generator: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw from N(0, 2/fan-in), which keeps the variance through ReLU layers.

    Source: He et al. 2015, "Delving Deep into Rectifiers", equation 10.
    """
    return generator.standard_normal(shape, np.float32) * np.float32(sqrt(2 / prod(shape[:-1])))


def glorot_uniform(generator: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw from U(−r, r) with r = √(6/(fan-in + fan-out)). Source: Glorot & Bengio 2010, equation 16."""
    window = prod(shape[:-2])
    limit = np.float32(sqrt(6 / (window * (shape[-2] + shape[-1]))))
    return (generator.random(shape, np.float32) * 2 - 1) * limit
