"""Read weight files of all formats as a mapping from names to tensors. Shapes are known before a tensor is read.

So a file can be compared with a network before it takes memory. A file that would unpack to more than its header claims
is refused. No format can run code: only PyTorch's restricted reader opens pickles, and files that point into other
files are refused.

    .safetensors, .npz         names as stored
    .h5                        Keras 2, as keras.applications publishes: `conv1_conv/kernel`
    .weights.h5                Keras 3: the same names, built from the layers' names and the variables' positions
    .pth, .pt                  PyTorch's state dicts; reading them needs PyTorch
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, with its shape and type, before it is read."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name
    read: Callable[[], np.ndarray]


Tensors = Mapping[str, Stored]


@contextmanager
def open_tensors(path: str | Path) -> Iterator[Tensors]:
    """Open a weight file. Tensors are read inside the `with` block.

    Args:
        path: A file with one of the endings in READERS.

    Yields:
        A mapping from names to tensors.

    Raises:
        ValueError: The file is missing, damaged or of another kind. Opening or reading raises this.
    """
    path = Path(path)
    kind = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    if kind not in READERS:
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected {', '.join(READERS)}")
    if not path.is_file():
        raise ValueError(
            f"{path} is a folder; expected a weights file"
            if path.is_dir()
            else f"{path} does not exist; expected a weights file"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a weights file")
    with ExitStack() as stack:
        with _read_errors(path):
            tensors = READERS[kind](path, stack)
        yield {name: Stored(t.shape, t.dtype, partial(_read, path, t)) for name, t in tensors.items()}


class Refused(ValueError):
    """A reader's own message about a file, which continues after the file's name."""


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn all errors into a ValueError of one line. Over a damaged file the libraries raise many kinds."""
    try:
        yield
    except Refused as error:
        raise ValueError(f"{path} {error}") from error
    except MemoryError as error:
        raise ValueError(f"{path} holds more than fits into memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.strerror:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from error
        raise ValueError(
            f"{path} is damaged, or no {path.suffix[1:]} file: it cannot be read as one ({type(error).__name__})"
        ) from error


def _read(path: Path, tensor: Stored) -> np.ndarray:
    with _read_errors(path):
        return tensor.read()


# The formats -----------------------------------------------------------------------------------------------------


def _safetensors(path: Path, stack: ExitStack) -> dict[str, Stored]:
    file = stack.enter_context(safe_open(path, "numpy"))
    tensors = {}
    for name in file.keys():  # noqa: SIM118  safe_open gives no mapping
        header = file.get_slice(name)
        dtype = re.sub(r"^(BF|F|I|U)(?=\d)", lambda kind: SAFETENSORS_KINDS[kind[1]], header.get_dtype())
        tensors[name] = Stored(tuple(header.get_shape()), dtype, partial(file.get_tensor, name))
    return tensors


SAFETENSORS_KINDS = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}  # the number of bits follows


NPY_HEADER = 2**14  # bytes: more than any header that NumPy reads
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DESCRIPTION = "rawcnn.json"  # an .npz's member with the metadata as bytes; no variable, since its name has no "/"
DESCRIPTION_BYTES = 2**24  # enough for a million class names


