"""The section on Keras: races of one network, which `benchmarks` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rawcnn.nn.arguments import size_text
from rawcnn.plots import themed as plots
from rawcnn.report.album import Album
from rawcnn.report.page import Block, Section, Table, Text

Race = Mapping[str, Any]  # {"settings": …, "figures": …}, from benchmarks.races.networks.RaceResult.to_json


def section(races: Sequence[Race], album: Album) -> Section:
    """Return the section on all races, with a bar for each contestant."""
    blocks: list[Block] = [
        Text(
            "The same network runs as plain tensor code and in Keras, with the same weights, images, labels, loss and "
            "optimizer. The results are compared before anything is timed. Then the contestants take turns, so that a "
            "disturbance of the machine affects all of them. Keras runs in two forms: its default, `train_on_batch` "
            "and `predict_on_batch`, and a handwritten `tf.function` around its model. The ratio is the time of "
            "Keras's faster form divided by the time of the form that rawcnn chooses on this machine. Above 1, rawcnn "
            "is faster. A few rounds on a busy machine are not precise; `rawcnn benchmark` runs more rounds and more "
            "contestants."
        )
    ]
    for race in races:
        blocks += _race(race, album)
    return Section("One network, two ways", tuple(blocks))


def _job(race: Race) -> str:
    return {"training": "a training step", "inference": "inference"}.get(
        race["settings"]["job"], race["settings"]["job"]
    )


def _race(race: Race, album: Album) -> list[Block]:
    settings, figures = race["settings"], race["figures"]
    contestants = figures["contestants"]
    chosen = next((c for c in contestants if c["name"] == figures["chosen"]), contestants[0])
    names = [c["name"] for c in contestants]
    times = [c["median"] / chosen["median"] for c in contestants]
    job = _job(race)
    what = (
        f"`{settings['model']}`, {job}, {settings['batch']} images of {size_text(settings['size'])}, "
        f"{settings['precision']}"
    )
    spread = ""
    if figures["ratio"]:
        low, high = figures["ratio_quartiles"]
        spread = f" Keras's fastest form here, {figures['keras_best']}, takes {figures['ratio']:.2f} times as long; "
        spread += f"the quartiles over the rounds are {low:.2f} and {high:.2f}."
    plot = album.plot(
        f"race-{settings['model']}-{settings['job']}",
        plots.time_bars(names, times, [name.startswith("keras") for name in names], f"time, {chosen['name']} = 1"),
        (5.3, 0.9 + 0.27 * len(names)),
        alt=f"Bars of the time of each contestant for {job}, relative to {chosen['name']}: "
        + ", ".join(f"{name} {time:.2f}" for name, time in zip(names, times, strict=True)),
        caption=f"{what}: time of each contestant, shorter is better.{spread}",
    )
    rows = tuple(
        (
            c["name"],
            f"{1e3 * c['median']:.1f} ms",
            f"{1e3 * c['interquartile_range']:.1f} ms",
            f"{settings['batch'] / c['median']:,.0f}",
            f"{c['first_call']:.1f} s",
            f"{c['difference']:.0e}" if c["difference"] else "—",
        )
        for c in contestants
    )
    columns = ("contestant", "median", "between quartiles", "images/s", "first call", "difference")
    caption = (
        f"{job[0].upper()}{job[1:]}: {settings['rounds']} rounds. The first call traces and compiles. The difference "
        "compares the results, relative to the largest value."
    )
    return [plot, Table(columns, rows, caption)]
