"""Read a pickle without running anything that it names.

A pickle is a program: it names functions and classes, and calls them. Here every name outside NAMES becomes a class
without behavior, a `Placeholder`. So argparse.Namespace, a date or the author's own classes
are harmless, and so is os.system: it is never looked up. The names in NAMES are not looked up either. They stand for
the functions below, which describe tensors and arrays.

The pure Python unpickler is used, because the one in C allocates memory for any position that a pickle claims.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from rawcnn.weights.stored import Refused


class Placeholder:
    """An object of a class that is not looked up. It keeps what the pickle stores in the object."""

    origin = ""  # module and name of the class
    state: Any
    items: dict

    def __new__(cls, *arguments, **keywords):
        placeholder = super().__new__(cls)
        placeholder.state, placeholder.items = None, {}
        return placeholder

    def __call__(self, *arguments, **keywords):
        return self  # what the pickle calls is not run

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.items[key] = value

    def append(self, item):
        self.items[len(self.items)] = item

    @property
    def is_module(self) -> bool:
        """Whether this is a torch.nn.Module."""
        return isinstance(self.state, dict) and "_modules" in self.state


@dataclass(frozen=True)
class Storage:
    """Values in a PyTorch file that tensors are views of."""

    key: str
    dtype: str  # PyTorch's name of the type: "float32"; "" for bytes
    start: int = 0  # of a view of another storage, in elements


@dataclass(frozen=True)
class TorchTensor:
    """A dense tensor of a PyTorch file."""

    storage: Storage
    offset: int  # in elements, as the strides are
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Unreadable:
    """A tensor of another kind: `what` continues the sentence "file has 'name' …"."""

    what: str


class NumpyType:
    """A NumPy type: its letter and its size, then its byte order."""

    def __init__(self, text="", *_):
        self.text, self.order = text, "<"

    def __setstate__(self, state):
        self.order = state[1] if state[1] in ("<", ">") else "|"

    def dtype(self) -> np.dtype | None:
        """Return the type if it is a plain number, otherwise None."""
        return np.dtype(self.order + self.text) if re.fullmatch(r"[fiub]\d{1,2}", str(self.text)) else None


class NumpyArray:
    """A NumPy array in a pickle."""

    value: np.ndarray | None = None  # None: it holds Python objects or texts

    def __setstate__(self, state):
        _, shape, kind, columns_first, content = state
        if isinstance(content, bytes) and isinstance(kind, NumpyType) and (dtype := kind.dtype()) is not None:
            self.value = np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")


STORAGE_TYPES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Untyped": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip


def _tensor(storage: Storage, offset, shape, strides, *_) -> TorchTensor:
    return TorchTensor(storage, offset, tuple(shape), tuple(strides), storage.dtype)


def _typed_tensor(storage: Storage, offset, shape, strides, gradient, hooks, dtype, *_) -> TorchTensor:
    return TorchTensor(storage, offset, tuple(shape), tuple(strides), dtype.origin.removeprefix("torch."))


def _scalar(kind: NumpyType, content: bytes) -> object:
    dtype = kind.dtype()
    return None if dtype is None else np.frombuffer(content, dtype)[0].item()


def _array(content: bytes, kind: NumpyType, shape, order="C", *_) -> NumpyArray:
    array = NumpyArray()
    array.__setstate__((1, shape, kind, order == "F", bytes(content)))
    return array


def _quantized(storage: Storage, *_) -> Unreadable:
    return Unreadable(f"as a quantized tensor (torch.{storage.dtype})")


NAMES: dict[str, Callable[..., object]] = {
    "_codecs.encode": lambda text, encoding="": text.encode("latin1"),  # bytes, in old protocols
    "numpy.dtype": NumpyType,
    "torch.serialization._get_layout": lambda name: name,
    "torch._tensor._rebuild_from_type": lambda function, kind, arguments, *_: function(*arguments),
    "torch._tensor._rebuild_from_type_v2": lambda function, kind, arguments, *_: function(*arguments),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda tensor, *_: tensor,
    "torch._utils._rebuild_device_tensor_from_numpy": lambda array, *_: array,
    "torch._utils._rebuild_meta_tensor_no_storage": lambda *_: Unreadable(
        "as a meta tensor, which has a shape but no values"
    ),
    "torch._utils._rebuild_nested_tensor": lambda *_: Unreadable("as a nested tensor (torch.strided)"),
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_csr_tensor": lambda layout, *_: Unreadable(f"as a sparse tensor ({layout})"),
    "torch._utils._rebuild_sparse_tensor": lambda layout, *_: Unreadable(f"as a sparse tensor ({layout})"),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
}
for _module in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    NAMES[f"{_module}.multiarray._reconstruct"] = lambda *_: NumpyArray()
    NAMES[f"{_module}.multiarray.scalar"] = _scalar
    NAMES[f"{_module}.numeric._frombuffer"] = _array


class Unpickler(pickle._Unpickler):
    """Reads one pickle. `storages` collects the storages of PyTorch tensors by key."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="latin1")  # Python 2's texts, too
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name: never the class or function itself, except an ordered dict."""
        origin = f"{module}.{name}"
        if origin == "collections.OrderedDict":
            return OrderedDict
        if origin in NAMES:
            function = NAMES[origin]
            return lambda *arguments: function(*arguments)  # a new one, so that a pickle cannot set its attributes
        return type("Placeholder", (Placeholder,), {"origin": origin})

    def persistent_load(self, pid: Any) -> object:
        """Return a storage; PyTorch writes these outside of the pickle: ("storage", type, key, device, count, …)."""
        if isinstance(pid, tuple) and len(pid) >= 3 and pid[0] == "module":  # a class and its source code
            return pid[1]
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Refused(f"points to an object outside of it ({pid!s:.60}); only tensors of the file itself are read")
        name = getattr(pid[1], "origin", "").rpartition(".")[2].removesuffix("Storage")
        storage = Storage(str(pid[2]), STORAGE_TYPES.get(name, name.lower()))
        self.storages[storage.key] = storage
        if len(pid) > 5 and pid[5] is not None:  # the view of another storage: (its key, start, count)
            return Storage(storage.key, storage.dtype, int(pid[5][1]))
        return storage


def unpickle(file: IO[bytes]) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle from a file, and run nothing of it.

    Returns:
        The object, with placeholders for objects of other classes than containers, and the storages by key.
    """
    unpickler = Unpickler(file)
    return unpickler.load(), unpickler.storages
