"""Open a weight file of any kind as a mapping from names to tensors. Shapes are known before a tensor is read.

So a file can be compared with a network before it takes memory. A file that would unpack to more than its header claims
is refused. No format can run code: pickles are read by `unpickling.py`, and files that point into other files are
refused, except the index of a sharded file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from rawcnn.weights.arrays import npz, npz_metadata, safetensors, safetensors_metadata
from rawcnn.weights.checkpoints import checkpoint, checkpoint_prefix
from rawcnn.weights.hdf5 import hdf5, keras_archive
from rawcnn.weights.pytorch import torch_archive, torch_pickles
from rawcnn.weights.recognition import FORMATS, kind_of
from rawcnn.weights.shards import shards
from rawcnn.weights.stored import Refused, Stored, StoredTensors

Reader = Callable[[Path, ExitStack], dict[str, Stored]]
FILES: dict[str, Reader] = {
    "safetensors": safetensors,
    "npz": npz,
    "hdf5": hdf5,
    "keras": keras_archive,
    "torch": torch_archive,
    "pickle": torch_pickles,
}
READERS: dict[str, Reader] = {
    **FILES,
    "shards": partial(shards, readers=FILES),
    "checkpoint": checkpoint,
}
METADATA = {"safetensors": safetensors_metadata, "npz": npz_metadata}
AGAIN = "download, copy or save it again"
ENDINGS = (".safetensors", ".npz", ".h5", ".keras", ".pth", ".pt", ".th", ".bin", ".ckpt", ".json", ".index")


@contextmanager
def open_tensors(path: str | Path) -> Iterator[StoredTensors]:
    """Open a weight file. Tensors are read inside the `with` block.

    Args:
        path: A file of any kind in READERS, by its content; or a TensorFlow checkpoint's prefix or folder.

    Yields:
        A mapping from names to tensors.

    Raises:
        ValueError: The file is missing, damaged or of another kind. Opening or reading raises this.
    """
    path = Path(path)
    with ExitStack() as stack:
        with _read_errors(path):
            kind, place = _kind(path)
            tensors = READERS[kind](place, stack)
        yield {name: Stored(t.shape, t.dtype, partial(_read, path, t)) for name, t in tensors.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors or .npz file; {} for other kinds of files.

    Raises:
        ValueError: The file is damaged, or of no kind that rawcnn reads.
    """
    with _read_errors(path):
        kind, place = _kind(path)
        return METADATA[kind](place) if kind in METADATA else {}


def _kind(path: Path) -> tuple[str, Path]:
    """Return the kind of a file and where to read it."""
    if prefix := checkpoint_prefix(path):
        return "checkpoint", prefix
    if (path / ".metadata").is_file():
        raise Refused(
            "is a distributed checkpoint of PyTorch; join it first with: "
            "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE"
        )
    if path.is_dir():
        raise Refused(f"is a folder; expected a weights file: {FORMATS}")
    if not path.is_file():
        raise Refused("does not exist; expected a weights file")
    if path.stat().st_size == 0:
        raise Refused("is empty; expected a weights file")
    if kind := kind_of(path):
        return kind, path
    if path.suffix.lower() in ENDINGS:
        raise Refused(f"is damaged, or no {path.suffix[1:]} file: it cannot be read as one; {AGAIN}")
    raise Refused(f"is not a weights file, judging by its content; expected {FORMATS}")


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
        kind = path.suffix[1:] or "weights"
        raise ValueError(
            f"{path} is damaged, or no {kind} file: it cannot be read as one ({type(error).__name__}); {AGAIN}"
        ) from error


def _read(path: Path, tensor: Stored) -> np.ndarray:
    with _read_errors(path):
        return tensor.read()
