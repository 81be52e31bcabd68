"""Records of a picture or page: settings, seeds and figures as JSON, arrays as .npz. Files are written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from rawcnn.files.atomic import write_atomic


def write_record(
    output: str | Path, settings: Mapping[str, object], figures: Mapping[str, object], **arrays: np.ndarray
) -> dict[str, object]:
    """Write the record of a picture or page next to it.

    Args:
        output: The path of the picture or page; the record has the same name with the suffix .json, and .npz if there
            are arrays.
        settings: How it was made.
        figures: The results, as values that JSON can hold; NumPy arrays are converted.
        **arrays: Arrays by name.

    Returns:
        The content of the JSON file.
    """
    output = Path(output)
    record: dict[str, object] = {"settings": dict(settings), **figures, "output": str(output)}
    if arrays:
        packed = BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        write_atomic(output.with_suffix(".npz"), packed.getvalue())
        record["arrays"] = str(output.with_suffix(".npz"))
    text = json.dumps(record, indent=1, default=_plain, allow_nan=False)
    write_atomic(output.with_suffix(".json"), text.encode())
    return json.loads(text)


def _plain(value: object) -> object:
    """NumPy arrays and scalars as Python values; anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
