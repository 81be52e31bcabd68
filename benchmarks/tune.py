"""Which form of each kernel is the fastest on this machine: `kernels.dispatch.selection`'s table, measured.

`rawcnn benchmark kernels --tune` writes a user's own table; `python -m benchmarks.tune [NETWORK…] [--compilers xla]
[--jobs batch_norm …]` measures a part of the one that comes with rawcnn anew.

The cases are the convolutions, normalizations and pools of some networks, as their ledgers list them: forward and
each gradient, in a TensorFlow graph and under XLA; and convolutions of constant filters with bias and ReLU behind them,
which a graph may fuse. The forms of a case are compared before they are timed, and timed in turn; a form takes the
default's place where its median is shorter by `MARGIN`, and its fastest round as well.
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
from benchmarks.harness.timing import Progress, Run, interleaved, timed
from benchmarks.races.kernels import TOLERANCE, difference, distinct_tensor, random_tensor, wait_for
from kernels.compiler import compiled_by
from kernels.dispatch.normalization import BATCH_NORMS
from kernels.dispatch.pooling import POOLS
from kernels.dispatch.response import RESPONSE_NORMS
from kernels.dispatch.selection import SHIPPED, forget, section, shape_name
from kernels.forms.convolutions import FORMS, GROUPED_JOBS, JOBS
from kernels.geometry import Convolution, pair
from rawcnn.files.atomic import write_atomic
from rawcnn.models import MODELS as NETWORKS
from rawcnn.nn.trace import Operation

MODELS = ("resnet50", "resnet18", "vgg16", "alexnet", "googlenet", "inception_v3", "cifar_resnet20")
COMPILERS = ("graph", "inference", "xla")
INFERENCE = ("conv2d", "lrn")  # jobs that inference measures for itself
MARGIN = 0.04
LEAST, COPIES = 0.01, 8  # seconds that one measurement takes, of as many copies as that needs, and at most these


@dataclass(frozen=True)
class Case:
    """One job on one shape."""

    job: str  # "conv2d", "conv2d input gradient", "batch_norm", …
    shape: str  # what a table calls it
    pixels: int  # of a convolution's output or another's input, all images
    forms: tuple[str, ...]  # the default first
    operation: Operation

    def __str__(self) -> str:
        return f"{self.job} {self.shape} of {self.pixels:,} pixels"


def cases(models: Sequence[str], batch: int, size: int | None = None) -> list[Case]:
    """Of the convolutions without dilation that are not depthwise, norms and pools of these networks, each once."""
    found: dict[str, Case] = {}
    for name in models:
        for operation in rawcnn.profile(name, batch=batch, size=size).operations:
            for case in _cases(operation):
                found.setdefault(str(case), case)
    return list(found.values())


def _cases(operation: Operation) -> list[Case]:
    s: Mapping[str, Any] = operation.settings
    pixels = prod(operation.output_shape[:3])
    depthwise = operation.kind == "conv" and s["groups"] == operation.input_shapes[0][-1] > 1
    if operation.kind == "conv" and pair(s["dilation"]) == (1, 1) and not depthwise:
        filters, stride = operation.parameters[0].shape, pair(s["stride"])
        named, known = shape_name(filters, stride, s["groups"]), GROUPED_JOBS if s["groups"] > 1 else JOBS
        convolution = Convolution(stride, s["padding"], groups=s["groups"])
        return [
            Case(job, named, pixels, tuple(f for f in forms if _fits(f, job, filters, convolution)), operation)
            for job, forms in known.items()
        ]
    if operation.kind == "batch_norm":
        return [Case("batch_norm", f"{operation.output_shape[-1]}", pixels, BATCH_NORMS, operation)]
    if operation.kind == "lrn":
        return [Case("lrn", f"{operation.output_shape[-1]}", pixels, RESPONSE_NORMS, operation)]
    if operation.kind in ("max_pool", "average_pool"):
        (*image, channels), stride = operation.input_shapes[0], pair(s["stride"])
        named = shape_name((*pair(s["size"]), channels), stride)
        return [Case(operation.kind, named, prod(image), POOLS, operation)]
    return []


def _fits(form: str, job: str, filters: Sequence[int], convolution: Convolution) -> bool:
    """Whether the form accepts this shape, and is not known to be hopeless: many taps need as many matmuls."""
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
    case: Case, form: str, dtype: tf.DType, compiler: str
) -> tuple[Callable[..., list[tf.Tensor]], list[tf.Tensor]]:
    """(a function of tensors → its results, the tensors)."""
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
    """A convolution as `rawcnn.program` has it: filters and bias are constants of the graph."""
    constant, bias = filters.numpy(), tf.cast(tf.fill(filters.shape[-1:], 0.1), filters.dtype).numpy()
    return lambda x: [tf.nn.relu(tf.nn.bias_add(kernels.conv2d(x, constant, **settings), bias))]


def _with_gradient(function: Callable) -> Callable[..., list[tf.Tensor]]:
    def both(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return [y, tape.gradient(y, x, output_gradients=dy)]

    return both


def fastest(case: Case, compiler: str, precision: str, rounds: int) -> tuple[str, dict[str, float]]:
    """(the form to take, seconds of each form that agrees with the first)."""
    calls, reference = dict[str, tuple[Callable, list[tf.Tensor], float]](), None
    with compiled_by(compiler):
        for form in case.forms:
            function, tensors = _call(case, form, tf.as_dtype(precision), compiler)
            run = partial(tf.function(function, jit_compile=compiler == "xla", autograph=False), *tensors)
            results = [tf.cast(t, tf.float32).numpy() for t in run()]
            reference = reference or results
            if difference(reference, results) <= TOLERANCE[precision]:
                calls[form] = function, tensors, timed(partial(_wait, run))[0]
        copies = max(1, min(COPIES, round(LEAST / calls[case.forms[0]][2])))
        runs = {form: _several(case, *call[:2], copies, compiler) for form, call in calls.items()}
        for several in runs.values():
            several()  # traced and compiled
    seconds = {form: [s / copies for s in taken] for form, taken in interleaved(runs, rounds).items()}
    return choose(seconds, case.forms[0]), {form: float(np.median(s)) for form, s in seconds.items()}


def _several(case: Case, function: Callable, tensors: Sequence[tf.Tensor], copies: int, compiler: str) -> Run:
    """The function on `copies` different inputs within one graph, so that a call's own cost is not measured with it.

    Forward one after the other, as layers are; gradients side by side, as backward there are always two to be had.
    """
    inputs = [[tf.roll(t, copy, axis=-1) for t in tensors] for copy in range(copies)]  # equal ones would be merged
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
    """The form whose seconds are the fewest, where it wins clearly."""
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
    size: int | None = None,
    rounds: int = 5,
    command: str = "benchmarks.tune",
    progress: Progress | None = None,
) -> dict:
    """Measure, and write the table to `path` after each section; what it held of other shapes stays → the table.

    Its "measured" tells when and where; each entry is `by` one of these. `jobs` are measured, by default all.

    A file that cannot be read is replaced. ValueError on a GPU: its forms are of `benchmarks.stablehlo.forms`.
    """
    if tf.config.list_physical_devices("GPU"):
        raise ValueError(
            "--tune measures forms for a CPU; hide the GPU to go on (python -m benchmarks.stablehlo.forms has a GPU's)"
        )
    measured, forms = read(path)
    found = [case for case in cases(models, batch, size) if not jobs or case.job in jobs]
    wanted = {
        compiler: [case for case in found if compiler != "inference" or case.job in INFERENCE] for compiler in compilers
    }
    total = sum(map(len, wanted.values())) * len(precisions)
    done = 0
    for compiler in compilers:
        for precision in precisions:
            for case in wanted[compiler]:
                form, seconds = fastest(case, compiler, precision, rounds)
                differ = [name for name in case.forms if name not in seconds]
                sizes = forms.setdefault(section(compiler, case.job, tf.as_dtype(precision)), {})
                told = {name: float(f"{s * 1e6:.3g}") for name, s in seconds.items()}
                entry: dict[str, Any] = {"form": form, "microseconds": told, "by": len(measured)}
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
    """(what a table was measured by, its forms); nothing of a file that is no table."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        forms = {name: {shape: dict(s) for shape, s in shapes.items()} for name, shapes in table["forms"].items()}
        return list(table["measured"]), forms
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [], {}


def write(table: Mapping, path: Path) -> None:
    """A line a shape."""
    measured = ",\n".join(f"  {json.dumps(about)}" for about in table["measured"])
    sections = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"   {json.dumps(s, ensure_ascii=False)}: {json.dumps(sizes)}" for s, sizes in shapes.items())
        + "\n  }"
        for name, shapes in table["forms"].items()
    ]
    text = f'{{\n "measured": [\n{measured}\n ],\n "forms": {{\n' + ",\n".join(sections) + "\n }\n}\n"
    write_atomic(path, text.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """A part of the table that comes with rawcnn."""
    known = sorted({*JOBS, *GROUPED_JOBS, "batch_norm", "lrn", "max_pool", "average_pool"})
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="NETWORK", help="whose layers; by default several")
    parser.add_argument("--compilers", nargs="+", choices=COMPILERS, default=COMPILERS)
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
