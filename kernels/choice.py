"""Which form of a kernel runs where "auto" is asked for: the one that was the fastest when it was measured.

`algorithms.json` beside this file holds what `rawcnn benchmark kernels --tune` found; the same command writes the
user's own table of this machine into the cache folder (`table_path`), whose shapes then take the place of those. A
table says when and where its entries were measured, and each what all forms took. A form that was measured for a filter
counts for all batches and image sizes of a quarter to eight times as many pixels, the nearest first; what was never
measured takes the kernel's default, or `BY_XLA`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from math import log, prod
from pathlib import Path

import tensorflow as tf

import onednn

BATCH = 8  # images, of which all forms were measured
MORE, FEWER = 8, 4  # times as many pixels, or as few: so far a measurement counts. Of few, transforms no longer pay
# Under XLA on a CPU these won on most shapes that were measured, and on all that take long: so on others they run, too.
BY_XLA = {"batch_norm": "explicit", "max_pool": "lines", "average_pool": "lines"}
SHIPPED = Path(__file__).with_name("algorithms.json")
_compiler: ContextVar[str] = ContextVar("compiler", default="graph")


@contextmanager
def compiled_by(compiler: str) -> Iterator[None]:
    """Within, kernels are chosen for "graph" (TensorFlow's CPU kernels; where nothing is said), "inference" (the same,
    where bias and ReLU follow a convolution of constant filters, and TensorFlow may fuse them), "xla" (on a CPU) or
    "gpu" (by XLA; `benchmarks.stablehlo.forms` writes that part, of which nothing was measured yet). For "nobody", in
    programs that run elsewhere, all take their defaults.
    """
    token = _compiler.set(compiler)
    try:
        yield
    finally:
        _compiler.reset(token)


def compiler() -> str:
    """For whom kernels are chosen here, as `compiled_by` says."""
    return _compiler.get()


def table_path() -> Path:
    """Where a user's own measurements lie: in $XDG_CACHE_HOME/rawcnn, or under ~/.cache.

    A home may be shared by machines, and outlive a TensorFlow: each processor and version has a table of its own.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rawcnn" / f"algorithms-{_machine()}.json"


@cache
def _machine() -> str:
    """A digest of the processor, its number of cores, TensorFlow's version, and oneDNN where it is off."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else [platform.processor()]
    words = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))} or lines
    off = () if onednn.in_use() else ("oneDNN off",)
    told = repr((sorted(words), platform.machine(), os.cpu_count(), tf.__version__, *off))
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def section(compiler: str, job: str, dtype: tf.DType) -> str:
    """The part of a table for one job, such as "graph conv2d float32"."""
    return f"{compiler} {job} {dtype.name}"


def measured(job: str, dtype: tf.DType, shape: str, pixels: int | None, known: Sequence[str]) -> str:
    """The fastest form of `job` for tensors of this type; `shape` is what must be the same, as "1×1×64×256 /2".

    `pixels` (batch times height times width, of a convolution's output, of another's input) picks the nearest of
    several sizes; None, unknown, picks the smallest. Of the `known` forms the first is the default, but for `BY_XLA`:
    for shapes that were not measured, and for what an old table names.
    """
    default = BY_XLA.get(job, known[0]) if compiler() == "xla" else known[0]
    sizes = _forms().get(section(compiler(), job, dtype), {}).get(shape)
    if not sizes:
        return default
    nearest = min(sizes, key=lambda size: abs(log(size / pixels)) if pixels else size)
    if pixels and not nearest / FEWER <= pixels <= nearest * MORE:
        return default
    return sizes[nearest] if sizes[nearest] in known else default


def form_of(algorithm: str, dtype: tf.DType, known: Sequence[str]) -> str:
    """The form that `algorithm` asks for, for "auto" the first of the `known`. ValueError for none of these."""
    if algorithm not in ("auto", *known):
        raise ValueError(f'algorithm is {algorithm!r}; expected "auto" or, for {dtype.name}, {", ".join(known)}')
    return known[0] if algorithm == "auto" else algorithm


def shape_name(filter_shape: Sequence[int], stride: tuple[int, int], groups: int = 1) -> str:
    """How a table names a convolution: "3×3×64×128 /2", filters [kh,kw,Cin,Cout] and stride; " in 2 groups"."""
    steps = stride[0] if stride[0] == stride[1] else "×".join(map(str, stride))
    return f"{'×'.join(map(str, filter_shape))} /{steps}{f' in {groups} groups' if groups > 1 else ''}"


def pixels_of(x: tf.Tensor, sides: Sequence[int] | None = None) -> int | None:
    """Batch times height times width of x [B,H,W,C], or of an output with these `sides`; None where they are unknown.

    An unknown batch counts as the one that the table was measured with.
    """
    sides = sides or tuple(x.shape[1:3])
    return None if None in sides else (x.shape[0] or BATCH) * prod(sides)


def forget() -> None:
    """Read the table anew at the next question: it was written."""
    _forms.cache_clear()


@cache
def _forms() -> Mapping[str, Mapping[str, Mapping[int, str]]]:
    """section → shape → pixels → form. A user's table that cannot be read is told and left out."""
    forms, own = _read(SHIPPED), table_path()
    if own.is_file():
        try:
            for name, shapes in _read(own).items():
                forms[name] = forms.get(name, {}) | shapes
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            tf.get_logger().error(
                "%s cannot be read (%s); using the table that came with rawcnn. `rawcnn benchmark kernels --tune` "
                "writes it anew",
                own,
                error,
            )
    return forms


def _read(path: Path) -> dict[str, dict[str, dict[int, str]]]:
    return {
        name: {shape: {int(n): told["form"] for n, told in sizes.items()} for shape, sizes in shapes.items()}
        for name, shapes in json.loads(path.read_text(encoding="utf-8"))["forms"].items()
    }
