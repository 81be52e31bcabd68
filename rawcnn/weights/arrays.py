"""Read .safetensors and .npz files, and the metadata that rawcnn writes into them."""

from __future__ import annotations

import io
import re
import zipfile
from contextlib import ExitStack
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from safetensors import safe_open

from rawcnn.weights.stored import Refused, Stored

SAFETENSORS_KINDS = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}  # the number of bits follows

NPY_HEADER = 2**14  # bytes: more than any header that NumPy reads
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DESCRIPTION = "rawcnn.json"  # an .npz's member with the metadata as bytes; no variable, since its name has no "/"
DESCRIPTION_BYTES = 2**24  # enough for a million class names


def safetensors(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the tensors of a .safetensors file."""
    file = stack.enter_context(safe_open(path, "numpy"))
    tensors = {}
    for name in file.keys():  # noqa: SIM118  safe_open gives no mapping
        header = file.get_slice(name)
        dtype = re.sub(r"^(BF|F|I|U)(?=\d)", lambda kind: SAFETENSORS_KINDS[kind[1]], header.get_dtype())
        tensors[name] = Stored(tuple(header.get_shape()), dtype, partial(file.get_tensor, name))
    return tensors


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a .safetensors file."""
    with safe_open(path, "numpy") as file:
        return dict(file.metadata() or {})


def npz(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return all members of an .npz file except the metadata, which are not a tensor."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    tensors = {}
    for member in archive.infolist():
        if (name := member.filename.removesuffix(".npy")) != DESCRIPTION:
            shape, dtype = _npy_header(archive, member)
            tensors[name] = Stored(shape, dtype.name, partial(_npz_member, archive, member))
    return tensors


def npz_metadata(path: Path) -> dict[str, str]:
    """Return the metadata that rawcnn wrote into an .npz file, or {}."""
    with zipfile.ZipFile(path) as archive:
        member = archive.NameToInfo.get(f"{DESCRIPTION}.npy")
        if member is None:
            return {}
        shape, dtype = _npy_header(archive, member)
        if dtype != np.uint8 or len(shape) != 1 or shape[0] > DESCRIPTION_BYTES:
            raise Refused(
                f"has {dtype} {shape} in {DESCRIPTION}, which is reserved for metadata; "
                f"expected a text of at most {DESCRIPTION_BYTES:,} bytes"
            )
        return {"rawcnn": _npz_member(archive, member).tobytes().decode()}


def _npy_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Return a member's shape and type. Only its header is unpacked."""
    with archive.open(member) as file:
        start = io.BytesIO(file.read(NPY_HEADER))
    version = np.lib.format.read_magic(start)
    shape, _, dtype = NPY_HEADERS[version](start)
    if dtype.hasobject:
        raise Refused(f"holds pickled Python objects in {member.filename}; only plain arrays are read")
    claimed = start.tell() + prod(shape) * dtype.itemsize
    if member.file_size != claimed:
        raise Refused(f"would unpack {member.filename} to {member.file_size:,} bytes; its header claims {claimed:,}")
    return tuple(shape), dtype


def _npz_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