def _npz(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return all members except the metadata, which are no tensor."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    tensors = {}
    for member in archive.infolist():
        if (name := member.filename.removesuffix(".npy")) != DESCRIPTION:
            shape, dtype = _npy_header(archive, member)
            tensors[name] = Stored(shape, dtype.name, partial(_npz_member, archive, member))
    return tensors


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


def _h5(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Read Keras 2's format. Each layer's group lists its variables in `weight_names`: `conv1_conv/kernel:0`."""
    file = stack.enter_context(h5py.File(path, "r"))
    root: Any = _inside(file, "model_weights") if "model_weights" in file else file  # the file of a complete model
    if "layer_names" not in root.attrs:
        raise Refused("is not in Keras's legacy format (it names no layers); expected what Keras publishes or saves")
    tensors = {}
    for layer in _attribute(root, "layer_names"):
        group = _inside(root, layer)
        for name in _attribute(group, "weight_names"):
            leaf = name.rsplit("/", 1)[-1].split(":")[0].removeprefix(f"{layer}_")
            tensors[f"{layer}/{OLD_LEAVES.get(leaf, leaf)}"] = _dataset(_inside(group, name))
    return tensors


OLD_LEAVES = {"W": "kernel", "b": "bias", "W_1": "kernel", "b_1": "bias"}  # Keras 1's names, as in VGG's files


def _weights_h5(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Read Keras 3's format: `layers/conv2d_7/vars/0`. The group `vars` holds the layer's own name."""
    file = stack.enter_context(h5py.File(path, "r"))
    if "layers" not in file:
        raise Refused("is not in Keras 3's format (it has no layers); expected what save_weights of Keras 3 writes")
    tensors = {}
    for place, layer in _inside(file, "layers").items():
        variables = _inside(layer, "vars")
        if len(variables) and "name" not in variables.attrs:
            raise Refused("has no names of its layers; save it again with Keras 3.10 or later, or as legacy .h5")
        leaves = _leaves(place, len(variables))
        for number, leaf in enumerate(leaves):
            tensors[f"{variables.attrs['name']}/{leaf}"] = _dataset(_inside(variables, str(number)))
    return tensors


def _leaves(place: str, count: int) -> tuple[str, ...]:
    """Return the names of a Keras layer's variables in order. A batch norm of three variables has no scale."""
    if place.startswith("batch_normalization"):
        return ("gamma", "beta", "moving_mean", "moving_variance")[-count:] if count else ()
    if place.startswith("separable_conv"):
        return ("depthwise_kernel", "pointwise_kernel", "bias")[:count]
    names = ("kernel", "bias")
    return names[:count] if count <= len(names) else (*names, *(f"variable_{n}" for n in range(2, count)))


def _attribute(group: Any, name: str) -> list[str]:
    """Return a list of names. A long list is split into the attributes name0, name1, …"""
    chunks = [name] if name in group.attrs else []
    while f"{name}{len(chunks)}" in group.attrs:
        chunks.append(f"{name}{len(chunks)}")
    return [n.decode() if isinstance(n, bytes) else str(n) for chunk in chunks for n in group.attrs[chunk]]


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


def _pth(path: Path, stack: ExitStack) -> dict[str, Stored]:
    try:
        import torch
    except ImportError as error:
        raise Refused(
            "needs PyTorch to be read: pip install torch, or convert it once with safetensors.torch.save_file"
        ) from error
    with warnings.catch_warnings():  # PyTorch warns of kinds of tensors that are refused below
        warnings.simplefilter("ignore")
        state = torch.load(path, map_location="cpu", weights_only=True)  # runs no code of the file
    while isinstance(state, dict) and len(nested := [k for k in ("state_dict", "model") if k in state]) > 0:
        state = state[nested[0]]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise Refused("holds no state dict; expected one, as torch.save(model.state_dict(), …) writes")
    if refused := [f"{name!r:.80} {what}" for name, t in state.items() if (what := _unreadable(torch, name, t))]:
        more = f", and {len(refused) - 1} more entries like this" if len(refused) > 1 else ""
        raise Refused(f"has {refused[0]}{more}; expected dense floating point tensors by name")

    def read(tensor) -> np.ndarray:
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()

    return {
        name.removeprefix("module."): Stored(tuple(t.shape), str(t.dtype).removeprefix("torch."), partial(read, t))
        for name, t in state.items()
    }


def _unreadable(torch, name: object, tensor) -> str:
    """Describe why an entry of a state dict is no array under a name, or return ""."""
    if not isinstance(name, str):
        return f"({type(name).__name__}) as a tensor's name"
    if tensor.is_meta:
        return "as a meta tensor, which has a shape but no values"
    if tensor.is_quantized:
        return f"as a quantized tensor ({tensor.dtype})"
    if tensor.is_nested or tensor.layout is not torch.strided:
        return f"as a {'nested' if tensor.is_nested else 'sparse'} tensor ({tensor.layout})"
    return ""


READERS: dict[str, Callable[[Path, ExitStack], dict[str, Stored]]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".h5": _h5,
    ".weights.h5": _weights_h5,
    ".pth": _pth,
    ".pt": _pth,
}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors or .npz file; {} for other kinds of files.

    Raises:
        ValueError: The file is damaged.
    """
    if path.suffix not in (".safetensors", ".npz") or not path.is_file() or path.stat().st_size == 0:
        return {}
    with _read_errors(path):
        if path.suffix == ".npz":
            return _npz_metadata(path)
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})


def _npz_metadata(path: Path) -> dict[str, str]:
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
