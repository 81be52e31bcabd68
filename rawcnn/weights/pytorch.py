"""Read PyTorch's files without PyTorch: zip archives, the older format without an archive, and plain pickles.

    zip archive     ARCHIVE/data.pkl is a pickle of the saved object; ARCHIVE/data/KEY holds the values of a storage
    older format    five pickles (a magic number, a version, the system, the object, keys), then the storages
    plain pickle    one pickle, of NumPy arrays

The tensors may lie in containers, next to other things: {"epoch": 3, "model": {"state_dict": {…}}, "optimizer": …}.
Every tensor outside the optimizer is listed under the names of its containers: "model.state_dict.conv1.weight".
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from rawcnn.weights.stored import Refused, Stored
from rawcnn.weights.unpickling import NumpyArray, Placeholder, Storage, TorchTensor, Unreadable, unpickle

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
PICKLE_BYTES = 2**28  # of a zip archive's pickle, which holds no values of PyTorch's tensors
DEEPEST = 32  # containers in containers
READ = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")

# Containers of what a training keeps besides the network: a word of their names
TRAINING = {
    "amp", "args", "callbacks", "cfg", "config", "criterion", "history", "hparams", "loops", "lr", "metrics", "opt",
    "random", "rng", "scaler",
}  # fmt: skip

ReadBytes = Callable[[Storage, int, int], bytes]  # (storage, first byte, count)


def torch_archive(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the tensors of a zip archive, as torch.save writes it since version 1.6."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    member = next(info for info in archive.infolist() if re.fullmatch(r"([^/]*/)?data\.pkl", info.filename))
    folder = member.filename.removesuffix("data.pkl")
    if member.file_size > PICKLE_BYTES:
        raise Refused(f"has a pickle of {member.file_size:,} bytes; expected {PICKLE_BYTES:,} at most")
    with archive.open(member) as file:
        found, _ = unpickle(file)
    order = f"{folder}byteorder"
    swapped = order in archive.NameToInfo and archive.read(order) == b"big"

    def read(storage: Storage, first: int, count: int) -> bytes:
        with archive.open(f"{folder}data/{storage.key}") as file:
            file.seek(first)
            return file.read(count)

    return _tensors(found, read, swapped)


def torch_pickles(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the tensors of a file without an archive: of the older format, or a plain pickle."""
    file = stack.enter_context(path.open("rb"))
    found, storages = unpickle(file)
    if found != MAGIC:
        return _tensors(found, _no_storage, False)
    _, system = (unpickle(file)[0] for _ in range(2))
    found, storages = unpickle(file)
    places = {}
    for key in unpickle(file)[0]:  # a storage is its number of values, then the values
        count = int.from_bytes(file.read(8), "little")
        places[str(key)] = (file.tell(), count * _type(storages[str(key)].dtype).itemsize)
        file.seek(places[str(key)][1], 1)

    def read(storage: Storage, first: int, count: int) -> bytes:
        start, length = places[storage.key]
        file.seek(start + first)
        return file.read(max(0, min(count, length - first)))

    return _tensors(found, read, isinstance(system, dict) and system.get("little_endian") is False)


def _no_storage(storage: Storage, first: int, count: int) -> bytes:
    raise Refused("is a pickle of PyTorch tensors without their values; expected a file of torch.save")


# The tensors of the saved object ----------------------------------------------------------------------------------


def _tensors(found: object, read: ReadBytes, swapped: bool) -> dict[str, Stored]:
    """Return all tensors of the saved object by name."""
    values, modules = [], set()
    for names, value in _entries(found, (), set()):
        if isinstance(value, Placeholder):
            modules |= {value.origin} if value.is_module else set()
        else:
            values.append((names, value))
    if modules and not any("." in names[-1] for names, _ in values if isinstance(names[-1], str)):
        raise Refused(
            f"holds a whole pickled module ({', '.join(sorted(modules))}), whose code rawcnn does not run; expected "
            "its weights: torch.save(torch.load(file, weights_only=False).state_dict(), other) writes them"
        )
    if not values:
        raise Refused(
            f"holds no state dict but {_described(found)}; expected one, as torch.save(model.state_dict(), …) writes"
        )
    return {".".join(map(str, names)): _stored(value, read, swapped) for names, value in _readable(values)}


def _readable(values: list[tuple[tuple, object]]) -> list[tuple[tuple, object]]:
    """Return the entries that can be read. Others are left out, unless they are in one container with tensors."""
    good = [(names, value) for names, value in values if not _unreadable(names, value)]
    containers = {names[:-1] for names, _ in good or values}
    refused = [
        f"{names[-1]!r:.80} {what}"
        for names, value in values
        if (what := _unreadable(names, value)) and names[:-1] in containers
    ]
    if refused:
        more = f", and {len(refused) - 1} more entries like this" if len(refused) > 1 else ""
        raise Refused(f"has {refused[0]}{more}; expected dense floating point tensors by name")
    return good


