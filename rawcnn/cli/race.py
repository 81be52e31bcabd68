"""The verb that measures: networks against Keras, kernels and attacks against others, and how time grows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.options import (
    Classes,
    Json,
    Precision,
    Seed,
    Size,
    Weights,
    load_data,
    network_for,
    without_folders,
    writable,
)
from rawcnn.console import Screen

BATCH = 8  # of networks where none is given; attacks have their own
ROUNDS = 10


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    screen: Screen
    names: list[str]  # behind the first, which says what is raced
    jobs: list[str] | None
    batch: int | None
    size: int | None
    classes: int | None
    precision: str
    rounds: int
    contestants: list[str] | None
    weights: Path | None
    data: str | None
    tune: bool
    memory: bool
    output: Path
    seed: int
    command: str

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[str, int, int], None]]:
        """A progress bar that is told (what, done, total)."""
        with self.screen.bar(what) as told:
            yield lambda text, done, total: told(done, total, text)

    def show(self, **settings: object) -> None:
        """What it resolved to; the file is tried before the work begins."""
        writable(self.output)
        self.screen.settings(**settings, rounds=self.rounds, seed=self.seed, output=self.output)

    def end(self, results: object) -> None:
        self.screen.say(f"appended to {self.output}")
        self.screen.emit(results)


def _networks(order: Order) -> None:
    """Networks against Keras, and against PyTorch where that is asked for."""
    from benchmarks.run import MODELS, run
    from rawcnn.models import find

    names = order.names or list(MODELS)
    for name in names:
        find(name)
    batch = order.batch or BATCH
    order.show(models=",".join(names), batch=batch, size=order.size, precision=order.precision)
    with order.bar("racing") as progress:
        races = run(
            names,
            order.jobs or ("inference", "training"),
            batch=batch,
            size=order.size,
            classes=order.classes,
            precision=order.precision,
            rounds=order.rounds,
            contestants=order.contestants,
            seed=order.seed,
            file=order.output,
            command=order.command,
            progress=progress,
        )
    for race in races:
        rows = [
            (
                t.name,
                f"{t.median * 1e3:.1f}",
                f"{min(t.seconds) * 1e3:.1f}",
                f"{max(t.seconds) * 1e3:.1f}",
                f"{t.first_call:.1f}",
            )
            for t in race.timings
        ]
        columns = ("contestant", "median ms", "fastest", "slowest", "first call s")
        order.screen.table(f"{race.model}, {race.job}, batch {race.batch}", columns, rows, text=("contestant",))
        if race.ratio:
            low, high = min(race.ratios), max(race.ratios)
            best = "best" if race.complete else "fastest of these"
            order.screen.say(
                f"Keras's {best} takes {race.ratio:.2f} times as long ({low:.2f} to {high:.2f} over the rounds)"
            )
    names_of = {(r.model, r.job): [n for n in (r.chosen, r.keras_best and r.keras_best.name) if n] for r in races}
    memory = _peaks(order, names_of) if order.memory else []
    order.end({"races": [r.to_json() for r in races], "memory": memory})


def _memory(order: Order) -> None:
    """The peak memory of contestants, by default of rawcnn's and of Keras's own ways and functions."""
    from benchmarks.contestants import JOBS, NAMES
    from rawcnn.compile import choose
    from rawcnn.models import find

    for name in order.names:
        find(name)
    if not order.names:
        raise ValueError("`benchmark memory` measures networks; name some, as `benchmark memory resnet50`")
    ours = f"rawcnn {choose('auto', (), order.precision).mode}"
    contestants = order.contestants or [name for name in NAMES if name == ours or not name.startswith("rawcnn")]
    order.show(memory=",".join(order.names), precision=order.precision, contestants=", ".join(contestants))
    order.end({"memory": _peaks(order, {(n, j): contestants for n in order.names for j in order.jobs or JOBS})})


def _peaks(order: Order, contestants: dict[tuple[str, str], list[str]]) -> list[dict[str, object]]:
    """Measure, show and append the peak memory of the contestants of each (network, job)."""
    from benchmarks.run import run_memory

    with order.bar("measuring memory") as progress:
        results = run_memory(
            contestants, batch=order.batch or BATCH, size=order.size, classes=order.classes, precision=order.precision,
            file=order.output, command=order.command, progress=progress,
        )  # fmt: skip
    for r in results:
        rows = [(name, "not told" if peak is None else f"{peak / 2**20:,.0f}") for name, peak in r.peaks.items()]
        order.screen.table(
            f"{r.model}, {r.job}, batch {r.batch}", ("contestant", "peak MiB"), rows, text=("contestant",)
        )
    return [r.to_json() for r in results]


def _kernels(order: Order) -> None:
    """The kernels' forms against each other; with --tune those of all layers of some networks."""
    if order.tune:
        _tune(order)
        return
    from benchmarks.run import run_kernels

    if order.names or order.batch or order.size:
        raise ValueError("`benchmark kernels` races shapes of its own; networks, --batch and --size go with --tune")
    order.show(kernels="all", precision=order.precision)
    with order.bar("racing") as progress:
        forms = run_kernels(
            precision=order.precision, rounds=order.rounds, file=order.output, command=order.command, progress=progress
        )
    for form in forms:
        speeds = [(t.name, f"{t.median * 1e3:.3f}", f"{form.gflops(t):.1f}") for t in form.timings]
        order.screen.table(f"{form.case}, {form.job}", ("form", "median ms", "GFLOP/s"), speeds, text=("form",))
    order.end({"kernels": [f.to_json() for f in forms]})


