"""The inputs of a workload's programs, drawn from a seed: equal on every machine, without TensorFlow."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import ml_dtypes  # NumPy's bfloat16
import numpy as np

COMPARED = 1000  # largest number of values that are compared per output
RATE, MOMENTUM = 1e-4, 0.9  # of the training steps, also of the peers
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CUDNN = (3, 0, 1, 2)  # filters [kh,kw,C,Cout] → [Cout,kh,kw,C], the layout that cuDNN reads without reordering
Array = np.ndarray
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Argument:
    """One argument of a program: how it is drawn, and the layout in which the program takes it."""

    name: str  # for a variable its path
    shape: Shape  # before `axes` are reordered
    dtype: str
    draw: str  # a key of DRAWS, or "folded" for a convolution with a folded batch norm
    norm: str | None = None  # the batch norm that is folded into the convolution
    epsilon: float = 0.0  # of that batch norm
    axes: tuple[int, ...] = ()  # the order of the axes in the program; () for the order of `shape`

    @property
    def program_shape(self) -> Shape:
        """The shape in the program."""
        return tuple(self.shape[axis] for axis in self.axes) or self.shape

    def spec(self) -> dict[str, object]:
        """Return the argument as JSON types."""
        return {**vars(self), "shape": list(self.shape)}


def argument(plain: Mapping) -> Argument:
    """Return the argument that `Argument.spec` describes."""
    return Argument(**{**plain, "shape": tuple(plain["shape"]), "axes": tuple(plain["axes"])})


def _uniform(low: float, high: float) -> Callable[[np.random.Generator, Shape], Array]:
    return lambda generator, shape: low + (high - low) * generator.random(shape, np.float32)


def _normal(generator: np.random.Generator, shape: Shape, deviation: float) -> Array:
    return np.float32(deviation) * generator.standard_normal(shape, np.float32)


def _distinct(generator: np.random.Generator, shape: Shape) -> Array:
    """Return [B,H,W,C] in which no window up to 8×8 has two equal values, also after rounding to bfloat16.

    With equal values XLA's bfloat16 pools sometimes assign the gradient to another value than the first.
    """
    images, height, width, channels = shape
    levels = (generator.permutation(64) - 31.5).astype(np.float32).reshape(8, 8)
    top, left = generator.integers(0, 8, (2, images, 1, 1, channels))
    rows, columns = np.arange(height)[None, :, None, None] + top, np.arange(width)[None, None, :, None] + left
    return levels[rows % 8, columns % 8]


DRAWS: dict[str, Callable[[np.random.Generator, Shape], Array]] = {
    "filters": lambda g, shape: _normal(g, shape, (2 / prod(shape[:-1])) ** 0.5),
    "weights": lambda g, shape: _normal(g, shape, (2 / prod(shape[:-1])) ** 0.5),
    "bias": lambda g, shape: _normal(g, shape, 0.1),
    "offset": lambda g, shape: _normal(g, shape, 0.1),
    "scale": _uniform(0.5, 1.5),
    "mean": lambda g, shape: _normal(g, shape, 0.1),
    "variance": _uniform(0.5, 1.5),
    "normal": lambda g, shape: _normal(g, shape, 1.0),
    "distinct": _distinct,
    "uniform": _uniform(0.0, 1.0),
    "moves": lambda g, shape: np.eye(2, 3, dtype=np.float32) + _normal(g, shape, 0.02),
    "labels": lambda g, shape: g.integers(0, 10, shape),
    "zeros": lambda g, shape: np.zeros(shape),
    "rate": lambda g, shape: np.full(shape, RATE),
    "ones": lambda g, shape: np.ones(shape),
}


def draw(name: str, shape: Sequence[int], how: str, dtype: str = "float32", seed: int = 0) -> Array:
    """Draw an array by PCG64, keyed by seed and name.

    Args:
        name: The name of the array, such as the path of a variable.
        shape: Its shape.
        how: A key of `DRAWS`.
        dtype: Its NumPy type.
        seed: The seed.
    """
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return np.asarray(DRAWS[how](generator, tuple(shape))).astype(dtype)


def variables(paths: Mapping[str, Shape], seed: int = 0) -> dict[str, Array]:
    """Draw a network's variables by path; the last part of the path (`filters`, `variance`) is the key of `DRAWS`."""
    return {path: draw(path, shape, path.rsplit("/", 1)[1], seed=seed) for path, shape in paths.items()}


def values(arguments: Sequence[Argument], paths: Mapping[str, Shape], seed: int = 0) -> list[Array]:
    """Return the arrays of a program's arguments, in order; `paths` are the shapes of the network's variables."""
    drawn = variables(paths, seed)
    return [_value(a, drawn, seed) for a in arguments]


def _value(a: Argument, drawn: Mapping[str, Array], seed: int) -> Array:
    if a.draw == "folded":
        value = folded(a, drawn)
    else:
        value = drawn[a.name] if a.name in drawn else draw(a.name, a.shape, a.draw, a.dtype, seed)
    value = value.astype(BFLOAT16 if a.dtype == "bfloat16" else a.dtype)
    return np.ascontiguousarray(value.transpose(a.axes)) if a.axes else value


def folded(a: Argument, drawn: Mapping[str, Array]) -> Array:
    """Return the filters or bias of a convolution with a folded batch norm (`rawcnn.nn.folding`), by float64."""
    leaf = a.name.rsplit("/", 1)[1]
    mean, variance = (drawn[f"{a.norm}/{word}"].astype(np.float64) for word in ("mean", "variance"))
    gain = drawn.get(f"{a.norm}/scale", np.float64(1)) / np.sqrt(variance + a.epsilon)
    if leaf == "filters":
        return (drawn[a.name] * gain).astype(np.float32)
    bias, offset = drawn.get(a.name, np.float64(0)), drawn.get(f"{a.norm}/offset", np.float64(0))
    return ((bias - mean) * gain + offset).astype(np.float32)


def summary(name: str, array: Array, by_length: bool = False) -> Array:
    """Return the values of an output that are compared, in float64.

    These are all values of a small output. Of one with more than `COMPARED` values they are values at random positions,
    drawn by its name, and its root mean square. With `by_length` it is only the length of the output.
    """
    wide = np.asarray(array, np.float64).reshape(-1)
    if by_length:
        return np.sqrt(np.sum(np.square(wide)))[None]
    if wide.size <= COMPARED:
        return wide
    generator = np.random.Generator(np.random.PCG64([1, zlib.crc32(name.encode())]))
    places = generator.integers(0, wide.size, COMPARED)
    return np.append(wide[places], np.sqrt(np.mean(np.square(wide))))
