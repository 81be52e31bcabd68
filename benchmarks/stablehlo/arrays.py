"""What goes into a workload's programs, drawn from its seed: the same numbers on every machine, without TensorFlow."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import ml_dtypes  # NumPy's bfloat16
import numpy as np

COMPARED = 1000  # numbers of an output at most
RATE, MOMENTUM = 1e-4, 0.9  # of training steps, here and of the peers
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CUDNN = (3, 0, 1, 2)  # filters [kh,kw,C,Cout] as cuDNN reads them, [Cout,kh,kw,C]: others it would reorder at each call
Array = np.ndarray
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Argument:
    """One argument of a program. `draw` names how it is drawn; `norm` is what is folded into a convolution's.

    The program takes it with its `axes` in another order, where they are given.
    """

    name: str  # of a variable its path
    shape: Shape
    dtype: str
    draw: str  # a key of DRAWS; of folded filters "folded"
    norm: str | None = None  # the batch norm whose products these are
    epsilon: float = 0.0
    axes: tuple[int, ...] = ()

    @property
    def given(self) -> Shape:
        """The shape that the program takes."""
        return tuple(self.shape[axis] for axis in self.axes) or self.shape

    def spec(self) -> dict[str, object]:
        return {**vars(self), "shape": list(self.shape)}


def argument(plain: Mapping) -> Argument:
    """What `spec` gave."""
    return Argument(**{**plain, "shape": tuple(plain["shape"]), "axes": tuple(plain["axes"])})


def _uniform(low: float, high: float) -> Callable[[np.random.Generator, Shape], Array]:
    return lambda generator, shape: low + (high - low) * generator.random(shape, np.float32)


def _normal(generator: np.random.Generator, shape: Shape, deviation: float) -> Array:
    return np.float32(deviation) * generator.standard_normal(shape, np.float32)


def _distinct(generator: np.random.Generator, shape: Shape) -> Array:
    """[B,H,W,C] of which no window up to 8×8 has two equal numbers, rounded to bfloat16 either.

    Of equal ones XLA's own pools in bfloat16 sometimes give the gradient to another than the first.
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
    """The array of this name: PCG64 keyed by seed and name, so that it depends on nothing else."""
    generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return np.asarray(DRAWS[how](generator, tuple(shape))).astype(dtype)


def variables(paths: Mapping[str, Shape], seed: int = 0) -> dict[str, Array]:
    """A network's variables by path, each drawn as its last word says: `conv1/filters`, `bn1/variance`."""
    return {path: draw(path, shape, path.rsplit("/", 1)[1], seed=seed) for path, shape in paths.items()}


def values(arguments: Sequence[Argument], paths: Mapping[str, Shape], seed: int = 0) -> list[Array]:
    """The arrays of a program's arguments, in their order; `paths` are the variables of the network."""
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
    """Filters or bias of a convolution that does its batch norm's work too (`rawcnn.nn.folding`), in float64."""
    leaf = a.name.rsplit("/", 1)[1]
    mean, variance = (drawn[f"{a.norm}/{word}"].astype(np.float64) for word in ("mean", "variance"))
    gain = drawn.get(f"{a.norm}/scale", np.float64(1)) / np.sqrt(variance + a.epsilon)
    if leaf == "filters":
        return (drawn[a.name] * gain).astype(np.float32)
    bias, offset = drawn.get(a.name, np.float64(0)), drawn.get(f"{a.norm}/offset", np.float64(0))
    return ((bias - mean) * gain + offset).astype(np.float32)


def summary(name: str, array: Array, by_length: bool = False) -> Array:
    """The numbers of an output that are compared, in float64: all of them; of more than `COMPARED` those at places
    that are drawn for its name, and its root mean square; `by_length` its length alone."""
    wide = np.asarray(array, np.float64).reshape(-1)
    if by_length:
        return np.sqrt(np.sum(np.square(wide)))[None]
    if wide.size <= COMPARED:
        return wide
    generator = np.random.Generator(np.random.PCG64([1, zlib.crc32(name.encode())]))
    places = generator.integers(0, wide.size, COMPARED)
    return np.append(wide[places], np.sqrt(np.mean(np.square(wide))))
