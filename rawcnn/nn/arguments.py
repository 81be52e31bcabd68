"""Arguments of public functions: numbers, image sizes and indices are checked and converted here, in one way.

A whole number is Python's, NumPy's, or an array or tensor that holds one; it becomes an int, so that JSON and file
formats take it. Booleans, floats and text are refused, also where Python would convert them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from kernels.geometry import is_integer, shown

LARGEST = 2**31  # of a side, a batch or a number of classes; TensorFlow's shapes end not far above
Size = int | tuple[int, int]  # the side of square images, or (height, width)


def whole_number(name: str, value: Any, least: int = 1, most: int | None = LARGEST) -> int:
    """Return a whole number as an int.

    Args:
        name: The argument's name, for the message.
        value: The number.
        least, most: The range that it must be in; without `most`, as for seeds, any size is allowed.

    Raises:
        ValueError: The value is not a whole number, or out of range.
    """
    if not is_integer(value) or index(value) < least:
        found = index(value) if is_integer(value) else shown(value)
        raise ValueError(f"{name} is {found}; expected a whole number, {least} or more")
    if most is not None and index(value) > most:
        raise ValueError(f"{name} is {index(value)}; expected {most:,} at most")
    return index(value)


def real(name: str, value: Any, expected: str = "0 or more", least: float = 0.0, above: bool = False) -> float:
    """Return a finite number as a float.

    Args:
        name: The argument's name, for the message.
        value: The number.
        expected: The range in words, for the message.
        least: The lower bound.
        above: Whether the number must lie above the bound.

    Raises:
        ValueError: The value is not a finite number, or below the bound.
    """
    number = plain_value(value)
    valid = isinstance(number, Real) and not isinstance(number, bool) and isfinite(number)
    if not valid or number < least or (above and number == least):
        raise ValueError(f"{name} is {shown(value)}; expected a number, {expected}")
    return float(number)


def image_size(value: Any, name: str = "size") -> tuple[int, int]:
    """Return the (height, width) of a size: a side in pixels, or a pair of sides.

    Raises:
        ValueError: The value is neither, or a side is out of range.
    """
    sequence = isinstance(value, (tuple, list)) or len(getattr(value, "shape", ())) == 1
    sides = [*value] if sequence else [value, value]
    if len(sides) != 2 or not all(is_integer(side) and index(side) >= 1 for side in sides):
        found = index(value) if is_integer(value) else shown(value)
        raise ValueError(f"{name} is {found}; expected a side in pixels, 1 or more, or a pair (height, width)")
    height, width = (whole_number(name, side) for side in sides)
    return height, width


def short_size(sides: tuple[int, int]) -> Size:
    """Return the side of a square, or (height, width): the form in which settings and files hold a size."""
    height, width = sides
    return height if height == width else (height, width)


def size_text(size: Size) -> str:
    """Return a size as "224×160"."""
    height, width = image_size(size)
    return f"{height}×{width}"


def plain_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with Python's numbers, booleans and texts in place of those of arrays, which JSON cannot hold."""
    return {name: plain_value(value) for name, value in options.items()}


def plain_value(value: Any) -> Any:
    """Return the number, boolean or text that a NumPy scalar, or an array or tensor without axes, holds."""
    if not hasattr(value, "dtype") or getattr(value, "shape", None) != ():
        return value
    try:
        return np.asarray(value.numpy() if hasattr(value, "numpy") else value).item()  # NumPy reads no bfloat16 tensor
    except (TypeError, NotImplementedError):  # a tensor of a graph has no value yet
        return value


def number_array(what: str, values: Any, expected: str) -> np.ndarray:
    """Return an array, a tensor or a list of real numbers as an array of its own type.

    Args:
        what: What they are, for the message: "the picture".
        values: The numbers.
        expected: What was expected, for the message.

    Raises:
        ValueError: They are text, None, complex, or rows of different lengths.
    """
    try:
        array = np.asarray(values.numpy() if hasattr(values, "numpy") else values)
    except ValueError:  # rows of different lengths
        raise ValueError(f"{what} has rows of different lengths; expected {expected}") from None
    if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16":
        return array
    found = shown(values) if array.ndim == 0 else f"an array of {array.dtype.name}"
    raise ValueError(f"{what} is {found}; expected {expected}")


def indices(what: str, values: Any, count: int, owner: str) -> list[int]:
    """Return one index or several as a list of ints.

    Args:
        what: What they count, in the plural: "channels".
        values: An index, or a sequence of them.
        count: How many there are to choose from.
        owner: What has them, for the message: "conv1".

    Raises:
        ValueError: An index is not a whole number from 0 to count − 1, or there is none.
    """
    chosen = listed(values)
    wrong = [value for value in chosen if not is_integer(value) or not 0 <= index(value) < count]
    if wrong or not chosen:
        found = ", ".join(str(index(value)) if is_integer(value) else shown(value) for value in wrong)
        raise ValueError(f"{what} are {f'[{found}]' if wrong else 'none'}; {owner} has {what} 0 to {count - 1}")
    return [index(value) for value in chosen]


def listed(values: Any) -> list[Any]:
    """Return the elements of a sequence, an array or a tensor; a single value, also text, as a list of one."""
    single = isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "shape", None) == ()
    return [values] if single else [*values]


def map_position(position: Any, map_shape: tuple[Any, ...], layer: str) -> tuple[int, int]:
    """Return the (row, column) of a position in a layer's map as ints.

    Args:
        position: The position.
        map_shape: The shape of the layer's activations, […,h,w,C], or [B,C] if it has no map.
        layer: The layer's name, for the message.

    Raises:
        ValueError: The position is not a pair of whole numbers, or outside the map, or there is no map.
    """
    pair = _whole_pair(position)
    if len(map_shape) < 3:
        raise ValueError(f"position is {pair or shown(position)}, but {layer} has no map, only channels; leave it out")
    height, width = map_shape[-3:-1]
    if not pair or not (0 <= pair[0] < height and 0 <= pair[1] < width):
        raise ValueError(
            f"position is {pair or shown(position)}; the map of {layer} is {height}×{width}: expected (row, column), "
            f"rows 0 to {height - 1} and columns 0 to {width - 1}"
        )
    return pair


def any_position(position: Any) -> tuple[int, int]:
    """Return the (row, column) of a position in a map whose size is not known yet. Raises ValueError for others."""
    pair = _whole_pair(position)
    if not pair or min(pair) < 0:
        raise ValueError(f"position is {pair or shown(position)}; expected (row, column), whole numbers from 0")
    return pair


def _whole_pair(value: Any) -> tuple[int, int] | None:
    """A pair of whole numbers as ints, None for anything else."""
    pair = listed(value)
    return (index(pair[0]), index(pair[1])) if len(pair) == 2 and all(map(is_integer, pair)) else None
