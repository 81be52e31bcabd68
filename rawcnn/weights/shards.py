"""Read a network that was split into several files, with an index: tensor or layer → file.

model.safetensors.index.json, pytorch_model.bin.index.json    Hugging Face: tensor → file
model.weights.json                                            Keras: place of a layer → file or files
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import h5py

from rawcnn.weights.hdf5 import tensors_of
from rawcnn.weights.recognition import kind_of
from rawcnn.weights.stored import Refused, Stored


def shards(path: Path, stack: ExitStack, readers: dict[str, Callable]) -> dict[str, Stored]:
    """Return the tensors of all files that an index names.

    Args:
        path: The index, JSON with a `weight_map`.
        stack: Keeps the files open.
        readers: The reader of each kind of file.
    """
    files = _files(path)
    kinds = {kind_of(file) for file in files}
    if kinds == {"hdf5"}:
        return tensors_of(*(stack.enter_context(h5py.File(file, "r")) for file in files))
    tensors: dict[str, Stored] = {}
    for file in files:
        kind = kind_of(file)
        if kind not in readers:
            raise Refused(f"names the shard {file.name}, which holds no tensors")
        tensors |= readers[kind](file, stack)
    return tensors


def _files(path: Path) -> list[Path]:
    """Return the files of an index, which must lie next to it, in the order of their names."""
    entries = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
    names = {str(name) for entry in entries for name in (entry if isinstance(entry, list) else [entry])}
    for name in sorted(names):
        if Path(name).name != name:
            raise Refused(f"names the shard {name!r:.80} in another folder; expected all shards next to the index")
        if not path.with_name(name).is_file():
            raise Refused(f"names the shard {name!r:.80}, which is missing; put all shards next to the index")
    if not names:
        raise Refused("names no shards in its weight_map")
    return [path.with_name(name) for name in sorted(names)]
