"""Weight files of all kinds as one thing: tensors by name, whose shapes are known before any of them is read.

So a file is held against a network before it costs memory: one that claims more than the network has, or that would
unpack to more than it claims, is refused unread. No format here can run code: pickles are opened by PyTorch's
restricted reader alone, and files that point into other files are refused.

    .safetensors, .npz         names as they are
    .h5                        Keras, as its published weights are (Keras 2): `conv1_conv/kernel`
    .weights.h5                Keras 3: the same names, made from each layer's name and the places of its variables
    .pth, .pt                  PyTorch's state dicts, read by PyTorch where it is installed
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
    """A tensor in a file, not read yet."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name of it
    read: Callable[[], np.ndarray]


Tensors = Mapping[str, Stored]


@contextmanager
def opened(path: str | Path) -> Iterator[Tensors]:
    """The tensors of a file by name, to be read inside the `with`.

    Raises ValueError for a file that is absent, damaged or of another kind, when it is opened or when it is read.
    """
    path = Path(path)
    kind = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    if kind not in READERS:
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected {', '.join(READERS)}")
    if not path.is_file():
        raise ValueError(
            f"{path} is a folder, no weights file" if path.is_dir() else f"there is no weights file {path}"
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty; expected a weights file")
    with ExitStack() as stack:
        with _readable(path):
            tensors = READERS[kind](path, stack)
        yield {name: Stored(t.shape, t.dtype, _guarded(path, t.read)) for name, t in tensors.items()}


class Refused(ValueError):
    """What a reader says itself about a file, instead of the words for damage."""


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Over a damaged file readers raise many kinds, and give advice of their own: here, one ValueError in one line."""
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


def _guarded(path: Path, read: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    def guarded() -> np.ndarray:
        with _readable(path):
            return read()

    return guarded


# The formats -----------------------------------------------------------------------------------------------------


def _safetensors(path: Path, stack: ExitStack) -> dict[str, Stored]:
    file = stack.enter_context(safe_open(path, "numpy"))
    tensors = {}
    for name in file.keys():  # noqa: SIM118  it is no mapping
        header = file.get_slice(name)
        dtype = re.sub(r"^(BF|F|I|U)(?=\d)", lambda kind: SAFETENSORS_KINDS[kind[1]], header.get_dtype())
        tensors[name] = Stored(tuple(header.get_shape()), dtype, partial(file.get_tensor, name))
    return tensors


SAFETENSORS_KINDS = {"BF": "bfloat", "F": "float", "I": "int", "U": "uint"}  # and the bits


NPY_HEADER = 2**14  # bytes: more than any header that NumPy reads
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DESCRIPTION = "rawcnn.json"  # in an .npz, what rawcnn says of the network, in bytes; a variable's path has a "/"
DESCRIPTION_BYTES = 2**24  # a million class names


def _npz(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """All members but the description, which is no tensor."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    tensors = {}
    for member in archive.infolist():
        if (name := member.filename.removesuffix(".npy")) != DESCRIPTION:
            shape, dtype = _npy_header(archive, member)
            tensors[name] = Stored(shape, dtype.name, partial(_npz_member, archive, member))
    return tensors


def _npy_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Each member begins with a header that says its shape: that much is unpacked, and nothing else."""
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
    """A layer's variables are where `weight_names` of its group says: `conv1_conv/kernel:0`."""
    file = stack.enter_context(h5py.File(path, "r"))
    root: Any = _inside(file, "model_weights") if "model_weights" in file else file  # of a whole model
    if "layer_names" not in root.attrs:
        raise Refused("is not in Keras's legacy form (it names no layers); expected what Keras publishes or saves")
    tensors = {}
    for layer in _attribute(root, "layer_names"):
        group = _inside(root, layer)
        for name in _attribute(group, "weight_names"):
            leaf = name.rsplit("/", 1)[-1].split(":")[0].removeprefix(f"{layer}_")
            tensors[f"{layer}/{OLD_LEAVES.get(leaf, leaf)}"] = _dataset(_inside(group, name))
    return tensors


OLD_LEAVES = {"W": "kernel", "b": "bias", "W_1": "kernel", "b_1": "bias"}  # of Keras 1, as in VGG's files


def _weights_h5(path: Path, stack: ExitStack) -> dict[str, Stored]:
    """Keras 3: `layers/conv2d_7/vars/0`, where the group `vars` knows the layer's own name."""
    file = stack.enter_context(h5py.File(path, "r"))
    if "layers" not in file:
        raise Refused("is not in Keras 3's form (it has no layers); expected what save_weights of Keras 3 writes")
    tensors = {}
    for place, layer in _inside(file, "layers").items():
        variables = _inside(layer, "vars")
        if len(variables) and "name" not in variables.attrs:
            raise Refused("does not say its layers' names; save it again with Keras 3.10 or later, or as legacy .h5")
        leaves = _leaves(place, len(variables))
        for number, leaf in enumerate(leaves):
            tensors[f"{variables.attrs['name']}/{leaf}"] = _dataset(_inside(variables, str(number)))
    return tensors


def _leaves(place: str, count: int) -> tuple[str, ...]:
    """What a Keras layer's variables are, in its order; a batch normalisation of three has no scale."""
    if place.startswith("batch_normalization"):
        return ("gamma", "beta", "moving_mean", "moving_variance")[-count:] if count else ()
    if place.startswith("separable_conv"):
        return ("depthwise_kernel", "pointwise_kernel", "bias")[:count]
    names = ("kernel", "bias")
    return names[:count] if count <= len(names) else (*names, *(f"variable_{n}" for n in range(2, count)))


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names; long ones lie in several attributes, name0, name1, …"""
    chunks = [name] if name in group.attrs else []
    while f"{name}{len(chunks)}" in group.attrs:
        chunks.append(f"{name}{len(chunks)}")
    return [n.decode() if isinstance(n, bytes) else str(n) for chunk in chunks for n in group.attrs[chunk]]


def _inside(group: Any, name: str) -> Any:
    """What lies in the file itself under `name`, however deep; links into other files are refused."""
    for part in name.split("/"):
        if isinstance(group.get(part, getlink=True), h5py.ExternalLink):
            raise Refused(f"points into another file ({name}); only what is in the file itself is read")
        group = group[part]
    return group


def _dataset(dataset: Any) -> Stored:
    if dataset.is_virtual or dataset.external:
        raise Refused(f"points into another file ({dataset.name}); only what is in the file itself is read")
    return Stored(tuple(dataset.shape), dataset.dtype.name, lambda: np.asarray(dataset[()]))


def _pth(path: Path, stack: ExitStack) -> dict[str, Stored]:
    try:
        import torch
    except ImportError as error:
        raise Refused(
            "needs PyTorch to be read: pip install torch, or convert it once with safetensors.torch.save_file"
        ) from error
    with warnings.catch_warnings():  # of kinds of tensors that are refused below
        warnings.simplefilter("ignore")
        state = torch.load(path, map_location="cpu", weights_only=True)  # no code of the file is run
    while isinstance(state, dict) and len(nested := [k for k in ("state_dict", "model") if k in state]) > 0:
        state = state[nested[0]]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise Refused("holds no state dict; expected one, as torch.save(model.state_dict(), …) writes")
    if strange := [f"{name!r:.80} {what}" for name, t in state.items() if (what := _strangeness(torch, name, t))]:
        more = f", and {len(strange) - 1} more of such" if len(strange) > 1 else ""
        raise Refused(f"has {strange[0]}{more}; expected dense floating point tensors by name")

    def read(tensor) -> np.ndarray:
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()

    return {
        name.removeprefix("module."): Stored(tuple(t.shape), str(t.dtype).removeprefix("torch."), partial(read, t))
        for name, t in state.items()
    }


def _strangeness(torch, name: object, tensor) -> str:
    """What an entry of a state dict is instead of an array under a name; "" for what it should be."""
    if not isinstance(name, str):
        return f"({type(name).__name__}) for a tensor's name"
    if tensor.is_meta:
        return "as a meta tensor, which has a shape and no values"
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


def metadata(path: Path) -> dict[str, str]:
    """The words that a .safetensors or .npz file carries beside its tensors; {} for other kinds and without any.

    ValueError for a damaged file.
    """
    if path.suffix not in (".safetensors", ".npz") or not path.is_file() or path.stat().st_size == 0:
        return {}
    with _readable(path):
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
                f"has in {DESCRIPTION}, kept for what it says of its network, {dtype} {shape}; "
                f"expected a text of at most {DESCRIPTION_BYTES:,} bytes"
            )
        return {"rawcnn": _npz_member(archive, member).tobytes().decode()}