def _entries(value: object, names: tuple, seen: set[int]) -> Iterator[tuple[tuple, object]]:
    """Yield (names of the containers and of the entry, entry) for every tensor, array and module in `value`."""
    if isinstance(value, (TorchTensor, NumpyArray, Unreadable)):
        if names and not (isinstance(value, NumpyArray) and value.value is None):  # of texts or Python objects
            yield names, value
        return
    if isinstance(value, Placeholder):
        yield names, value
        value = value.items  # of a class derived from dict or list
    if isinstance(value, (list, tuple)):
        value = {n: item for n, item in enumerate(value) if isinstance(item, (dict, list, tuple, Placeholder))}
    if not isinstance(value, dict) or id(value) in seen or len(names) > DEEPEST or "param_groups" in value:
        return
    seen.add(id(value))
    for name, item in value.items():
        if not (isinstance(item, (dict, list, tuple, Placeholder)) and _of_training(name)):
            yield from _entries(item, (*names, name), seen)


def _of_training(name: object) -> bool:
    """Return whether a container's name says that it holds no weights: optimizer, lr_scheduler, rng_state, …"""
    words = re.split(r"[\W_]+", str(name).lower())
    return any(word in TRAINING or word.startswith(("optim", "sched", "hyper")) for word in words)


def _described(found: object) -> str:
    """Say what the saved object is."""
    inside = found.values() if isinstance(found, dict) else found
    values = [found, *(inside if isinstance(found, (dict, list, tuple)) else ())]  # type: ignore[misc]
    if any(isinstance(value, dict) and "param_groups" in value for value in values):
        return "the state of an optimizer"
    if _is_empty(found):
        return f"an empty {type(found).__name__}"
    if isinstance(found, (TorchTensor, NumpyArray)):
        return "a single tensor"
    if any(isinstance(v, (list, tuple)) and any(isinstance(t, (TorchTensor, NumpyArray)) for t in v) for v in values):
        return "a list of tensors without names"
    if named := next((value for value in values if isinstance(value, Placeholder)), None):
        return f"an object of {named.origin}, which is not run"
    return f"a {type(found).__name__}"


def _is_empty(value: object) -> bool:
    """Return whether a container holds nothing but empty containers."""
    inside = value.values() if isinstance(value, dict) else value
    return isinstance(inside, Iterable) and not isinstance(inside, (str, bytes)) and all(map(_is_empty, inside))


def _unreadable(names: tuple, value: object) -> str:
    """Describe why an entry of a state dict is not an array under a name, or return ""."""
    if not isinstance(names[-1], str):
        return f"({type(names[-1]).__name__}) as a tensor's name"
    if isinstance(value, Unreadable):
        return value.what
    if isinstance(value, TorchTensor) and not all(
        isinstance(n, int) and n >= 0 for n in (value.offset, *value.shape, *value.strides)
    ):
        return f"as a tensor of shape {value.shape} with strides {value.strides}"
    return ""


def _stored(value: object, read: ReadBytes, swapped: bool) -> Stored:
    if isinstance(value, NumpyArray):
        array = np.asarray(value.value)
        return Stored(array.shape, array.dtype.name, lambda: array.astype(array.dtype.newbyteorder("=")))
    assert isinstance(value, TorchTensor)
    return Stored(value.shape, value.dtype, partial(_values, value, read, swapped))


def _values(tensor: TorchTensor, read: ReadBytes, swapped: bool) -> np.ndarray:
    """Read a tensor: the part of its storage between its first and its last value."""
    dtype = _type(tensor.dtype)
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    count = 0 if 0 in tensor.shape else (last + 1) * dtype.itemsize
    content = read(tensor.storage, (tensor.storage.start + tensor.offset) * dtype.itemsize, count)
    if len(content) < count:
        found = f"has {len(content):,} bytes for a tensor {tensor.shape} of {tensor.dtype}; expected {count:,}"
        raise Refused(f"{found}: it is cut off or damaged; download, copy or save it again")
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    values = np.ndarray(tensor.shape, dtype, content, strides=strides)
    return values.byteswap() if swapped else values


def _type(name: str) -> np.dtype:
    """Return the NumPy type of a PyTorch type."""
    if name not in READ:
        raise Refused(f"holds values of type {name}; expected {', '.join(READ)}")
    return np.dtype(tf.bfloat16.as_numpy_dtype) if name == "bfloat16" else np.dtype(name)
