"""Result files: measurements with their metadata.

A result file, benchmarks/results/NAME.jsonl, holds one record per line: date, device, versions, commit, command,
settings and figures. Of paths in a command only the last name is recorded. `benchmarks.tables.documents` generates the
tables of the documents from these files.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import onednn

FOLDER = Path(__file__).resolve().parents[1] / "results"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "sve", "bf16")
VERSIONS = ("tensorflow", "keras", "numpy", "rawcnn", "jax", "torch")
Record = dict[str, Any]


class Result(Protocol):
    """A result that can be recorded: RaceResult, MemoryResult, KernelResult, Series and others of this package."""

    def to_json(self) -> dict[str, object]: ...


# Metadata --------------------------------------------------------------------------------------------------------


def device(gpus: Sequence[str] | None = None) -> dict[str, object]:
    """Describe the machine.

    Args:
        gpus: Names of the GPUs; by default those that TensorFlow lists.

    Returns:
        The processor, its number of cores, its vector and matrix extensions among `FLAGS`, the GPUs and the operating
        system. "onednn" says whether TensorFlow uses oneDNN's CPU kernels; it is None if TensorFlow is not imported.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    found = re.search(r"(?:flags|Features)\s*:\s*(.+)", text)
    flags = set(found[1].split()) if found else set()
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "gpus": _gpus_of_tensorflow() if gpus is None else list(gpus),
        "onednn": onednn.in_use() if sys.modules.get("tensorflow") else None,
        "system": platform.system(),
    }


def _gpus_of_tensorflow() -> list[str]:
    import tensorflow as tf

    return [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages in `VERSIONS`; None for a package that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit(folder: Path | None = None) -> str | None:
    """Return the commit of the checkout in `folder` (default: of this file), with "+" if tracked files are changed.

    Outside a checkout the result is None.
    """
    where = str(folder or Path(__file__).resolve().parents[2])
    try:
        run = [
            subprocess.run(["git", "-C", where, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ("rev-parse", "--show-toplevel"),
                ("rev-parse", "HEAD"),
                ("status", "--porcelain", "--untracked-files=no"),
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    top, head, changes = run
    return head + ("+" if changes else "") if Path(top) == Path(where).resolve() else None


# Files -----------------------------------------------------------------------------------------------------------


def command_line(module: str, words: Sequence[str]) -> str:
    """Return `python -m module words…`; paths are reduced to their last name, because folders differ by machine."""
    return shlex.join(["python", "-m", module, *(Path(w).name if "/" in w else w for w in words)])


def metadata(command: str, gpus: Sequence[str] | None = None) -> Record:
    """Return what is needed to repeat a measurement: date, device, versions, commit and command.

    Args:
        command: The command line of the measurement.
        gpus: Names of the GPUs; by default those that TensorFlow lists.
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(gpus),
        "versions": versions(),
        "commit": commit(),
        "command": command,
    }


def record(result: Result, command: str) -> Record:
    """Return one result with its metadata."""
    return {**metadata(command), **result.to_json()}


def append(results: Sequence[Result], command: str, path: Path) -> list[Record]:
    """Append `results` to the file at `path`, which is created if necessary, and return the records."""
    records = [record(result, command) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records)
    return records


def read(folder: Path = FOLDER) -> list[Record]:
    """Return all records of all result files in `folder`. Raise ValueError for a line that is not JSON."""
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                what = f"{path}, line {number}, is not JSON ({error.msg}); expected one record per line"
                raise ValueError(what) from error
    return records
