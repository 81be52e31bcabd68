"""What `rawcnn benchmark` measures of rawcnn alone: forms of kernels, builds, how time grows and training scales."""

from __future__ import annotations

from collections import Counter

import onednn
from rawcnn.cli.options import writable
from rawcnn.cli.order import BATCH, Order


def forms(order: Order) -> None:
    """Measure the fastest form of each kernel here, and use it from now on."""
    from benchmarks.tune import MODELS, tune
    from kernels.dispatch.selection import table_path
    from rawcnn.models import find

    for name in order.names:
        find(name)
    models, path, batch = order.names or list(MODELS), table_path(), order.batch or BATCH
    writable(path)
    order.screen.settings(models=",".join(models), batch=batch, size=order.size, rounds=order.rounds)
    order.screen.settings(onednn=onednn.state(), table=path)
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


def builds(order: Order) -> None:
    """How long each network, or all of them, takes to be profiled, created, traced and compiled."""
    from benchmarks.measurements.build import run_builds
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


def growth(order: Order) -> None:
    """How time grows with batch, size, depth and an attack's steps; the plot lies beside the results."""
    from benchmarks.measurements.growth import grow
    from rawcnn.nn.trace import check_precision
    from rawcnn.plots import figures as plots

    if order.names:
        raise ValueError("`benchmark growth` measures networks of its own; give the others in another command")
    check_precision(order.precision)
    order.show(growth="all", precision=order.precision)
    with order.bar("measuring") as progress:
        series = grow(order.precision, rounds=order.rounds, file=order.output, command=order.command, progress=progress)
    rows = [
        (s.along, s.job, s.model, f"{1e3 * s.an_image[0]:.1f} to {1e3 * s.an_image[-1]:.1f}", f"{s.exponent:.2f}")
        for s in series
    ]
    columns = ("along", "job", "networks", "ms an image", "exponent")
    order.screen.table("time an image ∝ x^exponent", columns, rows, text=("along", "job", "networks"))
    picture = order.output.with_name(f"growth-{order.precision}.png")
    plots.save(plots.growth(series), picture)
    order.screen.say(f"wrote {picture}")
    order.end([s.to_json() for s in series])


def scaling(order: Order) -> None:
    """How a training step scales over workers that share its batch, each with a GPU or cores of its own."""
    from benchmarks.run import run_scale
    from rawcnn.models import find
    from rawcnn.nn.trace import check_precision

    if not order.names:
        raise ValueError("`benchmark scale` trains networks; name some, as `benchmark scale resnet18`")
    for name in order.names:
        find(name)
    check_precision(order.precision)
    batch = order.batch or BATCH
    order.show(scale=",".join(order.names), batch=f"{batch} a worker", precision=order.precision)
    with order.bar("measuring") as progress:
        results = run_scale(
            order.names, batch=batch, size=order.size, classes=order.classes, precision=order.precision,
            rounds=order.rounds, file=order.output, command=order.command, progress=progress,
        )  # fmt: skip
    for r in results:
        rows = []
        for n in r.seconds:
            middle, low, high = r.efficiency(n)
            rows.append((str(n), f"{r.images_per_second(n):.1f}", f"{middle:.0%}", f"{low:.0%} to {high:.0%}"))
        title = f"{r.model}, {r.batch} images a worker, which has {r.each}"
        order.screen.table(title, ("workers", "images/s", "efficiency", "middle half"), rows)
    order.end([r.to_json() for r in results])
