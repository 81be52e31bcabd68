"""Detect from the names of its tensors whether a file is rawcnn's, PyTorch's or Keras's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from rawcnn.nn.network import Network
from rawcnn.weights import hed_names as hed
from rawcnn.weights import keras_names as keras
from rawcnn.weights import torch_names as torch
from rawcnn.weights.source import Source, plain
from rawcnn.weights.stored import StoredTensors

OWN_LEAVES = ("/filters", "/weights", "/scale", "/offset", "/mean", "/variance")
PYTORCH_LEAF = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$")
SLIM_LEAF = re.compile(r"/(biases|BatchNorm/\w+)$")
OTHERS = {"Keras": keras, "PyTorch": torch, "HED": hed}


@dataclass(frozen=True)
class Scheme:
    """A naming scheme: where a file holds each variable of a network."""

    format: str  # "rawcnn", "Keras", "PyTorch", "HED"
    sources: dict[str, Source]  # by the variable's path
    after: dict[str, Source] = field(default_factory=dict)  # of the complete model's variables after the network's end
    unused: tuple[str, ...] = ()  # endings of tensor names that rawcnn does not need

    def fitted(self, tensors: StoredTensors) -> Scheme:
        """Return the scheme with each variable's other source where the file has that one's shapes."""

        def chosen(source: Source) -> Source:
            shapes = tuple(tensors[name].shape for name in source.names if name in tensors)
            other = source.otherwise
            return other if other and shapes == other.shapes != source.shapes else source

        return replace(self, sources={path: chosen(source) for path, source in self.sources.items()})

    @classmethod
    def of(cls, network: Network, format: str, sources: Mapping[str, Source], unused: tuple[str, ...] = ()) -> Scheme:
        """Return the scheme with the sources of a network's own variables and of those after its end."""
        own = {path: source for path, source in sources.items() if path in network.parameters}
        after = {path: source for path, source in sources.items() if path not in network.parameters}
        return cls(format, own, after, unused)


def detect_format(names: Iterable[str]) -> str:
    """Return "rawcnn", "Keras", "PyTorch" or "HED", or "" if the names of the tensors follow no known scheme."""
    names = tuple(names)
    if hed.holds(names):
        return "HED"
    if any(name.endswith(OWN_LEAVES) for name in names):
        return "rawcnn"
    if any(PYTORCH_LEAF.search(name) for name in names):
        return "PyTorch"
    if any("/" in name for name in names):
        return "Keras"
    return "PyTorch" if any("." in name for name in names) else ""


def detect_scheme(network: Network, names: Iterable[str]) -> Scheme:
    """Detect which scheme a file follows, and where it holds each variable of `network`.

    Args:
        network: The network that the file is to be loaded into.
        names: The names of the file's tensors.

    Raises:
        ValueError: The names follow no known scheme, or the scheme's library has no such network.
    """
    names = tuple(names)
    if slim := [name for name in names if SLIM_LEAF.search(name)]:
        raise ValueError(
            f"its names are TF-Slim's, such as {slim[0]}, which are not read; expected rawcnn's, Keras's or PyTorch's"
        )
    found = detect_format(names)
    if found == "rawcnn":
        sources = {path: plain(path, p.shape) for path, p in network.complete.parameters.items()}
        return Scheme.of(network, found, sources)
    if found == "":
        some = ", ".join(names[:3]) or "none at all"
        raise ValueError(f"its names follow no known scheme ({some}); expected rawcnn's, Keras's or PyTorch's")
    family = family_of(network.model)
    sources = OTHERS[found].sources(network, family, names)
    if sources is None:
        published = creation_settings(found, network.name, family, names)
        other = {k: v for k, v in published.items() if k != "preprocessing" and network.settings.get(k, v) != v}
        hint = f"; create it with {', '.join(f'{k}={v!r}' for k, v in other.items())}" if other else ""
        raise ValueError(
            f"its names are {found}'s, such as {names[0]}, but {found} has no weights for this {network.name}{hint}"
        )
    return Scheme.of(network, found, sources, OTHERS[found].UNUSED)


def creation_settings(format: str, model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """Return the settings of `rawcnn.create` that reproduce `model` as it was published in this format."""
    return OTHERS[format].published(model, family, names) if format in OTHERS else {}


def family_of(function: Callable) -> str:
    """Return the name of the file in `rawcnn.models` that a model function is in, or "" if it is in none."""
    while isinstance(function, partial):
        function = function.func
    package, _, family = getattr(function, "__module__", "").rpartition(".")
    return family if package == "rawcnn.models" else ""
