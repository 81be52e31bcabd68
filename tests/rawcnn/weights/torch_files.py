"""Write PyTorch's files without PyTorch: both formats, with any pickled objects around the tensors."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage", "int64": "LongStorage"}


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("only named")


def _modules() -> dict[str, ModuleType]:
    """Return modules that the pickler finds PyTorch's names in."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    _rebuild_tensor_v2.__module__, utils._rebuild_tensor_v2 = "torch._utils", _rebuild_tensor_v2
    torch._utils = utils
    return {"torch": torch, "torch._utils": utils}


class Tensor:
    """A tensor with the values of an array; `strides` and `offset` in elements make it a view of these values."""

    def __init__(self, values, shape=None, strides=None, offset: int = 0):
        self.values = np.asarray(values)
        self.shape = self.values.shape if shape is None else shape
        self.strides = tuple(s // self.values.itemsize for s in self.values.strides) if strides is None else strides
        self.offset = offset


class _Pickler(pickle.Pickler):
    def __init__(self, file, torch: ModuleType, archive: bool):
        super().__init__(file, protocol=2)
        self.torch, self.archive, self.storages = torch, archive, {}

    def persistent_id(self, value):
        if not isinstance(value, np.ndarray) or id(value) not in self.storages:
            return None
        kind = getattr(self.torch, STORAGES[value.dtype.name])
        entry = ("storage", kind, str(list(self.storages).index(id(value))), "cpu", value.size)
        return entry if self.archive else (*entry, None)

    def reducer_override(self, value):
        if not isinstance(value, Tensor):
            return NotImplemented
        self.storages[id(value.values)] = value.values
        arguments = (value.values, value.offset, value.shape, value.strides, False, OrderedDict())
        return self.torch._utils._rebuild_tensor_v2, arguments


def write(value: object, path: Path, archive: bool = True, byteorder: str = "little") -> None:
    """Write an object as torch.save does, each `Tensor` as a tensor; `archive=False` is the format before 1.6."""
    modules = _modules()
    content = io.BytesIO()
    with mock.patch.dict(sys.modules, modules):
        pickler = _Pickler(content, modules["torch"], archive)
        pickler.dump(value)
    storages = [v if byteorder == "little" else v.byteswap() for v in pickler.storages.values()]
    if archive:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", content.getvalue())
            file.writestr("archive/byteorder", byteorder)
            for number, values in enumerate(storages):
                file.writestr(f"archive/data/{number}", values.tobytes())
            file.writestr("archive/version", "3\n")
        return
    system = {"protocol_version": VERSION, "little_endian": byteorder == "little", "type_sizes": {"int": 4}}
    start = b"".join(pickle.dumps(part, 2) for part in (MAGIC, VERSION, system))
    keys = pickle.dumps([str(number) for number in range(len(storages))], 2)
    values = b"".join(v.size.to_bytes(8, "little") + v.tobytes() for v in storages)
    path.write_bytes(start + content.getvalue() + keys + values)
