"""The checks of the attacks' arguments: each raises a ValueError of one line that says what was expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from numbers import Real
from operator import index
from typing import Any

import numpy as np
import tensorflow as tf

from kernels.geometry import is_integer

PIXEL_RANGE = "0 to 1, the whole range of a pixel: 8 of 255 levels are 8/255 = .0314"  # for messages
LONGEST = 1e6  # an L2 distance above the diagonal of every image, for which float32 does not overflow


def shown(value) -> str:
    """A wrong value for a message, on one line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_network(network: Callable) -> None:
    """ValueError unless the network is a function."""
    if not callable(network):
        raise ValueError(f"the network is a {type(network).__name__}; expected a Network or a function images → logits")


def check_attack(attack: Callable) -> None:
    """ValueError unless the attack is a function that takes ε."""
    expected = "expected a function that takes epsilon, such as rawcnn.attacks.fgsm"
    if not callable(attack):
        raise ValueError(f"attack is {shown(attack)}; {expected}")
    parameters = signature(attack).parameters
    if "epsilon" not in parameters and all(p.kind != Parameter.VAR_KEYWORD for p in parameters.values()):
        raise ValueError(f"attack is {getattr(attack, '__name__', shown(attack))}, which takes no epsilon; {expected}")


def check_class_count(classes: int) -> None:
    """ValueError for a network of fewer than two classes."""
    if classes < 2:
        raise ValueError(f"the network has {classes} class; expected 2 or more, so that there is another one to reach")


def count_of(labels) -> int:
    """How many labels there are; 0 if they are not a list, which `check_classes` refuses."""
    try:
        return np.shape(labels)[0] if np.ndim(labels) == 1 else 0
    except (TypeError, ValueError):  # sequences of different lengths
        return 0


def check_range(images: tf.Tensor) -> tf.Tensor:
    """The images. ValueError for an empty batch and for values outside [0,1]."""
    if 0 in images.shape:
        raise ValueError(f"images are an empty batch {tuple(images.shape)}; expected one image or more")
    if count := int(tf.reduce_sum(tf.cast(tf.math.is_nan(images), tf.int32))):
        raise ValueError(f"images have values that are NaN, {count} of {tf.size(images)}; expected RGB in [0,1]")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if low >= 0 and high <= 1:
        return images
    found, excess = f"images have values from {low:g} to {high:g}", max(high - 1, -low)
    if excess < 1e-3:  # rounding, which :g does not show
        found += f", {excess:.2g} {'above 1' if high > 1 else 'below 0'}"
        raise ValueError(f"{found}; expected RGB in [0,1]: clip them, for instance with numpy.clip")
    raise ValueError(f"{found}; expected RGB in [0,1]: the network normalizes")


def check_classes(name: str, values, count: int, classes: int) -> np.ndarray:
    """Class numbers as int32 [count]. ValueError for another shape or type and for classes that do not exist."""
    expected = f"expected {count} class numbers, one per image"
    try:
        values = np.asarray(values)
    except (TypeError, ValueError):  # sequences of different lengths
        raise ValueError(f"got {name} that are not an array; {expected}") from None
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"got {name} {values.dtype} {values.shape}; {expected}")
    if values.min() < 0 or values.max() >= classes:
        wrong = values[(values < 0) | (values >= classes)][0]
        raise ValueError(f"got the class {wrong} in {name}; expected 0 to {classes - 1}: the network has {classes}")
    return values.astype(np.int32)


def check_amounts(name: str, value, count: int | None, most: float, expected: str) -> np.ndarray:
    """Amounts, one or one per image, as float64 [count]; of any length if `count` is None.

    ValueError unless they are finite numbers in 0 … `most`; the message says what was `expected`.
    """
    values = _numbers(value)
    if values is None:
        raise ValueError(f"{name} is {shown(value)}; expected a number, or one per image")
    if values.shape not in ((), (count,)) and (count is not None or values.ndim != 1):
        images = "one per image" if count is None else f"one for each of {count} images"
        raise ValueError(f"{name} has shape {values.shape}; expected one number, or {images}")
    valid = np.isfinite(values) & (values >= 0) & (values <= most)
    if not valid.all():
        raise ValueError(f"{name} is {float(values[~valid].flat[0]):g}; expected {expected}")
    return values if count is None else np.broadcast_to(values, (count,))


def _numbers(value) -> np.ndarray | None:
    """A number or an array of numbers as float64; None for truth values, text, None and everything else."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, (bool, np.bool_)) for v in value):
        return None
    try:
        values = np.asarray(value.numpy() if tf.is_tensor(value) else value)  # NumPy reads no scalar of bfloat16 itself
        if values.dtype == object and not all(isinstance(v, Real) and not isinstance(v, bool) for v in values.flat):
            return None
        number = values.dtype == object or values.dtype.kind in "iuf" or values.dtype == tf.bfloat16.as_numpy_dtype
        return values.astype(np.float64) if number else None
    except (TypeError, ValueError, OverflowError):
        return None


def check_distances(name: str, value, count: int | None, norm: str = "linf") -> np.ndarray:
    """Distances in pixel values, one or [count], as float64 [count].

    ValueError unless they are finite, not negative and, in L∞, at most 1.
    """
    if norm == "l2":
        return check_amounts(name, value, count, LONGEST, f"0 or more, up to {LONGEST:g}")
    return check_amounts(name, value, count, 1.0, PIXEL_RANGE)


def check_distance(name: str, value, count: int, norm: str = "linf") -> tf.Tensor:
    """As `check_distances`, as a float32 tensor [count]."""
    return tf.constant(check_distances(name, value, count, norm), tf.float32)


def check_number(name: str, value: Any, most: float = float(np.finfo(np.float32).max)) -> float:
    """A number of any library as a float. ValueError unless it is finite and lies in 0 … `most`."""
    values = _numbers(value)
    if values is None or values.shape != () or not 0 <= values <= most:
        raise ValueError(
            f"{name} is {shown(value)}; expected a number, 0 {f'to {most:g}' if most < 1e30 else 'or more'}"
        )
    return float(values)


def check_integer(name: str, value: Any, least: int) -> int:
    """A whole number of any library as an int. ValueError unless it lies in `least` … 2³¹ − 1."""
    if not is_integer(value) or not least <= index(value) < 2**31:
        raise ValueError(f"{name} is {shown(value)}; expected a whole number, {least} or more and below 2³¹")
    return index(value)


def check_flag(name: str, value: bool) -> bool:
    """A truth value. ValueError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}; expected True or False")
    return bool(value)


def check_choice(name: str, value: str, choices: Iterable[str]) -> str:
    """One of the choices. ValueError that lists them for anything else."""
    known = tuple(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {shown(value)}; expected one of {', '.join(known)}")
    return value
