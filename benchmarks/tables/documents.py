"""Generate the tables of the documents from the result files.

`python -m benchmarks.tables.documents README.md docs/performance.md …` replaces the text between the comments

    <!-- race table -->
    <!-- end of race table -->

and likewise for "kernel table", "build table", "growth table" and the others of `TABLES`. A test compares the
documents with the result files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy import log, percentile, polyfit

from benchmarks.harness.results import FOLDER, Record, read
from benchmarks.races.attacks import MODEL
from benchmarks.tables.gradients import gradient_table
from benchmarks.tables.markdown import device_tables, device_words, milliseconds, newest
from benchmarks.tables.scale import paper_scale_table, scale_table
from benchmarks.tables.stablehlo import gpu_table

ROUNDS = 3  # fewer rounds have no middle half
SUMMARY = (  # (network, job, precision) of the README's table
    *(("resnet50", job, precision) for job in ("inference", "training") for precision in ("float32", "bfloat16")),
    *((name, "training", "float32") for name in ("alexnet", "googlenet", "vgg16", "cifar_resnet20")),
)
QUARTILES = "Medians of {rounds} interleaved rounds; in brackets the quartiles of the rounds' ratios."
DEEPER = (("resnet50", "resnet101", "resnet152"), ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110"))


def races(records: Sequence[Record]) -> list[Record]:
    """The newest complete record of each race with at least `ROUNDS` rounds, sorted by device, model and job."""

    def order(r: Record) -> tuple:
        s = r["settings"]
        return device_words(r["device"]), s["model"], s["job"], s["precision"] != "float32", s["batch"], s["size"]

    complete = [r for r in records if "model" in r["settings"] and r["figures"].get("complete")]
    complete = [r for r in complete if r["settings"]["rounds"] >= ROUNDS]
    return sorted(newest(complete, ("model", "job", "precision", "batch", "size", "classes")), key=order)


def summary_table(records: Sequence[Record]) -> str:
    """The races of `SUMMARY` on the device that ran the most races: times and ratios, with a caption below."""
    ran = races(records)
    chosen = [r for job in SUMMARY for r in ran if _summary_key(r) == job and _device(r) == _most_used_device(ran)]
    header = "| network | job | precision | rawcnn | Keras's best | PyTorch's best | Keras's time / rawcnn's "
    header += "| PyTorch's time / rawcnn's |"
    caption = "Batches of 8 images. " + QUARTILES
    return device_tables(chosen, header, _summary_row, caption)


def race_table(records: Sequence[Record]) -> str:
    """The races on the device that ran the most races, as a Markdown table with a caption; "" without races."""
    return _race_tables(records, lambda device, most: device == most)


def other_race_table(records: Sequence[Record]) -> str:
    """The races on each other device, one table per device."""
    return _race_tables(records, lambda device, most: device != most)


def _device(r: Record) -> str:
    return device_words(r["device"])


def _most_used_device(ran: Sequence[Record]) -> str:
    words = [_device(r) for r in ran]
    return max(words, key=words.count, default="")


def _race_tables(records: Sequence[Record], selected: Callable[[str, str], bool]) -> str:
    """One table per device for which `selected(device, most used device)` holds."""
    header = "| network | job | precision | batch | rawcnn | Keras's best | Keras's time / rawcnn's | both with XLA "
    header += "| PyTorch's time / rawcnn's | peak memory: rawcnn, Keras's best |"
    caption = (
        QUARTILES + " Peak memory: the increase over three calls in a fresh process. This is a lower bound, because "
    )
    caption += "memory freed while the network was built is reused first."
    shared = ("job", "precision", "batch", "size", "classes")
    measured = newest([r for r in records if "memory" in r["settings"]], ("memory", *shared))

    def key(r: Record, model: str) -> tuple:
        return _device(r), *(r["settings"][name] for name in (model, *shared))

    peaks = {key(r, "memory"): r["figures"]["peaks"] for r in measured}

    def row(r: Record) -> Sequence[str]:
        return _race_row(r, peaks.get(key(r, "model"), {}))

    ran = races(records)
    return device_tables([r for r in ran if selected(_device(r), _most_used_device(ran))], header, row, caption)


def kernel_table(records: Sequence[Record]) -> str:
    """The races of kernel forms: GFLOP/s of each form, the fastest first."""
    chosen = newest([r for r in records if "case" in r["settings"]], ("case", "job", "precision"))
    header = "| kernel | job | precision | GFLOP/s of each form |"
    return device_tables(chosen, header, _kernel_row, "Medians of {rounds} interleaved rounds.")


def build_table(records: Sequence[Record]) -> str:
    """How long each network takes to give its first answer, in the order of the first measurements."""
    chosen = newest([r for r in records if "build" in r["settings"]], ("build", "size", "batch"))
    header = "| network | image | layers | profile | create | first answer: graph | XLA | Keras's XLA | next answer |"
    caption = "One image, one process per network, measured once: seconds of a shared machine, not ratios."
    return device_tables(chosen, header, _build_row, caption, _build_summary)


def _build_summary(records: Sequence[Record]) -> str:
    """How the time of XLA's first answer grows with the number of blocks, and Keras's time relative to it."""
    seconds = {r["settings"]["build"]: (r["figures"]["operations"], r["figures"]["xla"]) for r in records}
    ratios = [r["figures"]["keras"] / r["figures"]["xla"] for r in records if r["figures"].get("keras")]
    growth, words = [], ""
    for family in DEEPER:
        if all(name in seconds for name in family):
            layers, taken = zip(*(seconds[name] for name in family), strict=True)
            exponent = polyfit(log(layers), log(taken), 1)[0]
            growth.append(f"layers^{exponent:.2f} from {family[0]} to {family[-1]}")
    if growth:
        words += f" The time of XLA's first answer grows as {' and as '.join(growth)}."
    if ratios:
        low, middle, high = percentile(ratios, (0, 50, 100))
        words += f" Keras's first answer takes {low:.2f} to {high:.2f} times as long (median {middle:.2f})."
    return words


def growth_table(records: Sequence[Record]) -> str:
    """The exponents with which time grows with batch, size, depth and steps."""
    chosen = newest([r for r in records if "growth_along" in r["settings"]], ("growth_along", "job", "precision"))
    header = "| x | job | precision | networks | ms per image, first to last | time per image ∝ |"
    return device_tables(chosen, header, _growth_row, "Medians of {rounds} rounds.")


def visualize_table(records: Sequence[Record]) -> str:
    """The time per image of one feature visualization step: rawcnn, two ways to write it with Keras, two libraries."""
    complete = [r for r in records if "visualize" in r["settings"] and r["figures"]["complete"]]
    chosen = newest(complete, ("visualize", "layer", "size", "batch"))
    chosen.sort(key=lambda r: (device_words(r["device"]), r["settings"]["visualize"], r["settings"]["batch"]))
    used = (f"{name} {found}" for r in chosen for name, found in r["figures"]["libraries"].items())
    libraries = " and ".join(dict.fromkeys(used))
    header = "| network | batch | rawcnn | by XLA | tape loop over Keras | its tf.function | tf-keras-vis | xplique "
    header += "| Keras's best / rawcnn |"
    caption = "Time per image: the step's time divided by the batch. " + QUARTILES
    caption += f" {libraries} use their own transformations." if libraries else ""
    return device_tables(chosen, header, _visualize_row, caption)


def attack_table(records: Sequence[Record]) -> str:
    """Complete attacks on a batch: rawcnn in float32 and bfloat16, a loop around Keras, three libraries."""
    complete = [r for r in records if "attack" in r["settings"] and r["figures"]["complete"]]
    chosen = newest(complete, ("attack", "network", "weights", "data", "batch"))  # in the order of measuring
    used = (f"{name} {found}" for r in chosen for name, found in r["figures"]["libraries"].items())
    libraries = ", ".join(dict.fromkeys(used))
    header = "| attack | images | rawcnn | its bfloat16 | Keras, tf.function | foolbox | ART | cleverhans "
    header += "| fooled by rawcnn (most by others) | fastest other / rawcnn | / its bfloat16 |"
    caption = "Each library is timed in its faster form, plain or in a `tf.function`. " + QUARTILES
    caption += " ¹ Called once, tracing included, because it takes more than twice as long as the fastest other."
    return device_tables(chosen, header, _attack_row, caption + (f" {libraries}." if libraries else ""))


def attack_networks_table(records: Sequence[Record]) -> str:
    """PGD on large networks: rawcnn against a loop around Keras."""
    raced = [r for r in records if "attack" in r["settings"] and r["settings"]["network"] != MODEL]
    raced = [r for r in raced if {"rawcnn", "keras function"} <= {c["name"] for c in r["figures"]["contestants"]}]
    header = "| network | attack | images | rawcnn | Keras, tf.function | Keras's time / rawcnn's |"
    return device_tables(newest(raced, ("network", "attack", "batch", "size")), header, _attack_network_row, QUARTILES)


def _summary_key(r: Record) -> tuple[str, str, str]:
    return r["settings"]["model"], r["settings"]["job"], r["settings"]["precision"]


def _summary_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    times = {c["name"]: c["median"] for c in f["contestants"]}
    torch = _fastest(f, "torch eager", "torch compile")
    return (
        s["model"],
        f"{'training step' if s['job'] == 'training' else s['job']}, {s['size']} px",
        s["precision"],
        *(milliseconds(times[name]) for name in (f["chosen"], f["keras_best"])),
        milliseconds(times[torch]) if torch else "–",
        _ratio(f, f["keras_best"], f["chosen"]),
        _ratio(f, torch, f["chosen"]) or "–",
    )


def _race_row(r: Record, peaks: Mapping[str, int | None]) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    times = {c["name"]: c["median"] for c in f["contestants"]}
    job = "training step" if s["job"] == "training" else s["job"]
    return (
        s["model"],
        f"{job}, {s['size']} px",
        s["precision"],
        str(s["batch"]),
        f"{milliseconds(times[f['chosen']])} ({f['chosen'].removeprefix('rawcnn ')})",
        f"{milliseconds(times[f['keras_best']])} ({f['keras_best'].removeprefix('keras ')})",
        _ratio(f, f["keras_best"], f["chosen"]),
        _ratio(f, _fastest(f, "keras jit", "keras function xla"), "rawcnn xla"),
        _ratio(f, _fastest(f, "torch eager", "torch compile"), f["chosen"]),
        f"{_mebibytes(peaks.get(f['chosen']))}, {_mebibytes(peaks.get(f['keras_best']))}",
    )


def _fastest(figures: Mapping[str, Any], *names: str) -> str | None:
    """The fastest of these contestants by median; None if none of them raced."""
    times = {c["name"]: c["median"] for c in figures["contestants"] if c["name"] in names}
    return min(times, key=lambda name: times[name], default=None)


def _ratio(figures: Mapping[str, Any], other: str | None, ours: str) -> str:
    """The other's time divided by ours: the median over the rounds, and their quartiles."""
    seconds = {c["name"]: c["seconds"] for c in figures["contestants"]}
    if other is None:
        return ""
    ratios = [k / r for k, r in zip(seconds[other], seconds[ours], strict=True)]
    low, middle, high = (percentile(ratios, share) for share in (25, 50, 75))
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


