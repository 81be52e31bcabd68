"""What stands beside a picture: every setting, seed and figure as JSON, the arrays as .npz. Written whole or not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np


def write_record(
    output: str | Path, settings: Mapping[str, object], figures: Mapping[str, object], **arrays: np.ndarray
) -> dict[str, object]:
    """Write OUTPUT.json and, where there are arrays, OUTPUT.npz beside the picture or page `output`; gives the JSON."""
    output = Path(output)
    record: dict[str, object] = {"settings": dict(settings), **figures, "output": str(output)}
    if arrays:
        packed = BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        write_whole(output.with_suffix(".npz"), packed.getvalue())
        record["arrays"] = str(output.with_suffix(".npz"))
    text = json.dumps(record, indent=1, default=_plain, allow_nan=False)
    write_whole(output.with_suffix(".json"), text.encode())
    return json.loads(text)


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file beside its place and move it there; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    os.replace(partial, path)
    return path


@contextmanager
def together(folder: str | Path) -> Iterator[Path]:
    """A hidden folder to write files to, which are moved to `folder` when all are there; after an error, none is."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=folder) as hidden:
        yield Path(hidden)
        for file in Path(hidden).iterdir():
            os.replace(file, folder / file.name)


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy arrays and scalars
    return str(value)
