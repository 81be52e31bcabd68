"""Read HDF5 files: Keras 2's and Keras 3's formats, .keras archives, and plain data sets by name.

    Keras 2 (.h5)            as keras.applications publishes: `conv1_conv/kernel`
    Keras 3 (.weights.h5)    the same names, built from the layers' names and the variables' positions
    .keras                   a zip archive with Keras 3's file in it

A model inside another, such as the base network of a fine-tuned one, adds its name: `resnet50/conv1_conv/kernel`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rawcnn.weights.stored import Refused, Stored

PYTORCH_LEAVES = ("/weight", "/running_mean")
LARGEST_GROWTH = 20  # weights hardly shrink when they are compressed; an archive that grows more is refused
OLD_LEAVES = {"W": "kernel", "b": "bias", "W_1": "kernel", "b_1": "bias"}  # Keras 1's names, as in VGG's files


def hdf5(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the tensors of an .h5 file, whichever format it has."""
    return tensors_of(stack.enter_context(h5py.File(path, "r")))


def keras_archive(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the tensors of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("model.weights.h5")
        if member.file_size > LARGEST_GROWTH * path.stat().st_size:
            raise Refused(f"would unpack its weights to {member.file_size:,} bytes; weights do not shrink so far")
        content = io.BytesIO(archive.read(member))
    return tensors_of(stack.enter_context(h5py.File(content, "r")))


def tensors_of(*files: Any) -> dict[str, Stored]:
    """Return the tensors of an open file, or of all files that a sharded model was split into."""
    root: Any = _inside(files[0], "model_weights") if "model_weights" in files[0] else files[0]  # a complete model
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return _keras2(root)
    layers: dict[str, list[Any]] = {}  # the place of a layer → its groups `vars`, one in each file that has it
    for file in files:
        for place, group in _groups(file):
            if place.endswith("/vars") and not place.startswith("optimizer/"):
                layers.setdefault(place.removesuffix("/vars"), []).append(group)
    return _keras3(layers) if layers else _data_sets(root)


def _groups(root: Any) -> Iterator[tuple[str, Any]]:
    """Yield every group once, with its path. Links may form circles."""
    seen, left = set(), [("", root)]
    while left:
        place, group = left.pop()
        if (address := h5py.h5o.get_info(group.id).addr) in seen:
            continue
        seen.add(address)
        yield place, group
        inner = [(f"{place}/{name}".lstrip("/"), _inside(group, name)) for name in group]
        left += [(path, member) for path, member in reversed(inner) if isinstance(member, h5py.Group)]


# Keras 2 ----------------------------------------------------------------------------------------------------------


def _keras2(root: Any) -> dict[str, Stored]:
    """Read Keras 2's format. Each layer's group lists its variables in `weight_names`: `conv1_conv/kernel:0`."""
    tensors = {}
    for layer in _attribute(root, "layer_names"):
        group = _inside(root, layer)
        names = _attribute(group, "weight_names")
        nested = len({name.rpartition("/")[0] for name in names}) > 1  # the layer is a model with layers of its own
        for name in names:
            inner, _, leaf = name.split(":")[0].rpartition("/")
            leaf = leaf.removeprefix(f"{layer}_")
            place = f"{layer}/{inner.removeprefix(f'{layer}/')}" if nested else layer
            tensors[f"{place}/{OLD_LEAVES.get(leaf, leaf)}"] = _dataset(_inside(group, name))
    return tensors


def _attribute(group: Any, name: str) -> list[str]:
    """Return a list of names. A long list is split into the attributes name0, name1, …"""
    chunks = [name] if name in group.attrs else []
    while f"{name}{len(chunks)}" in group.attrs:
        chunks.append(f"{name}{len(chunks)}")
    return [n.decode() if isinstance(n, bytes) else str(n) for chunk in chunks for n in group.attrs[chunk]]


# Keras 3 ----------------------------------------------------------------------------------------------------------


def _keras3(layers: dict[str, list[Any]]) -> dict[str, Stored]:
    """Read Keras 3's format: `layers/conv2d_7/vars/0`. The group `vars` holds the layer's own name."""
    called = {place: str(g.attrs["name"]) for place, parts in layers.items() for g in parts if "name" in g.attrs}
    tensors = {}
    for place, parts in layers.items():
        variables = {number: _inside(part, number) for part in parts for number in part}
        if variables and place not in called:
            raise Refused("has no names of its layers; save it again with Keras 3.10 or later, or as legacy .h5")
        outer = [called[above] for above in _above(place) if above in called]
        leaves = _leaves(place.rsplit("/", 1)[-1], len(variables))
        for number, leaf in enumerate(leaves):
            tensors["/".join((*outer, called[place], leaf))] = _dataset(variables[str(number)])
    return tensors


def _above(place: str) -> Iterator[str]:
    """Yield the places that a place lies in, from the outermost, without the model itself."""
    parts = place.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])


def _leaves(place: str, count: int) -> tuple[str, ...]:
    """Return the names of a Keras layer's variables in order. A batch norm of three variables has no scale."""
    if place.startswith("batch_normalization"):
        return ("gamma", "beta", "moving_mean", "moving_variance")[-count:] if count else ()
    if place.startswith("separable_conv"):
        return ("depthwise_kernel", "pointwise_kernel", "bias")[:count]
    names = ("kernel", "bias")
    return names[:count] if count <= len(names) else (*names, *(f"variable_{n}" for n in range(2, count)))


# Plain data sets, and what is common ---------------------------------------------------------------------------------


def _data_sets(root: Any) -> dict[str, Stored]:
    """Return every data set under its path, as h5py users write them: file["conv1.weight"] = array.

    Where the parts of PyTorch's names are groups, as in file["conv1/weight"], the names have dots again.
    """
    tensors = {}
    for place, group in _groups(root):
        for name in group:
            if isinstance(member := _inside(group, name), h5py.Dataset):
                tensors[f"{place}/{name}".lstrip("/")] = _dataset(member)
    if any(name.endswith(PYTORCH_LEAVES) for name in tensors):
        return {name.replace("/", "."): tensor for name, tensor in tensors.items()}
    return tensors


def _inside(group: Any, name: str) -> Any:
    """Return the member `name`, which may contain slashes. Links into other files are refused."""
    for part in name.split("/"):
        if isinstance(group.get(part, getlink=True), h5py.ExternalLink):
            raise Refused(f"points into another file ({name}); rawcnn reads only data stored in the file itself")
        group = group[part]
    return group


def _dataset(dataset: Any) -> Stored:
    if dataset.is_virtual or dataset.external:
        raise Refused(f"points into another file ({dataset.name}); rawcnn reads only data stored in the file itself")
    return Stored(tuple(dataset.shape), dataset.dtype.name, lambda: np.asarray(dataset[()]))
