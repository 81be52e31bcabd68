"""Recognize a file by its content. Its name says little: weights are called .pth, .th, .bin, .ckpt, .pth.tar, …"""

from __future__ import annotations

import codecs
import json
import pickletools
import re
import tarfile
import zipfile
from pathlib import Path

from rawcnn.weights.stored import Refused

HEADER = 1024  # bytes that are read to recognize a file
HDF5 = b"\x89HDF\r\n\x1a\n"
TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # the last bytes of TensorFlow's .index, and of its checkpoints before 2016
FORMATS = (
    "safetensors, .npz, Keras .h5, .weights.h5 or .keras, PyTorch .pth, the index (.json) of a sharded file, or a "
    "TensorFlow checkpoint"
)

# The first bytes of files that people take for weights, and what to do about them
OTHERS = (
    (rb"\x1f\x8b|BZh|\xfd7zXZ\0|\x28\xb5\x2f\xfd|7z\xbc\xaf\x27\x1c|Rar!", "is a compressed file; unpack it first"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull"),
    (rb"\s*<(!doctype|html|\?xml)", "is a web page, not weights: the download failed; download the file again"),
    (rb"\x93NUMPY", "is a single NumPy array (.npy); expected tensors by name: np.savez(file, **tensors)"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP", "is an image, not weights"),
    (rb"\x08\x01\x12", "looks like the program of a SavedModel; name the folder that it is in"),
    (rb"\x08[\x02-\x0f][\x12\x1a\x22]", "looks like an ONNX model; save the weights of the network it was made from"),
    (rb"model_checkpoint_path:", "is a TensorFlow folder's list of checkpoints; name the folder, or one of them"),
    (rb"....TFL3", "is a TensorFlow Lite model; save the weights of the network it was made from"),
)


def kind_of(path: Path) -> str:
    """Return the kind of a file, a key of `readers.READERS`; "" if nothing in it is familiar.

    Raises:
        Refused: The file is of a familiar kind that holds no weights by name. The message says what to do.
    """
    with path.open("rb") as file:
        start = file.read(HEADER)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _kind_of_zip(path)
    if start.startswith(HDF5) or start[512 : 512 + len(HDF5)] == HDF5:  # a file may have a user block before HDF5
        return "hdf5"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    for pattern, what in OTHERS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            raise Refused(what)
    if start.lstrip()[:1] == b"{":
        return _kind_of_json(path)
    if _is_old_pickle(start):
        return "pickle"
    if _ends_with(path, TABLE):
        return "checkpoint"
    if start[257:262] == b"ustar" or (len(start) >= 512 and tarfile.is_tarfile(path)):
        raise Refused(
            "is a tar archive; unpack it and name the weights file in it. PyTorch wrote tar archives until 2017: save "
            "such a file again with torch.save(torch.load(file), other)"
        )
    if _is_text(start):
        raise Refused(f"is text, not weights; expected {FORMATS}")
    return ""


def _ends_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(mark)))
        return file.read() == mark


def _is_old_pickle(start: bytes) -> bool:
    """Return whether a file begins as a pickle of protocol 0 or 1, which has no mark: a container or a call."""
    if not start.startswith((b"(", b"}", b"]", b"c")):
        return False
    found = []
    try:
        for operation, _, _ in pickletools.genops(start):
            found.append(operation.name)
    except Exception:  # it ends within an operation, or is no pickle; pickletools raises many kinds
        pass
    return len(found) > 3 or found[-1:] == ["STOP"]


def _is_text(start: bytes) -> bool:
    """Return whether a file begins as text. Its last character may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _kind_of_zip(path: Path) -> str:
    """Return the kind of a zip archive. PyTorch's members are in one folder, whose name differs."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    members = {name.partition("/")[2] if "/" in name else name for name in names}
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        raise Refused(
            "is a TorchScript program; expected its weights: "
            "torch.save(torch.jit.load(file).state_dict(), other) writes them"
        )
    if "archive_format" in members or "models/model.json" in members:
        raise Refused(
            "is a program exported by torch.export; expected its weights: "
            "torch.save(torch.export.load(file).state_dict, other) writes them"
        )
    if ".data/extern_modules" in members:
        raise Refused(
            "is a package of code written by torch.package; expected weights: torch.save(model.state_dict(), …)"
        )
    if "data.pkl" in members:
        return "torch"
    if "model.weights.h5" in names:
        return "keras"
    if not names or any(name.endswith(".npy") for name in names):
        return "npz"
    raise Refused(
        f"is a zip archive without tensors (it has {names[0]!r:.80}); unpack it and name the weights file in it"
    )


def _kind_of_json(path: Path) -> str:
    """Return "shards" for the index of a sharded file; refuse other JSON."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise Refused("is JSON nested too deep to be the index of a sharded file") from error
    if isinstance(index, dict) and isinstance(index.get("weight_map"), dict):
        return "shards"
    raise Refused("is JSON without a weight_map; expected weights, or the index of a sharded file")