def _mebibytes(taken: int | None) -> str:
    return "–" if taken is None else f"{taken / 2**20:,.0f} MiB"


def _kernel_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    fastest, *others = sorted(f["contestants"], key=lambda c: -c["gflops"])
    forms = [f"**{fastest['name']} {fastest['gflops']:.1f}**", *(f"{c['name']} {c['gflops']:.1f}" for c in others)]
    return s["case"], s["job"], s["precision"], ", ".join(forms)


def _growth_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    names, times = f["names"], f["seconds_an_image"]
    return (
        f"{s['growth_along']}, {names[0]} to {names[-1]}",
        s["job"],
        s["precision"],
        s["model"],
        f"{1e3 * times[0]:.1f} to {1e3 * times[-1]:.1f}",
        f"x^{polyfit(log(f['points']), log(times), 1)[0]:.2f}",
    )


def _build_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    steps = (f.get(step) for step in ("profile", "create", "graph", "xla", "keras"))
    seconds = ["" if taken is None else f"{taken:.2f} s" for taken in steps]
    return s["build"], str(s["size"]), str(f["operations"]), *seconds, milliseconds(f["answer"])


def _visualize_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    times = {c["name"]: c["per_image"] for c in f["contestants"]}
    function = min(("keras function", "keras function xla"), key=lambda name: times[name])
    libraries = [milliseconds(times[name]) if name in times else "" for name in ("tf-keras-vis", "xplique")]
    return (
        f"{s['visualize']} {s['layer']}, {s['size']} px",
        str(s["batch"]),
        f"{milliseconds(times[f['chosen']])} ({f['chosen'].removeprefix('rawcnn ')})",
        milliseconds(times["rawcnn xla"]),
        milliseconds(times["keras loop"]),
        f"{milliseconds(times[function])} ({'xla' if function.endswith('xla') else 'graph'})",
        *libraries,
        _ratio(f, f["keras_best"], f["chosen"]),
    )


