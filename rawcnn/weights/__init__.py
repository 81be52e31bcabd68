"""Weights in files: our own, or published ones of Keras and PyTorch, into raw variables and back.

Nothing is half loaded: every name and shape is checked before a tensor is read, every tensor is read before the first
variable changes, and everything that does not fit is listed at once.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from rawcnn.files.atomic import write_atomic
from rawcnn.nn.network import Network
from rawcnn.weights.detect import Scheme, family_of, recognise, settings_of
from rawcnn.weights.readers import DESCRIPTION, Tensors, metadata, opened

__all__ = ["Misfit", "describe", "load_weights", "save_weights"]

FLOATS = ("float16", "bfloat16", "float32", "float64")
SHOWN = 20  # problems in the message about a file of another network


class Misfit(ValueError):
    """A file that does not fit its network: `problems` has a sentence for each tensor.

    So has the message; but where little fits, the file being another network's, it has the first of them.
    """

    def __init__(self, path: Path, network: Network, problems: Sequence[str], hint: str = ""):
        self.problems = tuple(problems)
        told, more = "; ".join(problems), len(problems) - SHOWN
        if len(problems) > max(SHOWN, len(network.variables) // 4):
            told = f"it may be of another network: {'; '.join(problems[:SHOWN])}; and {more} more"
        super().__init__(f"{path} does not fit {network.name}, nothing was loaded: {told}{hint}")


def load_weights(network: Network, path: str | Path) -> None:
    """Load a file into `network`: .safetensors, .npz, .h5, .weights.h5, .pth or .pt; its form is found from the names.

    Raises ValueError where the file cannot be read, and Misfit with everything in it that does not fit; the network is
    then as it was. Warns where the network was created otherwise than the published one, whose outputs it would not
    give: with other preprocessing, or another form of its blocks.
    """
    path = Path(path)
    with opened(path) as tensors:
        scheme = _recognised(network, path, tensors)
        differing = _differing(network, settings_of(scheme.form, network.name, family_of(network.model), tensors))
        hint = f"; published with {_words(differing)}: create it so" if differing else ""
        if problems := _problems(network, scheme, tensors):
            raise Misfit(path, network, problems, hint)
        values = {}
        for variable, source in scheme.sources.items():
            read = [tensors[name].read().astype(np.float32, copy=False) for name in source.names]
            values[variable] = source.convert(*read)
    broken = {variable: words for variable, value in values.items() if (words := _broken(variable, value))}
    if broken:
        named = {variable: " with ".join(scheme.sources[variable].names) for variable in broken}
        raise Misfit(path, network, [f"{named[variable]} {words}" for variable, words in broken.items()])
    if differing:
        have = _words({key: network.settings[key] for key in differing})
        warnings.warn(
            f"{path.name} holds {scheme.form}'s weights, published with {_words(differing)}; this {network.name} has "
            f"{have} and will give other outputs: create it with theirs",
            stacklevel=2,
        )
    for variable, value in values.items():
        network.variables[variable].assign(value)


def _recognised(network: Network, path: Path, tensors: Tensors) -> Scheme:
    try:
        return recognise(network, tensors)
    except ValueError as error:
        raise ValueError(f"{path} does not fit {network.name}, nothing was loaded: {error}") from error


def _problems(network: Network, scheme: Scheme, tensors: Tensors) -> list[str]:
    """All that is missing, of another shape or kind, or left over: by the headers, nothing is read."""
    problems = []
    for variable, parameter in network.parameters.items():
        source = scheme.sources.get(variable)
        if source is None:
            problems.append(f"nothing in the file is {variable} {parameter.shape}")
            continue
        for name, shape in zip(source.names, source.shapes, strict=True):
            if name not in tensors:
                problems.append(f"missing {name} for {variable} {parameter.shape}")
            elif tensors[name].shape != shape:
                problems.append(f"{name} is {tensors[name].shape}, expected {shape} for {variable}")
            elif tensors[name].dtype not in FLOATS:
                problems.append(f"{name} holds {tensors[name].dtype}, expected floating point numbers")
    used = {name for source in scheme.sources.values() for name in source.names}
    left = [name for name in tensors if name not in used and not name.endswith(scheme.unused)]
    return problems + [f"unexpected {name} {tensors[name].shape}" for name in left]


def _broken(variable: str, value: np.ndarray) -> str:
    """What no network computes with: an infinity, a NaN, a variance below zero; "" without any."""
    if not np.isfinite(value.sum(dtype=np.float64)):
        return "has values that are no numbers"
    negative = value < 0 if variable.endswith("/variance") else np.zeros(0, bool)
    return f"has {negative.sum()} of {value.size} variances below zero, expected none" if negative.any() else ""


def _differing(network: Network, published: dict[str, object]) -> dict[str, object]:
    """The settings with which the published network was made otherwise than this one."""
    differing = {k: v for k, v in published.items() if network.settings.get(k, v) != v}
    if network.settings.get("preprocessing") == "none":  # somebody else does it
        differing.pop("preprocessing", None)
    return differing


def _words(settings: dict[str, object]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in settings.items())


def save_weights(network: Network, path: str | Path, variables=None) -> None:
    """Write the variables (or `variables`, a dict by path) to a `.safetensors` or `.npz` file, beside and renamed.

    Raises ValueError for another ending, and where the file cannot be written: what was there before then stays.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected .safetensors or .npz")
    about = json.dumps({"network": network.name, "settings": network.settings, "labels": network.labels})
    arrays = {name: v.numpy() for name, v in (variables or network.variables).items()}
    if path.suffix == ".safetensors":
        content = save(arrays, metadata={"rawcnn": about})
    else:
        packed = BytesIO()
        arrays[DESCRIPTION] = np.frombuffer(about.encode(), np.uint8)
        np.savez(packed, **arrays)
        content = packed.getvalue()
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ValueError(f"the weights {path} cannot be written: {error.strerror or error}") from error


def describe(path: str | Path) -> dict:
    """What `save_weights` wrote about the network: its name, settings and class names; {} for files of others."""
    told = metadata(Path(path)).get("rawcnn", "{}")
    try:
        about = json.loads(told)
    except (ValueError, RecursionError) as error:  # Python's limits on digits and depth are no JSONDecodeError
        raise ValueError(f"{path} says about its network what is no JSON: {error}") from error
    kinds: dict[str, tuple[type, ...]] = {"network": (str,), "settings": (dict,), "labels": (list, type(None))}
    if not isinstance(about, dict) or any(k in about and not isinstance(about[k], kinds[k]) for k in kinds):
        raise ValueError(f"{path} says about its network what rawcnn never writes: {str(about)[:80]}")
    return about
