"""Which form of a kernel "auto" selects: the one that was measured to be the fastest.

`algorithms.json` in this folder holds the results of `rawcnn benchmark kernels --tune`. The same command writes a
user's own table for this machine into the cache folder (`table_path`); for the shapes in it, it replaces the shipped
one. A table records when and where its entries were measured, and the times of all forms. An entry counts for all
batch and image sizes that have a quarter to eight times as many pixels; of several entries the nearest counts. Shapes
that were never measured use the kernel's default, or `XLA_DEFAULTS`.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from math import log, prod
from pathlib import Path

import tensorflow as tf

import onednn
from kernels.forms.compiler import compiler

BATCH = 8  # the batch size with which all forms were measured
# A measurement counts for at most this many times as many or as few pixels. Transforms do not pay off for few pixels.
MORE, FEWER = 8, 4
# For XLA on a CPU these forms won on most measured shapes and on all slow ones, so they are the default there.
XLA_DEFAULTS = {"batch_norm": "explicit", "max_pool": "lines", "average_pool": "lines"}
SHIPPED = Path(__file__).with_name("algorithms.json")


def table_path() -> Path:
    """The file of a user's own measurements, in $XDG_CACHE_HOME/rawcnn or ~/.cache/rawcnn.

    Several machines may share a home folder, so each processor and each version of TensorFlow has its own table.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "rawcnn" / f"algorithms-{_machine()}.json"


@cache
def _machine() -> str:
    """A digest of the processor, its number of cores, TensorFlow's version, and whether oneDNN is off."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else [platform.processor()]
    words = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))} or lines
    off = () if onednn.in_use() else ("oneDNN off",)
    description = repr((sorted(words), platform.machine(), os.cpu_count(), tf.__version__, *off))
    return hashlib.sha256(description.encode()).hexdigest()[:12]


def section(compiler: str, job: str, dtype: tf.DType) -> str:
    """The name of a table's part for one job, such as "graph conv2d float32"."""
    return f"{compiler} {job} {dtype.name}"


def measured(job: str, dtype: tf.DType, shape: str, pixels: int | None, known: Sequence[str]) -> str:
    """The fastest form of a job.

    Args:
        job: What to compute, such as "conv2d input gradient".
        dtype: The type of the tensors.
        shape: What must be equal to a table's entry, such as "1×1×64×256 /2".
        pixels: Batch times height times width, of a convolution's output or of another kernel's input. The entry with
            the nearest number counts; None, if it is unknown, selects the smallest.
        known: The forms of the kernel, the default first.

    Returns:
        One of the `known` forms: the default for shapes without an entry, and for forms that no longer exist.
    """
    default = XLA_DEFAULTS.get(job, known[0]) if compiler() == "xla" else known[0]
    sizes = _forms().get(section(compiler(), job, dtype), {}).get(shape)
    if not sizes:
        return default
    nearest = min(sizes, key=lambda size: abs(log(size / pixels)) if pixels else size)
    if pixels and not nearest / FEWER <= pixels <= nearest * MORE:
        return default
    return sizes[nearest] if sizes[nearest] in known else default


def form_of(algorithm: str, dtype: tf.DType, known: Sequence[str]) -> str:
    """The form that `algorithm` names; for "auto" the first of the `known`. ValueError for an unknown name."""
    if algorithm not in ("auto", *known):
        raise ValueError(f'algorithm is {algorithm!r}; expected "auto" or, for {dtype.name}, {", ".join(known)}')
    return known[0] if algorithm == "auto" else algorithm


def shape_name(filter_shape: Sequence[int], stride: tuple[int, int], groups: int = 1) -> str:
    """A table's name for a convolution: "3×3×64×128 /2" for filters [kh,kw,C,Cout] and a stride; " in 2 groups"."""
    steps = stride[0] if stride[0] == stride[1] else "×".join(map(str, stride))
    return f"{'×'.join(map(str, filter_shape))} /{steps}{f' in {groups} groups' if groups > 1 else ''}"


def pixels_of(x: tf.Tensor, sides: Sequence[int] | None = None) -> int | None:
    """Batch times height times width of x [B,H,W,C], or of an output with these `sides`; None if they are unknown.

    An unknown batch size counts as the one with which the table was measured.
    """
    sides = sides or tuple(x.shape[1:3])
    return None if None in sides else (x.shape[0] or BATCH) * prod(sides)


def forget() -> None:
    """Read the tables again at the next selection, because one was written."""
    _forms.cache_clear()


@cache
def _forms() -> Mapping[str, Mapping[str, Mapping[int, str]]]:
    """section → shape → pixels → form. Logs an error for a user's table that cannot be read, and ignores it."""
    forms, path = _read(SHIPPED), table_path()
    if path.is_file():
        try:
            for name, shapes in _read(path).items():
                forms[name] = forms.get(name, {}) | shapes
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            tf.get_logger().error(
                "%s cannot be read (%s); using the table that comes with rawcnn. Run `rawcnn benchmark kernels --tune` "
                "to write it again",
                path,
                error,
            )
    return forms


def _read(path: Path) -> dict[str, dict[str, dict[int, str]]]:
    return {
        name: {shape: {int(n): entry["form"] for n, entry in sizes.items()} for shape, sizes in shapes.items()}
        for name, shapes in json.loads(path.read_text(encoding="utf-8"))["forms"].items()
    }
