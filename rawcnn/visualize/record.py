"""What stands beside a picture: every setting, seed and figure as JSON, the arrays as .npz. Written whole or not."""

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
    """Write OUTPUT.json and, where there are arrays, OUTPUT.npz beside the picture or page `output`; gives the JSON."""
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
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy arrays and scalars
    return str(value)
