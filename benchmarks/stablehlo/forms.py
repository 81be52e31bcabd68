"""Select the forms of kernels on a GPU: `python -m benchmarks.stablehlo.forms`.

Write the results of the kernels' races on GPUs, from all records, into the table of `kernels.dispatch.selection`. Each
race times a kernel's output and gradients together, so the winning form is entered for all of them. Nothing is
entered if the default wins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import tune
from benchmarks.harness.results import FOLDER, Record, read
from benchmarks.races.kernels import KernelCase
from benchmarks.tables.markdown import newest
from kernels.dispatch.normalization import BATCH_NORMS
from kernels.dispatch.pooling import POOLS
from kernels.dispatch.response import RESPONSE_NORMS
from kernels.dispatch.selection import SHIPPED, section, shape_name
from kernels.forms.convolutions import GROUPED_JOBS, JOBS

OTHERS = {"max_pool": POOLS, "average_pool": POOLS, "batch_norm": BATCH_NORMS, "lrn": RESPONSE_NORMS}
METADATA = ("date", "device", "versions", "commit", "command")


def defaults(case: KernelCase) -> dict[str, str]:
    """Return the jobs for which a kernel's form is selected, each with its default form."""
    if case.kernel != "conv2d":
        return {case.kernel: OTHERS[case.kernel][0]}
    jobs = {job: forms[0] for job, forms in (GROUPED_JOBS if case.groups > 1 else JOBS).items()}
    if case.channels == 3:
        del jobs["conv2d input gradient"]  # the race does not compute an image's gradient
    return jobs


def shape_of(case: KernelCase) -> str:
    """Return the name of the case's shape in a table."""
    if case.kernel == "conv2d":
        filters = case.window, case.window, case.channels // case.groups, case.out
        return shape_name(filters, (case.stride, case.stride), case.groups)
    if case.kernel in ("max_pool", "average_pool"):
        return shape_name((case.window, case.window, case.channels), (case.stride, case.stride))
    return str(case.channels)


def add(records: Sequence[Record], path: Path) -> int:
    """Write the winning forms into the table at `path`.

    Entries for GPUs are replaced and all others are kept.

    Returns:
        The number of cases with another form than the default.
    """
    before, forms = tune.read(path)
    on_cpus = [k for k, metadata in enumerate(before) if not metadata["device"]["gpus"]]
    measured: list[dict[str, Any]] = [before[k] for k in on_cpus]
    forms = {name: shapes for name, shapes in forms.items() if not name.startswith("gpu ")}
    for entry in (e for shapes in forms.values() for sizes in shapes.values() for e in sizes.values()):
        entry["by"] = on_cpus.index(entry["by"])
    found = 0
    raced = [r for r in records if r["settings"].get("job") == "kernel" and r["device"]["gpus"]]
    for record in newest(raced, ("pjrt", "batch")):
        settings, case = record["settings"], KernelCase(**record["settings"]["case"])
        seconds = {name.removeprefix("rawcnn "): times for name, times in record["figures"]["seconds"].items()}
        jobs = defaults(case)
        default = next(iter(jobs.values()))
        if default not in seconds or (best := tune.choose(seconds, default)) == default:
            continue
        metadata = {key: record[key] for key in METADATA}
        if metadata not in measured:
            measured.append(metadata)
        microseconds = {name: float(f"{np.median(times) * 1e6:.3g}") for name, times in seconds.items()}
        entry = {"form": best, "microseconds": microseconds, "by": measured.index(metadata)}
        side = case.output_shape[1] if case.kernel == "conv2d" else case.size
        for job in jobs:
            sizes = forms.setdefault(section("gpu", job, tf.as_dtype(settings["precision"])), {})
            sizes.setdefault(shape_of(case), {})[str(settings["batch"] * side**2)] = entry
        found += 1
    tune.write({"measured": measured, "forms": forms}, path)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the result files")
    parser.add_argument("--table", type=Path, default=SHIPPED, help="the table of forms; by default rawcnn's")
    options = parser.parse_args(arguments)
    try:
        found = add(read(options.folder), options.table)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{found} kernels use another form than the default on a GPU, according to {options.table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
