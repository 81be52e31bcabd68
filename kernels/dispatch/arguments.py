"""One way in for the arguments of all public kernels: `checked` converts and checks them by their annotations.

    tf.Tensor          a tensor, a variable, a NumPy array or a list of floats; those named in `INTEGERS` of ints
    int                an int, NumPy's included; no bool and no float
    float              a finite number, NumPy's included, or a scalar tensor; no bool
    bool               a truth value, NumPy's included; no int
    str                a text
    Padding            a text, or pixels, also in an array
    Sequence[int]      ints or scalar tensors, such as an image size

All tensors of a call have one type, except those named in `OWN_TYPE`, which their kernels cast. `kernels.geometry`
checks `Pair` and what a `Padding` says. Modules of `kernels` call each other without these checks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from math import isfinite
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from kernels.geometry import is_integer, shown

INTEGERS = {"labels", "switches", "seed"}
EXPLAINED = {"groups", "labels", "seed", "sigma"}  # their kernels say what is expected, and not only which type
# Statistics, parameters and weights may be wider than x; transforms need more digits than bfloat16 has.
OWN_TYPE = {"mean", "variance", "variance_biased", "scale", "offset", "weights", "bias", "transforms", "shifts"}
SETTINGS = {"epsilon", "alpha", "beta", "bias"}  # floats that TensorFlow's kernels need while tracing
NOT_NEGATIVE = {"epsilon"}
ANY_NUMBER = {"fill"}  # NaN and infinities included
Function = TypeVar("Function", bound=Callable)


def checked(function: Function) -> Function:
    """The function, which gets its arguments converted, or raises ValueError for those that it does not take."""
    parameters = inspect.signature(function).parameters
    converters = {name: _converter(name, str(parameter.annotation)) for name, parameter in parameters.items()}
    converters |= {name: _leniently(converters[name]) for name in EXPLAINED & parameters.keys() - INTEGERS}
    names = list(parameters)
    tensors = [name for name, p in parameters.items() if name not in INTEGERS | OWN_TYPE and _is_tensor(p.annotation)]

    @wraps(function)
    def with_checks(*arguments: Any, **named: Any) -> Any:
        given = dict(zip(names, arguments, strict=False)) | named
        values = {name: converters[name](value) for name, value in given.items() if name in converters}
        _check_one_type({name: values[name] for name in tensors if name in values})
        positional = [values[name] for name in names[: len(arguments)]]
        rest = arguments[len(names) :]  # too many: the function says so
        return function(*positional, *rest, **{name: values.get(name, value) for name, value in named.items()})

    return tf.autograph.experimental.do_not_convert(with_checks)  # kernels are no code for AutoGraph


def _leniently(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Convert what can be converted; the kernel refuses the rest."""

    def converted(value: Any) -> Any:
        try:
            return convert(value)
        except ValueError:
            return value

    return converted


def _is_tensor(annotation: object) -> bool:
    return str(annotation) in ("tf.Tensor", "tf.Tensor | np.ndarray", "Sequence[tf.Tensor]")


def _converter(name: str, annotation: str) -> Callable[[Any], Any]:
    """The function that converts a value for a parameter of this name and annotation."""
    if annotation.endswith(" | None"):
        convert = _converter(name, annotation.removesuffix(" | None"))
        return lambda value: None if value is None else convert(value)
    if annotation == "tf.Tensor | np.ndarray":  # kept: a kernel may compute more of constants in advance
        return lambda value: value if isinstance(value, np.ndarray) and _floating(value) else tensor(value, name)
    if annotation in ("Sequence[tf.Tensor]", "Iterable[tf.Tensor]"):
        return lambda value: [tensor(item, name) for item in value]
    converters = {"tf.Tensor": tensor, "int": integer, "float": number, "Sequence[int]": integers}
    converters |= {"bool": truth, "str": text, "Padding": padding}
    sizes = "Sequence[int | tf.Tensor]", "Sequence[int] | tf.Tensor", "Sides", "tuple[int, int]"
    converters |= dict.fromkeys(sizes, integers)
    return lambda value: converters[annotation](value, name) if annotation in converters else value


