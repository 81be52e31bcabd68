"""Load weight files into raw variables (rawcnn's own, Keras's and PyTorch's), and write rawcnn's.

Loading is all or nothing. Every name and shape is checked before a tensor is read, and every tensor is read before the
first variable changes. An error lists all tensors that do not fit.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.numpy import save

from rawcnn.files.atomic import write_atomic
from rawcnn.nn.network import Network
from rawcnn.weights.arrays import DESCRIPTION
from rawcnn.weights.detect import creation_settings, detect_scheme, family_of
from rawcnn.weights.fit import Fit
from rawcnn.weights.packaged import find_weights
from rawcnn.weights.readers import open_tensors, read_metadata
from rawcnn.weights.source import Source
from rawcnn.weights.stored import StoredTensors
from rawcnn.weights.wrapping import unwrapped

__all__ = ["Misfit", "describe", "load_weights", "save_weights"]

HEADS = ("load", "skip")
Found = TypeVar("Found")
SHOWN = 20  # problems that the message lists if the file seems to belong to another network


class Misfit(ValueError):
    """A weight file that does not fit a network.

    The message lists all problems, or the first SHOWN if the file seems to belong to another network.

    Attributes:
        problems: One sentence for each tensor that does not fit.
    """

    def __init__(self, path: Path, network: Network, problems: Sequence[str], hint: str = ""):
        self.problems = tuple(problems)
        message, more = "; ".join(problems), len(problems) - SHOWN
        if len(problems) > max(SHOWN, len(network.variables) // 4):
            message = f"it may belong to another network: {'; '.join(problems[:SHOWN])}; and {more} more"
        super().__init__(f"{path} does not fit {network.name}, nothing was loaded: {message}{hint}")


def load_weights(network: Network, path: str | Path, *, head: str = "load") -> tuple[str, ...]:
    """Load a weight file into `network`. Its content shows the format, its tensors' names the library.

    Prefixes and containers around the names, such as `module.` or "state_dict", are removed. Warns if the published
    network has other preprocessing or blocks of another form: the outputs would differ.

    Args:
        network: The network. After an error its variables are unchanged.
        path: A file of rawcnn, Keras, PyTorch or TensorFlow. Its ending does not matter. Or "hed", as for `create`.
        head: "load" loads all variables; "skip" loads all but the classifier, which keeps its values. Then the file
            may have another number of classes, or no classifier. Fully connected layers before the classifier and
            auxiliary heads are loaded if the file has them in the same shapes, and skipped otherwise. A network that
            ends before its classifier does not read what the file has after it, in either case; but it refuses the
            file of another model, whose layers after it differ.

    Returns:
        The paths of the skipped variables; () with head="load".

    Raises:
        ValueError: The file cannot be read.
        Misfit: Tensors are missing, left over, or have another shape or type. It lists all of them.
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}; expected {' or '.join(map(repr, HEADS))}")
    path = find_weights(path, network.name)
    with open_tensors(path) as stored:
        tensors = _about(network, path, lambda: unwrapped(network, stored))
        scheme = _about(network, path, lambda: detect_scheme(network, tensors)).fitted(tensors)
        published = creation_settings(scheme.format, network.name, family_of(network.model), tensors)
        differing = _differing(network, published)
        fit = Fit(network, scheme, tensors)
        skipped = fit.skipped() if head == "skip" else ()
        if problems := fit.problems(skipped):
            settings = f"; the published network has {_listed(differing)}: create it with these settings"
            hint = (settings if differing else "") + fit.remedy() + ("" if skipped else fit.advice())
            raise Misfit(path, network, problems, hint)
        loaded = {variable: s for variable, s in scheme.sources.items() if variable not in skipped}
        dtype = network.wide.as_numpy_dtype
        values = {variable: _read(source, tensors, dtype) for variable, source in loaded.items()}
    invalid = {variable: message for variable, value in values.items() if (message := _invalid(variable, value))}
    if invalid:
        named = {variable: " with ".join(scheme.sources[variable].names) for variable in invalid}
        raise Misfit(path, network, [f"{named[variable]} {message}" for variable, message in invalid.items()])
    if differing:
        local = _listed({key: network.settings[key] for key in differing})
        warnings.warn(
            f"{path.name} holds {scheme.format}'s weights, published with {_listed(differing)}; this {network.name} "
            f"has {local}, so its outputs will differ: create it with the published settings",
            stacklevel=2,
        )
    for variable, value in values.items():
        network.variables[variable].assign(value)
    return skipped