def _attack_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    found = {c["name"]: c for c in f["contestants"]}

    def time(name: str) -> str:
        ways = [found[n] for n in (name, f"{name} function") if n in found]
        if not ways:
            return ""
        best = min(ways, key=lambda c: c["median"])
        return milliseconds(best["median"]) + ("¹" if len(best["seconds"]) < s["rounds"] else "")

    others = max(c["success"] for name, c in found.items() if not name.startswith("rawcnn"))
    return (
        s["attack"],
        str(s["batch"]),
        *(time(name) for name in ("rawcnn", "rawcnn bfloat16", "keras", "foolbox", "art", "cleverhans")),
        f"{found['rawcnn']['success']:.1%} ({others:.1%})",
        _attack_ratio(f, "rawcnn"),
        _attack_ratio(f, "rawcnn bfloat16"),
    )


def _attack_network_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    times = {c["name"]: milliseconds(c["median"]) for c in f["contestants"]}
    return (
        f"{s['network']}, {s['size']} px",
        s["attack"],
        str(s["batch"]),
        *(times.get(name, "") for name in ("rawcnn", "keras function")),
        _attack_ratio(f, "rawcnn", 2),
    )


def _attack_ratio(figures: Mapping[str, Any], name: str, digits: int = 1) -> str:
    """The fastest other contestant's time divided by `name`'s."""
    if name not in figures["ratios"]:
        return ""
    low, high = figures["ratio_quartiles"][name]
    return f"**{figures['ratios'][name]:.{digits}f}** ({low:.{digits}f}–{high:.{digits}f})"


