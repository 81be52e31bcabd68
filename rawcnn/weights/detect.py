"""Which form a file is in, by the names of its tensors: rawcnn's own, PyTorch's or Keras's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from rawcnn.nn.network import Network
from rawcnn.weights import keras_names as keras
from rawcnn.weights import torch_names as torch
from rawcnn.weights.source import Source, plain

OWN_LEAVES = ("/filters", "/weights", "/scale", "/offset", "/mean", "/variance")
OTHERS = {"Keras": keras, "PyTorch": torch}


@dataclass(frozen=True)
class Scheme:
    """How a network is found in a file."""

    form: str  # "rawcnn", "Keras", "PyTorch"
    sources: dict[str, Source]  # by the variable's path
    unused: tuple[str, ...] = ()  # endings of tensors that nothing here needs


def form_of(names: Iterable[str]) -> str:
    """ "rawcnn", "Keras" or "PyTorch"; "" for names that are none of theirs."""
    names = tuple(names)
    if any(name.endswith(OWN_LEAVES) for name in names):
        return "rawcnn"
    if any("/" in name for name in names):
        return "Keras"
    return "PyTorch" if any("." in name for name in names) else ""


def recognise(network: Network, names: Iterable[str]) -> Scheme:
    """The network in a file with these names. ValueError for names of no known form, or of none of this network."""
    names = tuple(names)
    found = form_of(names)
    if found == "rawcnn":
        return Scheme(found, {path: plain(path, p.shape) for path, p in network.parameters.items()})
    if found == "":
        some = ", ".join(names[:3]) or "none at all"
        raise ValueError(f"its names are of no known form ({some}); expected rawcnn's, Keras's or PyTorch's")
    family = family_of(network.model)
    sources = OTHERS[found].sources(network, family, names)
    if sources is None:
        published = settings_of(found, network.name, family, names)
        other = {k: v for k, v in published.items() if k != "preprocessing" and network.settings.get(k, v) != v}
        hint = f"; create it with {', '.join(f'{k}={v!r}' for k, v in other.items())}" if other else ""
        raise ValueError(f"its names are {found}'s, such as {names[0]}, and {network.name} has no such form{hint}")
    return Scheme(found, sources, torch.UNUSED if found == "PyTorch" else ())


def settings_of(form: str, model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """Return the settings of `rawcnn.create` with which `model` was published in this form."""
    return OTHERS[form].published(model, family, names) if form in OTHERS else {}


def family_of(function: Callable) -> str:
    """Return the name of the file in `rawcnn.models` that a model function is in, or "" if it is in none."""
    while isinstance(function, partial):
        function = function.func
    package, _, family = getattr(function, "__module__", "").rpartition(".")
    return family if package == "rawcnn.models" else ""
