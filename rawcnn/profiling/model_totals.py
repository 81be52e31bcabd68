"""The totals of the profile of each model, at its own size and classes. `rawcnn models` lists them.

Tracing all models takes half a minute. Therefore `model_totals.json` holds what the traces yield. The file is used only
while the code of `rawcnn/models` is the one that it was written for. If it is not, the models are traced. A test
compares the file with the traces, because layers and kernels can change, too. This command writes it again:

    python -m rawcnn.profiling.model_totals
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import rawcnn.models
from rawcnn.files.atomic import write_atomic
from rawcnn.files.progress import StageProgress
from rawcnn.models import MODELS
from rawcnn.profiling.costs import profile

FILE = Path(__file__).with_suffix(".json")


def model_totals(progress: StageProgress | None = None) -> dict[str, dict[str, object]]:
    """Return the totals of all models.

    Args:
        progress: Called as progress(done, total, name of the model), if models are traced.

    Returns:
        Model → `Profile.totals`.
    """
    stored = json.loads(FILE.read_text())
    known = stored["models"] if stored["code"] == code_of_models() else {}
    found = {}
    for done, name in enumerate(MODELS, start=1):
        if name not in known:
            known[name] = profile(name).totals
            if progress:
                progress(done, len(MODELS), name)
        found[name] = known[name]
    return found


def code_of_models() -> str:
    """Return a digest of the files of `rawcnn/models`."""
    files = sorted(Path(rawcnn.models.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def write_totals() -> None:
    """Trace all models and write their totals."""
    totals = {name: profile(name).totals for name in MODELS}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in totals.items())
    write_atomic(FILE, f'{{\n "code": "{code_of_models()}",\n "models": {{\n{rows}\n }}\n}}\n'.encode())


if __name__ == "__main__":
    write_totals()