def _tune(order: Order) -> None:
    """Measure the fastest form of each kernel here, and use it from now on."""
    from benchmarks.tune import MODELS, tune
    from kernels.choice import table_path
    from rawcnn.models import find

    for name in order.names:
        find(name)
    models, path, batch = order.names or list(MODELS), table_path(), order.batch or BATCH
    writable(path)
    order.screen.settings(models=",".join(models), batch=batch, size=order.size, rounds=order.rounds, table=path)
    with order.bar("measuring") as progress:
        table = tune(
            models, path=path, batch=batch, size=order.size, rounds=order.rounds, command=order.command,
            progress=progress,
        )  # fmt: skip
    rows = []
    for name, shapes in table["forms"].items():
        taken = Counter(entry["form"] for sizes in shapes.values() for entry in sizes.values())
        rows.append((name, ", ".join(f"{form} {count}" for form, count in taken.most_common())))
    order.screen.table("shapes by their fastest form", ("job", "forms"), rows, text=("job", "forms"))
    order.screen.say(f"wrote {path}; delete it to use rawcnn's own table again")
    order.screen.emit(table)


def _build(order: Order) -> None:
    """How long each network, or all of them, takes to be profiled, created, traced and compiled."""
    from benchmarks.build import run_builds
    from rawcnn.models import MODELS, find

    for name in order.names:
        find(name)
    order.show(build=",".join(order.names) or "all")
    with order.bar("building") as progress:
        results = run_builds(order.names or list(MODELS), file=order.output, command=order.command, progress=progress)
    steps = ("profile", "create", "graph", "xla", "keras")
    rows = [(r.model, r.operations, *(f"{getattr(r, step):.2f}" for step in steps)) for r in results]
    columns = ("network", "layers", "profile s", "create s", "graph s", "XLA s", "Keras's XLA s")
    order.screen.table("to the first answer, one image", columns, rows, text=("network",))
    order.end([r.to_json() for r in results])


def _visualizations(order: Order) -> None:
    """A step of feature visualization against Keras's users' ways, and libraries where they are installed."""
    from benchmarks.run import run_visualizations
    from benchmarks.visualize_race import BATCHES, LAYERS

    if unknown := [name for name in order.names if name not in LAYERS]:
        raise ValueError(f"no layer of {unknown[0]!r} is raced; expected some of {', '.join(LAYERS)}")
    layers = {name: LAYERS[name] for name in order.names or LAYERS}
    batches = (order.batch,) if order.batch else BATCHES
    order.show(visualize=", ".join(map(" ".join, layers.items())), batches=", ".join(map(str, batches)))
    with order.bar("racing") as progress:
        results = run_visualizations(
            layers, batches, contestants=order.contestants, rounds=order.rounds, seed=order.seed, file=order.output,
            command=order.command, progress=progress,
        )  # fmt: skip
    for result in results:
        rows = [(t.name, f"{t.median / result.batch * 1e3:.1f}", f"{t.first_call:.1f}") for t in result.timings]
        title = f"{result.network}, {result.layer}, batch {result.batch}"
        columns = ("contestant", "ms an image and step", "first call s")
        order.screen.table(title, columns, rows, text=("contestant",))
    order.end([result.to_json() for result in results])


