"""A check before a run of several workers: they must share its folder and have the same settings."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from rawcnn.training.collectives import Collectives

WAIT = 90.0  # seconds; a network file system may remember for a while that another machine's file does not exist


def check_shared_folder(collectives: Collectives, worker: int, folder: Path, settings: Mapping[str, str]) -> None:
    """Check that all workers see one folder and were started with the same settings. Every worker must call it.

    Each worker writes its settings to a file in the folder, waits for the files of all, and reads the first worker's.

    Args:
        collectives: The sums over the workers.
        worker: The number of this worker, from 0.
        folder: The folder of the run.
        settings: The settings and data of the run, by name.

    Raises:
        ValueError: The folder is not shared, or the settings differ.
    """
    (number,) = collectives.total([float(time.time_ns() % 2**40) if worker == 0 else 0.0])
    files = [f".worker-{k}-{number:.0f}" for k in range(collectives.workers)]
    local = folder / files[worker]
    local.write_text(json.dumps(dict(settings)), encoding="utf-8")
    try:
        collectives.wait()
        until = time.monotonic() + WAIT
        while (missing := not set(files) <= set(os.listdir(folder))) and time.monotonic() < until:
            time.sleep(0.2)
        first = {} if missing else json.loads((folder / files[0]).read_text(encoding="utf-8"))
        differences = [
            f"{name} is {settings.get(name)} here, {first.get(name)} there"
            for name in {**first, **settings}
            if first.get(name) != settings.get(name)
        ]
        any_missing, any_different = map(bool, collectives.total([missing, bool(differences) and not missing]))
    finally:
        local.unlink(missing_ok=True)
    if any_missing:
        raise ValueError(f"the workers do not share the folder {folder}; name an --output that all of them share")
    if any_different:
        what = f"than the first: {', '.join(differences)}" if differences else "in another process, which reports them"
        raise ValueError(f"the workers were started with different settings {what}; give all the same command")
