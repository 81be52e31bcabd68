"""What `rawcnn benchmark` races: networks, their memory, kernels, visualizations and attacks, against others."""

from __future__ import annotations

from collections.abc import Sequence

from rawcnn.cli.alone import forms as measure_forms
from rawcnn.cli.options import load_data, network_for, without_folders, writable
from rawcnn.cli.order import BATCH, Order


def networks(order: Order) -> None:
    """Networks against Keras, and against PyTorch where that is asked for."""
    from benchmarks.run import MODELS, run

    names = order.names or list(MODELS)
    _check(order, names)
    batch = order.batch or BATCH
    jobs = order.jobs or ("inference", "training")
    order.show(
        models=",".join(names), jobs=",".join(jobs), batch=batch, size=order.size, classes=order.classes,
        precision=order.precision,
    )  # fmt: skip
    with order.bar("racing") as progress:
        races = run(
            names,
            jobs,
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
    names_of = {race: names for race, names in names_of.items() if names}
    memory = _peaks(order, names_of) if order.memory and names_of else []
    order.end({"races": [r.to_json() for r in races], "memory": memory})


def _check(order: Order, names: Sequence[str]) -> None:
    """ValueError for words that no race of networks has, before anything is made."""
    from benchmarks.races.contestants import JOBS
    from benchmarks.races.networks import entered
    from rawcnn.models import find
    from rawcnn.nn.trace import check_precision

    for name in names:
        find(name)
    if unknown := [job for job in order.jobs or () if job not in JOBS]:
        raise ValueError(f"--job is {unknown[0]!r}; expected one of {', '.join(JOBS)}")
    check_precision(order.precision)
    entered(order.contestants, order.precision)


def memory(order: Order) -> None:
    """The peak memory of contestants, by default of rawcnn's and of Keras's own ways and functions."""
    from benchmarks.races.contestants import JOBS, NAMES
    from rawcnn.nn.execution import choose

    _check(order, order.names)
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


def kernels(order: Order) -> None:
    """The kernels' forms against each other; with --tune those of all layers of some networks."""
    if order.tune:
        if order.precision != "float32":
            raise ValueError("--tune measures both precisions; leave --precision out")
        measure_forms(order)
        return
    from benchmarks.run import run_kernels
    from rawcnn.nn.trace import check_precision

    if order.names or order.batch or order.size:
        raise ValueError("`benchmark kernels` races shapes of its own; networks, --batch and --size go with --tune")
    check_precision(order.precision)
    order.show(kernels="all", precision=order.precision)
    with order.bar("racing") as progress:
        forms = run_kernels(
            precision=order.precision, rounds=order.rounds, file=order.output, command=order.command, progress=progress
        )
    for form in forms:
        speeds = [(t.name, f"{t.median * 1e3:.3f}", f"{form.gflops(t):.1f}") for t in form.timings]
        order.screen.table(f"{form.case}, {form.job}", ("form", "median ms", "GFLOP/s"), speeds, text=("form",))
    order.end({"kernels": [f.to_json() for f in forms]})


def visualizations(order: Order) -> None:
    """A step of feature visualization against Keras's users' ways, and libraries where they are installed."""
    from benchmarks.races.visualize import BATCHES, LAYERS, entered
    from benchmarks.run import run_visualizations

    entered(order.contestants)
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


def attacks(order: Order) -> None:
    """PGD, DeepFool and the spatial grid, or some of them, against other libraries', on a CIFAR ResNet-20.

    Named networks are attacked by PGD against the loop around Keras alone: libraries would take minutes a call.
    """
    from benchmarks.races.attacks import AGAINST_KERAS, ATTACKS, MODEL, PGDS, entered
    from benchmarks.run import run_attacks
    from rawcnn.models import MODELS

    if unknown := [name for name in order.names if name not in ATTACKS and name not in MODELS]:
        raise ValueError(f"there is no race of {unknown[0]!r}; expected {', '.join(map(repr, ATTACKS))} or networks")
    named = [name for name in order.names if name in MODELS]
    attacks = [name for name in order.names if name in ATTACKS] or list(PGDS if named else ATTACKS)
    contestants = order.contestants or (AGAINST_KERAS if named else None)
    for attack in attacks:
        entered(attack, contestants)
    writable(order.output)
    networks = [
        network_for(name, order.weights, size=order.size, classes=order.classes, seed=order.seed)
        for name in named or [MODEL]
    ]
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
