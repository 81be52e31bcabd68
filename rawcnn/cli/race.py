"""The verb that measures: which kinds of race there are, and the options that each heeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli import alone, contests
from rawcnn.cli.console import Screen
from rawcnn.cli.options import Classes, Json, Precision, Seed, Size, Weights, without_folders
from rawcnn.cli.order import Order

ROUNDS = 10
CONTESTANTS = (
    "Of networks: rawcnn graph, mixed or xla; keras default, jit, no jit, function or function xla; torch eager or "
    "compile, each with its first word."
)
FOLDER = Path("benchmark")
NETWORKS = "NETWORK"  # the kind that no first word names
KINDS: dict[str, tuple[Callable[[Order], None], str]] = {  # what does it, and the options that it heeds
    NETWORKS: (contests.networks, "job batch size classes precision rounds contestant memory seed"),
    "kernels": (contests.kernels, "tune batch size precision rounds"),
    "build": (alone.builds, ""),
    "memory": (contests.memory, "job batch size classes precision contestant"),
    "visualize": (contests.visualizations, "batch rounds contestant seed"),
    "attacks": (contests.attacks, "batch size classes rounds contestant weights data seed"),
    "growth": (alone.growth, "precision rounds"),
    "scale": (alone.scaling, "batch size classes precision rounds"),
}
# The end of its help: a line a kind, which Click is not to fill up.
HEEDED = "\b\nWhat heeds which options, besides --output and --json:\n" + "\n".join(
    f"  benchmark {kind:<11} {' '.join(f'--{option}' for option in options.split()) or 'none'}"
    for kind, (_, options) in KINDS.items()
)


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks to race; or `kernels`, `visualize`, `build`, `memory` and `scale` (and networks), `attacks` "
            "(and some, and networks), `growth`."
        ),
    ] = None,
    job: Annotated[list[str] | None, typer.Option(help="inference, training; both otherwise.")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images at a time; 8 otherwise, or as each race has it.", min=1)
    ] = None,
    size: Size = None,
    classes: Classes = None,
    precision: Precision = "float32",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = ROUNDS,
    contestant: Annotated[
        list[str] | None, typer.Option(help=f"Some of the contestants; otherwise all but PyTorch's. {CONTESTANTS}")
    ] = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="Images to attack, as folder:PATH; noise otherwise.")] = None,
    tune: Annotated[
        bool, typer.Option(help="With `kernels` (and networks): measure the fastest forms, and use them from now on.")
    ] = False,
    memory: Annotated[
        bool, typer.Option(help="Then the peaks of rawcnn and Keras's best, in processes of their own.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option(help="File that results are appended to; benchmark/KIND.jsonl otherwise.")
    ] = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race rawcnn against Keras, outputs checked equal first; or measure one of its kinds of work by itself."""
    names = list(models or ())
    kind = names.pop(0) if names and names[0] in KINDS else NETWORKS
    if also := [name for name in names if name in KINDS]:
        raise ValueError(f"{also[0]} is measured by itself; give it alone, or as the first word")
    given: dict[str, object] = {
        "job": job,
        "batch": batch,
        "size": size,
        "classes": classes,
        "contestant": contestant,
        "tune": tune,
    }
    given |= {"weights": weights, "data": data, "precision": precision != "float32", "rounds": rounds != ROUNDS}
    given |= {"memory": not memory, "seed": seed}
    for option in (name for name, value in given.items() if value and name not in KINDS[kind][1].split()):
        heeding = ", ".join(f"`benchmark {name}`" for name, (_, options) in KINDS.items() if option in options.split())
        raise ValueError(f"`benchmark {kind}` has no use for --{option}; that is for {heeding}")
    command = " ".join(["rawcnn", *map(without_folders, sys.argv[1:])])
    order = Order(
        Screen(as_json), names, job, batch, size, classes, precision, rounds, contestant, weights, data, tune, memory,
        output or FOLDER / f"{kind if kind != NETWORKS else 'races'}.jsonl", seed, command,
    )  # fmt: skip
    KINDS[kind][0](order)
