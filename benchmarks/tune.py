"""Measure the fastest form of each kernel on this machine, for the table of `kernels.dispatch.selection`.

`rawcnn benchmark kernels --tune` writes the user's table. `python -m benchmarks.tune [NETWORK…] [--compilers xla]
[--jobs batch_norm …]` measures a part of rawcnn's table again.

The cases are the convolutions, normalizations and pools of some networks: forward and each gradient, as a TensorFlow
graph and by XLA. For inference they are convolutions of constant filters with bias and ReLU, which a graph can fuse.
The forms of a case are compared and then timed in interleaved rounds. A form replaces the default if its median and its
fastest round are both shorter by `MARGIN`.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
import rawcnn
from benchmarks.harness.results import command_line, metadata
from benchmarks.harness.timing import Run, StepProgress, interleaved, timed
from benchmarks.races.kernels import TOLERANCE, difference, distinct_tensor, random_tensor, wait_for
from kernels.dispatch.normalization import BATCH_NORMS
from kernels.dispatch.pooling import POOLS
from kernels.dispatch.response import RESPONSE_NORMS
from kernels.dispatch.selection import SHIPPED, forget, section, shape_name
from kernels.forms.compiler import compiled_by
from kernels.forms.convolutions import FORMS, GROUPED_JOBS, JOBS
from kernels.geometry import Convolution, pair
from rawcnn.files.atomic import write_atomic
from rawcnn.models import MODELS as NETWORKS
from rawcnn.nn.arguments import Size
from rawcnn.nn.trace import Operation

MODELS = ("resnet50", "resnet18", "vgg16", "alexnet", "googlenet", "inception_v3", "cifar_resnet20")
COMPILERS = ("graph", "inference", "xla")
INFERENCE = ("conv2d", "lrn")  # jobs with separate measurements for inference
MARGIN = 0.04  # relative advantage over the default that a form needs
MEASURED_SECONDS, COPIES = 0.01, 8  # a measurement repeats the call to take these seconds, but at most 8 times


@dataclass(frozen=True)
class Tunable:
    """One job on one shape, with the forms to choose from."""

    job: str  # "conv2d", "conv2d input gradient", "batch_norm", …
    shape: str  # its name in a table
    pixels: int  # of all images: of a convolution's output, or of another kernel's input
    forms: tuple[str, ...]  # the default first
    operation: Operation

    def __str__(self) -> str:
        return f"{self.job} {self.shape} of {self.pixels:,} pixels"


def cases(models: Sequence[str], batch: int, size: Size | None = None) -> list[Tunable]:
    """Return the distinct cases of these networks: convolutions, norms and pools.

    Dilated and depthwise convolutions are left out, because they have a single form.
    """
    found: dict[str, Tunable] = {}
    for name in models:
        for operation in rawcnn.profile(name, batch=batch, size=size).operations:
            for case in _cases(operation):
                found.setdefault(str(case), case)
    return list(found.values())


def _cases(operation: Operation) -> list[Tunable]:
    """Return the cases of one operation."""
    s: Mapping[str, Any] = operation.settings
    pixels = prod(operation.output_shape[:3])
    depthwise = operation.kind == "conv" and s["groups"] == operation.input_shapes[0][-1] > 1
    if operation.kind == "conv" and pair(s["dilation"]) == (1, 1) and not depthwise:
        filters, stride = operation.parameters[0].shape, pair(s["stride"])
        named, known = shape_name(filters, stride, s["groups"]), GROUPED_JOBS if s["groups"] > 1 else JOBS
        convolution = Convolution(stride, s["padding"], groups=s["groups"])
        return [
            Tunable(job, named, pixels, tuple(f for f in forms if _fits(f, job, filters, convolution)), operation)
            for job, forms in known.items()
        ]
    if operation.kind == "batch_norm":
        return [Tunable("batch_norm", f"{operation.output_shape[-1]}", pixels, BATCH_NORMS, operation)]
    if operation.kind == "lrn":
        return [Tunable("lrn", f"{operation.output_shape[-1]}", pixels, RESPONSE_NORMS, operation)]
    if operation.kind in ("max_pool", "average_pool"):
        (*image, channels), stride = operation.input_shapes[0], pair(s["stride"])
        named = shape_name((*pair(s["size"]), channels), stride)
        return [Tunable(operation.kind, named, prod(image), POOLS, operation)]
    return []


def _fits(form: str, job: str, filters: Sequence[int], convolution: Convolution) -> bool:
    """Return whether the form accepts this shape and can be fast; a matmul per tap is slow for many taps."""
    if FORMS[form].accepts(job, filters, convolution):
        return False
    taps, strided = filters[0] * filters[1], convolution.stride != (1, 1)
    if form in ("split", "dense"):
        return convolution.groups > 1
    if form == "space_to_depth":
        return strided and taps > 1
    if form == "flipped":
        return not strided or taps > 1
    return form in ("nn", "winograd", "winograd4") or convolution.groups > 1 or taps <= 9


def _call(
    case: Tunable, form: str, dtype: tf.DType, compiler: str
) -> tuple[Callable[..., list[tf.Tensor]], list[tf.Tensor]]:
    """Return (a function of tensors that returns its results, the tensors)."""
    operation = case.operation
    s: Mapping[str, Any] = operation.settings
    shapes = operation.input_shapes[0], operation.output_shape
    x, dy = (random_tensor(shape, seed, dtype) for seed, shape in enumerate(shapes))
    if case.job in ("max_pool", "average_pool"):
        pool = kernels.max_pool if case.job == "max_pool" else kernels.average_pool
        return _with_gradient(partial(pool, **s, algorithm=form)), [distinct_tensor(shapes[0], dtype), dy]
    if case.job == "batch_norm":
        scale = tf.ones(x.shape[-1])
        return _with_gradient(lambda x: kernels.batch_normalization_training(x, scale, scale, 1e-5, form)[0]), [x, dy]
    if case.job == "lrn":
        lrn: Callable = partial(kernels.local_response_normalization, algorithm=form, **s)
        return (lambda x: [lrn(x)], [x]) if compiler == "inference" else (_with_gradient(lrn), [x, dy])
    filters = operation.parameters[0].shape
    kernel = filters[0], filters[1]
    w = random_tensor(filters, 2, dtype) * tf.cast(prod(filters[:3]) ** -0.5, dtype)
    settings: dict[str, Any] = {name: s[name] for name in ("stride", "padding", "groups")} | {"algorithm": form}
    if compiler == "inference":
        return _with_bias_and_relu(w, settings), [x]
    if case.job == "conv2d":
        return lambda x, w: [kernels.conv2d(x, w, **settings)], [x, w]
    if case.job == "conv2d input gradient":
        return lambda dy, w: [kernels.conv2d_input_gradient(dy, w, x.shape[1:3], **settings)], [dy, w]
    return lambda x, dy: [kernels.conv2d_filter_gradient(x, dy, kernel, **settings)], [x, dy]


def _with_bias_and_relu(filters: tf.Tensor, settings: Mapping[str, Any]) -> Callable[..., list[tf.Tensor]]:
    """Return a convolution as in `rawcnn.program`, with filters and bias as constants of the graph."""
    constant, bias = filters.numpy(), tf.cast(tf.fill(filters.shape[-1:], 0.1), filters.dtype).numpy()
    return lambda x: [tf.nn.relu(tf.nn.bias_add(kernels.conv2d(x, constant, **settings), bias))]


def _with_gradient(function: Callable) -> Callable[..., list[tf.Tensor]]:
    """Return a function of the input and the upstream gradient that computes the output and the input gradient."""

    def both(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return [y, tape.gradient(y, x, output_gradients=dy)]

    return both


def fastest(case: Tunable, compiler: str, precision: str, rounds: int) -> tuple[str, dict[str, float]]:
    """Compare and time the forms of a case.

    Args:
        case: The case.
        compiler: One of `COMPILERS`.
        precision: "float32" or "bfloat16".
        rounds: Number of timed rounds.

    Returns:
        (the selected form, median seconds of each form whose results agree with the default's).
    """
    calls, reference = dict[str, tuple[Callable, list[tf.Tensor], float]](), None
    with compiled_by(compiler):
        for form in case.forms:
            function, tensors = _call(case, form, tf.as_dtype(precision), compiler)
            run = partial(tf.function(function, jit_compile=compiler == "xla", autograph=False), *tensors)
            results = [tf.cast(t, tf.float32).numpy() for t in run()]
            reference = reference or results
            if difference(reference, results) <= TOLERANCE[precision]:
                calls[form] = function, tensors, timed(partial(_wait, run))[0]
        copies = max(1, min(COPIES, round(MEASURED_SECONDS / calls[case.forms[0]][2])))
        runs = {form: _several(case, *call[:2], copies, compiler) for form, call in calls.items()}
        for several in runs.values():
            several()  # the first call traces and compiles
    seconds = {form: [s / copies for s in taken] for form, taken in interleaved(runs, rounds).items()}
    return choose(seconds, case.forms[0]), {form: float(np.median(s)) for form, s in seconds.items()}


def _several(case: Tunable, function: Callable, tensors: Sequence[tf.Tensor], copies: int, compiler: str) -> Run:
    """Return a call of the function on `copies` different inputs in one graph, which hides the cost of a call.

    Forward computations run one after the other, as layers do. Gradients may run at the same time, because the backward
    pass can compute two at any time.
    """
    inputs = [[tf.roll(t, copy, axis=-1) for t in tensors] for copy in range(copies)]  # equal inputs would be merged
    forward = not case.job.endswith("gradient")

    def all_of(inputs):
        results: list[tf.Tensor] = []
        last: list[tf.Tensor] = []
        for some in inputs:
            with tf.control_dependencies(last):
                made = function(*some)
            last = made if forward else []
            results += made
        return results

    return partial(_wait, partial(tf.function(all_of, jit_compile=compiler == "xla", autograph=False), inputs))


def _wait(run: Callable[[], list[tf.Tensor]]) -> None:
    wait_for(run())


def choose(seconds: Mapping[str, Sequence[float]], default: str) -> str:
    """Return the fastest form if its median and its fastest round win by `MARGIN`, otherwise the default."""
    best = min(seconds, key=lambda form: np.median(seconds[form]))
    limit = 1 - MARGIN
    median_wins = np.median(seconds[best]) < limit * np.median(seconds[default])
    return best if median_wins and min(seconds[best]) < limit * min(seconds[default]) else default


def tune(
    models: Sequence[str] = MODELS,
    compilers: Sequence[str] = COMPILERS,
    precisions: Sequence[str] = ("float32", "bfloat16"),
    *,
    path: Path,
    jobs: Sequence[str] = (),
    batch: int = 8,
    size: Size | None = None,
    rounds: int = 5,
    command: str = "benchmarks.tune",
    progress: StepProgress | None = None,
) -> dict:
    """Measure forms and write the table to `path` after each section.

    Entries of other shapes are kept. A file that cannot be read is replaced.

    Args:
        models: Networks whose layers are measured.
        compilers: Some of `COMPILERS`.
        precisions: Some of "float32" and "bfloat16".
        path: The file of the table.
        jobs: The jobs to measure; by default all.
        batch: Images per batch.
        size: Side of the images in pixels, or (height, width); by default each network's.
        rounds: Number of timed rounds.
        command: The command line that is recorded.
        progress: Called with (description, cases done, number of cases).

    Returns:
        The table. Its "measured" lists the metadata of all measurements, and "by" of each entry is an index into it.

    Raises:
        ValueError: On a GPU, for which `benchmarks.stablehlo.forms` selects the forms.
    """
    if tf.config.list_physical_devices("GPU"):
        raise ValueError(
            "--tune measures forms for a CPU; hide the GPU, or use python -m benchmarks.stablehlo.forms for a GPU's"
        )
    measured, forms = read(path)
    found = [case for case in cases(models, batch, size) if not jobs or case.job in jobs]
    requested = {
        compiler: [case for case in found if compiler != "inference" or case.job in INFERENCE] for compiler in compilers
    }
    total = sum(map(len, requested.values())) * len(precisions)
    done = 0
    for compiler in compilers:
        for precision in precisions:
            for case in requested[compiler]:
                form, seconds = fastest(case, compiler, precision, rounds)
                differ = [name for name in case.forms if name not in seconds]
                sizes = forms.setdefault(section(compiler, case.job, tf.as_dtype(precision)), {})
                microseconds = {name: float(f"{s * 1e6:.3g}") for name, s in seconds.items()}
                entry: dict[str, Any] = {"form": form, "microseconds": microseconds, "by": len(measured)}
                if differ:
                    entry["differ"] = differ
                sizes.setdefault(case.shape, {})[str(case.pixels)] = entry
                done += 1
                if progress:
                    wrong = f" ({', '.join(differ)} left out: other results)" if differ else ""
                    progress(f"{compiler} {precision}: {case} {form}{wrong}", done, total)
            table = {"measured": [*measured, metadata(command)], "forms": forms}
            write(table, path)
            gc.collect()
    forget()
    return table


def read(path: Path) -> tuple[list, dict[str, dict[str, dict]]]:
    """Return (metadata of the measurements, forms) of a table; both are empty for a file that is not a table."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        forms = {name: {shape: dict(s) for shape, s in shapes.items()} for name, shapes in table["forms"].items()}
        return list(table["measured"]), forms
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], {}


