"""Verbs that make pictures of a network, fool it, race it, and show all of it in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.options import (
    Batch,
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


def tour(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("tour"),
    epochs: Annotated[int | None, typer.Option(help="Of the digits' training.", min=1)] = None,
    race: Annotated[bool, typer.Option(help="Race a network against Keras.")] = True,
    weights: Weights = None,
    model: Annotated[str, typer.Option(help="The network that the given weights are for.")] = "cifar_resnet20",
    data: Annotated[str | None, typer.Option(help="Images that the given weights know, as folder:PATH.")] = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The lecture in a few minutes, as one page: architectures, feature visualization, adversarial examples."""
    from rawcnn.report.progress import bars
    from rawcnn.tour import EPOCHS, Given, run

    screen = Screen(as_json)
    screen.settings(output=output, epochs=epochs or EPOCHS, race=race, weights=weights, data=data, seed=seed)
    if (weights is None) != (data is None):
        raise ValueError("--weights and --data go together: a network, and the images to look into it with")
    given = None
    if weights and data:
        network = network_for(model, weights, seed=seed)
        images = load_data(screen, data, network.input_size, False)
        if len(images.labels) != network.classes:
            raise ValueError(f"{data} has {len(images.labels)} classes; expected the {network.classes} of {weights}")
        given = Given(network, images, weights.name)
    with bars() as report:
        results = run(output, seed=seed, progress=report, epochs=epochs or EPOCHS, race=race, given=given)
    screen.say(f"wrote {output / 'index.html'}: open it in a browser")
    screen.emit(results)


def _build(screen: Screen, names: list[str], output: Path, command: str) -> None:
    """How long each network, or all of them, takes to be profiled, created, traced and compiled."""
    from benchmarks.build import run_builds
    from rawcnn.models import MODELS

    if "kernels" in names:
        raise ValueError("kernels are raced, not built; give build and kernels in two commands")
    writable(output)
    with screen.bar("building") as told:

        def progress(what: str, done: int, total: int) -> None:
            told(done, total, what)

        results = run_builds(names or list(MODELS), file=output, command=command, progress=progress)
    steps = ("profile", "create", "graph", "xla")
    rows = [(r.model, r.operations, *(f"{getattr(r, step):.2f}" for step in steps)) for r in results]
    columns = ("network", "layers", "profile s", "create s", "graph s", "XLA s")
    screen.table("to the first answer, one image", columns, rows, text=("network",))
    screen.emit([r.to_json() for r in results])


def _race_visualizations(screen: Screen, rounds: int, seed: int, output: Path, command: str) -> None:
    """A step of feature visualization against Keras's users' ways, and libraries where they are installed."""
    from benchmarks.run import run_visualizations

    writable(output)
    screen.settings(visualize="all", rounds=rounds, seed=seed, output=output)
    with screen.bar("racing") as told:

        def progress(what: str, done: int, total: int) -> None:
            told(done, total, what)

        results = run_visualizations(rounds=rounds, seed=seed, file=output, command=command, progress=progress)
    for result in results:
        rows = [(t.name, f"{t.median / result.batch * 1e3:.1f}", f"{t.first_call:.1f}") for t in result.timings]
        title = f"{result.network}, {result.layer}, batch {result.batch}"
        screen.table(title, ("contestant", "ms an image and step", "first call s"), rows, text=("contestant",))
    screen.say(f"appended to {output}")
    screen.emit([result.to_json() for result in results])


def _race_attacks(
    screen: Screen, names: list[str], weights: Path | None, data: str | None, rounds: int, seed: int, output: Path,
    command: str,
) -> None:  # fmt: skip
    """PGD, DeepFool and the spatial grid, or some of them, against other libraries' on a CIFAR ResNet-20."""
    from benchmarks.attack_race import ATTACKS, MODEL
    from benchmarks.run import run_attacks

    if unknown := [name for name in names if name not in ATTACKS]:
        raise ValueError(f"there is no race of {unknown[0]!r}; expected {', '.join(map(repr, ATTACKS))}")
    writable(output)
    network = network_for(MODEL, weights, seed=seed)
    screen.settings(
        attacks=", ".join(names or ATTACKS), network=MODEL, weights=weights or "random", data=data or "noise"
    )
    screen.settings(rounds=rounds, seed=seed, output=output)
    images = labels = None
    if data:
        found = load_data(screen, data, network.input_size, False)
        if len(found.labels) != network.classes:
            raise ValueError(f"{data} has {len(found.labels)} classes; expected the {network.classes} of the network")
        images, labels = found.arrays("test")
    named = {
        "weights": weights.name if weights else f"drawn, seed {seed}",
        "data": without_folders(data) if data else f"noise, seed {seed}",
    }
    with screen.bar("racing") as told:

        def progress(what: str, done: int, total: int) -> None:
            told(done, total, what)

        results = run_attacks(
            names or tuple(ATTACKS), network, images, labels, rounds=rounds, seed=seed, named=named, file=output,
            command=command, progress=progress,
        )  # fmt: skip
    for result in results:
        rows = [
            (t.name, f"{t.median:.2f}", f"{result.success[t.name]:.2%}", f"{result.l2[t.name][0]:.3f}")
            for t in result.timings
        ]
        columns = ("contestant", "seconds", "fooled", "mean L2")
        screen.table(f"{result.attack}, {result.batch} images", columns, rows, text=("contestant",))
        if (best := result.fastest_peer) and (ratio := result.ratio()):
            screen.say(f"{best.name}, the fastest of the others, takes {ratio:.1f} times as long as rawcnn")
    screen.say(f"appended to {output}")
    screen.emit([result.to_json() for result in results])


