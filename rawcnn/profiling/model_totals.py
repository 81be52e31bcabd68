"""The list of models with the totals of their profiles, at their own sizes and classes. `rawcnn models` prints it.

Tracing all models takes half a minute. Therefore `model_totals.json` holds what the traces yield. The file is used only
while the code of `rawcnn/models` is the one that it was written for; then not even TensorFlow is imported. If it is
not, the models are traced. A test compares the file with the traces, because layers and kernels can change, too. This
command writes it again:

    python -m rawcnn.profiling.model_totals
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rawcnn.files.atomic import write_atomic
from rawcnn.files.progress import StageProgress

FILE = Path(__file__).with_suffix(".json")
MODEL_FILES = Path(__file__).parents[1] / "models"


def listed_models(progress: StageProgress | None = None) -> list[dict[str, Any]]:
    """Return a row for each model.

    Args:
        progress: Called as progress(done, total, name of the model), if models are traced.

    Returns:
        {"name", "size", "paper", "options", and the keys of `Profile.totals`} for each model.
    """
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    return stored["models"] if stored["code"] == code_of_models() else traced_models(progress)


def code_of_models() -> str:
    """Return a digest of the files of `rawcnn/models`."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(MODEL_FILES.glob("*.py")))).hexdigest()


def traced_models(progress: StageProgress | None = None) -> list[dict[str, Any]]:
    """Return the rows of `listed_models` from traces of all models."""
    from rawcnn.models import MODELS

    rows = []
    for done, name in enumerate(MODELS, start=1):
        rows.append(traced_model(name))
        if progress:
            progress(done, len(MODELS), name)
    return rows


def traced_model(name: str) -> dict[str, Any]:
    """Return the row of one model."""
    from rawcnn.models import MODELS
    from rawcnn.profiling.costs import profile

    model = MODELS[name]
    return {"name": name, "size": model.size, "paper": model.paper, "options": model.options, **profile(name).totals}


def write_models() -> None:
    """Trace all models and write the file."""
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in traced_models())
    write_atomic(FILE, f'{{\n "code": "{code_of_models()}",\n "models": [\n{rows}\n ]\n}}\n'.encode())


if __name__ == "__main__":
    write_models()