def write(table: Mapping, path: Path) -> None:
    """Write the table as JSON with one line per shape."""
    measured = ",\n".join(f"  {json.dumps(metadata)}" for metadata in table["measured"])
    sections = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"   {json.dumps(s, ensure_ascii=False)}: {json.dumps(sizes)}" for s, sizes in shapes.items())
        + "\n  }"
        for name, shapes in table["forms"].items()
    ]
    text = f'{{\n "measured": [\n{measured}\n ],\n "forms": {{\n' + ",\n".join(sections) + "\n }\n}\n"
    write_atomic(path, text.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a part of rawcnn's table of kernel forms again."""
    known = sorted({*JOBS, *GROUPED_JOBS, "batch_norm", "lrn", "max_pool", "average_pool"})
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "models", nargs="*", default=MODELS, metavar="NETWORK", help="networks whose layers are measured"
    )
    parser.add_argument("--compilers", nargs="+", choices=COMPILERS, default=COMPILERS, help="by default all")
    parser.add_argument("--jobs", nargs="+", choices=known, default=(), metavar="JOB", help=", ".join(known))
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    if unknown := [name for name in options.models if name not in NETWORKS]:
        parser.error(f"there is no network {unknown[0]!r}; `rawcnn models` lists them")

    def progress(what: str, done: int, total: int) -> None:
        print(f"{done}/{total} {what}", file=sys.stderr, flush=True)

    command = command_line("benchmarks.tune", words)
    tune(options.models, options.compilers, path=SHIPPED, jobs=options.jobs, command=command, progress=progress)
    return 0


if __name__ == "__main__":
    sys.exit(main())
