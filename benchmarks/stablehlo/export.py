"""Export workloads for machines without TensorFlow: `python -m benchmarks.stablehlo.export FOLDER [--small]`.

The folder of each workload contains:

    program-B.mlirbc    the step for a batch of B, as a portable StableHLO artifact
    manifest.json       arguments and how they are drawn, outputs, operation counts, the network's layers for the peers
    answers.npz         TensorFlow's results on this machine's CPU for the first batch (for training, a small batch)
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.harness.results import command_line, metadata
from benchmarks.races.kernels import CASES, SMALL_CASES, forms
from benchmarks.stablehlo import workloads
from benchmarks.stablehlo.arrays import Argument, summary, values
from benchmarks.stablehlo.workloads import Workload
from kernels.forms.compiler import compiled_by
from rawcnn.export import STABLEHLO, lower_function

CHECKED = 2  # batch of the training step whose results are written; larger ones exceed a CPU's memory
BATCHES = {  # the first one is compared with the CPU's results
    "resnet50": (128, 64, 256, 512),
    "vgg16": (64, 128, 256, 512),
    "googlenet": (256, 64, 128, 512),
    "alexnet": (512, 64, 128, 256),
}
Plan = tuple[partial[Workload], tuple[int, ...]]  # (creates the workload, batches to time)


def full() -> Iterator[Plan]:
    """Return the plans for a GPU."""
    for precision in ("float32", "bfloat16"):
        for name, batches in BATCHES.items():
            yield partial(workloads.inference, name, precision), batches
            yield partial(workloads.training, name, precision), batches
        yield partial(workloads.pgd, "cifar_resnet20", precision), (512,)
        yield partial(workloads.visualize, "googlenet", "inception_4a", precision), (32,)
        for case in CASES:
            yield from ((partial(workloads.kernel, case, form, precision), (64,)) for form in forms(case))


def small() -> Iterator[Plan]:
    """Return small plans of the same kinds, for a CPU and tests."""
    yield partial(workloads.inference, "cifar_resnet20", "float32", size=8), (4,)
    yield partial(workloads.inference, "cifar_resnet20", "bfloat16", size=8), (4,)
    yield partial(workloads.training, "cifar_resnet20", "float32", size=8), (4,)
    yield partial(workloads.pgd, "cifar_resnet20", "float32", size=8), (4,)
    yield partial(workloads.visualize, "googlenet", "inception_3a", "float32", size=64, classes=10), (2,)
    yield partial(workloads.kernel, SMALL_CASES[0], "winograd", "float32"), (4,)


def export(
    workload: Workload, batches: Sequence[int], folder: Path, command: str = "python -m benchmarks.stablehlo.export"
) -> Path:
    """Write one workload.

    Args:
        workload: The workload.
        batches: The batches to export; the first is compared, except for training.
        folder: The parent folder.
        command: The command line that is recorded in the manifest.

    Returns:
        The path of the workload's folder.
    """
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    target = folder / re.sub(r"[^\w.-]+", "-", f"{workload.name} {workload.form}".strip())
    target.mkdir(parents=True, exist_ok=True)
    checked = CHECKED if workload.job == "training" else batches[0]
    for batch in {checked, *batches}:
        arguments = workload.arguments(batch)
        specs = [tf.TensorSpec(a.program_shape, a.dtype) for a in arguments]
        text = lower_function(program_function(workload, arguments), specs, workload.name)
        (target / f"program-{batch}.mlirbc").write_bytes(stablehlo.serialize_portable_artifact_str(text, STABLEHLO))
    np.savez(target / "answers.npz", allow_pickle=False, **answers(workload, checked))
    manifest = {
        **metadata(command),
        "name": workload.name,
        "form": workload.form,
        "job": workload.job,
        "precision": workload.precision,
        "batches": list(batches),
        "checked": checked,
        "arguments": {batch: [a.spec() for a in workload.arguments(batch)] for batch in {checked, *batches}},
        "outputs": list(workload.outputs),
        "carried": workload.carried,
        "flops": workload.flops,
        "bytes": {batch: workload.moved(batch) for batch in batches},
        "by_length": list(workload.by_length),
        "paths": workload.paths,
        "case": asdict(workload.case) if workload.case else None,
        "model": json.loads(workload.model.to_json()) if workload.model else None,
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return target


def program_function(workload: Workload, arguments: Sequence[Argument]) -> Callable[..., list[tf.Tensor]]:
    """Return the workload's function in the program's layout of arguments, with the kernel forms for GPUs.

    Outputs that are arguments of the next call have the layout of those arguments.
    """
    axes = {out: arguments[into].axes for out, into in workload.carried}

    def function(*tensors):
        ordered = [
            tf.transpose(t, np.argsort(a.axes)) if a.axes else t for t, a in zip(tensors, arguments, strict=True)
        ]
        with compiled_by("gpu"):
            results = workload.function(*ordered)
        return [tf.transpose(r, axes[k]) if axes.get(k) else r for k, r in enumerate(results)]

    return function


def answers(workload: Workload, batch: int) -> dict[str, np.ndarray]:
    """Return the summarized results of the step on this CPU, by output."""
    arguments = workload.arguments(batch)
    arrays = values(arguments, workload.paths)
    tensors = [tf.constant(v, a.dtype) for v, a in zip(arrays, arguments, strict=True)]
    function = tf.function(program_function(workload, arguments), autograph=False)
    results = function.get_concrete_function(*tensors)(*tensors)
    named = zip(workload.outputs, results, strict=True)
    return {name: summary(name, r.numpy(), name in workload.by_length) for name, r in named}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the parent folder of the workloads' folders")
    parser.add_argument("--small", action="store_true", help="export small networks, for a CPU")
    parser.add_argument("--only", help="export the plans whose names contain this, such as 'training vgg16'")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    command = command_line("benchmarks.stablehlo.export", words)
    every = small() if options.small else full()
    plans = {" ".join([make.func.__name__, *map(str, make.args)]): (make, batches) for make, batches in every}
    requested = [plan for name, plan in plans.items() if not options.only or options.only in name]
    if not requested:
        some = ", ".join(repr(name) for name in list(plans)[:3])
        print(f"no plan has {options.only!r} in it; expected a part of {some} and so on", file=sys.stderr)
        return 2
    try:
        for make, batches in requested:
            print(export(make(), batches, options.folder, command), file=sys.stderr)
    except OSError as error:
        print(f"{options.folder} cannot be written ({error.strerror}); name another folder", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