def _tune(screen: Screen, models: list[str], batch: int, size: int | None, rounds: int, command: str) -> None:
    from benchmarks.tune import MODELS, tune
    from kernels.choice import table_path

    path = table_path()
    screen.settings(models=",".join(models or MODELS), batch=batch, size=size, rounds=rounds, table=path)
    writable(path)
    with screen.bar("measuring") as told:

        def progress(what: str, done: int, total: int) -> None:
            told(done, total, what)

        table = tune(
            models or MODELS, path=path, batch=batch, size=size, rounds=rounds, command=command, progress=progress
        )
    rows = []
    for name, shapes in table["forms"].items():
        taken: dict[str, int] = {}
        for sizes in shapes.values():
            for entry in sizes.values():
                taken[entry["form"]] = taken.get(entry["form"], 0) + 1
        rows.append((name, ", ".join(f"{form} {count}" for form, count in sorted(taken.items()))))
    screen.table("shapes by their fastest form", ("job", "forms"), rows, text=("job", "forms"))
    screen.say(f"wrote {path}; delete it to use rawcnn's own table again")
    screen.emit(table)


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks to race, `kernels`, `visualize`, `attacks` (and some), or `build` (and networks)."
        ),
    ] = None,
    job: Annotated[list[str] | None, typer.Option(help="inference, training; both otherwise.")] = None,
    batch: Batch = 8,
    size: Size = None,
    classes: Classes = None,
    precision: Precision = "float32",
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=1)] = 10,
    contestant: Annotated[list[str] | None, typer.Option(help="Some of the contestants; all otherwise.")] = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="Images to attack, as folder:PATH; noise otherwise.")] = None,
    tune: Annotated[
        bool, typer.Option(help="With `kernels` (and networks): measure the fastest forms, and use them from now on.")
    ] = False,
    output: Annotated[Path, typer.Option(help="File that the results are appended to.")] = Path(
        "benchmarks/results/races.jsonl"
    ),
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race rawcnn against Keras, outputs checked equal first; or the kernels' forms against each other."""
    import sys

    from benchmarks.run import MODELS, run, run_kernels
    from rawcnn.models import find

    screen = Screen(as_json)
    names = models or list(MODELS)
    command = " ".join(["rawcnn", *map(without_folders, sys.argv[1:])])
    if names[0] == "attacks":
        _race_attacks(screen, names[1:], weights, data, rounds, seed, output, command)
        return
    for name in names:
        if name not in ("kernels", "build", "visualize"):
            find(name)
    if "build" in names:
        _build(screen, [name for name in names if name != "build"], output, command)
        return
    if tune:
        if names[0] != "kernels":
            raise ValueError(
                "--tune goes with `benchmark kernels`; the networks whose layers to measure come after that"
            )
        _tune(screen, names[1:], batch, size, rounds, command)
        return
    if "visualize" in names and len(names) > 1:
        raise ValueError("`benchmark visualize` races networks of its own; give the others in another command")
    if weights or data:
        raise ValueError("--weights and --data are for `benchmark attacks`; leave them out, the others draw weights")
    if "visualize" in names:
        _race_visualizations(screen, rounds, seed, output, command)
        return
    screen.settings(models=",".join(names), batch=batch, size=size, precision=precision, rounds=rounds, seed=seed)
    writable(output)
    with screen.bar("racing") as told:

        def progress(what: str, done: int, total: int) -> None:
            told(done, total, what)

        if "kernels" in names:
            forms = run_kernels(precision=precision, rounds=rounds, file=output, command=command, progress=progress)
            raced = [name for name in names if name != "kernels"]
        else:
            forms, raced = [], names
        races = run(
            raced,
            job or ("inference", "training"),
            batch=batch,
            size=size,
            classes=classes,
            precision=precision,
            rounds=rounds,
            contestants=contestant,
            seed=seed,
            file=output,
            command=command,
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
        screen.table(f"{race.model}, {race.job}, batch {race.batch}", columns, rows, text=("contestant",))
        if race.ratio:
            low, high = min(race.ratios), max(race.ratios)
            best = "best" if race.complete else "fastest of these"
            screen.say(f"Keras's {best} takes {race.ratio:.2f} times as long ({low:.2f} to {high:.2f} over the rounds)")
    for form in forms:
        speeds = [(t.name, f"{t.median * 1e3:.3f}", f"{form.gflops(t):.1f}") for t in form.timings]
        screen.table(f"{form.case}, {form.job}", ("form", "median ms", "GFLOP/s"), speeds, text=("form",))
    screen.say(f"appended to {output}")
    screen.emit({"races": [r.to_json() for r in races], "kernels": [f.to_json() for f in forms]})