def _attacks(order: Order) -> None:
    """PGD, DeepFool and the spatial grid, or some of them, against other libraries', on a CIFAR ResNet-20.

    Named networks are attacked by PGD against the loop around Keras alone: libraries would take minutes a call.
    """
    from benchmarks.attack_race import AGAINST_KERAS, ATTACKS, MODEL, PGDS
    from benchmarks.run import run_attacks
    from rawcnn.models import MODELS

    if unknown := [name for name in order.names if name not in ATTACKS and name not in MODELS]:
        raise ValueError(f"there is no race of {unknown[0]!r}; expected {', '.join(map(repr, ATTACKS))} or networks")
    writable(order.output)
    named = [name for name in order.names if name in MODELS]
    networks = [
        network_for(name, order.weights, size=order.size, classes=order.classes, seed=order.seed)
        for name in named or [MODEL]
    ]
    attacks = [name for name in order.names if name in ATTACKS] or list(PGDS if named else ATTACKS)
    contestants = order.contestants or (AGAINST_KERAS if named else None)
    order.show(
        attacks=", ".join(attacks), networks=", ".join(n.name for n in networks), weights=order.weights or "random",
        data=order.data or "noise", batch=order.batch,
    )  # fmt: skip
    about = {
        "weights": order.weights.name if order.weights else f"drawn, seed {order.seed}",
        "data": without_folders(order.data) if order.data else f"noise, seed {order.seed}",
    }
    posed = [(network, *_images_for(order, network)) for network in networks]  # what is wrong is told before the work
    results = []
    with order.bar("racing") as progress:
        for network, images, labels in posed:
            results += run_attacks(
                attacks, network, images, labels, batch=order.batch, contestants=contestants, rounds=order.rounds,
                seed=order.seed, named=about, file=order.output, command=order.command, progress=progress,
            )  # fmt: skip
    for result in results:
        rows = [
            (t.name, f"{t.median:.2f}", f"{result.success[t.name]:.2%}", f"{result.l2[t.name][0]:.3f}")
            for t in result.timings
        ]
        columns = ("contestant", "seconds", "fooled", "mean L2")
        order.screen.table(
            f"{result.attack}, {result.network}, {result.batch} images", columns, rows, text=("contestant",)
        )
        if (best := result.fastest_peer) and (ratio := result.ratio()):
            order.screen.say(f"{best.name}, the fastest of the others, takes {ratio:.1f} times as long as rawcnn")
    order.end([result.to_json() for result in results])


def _images_for(order: Order, network):
    """The test images and labels of the data that was named; None without."""
    if not order.data:
        return None, None
    found = load_data(order.screen, order.data, network.input_size, False)
    if len(found.labels) != network.classes:
        raise ValueError(f"{order.data} has {len(found.labels)} classes; expected the {network.classes} of the network")
    return found.arrays("test")


def _growth(order: Order) -> None:
    """How time grows with batch, size, depth and an attack's steps; the plot lies beside the results."""
    from benchmarks.growth import grow
    from rawcnn import plots

    if order.names:
        raise ValueError("`benchmark growth` measures networks of its own; give the others in another command")
    order.show(growth="all", precision=order.precision)
    with order.bar("measuring") as progress:
        series = grow(order.precision, rounds=order.rounds, file=order.output, command=order.command, progress=progress)
    rows = [
        (s.along, s.job, s.model, f"{1e3 * s.an_image[0]:.1f} to {1e3 * s.an_image[-1]:.1f}", f"{s.exponent:.2f}")
        for s in series
    ]
    columns = ("along", "job", "networks", "ms an image", "exponent")
    order.screen.table("time of a call ∝ x^exponent", columns, rows, text=("along", "job", "networks"))
    picture = order.output.with_name(f"growth-{order.precision}.png")
    plots.save(plots.growth(series), picture)
    order.screen.say(f"wrote {picture}")
    order.end([s.to_json() for s in series])


NETWORKS = "NETWORK"  # the kind that no first word names
KINDS: dict[str, tuple[Callable[[Order], None], str]] = {  # what does it, and the options that it heeds
    NETWORKS: (_networks, "job batch size classes precision rounds contestant memory seed"),
    "kernels": (_kernels, "tune batch size precision rounds"),
    "build": (_build, ""),
    "memory": (_memory, "job batch size classes precision contestant"),
    "visualize": (_visualizations, "batch rounds contestant seed"),
    "attacks": (_attacks, "batch size classes rounds contestant weights data seed"),
    "growth": (_growth, "precision rounds"),
}


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks to race; or `kernels`, `visualize`, `build` and `memory` (and networks), `attacks` (and "
            "some, and networks), `growth`."
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
        list[str] | None, typer.Option(help="Some of the contestants; otherwise all but PyTorch's.")
    ] = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="Images to attack, as folder:PATH; noise otherwise.")] = None,
    tune: Annotated[
        bool, typer.Option(help="With `kernels` (and networks): measure the fastest forms, and use them from now on.")
    ] = False,
    memory: Annotated[
        bool, typer.Option(help="Then the peaks of rawcnn and Keras's best, in processes of their own.")
    ] = True,
    output: Annotated[Path, typer.Option(help="File that the results are appended to.")] = Path(
        "benchmarks/results/races.jsonl"
    ),
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race rawcnn against Keras, outputs checked equal first; or the kernels' forms against each other."""
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
        output, seed, command,
    )  # fmt: skip
    KINDS[kind][0](order)