# Documents -------------------------------------------------------------------------------------------------------

TABLES = {
    "summary table": summary_table,
    "race table": race_table,
    "other race table": other_race_table,
    "kernel table": kernel_table,
    "build table": build_table,
    "gradient table": gradient_table,
    "growth table": growth_table,
    "visualize table": visualize_table,
    "attack table": attack_table,
    "attack networks table": attack_networks_table,
    "scale table": scale_table,
    "paper scale table": paper_scale_table,
    "gpu table": gpu_table,
}


def marks(name: str) -> tuple[str, str]:
    """The two comment lines around a table."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def rewrite(text: str, records: Sequence[Record]) -> str:
    """Replace the tables between their marks in `text`. Raise ValueError without marks or if a pair is incomplete."""
    present = [name for name in TABLES if any(mark in text for mark in marks(name))]
    if not present:
        raise ValueError(f"there is no table to write; expected lines such as {' and '.join(marks('race table'))}")
    for name in present:
        start, end = marks(name)
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise ValueError(f"expected the lines {start} and {end}, each once and in this order")
        before, rest = text.split(start)
        table, after = TABLES[name](records), rest.split(end)[1]
        text = f"{before}{start}\n" + (f"\n{table}\n" if table else "") + f"{end}{after}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into files; with --check only report whether they match the result files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.documents", description=main.__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="files with the comment lines, such as README.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the result files")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is out of date")
    options = parser.parse_args(arguments)
    old_tables = False
    for file in options.files:
        try:
            old = file.read_text(encoding="utf-8")
            new = rewrite(old, read(options.folder))
        except (OSError, ValueError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 2
        old_tables |= new != old
        if not options.check:
            file.write_text(new, encoding="utf-8")
    return int(options.check and old_tables)


if __name__ == "__main__":
    raise SystemExit(main())