def _floating(value: np.ndarray) -> bool:
    return tf.as_dtype(value.dtype).is_floating


def tensor(value: Any, name: str) -> tf.Tensor:
    """A tensor of floats, or of ints if the name is in `INTEGERS`. ValueError for other values."""
    try:
        converted = tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {shown(value)}; expected a tensor, an array or a list of numbers") from error
    if converted.shape.rank == 0 and name in ("x", "logits", "branches"):
        raise ValueError(f"{name} is a scalar; expected a tensor with axes, the last of them for channels or classes")
    if name in INTEGERS - EXPLAINED and not converted.dtype.is_integer:
        raise ValueError(f"{name} are {converted.dtype.name} {converted.shape}; expected ints")
    if name not in INTEGERS and not converted.dtype.is_floating:
        raise ValueError(f"{name} is {converted.dtype.name} {converted.shape}; expected floats, such as float32")
    return converted


def integer(value: Any, name: str) -> int:
    """An int. ValueError for bools, floats and anything else."""
    if not is_integer(value):
        raise ValueError(f"{name} is {shown(value)}; expected an int")
    return int(value)


def integers(values: Any, name: str) -> Any:
    """A tuple of ints, scalar tensors and None for what is unknown; a tensor stays one. ValueError for the rest."""
    if tf.is_tensor(values):
        return values
    try:
        return tuple(value if value is None or tf.is_tensor(value) else integer(value, name) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is {shown(values)}; expected several ints, such as (224, 224)") from error


def number(value: Any, name: str) -> Any:
    """A float; a scalar tensor of floats stays one, unless it is one of `SETTINGS`. ValueError for anything else."""
    if tf.is_tensor(value) and value.dtype.is_floating and name not in SETTINGS:
        return value
    scalar = _scalar(value)
    if not isinstance(scalar, Real) or isinstance(scalar, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}; expected a number")
    if not isfinite(scalar) and name not in ANY_NUMBER:
        raise ValueError(f"{name} is {scalar}; expected a finite number")
    if scalar < 0 and name in NOT_NEGATIVE:
        raise ValueError(f"{name} is {scalar}; expected 0 or more")
    return scalar if isinstance(scalar, (int, float)) else float(scalar)


def truth(value: Any, name: str) -> bool:
    """A truth value. ValueError for numbers and anything else."""
    scalar = _scalar(value)
    if not isinstance(scalar, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}; expected True or False")
    return bool(scalar)


def text(value: Any, name: str) -> str:
    """A text. ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError(f'{name} is {shown(value)}; expected a name, such as "auto"')
    return value


def padding(value: Any, name: str) -> Any:
    """A padding whose arrays and tensors are lists, which can be compared with a word."""
    array = value.numpy() if tf.is_tensor(value) and hasattr(value, "numpy") else value
    if tf.is_tensor(array):
        raise ValueError(f"{name} is a tensor of a graph; expected pixels that are known while tracing")
    return array.tolist() if isinstance(array, np.ndarray) else array


def _scalar(value: Any) -> Any:
    """The number that an array or tensor without axes holds; anything else as it is."""
    if getattr(value, "shape", None) != ():
        return value
    array = value.numpy() if hasattr(value, "numpy") and tf.is_tensor(value) else value
    return array[()] if isinstance(array, np.ndarray) else array


def _check_one_type(tensors: dict[str, Any]) -> None:
    """ValueError unless all tensors have one type."""
    types: dict[str, str] = {}
    for name, value in tensors.items():
        for item in value if isinstance(value, list) else [value]:
            types.setdefault(tf.as_dtype(item.dtype).name, name)
    if len(types) > 1:
        found = " and ".join(f"{name} is {dtype}" for dtype, name in types.items())
        raise ValueError(f"{found}; expected one type: cast one with tf.cast")