def _about(network: Network, path: Path, detect: Callable[[], Found]) -> Found:
    """Return `detect()`; an error names the file and the network."""
    try:
        return detect()
    except ValueError as error:
        raise ValueError(f"{path} does not fit {network.name}, nothing was loaded: {error}") from error


def _read(source: Source, tensors: StoredTensors, dtype: type) -> np.ndarray:
    """Read the value of a variable in the type of a network's variables."""
    value = source.convert(*(tensors[name].read().astype(dtype, copy=False) for name in source.names))
    return value.astype(dtype, copy=False)


def _invalid(variable: str, value: np.ndarray) -> str:
    """Describe what makes a value useless (an infinity, a NaN, a negative variance), or return ""."""
    if not np.isfinite(value.sum(dtype=np.float64)):
        return "has values that are not finite"
    negative = value < 0 if variable.endswith("/variance") else np.zeros(0, bool)
    return f"has {negative.sum()} of {value.size} variances below zero, expected none" if negative.any() else ""


def _differing(network: Network, published: dict[str, object]) -> dict[str, object]:
    """Return the published network's settings that differ from this network's."""
    differing = {k: v for k, v in published.items() if network.settings.get(k, v) != v}
    if network.settings.get("preprocessing") == "none":  # the caller preprocesses the images
        differing.pop("preprocessing", None)
    return differing


def _listed(settings: dict[str, object]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())


def save_weights(network: Network, path: str | Path, variables=None) -> None:
    """Write a network's variables to a file, atomically, with its name, settings and class names as metadata.

    Args:
        network: The network.
        path: A .safetensors or .npz file.
        variables: A dict from path to variable. By default all variables of the network.

    Raises:
        ValueError: The path has another ending, or the file cannot be written. A previous file is then unchanged.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected .safetensors or .npz")
    metadata = json.dumps({"network": network.name, "settings": network.settings, "labels": network.labels})
    arrays = {name: v.numpy() for name, v in (variables or network.variables).items()}
    if path.suffix == ".safetensors":
        content = save(arrays, metadata={"rawcnn": metadata})
    else:
        packed = BytesIO()
        arrays[DESCRIPTION] = np.frombuffer(metadata.encode(), np.uint8)
        np.savez(packed, **arrays)
        content = packed.getvalue()
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ValueError(f"the weights {path} cannot be written: {error.strerror or error}") from error


def describe(path: str | Path) -> dict:
    """Read the metadata that `save_weights` wrote.

    Args:
        path: A weight file of any kind.

    Returns:
        The network's name, settings and class names, under "network", "settings" and "labels"; {} if the file has none.

    Raises:
        ValueError: The file is damaged, or its metadata is not what rawcnn writes.
    """
    text = read_metadata(Path(path)).get("rawcnn", "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # exceeding Python's limits on digits and depth is no JSONDecodeError
        raise ValueError(f"{path} has metadata about its network that is not JSON: {error}") from error
    types: dict[str, tuple[type, ...]] = {"network": (str,), "settings": (dict,), "labels": (list, type(None))}
    if not isinstance(found, dict) or any(k in found and not isinstance(found[k], types[k]) for k in types):
        raise ValueError(f"{path} has metadata about its network that rawcnn never writes: {str(found)[:80]}")
    return found
