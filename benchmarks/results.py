"""What was measured, on what: result files, and the README's table that is made from them.

A result file, benchmarks/results/NAME.jsonl, holds one record a line: date, device, versions, commit, command,
settings and figures. `python -m benchmarks.results README.md` writes the table between the two comment lines

    <!-- race table -->
    <!-- end of race table -->

of that file anew; a test compares them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

FOLDER = Path(__file__).resolve().parent / "results"
START, END = "<!-- race table -->", "<!-- end of race table -->"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "sve", "bf16")
VERSIONS = ("tensorflow", "keras", "numpy", "rawcnn")
Record = dict[str, Any]


class Result(Protocol):
    """A RaceResult or a KernelResult."""

    def to_json(self) -> dict[str, object]: ...


# Where it was measured -------------------------------------------------------------------------------------------


def device() -> dict[str, object]:
    """The processor, its cores and what it can multiply with; the GPU where there is one."""
    import tensorflow as tf

    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    model = re.search(r"model name\s*:\s*(.+)", text)
    found = re.search(r"(?:flags|Features)\s*:\s*(.+)", text)
    flags = set(found[1].split()) if found else set()
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "gpus": gpus,
        "system": platform.system(),
    }


def versions() -> dict[str, str | None]:
    """Python's version and those of the packages that matter here."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit(folder: Path | None = None) -> str | None:
    """The commit of the checkout that this file lies in, with "+" if tracked files were changed; None elsewhere."""
    where = str(folder or Path(__file__).resolve().parents[1])
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


def record(result: Result, command: str) -> Record:
    """One result with all that one must know to repeat it."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(),
        "versions": versions(),
        "commit": commit(),
        "command": command,
        **result.to_json(),
    }


def append(results: Sequence[Result], command: str, path: Path) -> list[Record]:
    """Add `results` to the file at `path`, which is made if there is none; returns the records."""
    records = [record(result, command) for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records)
    return records


def read(folder: Path = FOLDER) -> list[Record]:
    """All records of all result files, file by file. ValueError for a line that is no record."""
    records = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                what = f"{path}, line {number}, is not JSON ({error.msg}); expected one record a line"
                raise ValueError(what) from error
    return records


# Tables ----------------------------------------------------------------------------------------------------------


def races(records: Sequence[Record]) -> list[Record]:
    """The newest record of each race (device, model, job, precision, batch, size) that all contestants ran."""
    newest: dict[tuple, Record] = {}
    for r in records:
        if "model" in r["settings"] and r["figures"]["complete"]:
            s = r["settings"]
            key = (_device_words(r["device"]), *(s[k] for k in ("model", "job", "precision", "batch", "size")))
            if key not in newest or r["date"] >= newest[key]["date"]:
                newest[key] = r
    return [newest[key] for key in sorted(newest, key=lambda k: (k[0], k[1], k[2], k[3] != "float32", k[4], k[5]))]


def table(records: Sequence[Record]) -> str:
    """The races as Markdown tables, one a device, with what it was measured on under it; "" where there are none."""
    chosen = races(records)
    lines: list[str] = []
    for where in dict.fromkeys(_device_words(r["device"]) for r in chosen):
        here = [r for r in chosen if _device_words(r["device"]) == where]
        lines += [
            "| network | job | precision | batch | rawcnn | Keras's best | Keras's time / rawcnn's |",
            "|---|---|---|---|---|---|---|",
            *(_row(r) for r in here),
            "",
            f"Measured on {where}; {_joined(_version_words(r['versions']) for r in here)}. Median of "
            f"{_joined(str(r['settings']['rounds']) for r in here)} interleaved rounds; in brackets the middle half of "
            "the rounds' ratios.",
            "",
        ]
    return "\n".join(lines)


def _row(r: Record) -> str:
    s, f = r["settings"], r["figures"]
    times = {c["name"]: c["median"] for c in f["contestants"]}
    low, high = f["ratio_quartiles"]
    job = "training step" if s["job"] == "training" else s["job"]
    cells = [
        s["model"],
        f"{job}, {s['size']} px",
        s["precision"],
        str(s["batch"]),
        f"{milliseconds(times[f['chosen']])} ({f['chosen'].removeprefix('rawcnn ')})",
        f"{milliseconds(times[f['keras_best']])} ({f['keras_best'].removeprefix('keras ')})",
        f"**{f['ratio']:.2f}** ({low:.2f}–{high:.2f})",
    ]
    return f"| {' | '.join(cells)} |"


def kernel_table(records: Sequence[Record]) -> str:
    """The races of kernels as a Markdown table: GFLOP/s of each form, the fastest in bold."""
    lines = ["| kernel | job | precision | GFLOP/s of each form |", "|---|---|---|---|"]
    for r in records:
        if "case" not in r["settings"]:
            continue
        s, f = r["settings"], r["figures"]
        forms = [
            f"**{c['name']} {c['gflops']:.1f}**" if c["name"] == f["best"] else f"{c['name']} {c['gflops']:.1f}"
            for c in sorted(f["contestants"], key=lambda c: -c["gflops"])
        ]
        lines.append(f"| {s['case']} | {s['job']} | {s['precision']} | {', '.join(forms)} |")
    return "\n".join(lines) + "\n"


def milliseconds(seconds: float) -> str:
    """Three digits: 1.23 ms, 12.3 ms, 123 ms, 1,230 ms."""
    value = seconds * 1e3
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f} ms"


def _device_words(device: Mapping[str, Any]) -> str:
    flags = ", ".join(device["flags"])
    words = f"{device['cores']} cores of {device['cpu']}" + (f" ({flags})" if flags else "")
    return f"{', '.join(device['gpus'])}, {words}" if device["gpus"] else words


def _version_words(found: Mapping[str, str | None]) -> str:
    return f"Python {found['python']}, TensorFlow {found['tensorflow']}, Keras {found['keras']}"


def _joined(words) -> str:
    """Each once, in their order."""
    return " or ".join(dict.fromkeys(words))


# README ----------------------------------------------------------------------------------------------------------


def rewrite(text: str, records: Sequence[Record]) -> str:
    """`text` with the table between its two marks made anew. ValueError if it does not have both, once, in order."""
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"expected the lines {START} and {END}, each once and in this order")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    tables = table(records)
    return f"{before}{START}\n" + (f"\n{tables}\n" if tables else "") + f"{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into a file; with --check only tell whether it is as the result files give it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=main.__doc__)
    parser.add_argument("file", type=Path, help="the file with the two comment lines, such as README.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the result files")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the table is old")
    options = parser.parse_args(arguments)
    try:
        old = options.file.read_text(encoding="utf-8")
        new = rewrite(old, read(options.folder))
    except (OSError, ValueError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 2
    if options.check:
        return int(new != old)
    options.file.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
