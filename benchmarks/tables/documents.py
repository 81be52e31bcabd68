"""The documents' tables, made from the result files.

`python -m benchmarks.tables.documents README.md docs/performance.md …` writes anew what stands between the comments

    <!-- race table -->
    <!-- end of race table -->

and likewise for "kernel table", "build table", "growth table" and the others of `TABLES`; a test compares them.
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
from benchmarks.tables.markdown import device_tables, device_words, milliseconds, newest
from benchmarks.tables.scale import paper_scale_table, scale_table
from benchmarks.tables.stablehlo import gpu_table

ROUNDS = 3  # of fewer there is no middle half
DEEPER = (("resnet50", "resnet101", "resnet152"), ("cifar_resnet20", "cifar_resnet56", "cifar_resnet110"))


def races(records: Sequence[Record]) -> list[Record]:
    """The newest record of each race that all contestants ran, `ROUNDS` rounds or more, by device, model and so on."""

    def order(r: Record) -> tuple:
        s = r["settings"]
        return device_words(r["device"]), s["model"], s["job"], s["precision"] != "float32", s["batch"], s["size"]

    complete = [r for r in records if "model" in r["settings"] and r["figures"].get("complete")]
    complete = [r for r in complete if r["settings"]["rounds"] >= ROUNDS]
    return sorted(newest(complete, ("model", "job", "precision", "batch", "size", "classes")), key=order)


def race_table(records: Sequence[Record]) -> str:
    """The races on the device that ran the most, as a Markdown table, with what it was measured on under it.

    "" where there are none.
    """
    return _race_tables(records, lambda device, most: device == most)


def other_race_table(records: Sequence[Record]) -> str:
    """Those on other devices in the same way, a table each."""
    return _race_tables(records, lambda device, most: device != most)


def _race_tables(records: Sequence[Record], wanted: Callable[[str, str], bool]) -> str:
    """Of the devices that are `wanted`, by their words and those of the one that ran the most races."""
    header = "| network | job | precision | batch | rawcnn | Keras's best | Keras's time / rawcnn's | both by XLA "
    header += "| PyTorch's time / rawcnn's | peak memory: rawcnn, Keras's best |"
    told = "Medians of {rounds} interleaved rounds; in brackets the middle half of the rounds' ratios. Peak memory: "
    told += "what three calls take in a process of its own, above what that holds before: a lower bound, for what "
    told += "building the network left free there is taken first."
    shared = ("job", "precision", "batch", "size", "classes")
    measured = newest([r for r in records if "memory" in r["settings"]], ("memory", *shared))

    def key(r: Record, of: str) -> tuple:
        return device_words(r["device"]), *(r["settings"][name] for name in (of, *shared))

    peaks = {key(r, "memory"): r["figures"]["peaks"] for r in measured}

    def row(r: Record) -> Sequence[str]:
        return _race_row(r, peaks.get(key(r, "model"), {}))

    ran = races(records)
    words = [device_words(r["device"]) for r in ran]
    most = max(words, key=words.count, default="")
    return device_tables([r for r in ran if wanted(device_words(r["device"]), most)], header, row, told)


def kernel_table(records: Sequence[Record]) -> str:
    """The races of kernels in the same way: GFLOP/s of each form, the fastest first."""
    chosen = newest([r for r in records if "case" in r["settings"]], ("case", "job", "precision"))
    header = "| kernel | job | precision | GFLOP/s of each form |"
    return device_tables(chosen, header, _kernel_row, "By the median of {rounds} interleaved rounds.")


def build_table(records: Sequence[Record]) -> str:
    """How long each network takes to be ready, in the order in which they were measured first."""
    chosen = newest([r for r in records if "build" in r["settings"]], ("build", "size", "batch"))
    header = "| network | image | layers | profile | create | first answer: graph | XLA | Keras's XLA | next answer |"
    told = "One image, each network in a process of its own, once: seconds of a shared machine, not ratios."
    return device_tables(chosen, header, _build_row, told, _build_words)


def _build_words(records: Sequence[Record]) -> str:
    """How the first answer by XLA grows where blocks are repeated, and how long Keras's takes."""
    seconds = {r["settings"]["build"]: (r["figures"]["operations"], r["figures"]["xla"]) for r in records}
    ratios = [r["figures"]["keras"] / r["figures"]["xla"] for r in records if r["figures"].get("keras")]
    told, words = [], ""
    for family in DEEPER:
        if all(name in seconds for name in family):
            layers, taken = zip(*(seconds[name] for name in family), strict=True)
            exponent = polyfit(log(layers), log(taken), 1)[0]
            told.append(f"{family[0]} to {family[-1]} layers^{exponent:.2f}")
    if told:
        words += f" XLA's first answer grows as: {', '.join(told)}."
    if ratios:
        low, middle, high = percentile(ratios, (0, 50, 100))
        words += f" Keras's takes {low:.2f} to {high:.2f} times as long, {middle:.2f} times in the median."
    return words


def growth_table(records: Sequence[Record]) -> str:
    """The exponents of time along batch, size, depth and steps."""
    chosen = newest([r for r in records if "growth_along" in r["settings"]], ("growth_along", "job", "precision"))
    header = "| along | job | precision | networks | ms an image, first to last | time an image ∝ |"
    return device_tables(chosen, header, _growth_row, "Medians of {rounds} rounds.")


def visualize_table(records: Sequence[Record]) -> str:
    """One step of feature visualization, for one image of the batch: rawcnn, Keras's users' ways, two libraries."""
    complete = [r for r in records if "visualize" in r["settings"] and r["figures"]["complete"]]
    chosen = newest(complete, ("visualize", "layer", "size", "batch"))
    chosen.sort(key=lambda r: (device_words(r["device"]), r["settings"]["visualize"], r["settings"]["batch"]))
    used = (f"{name} {found}" for r in chosen for name, found in r["figures"]["libraries"].items())
    libraries = " and ".join(dict.fromkeys(used))
    header = "| network | batch | rawcnn | by XLA | tape loop over Keras | its tf.function | tf-keras-vis | xplique "
    header += "| Keras's best / rawcnn |"
    told = "A step's time over the images of the batch. Medians of {rounds} interleaved rounds; in brackets the middle "
    told += "half of the rounds' ratios." + (f" {libraries}: their own transformations." if libraries else "")
    return device_tables(chosen, header, _visualize_row, told)


def attack_table(records: Sequence[Record]) -> str:
    """Whole attacks on a batch: rawcnn in float32 and bfloat16, a loop around Keras, the libraries."""
    complete = [r for r in records if "attack" in r["settings"] and r["figures"]["complete"]]
    chosen = newest(complete, ("attack", "network", "weights", "data", "batch"))  # in the order of measuring
    used = (f"{name} {found}" for r in chosen for name, found in r["figures"]["libraries"].items())
    libraries = ", ".join(dict.fromkeys(used))
    header = "| attack | images | rawcnn | its bfloat16 | Keras, tf.function | foolbox | ART | cleverhans "
    header += "| fooled by rawcnn (most by others) | fastest other / rawcnn | / its bfloat16 |"
    told = (
        "Of a library the faster of its two ways. Medians of {rounds} interleaved rounds; in brackets the middle half "
    )
    told += "of the rounds' ratios; ¹ called once, its tracing included, for it takes more than twice as long as the "
    told += "fastest other. "
    return device_tables(chosen, header, _attack_row, told + (f"{libraries}." if libraries else ""))


def attack_networks_table(records: Sequence[Record]) -> str:
    """PGD on large networks: rawcnn and a loop around Keras."""
    raced = [r for r in records if "attack" in r["settings"] and r["settings"]["network"] != MODEL]
    raced = [r for r in raced if {"rawcnn", "keras function"} <= {c["name"] for c in r["figures"]["contestants"]}]
    header = "| network | attack | images | rawcnn | Keras, tf.function | Keras's time / rawcnn's |"
    told = "Medians of {rounds} interleaved rounds; in brackets the middle half of the rounds' ratios."
    return device_tables(newest(raced, ("network", "attack", "batch", "size")), header, _attack_network_row, told)


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
    """Of these contestants, by median; None where none of them raced."""
    times = {c["name"]: c["median"] for c in figures["contestants"] if c["name"] in names}
    return min(times, key=lambda name: times[name], default=None)


def _ratio(figures: Mapping[str, Any], other: str | None, ours: str) -> str:
    """The other's time over ours: the median over the rounds, and their middle half."""
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
    """The fastest other's time over that of one of ours."""
    if name not in figures["ratios"]:
        return ""
    low, high = figures["ratio_quartiles"][name]
    return f"**{figures['ratios'][name]:.{digits}f}** ({low:.{digits}f}–{high:.{digits}f})"


# Documents -------------------------------------------------------------------------------------------------------

TABLES = {
    "race table": race_table,
    "other race table": other_race_table,
    "kernel table": kernel_table,
    "build table": build_table,
    "growth table": growth_table,
    "visualize table": visualize_table,
    "attack table": attack_table,
    "attack networks table": attack_networks_table,
    "scale table": scale_table,
    "paper scale table": paper_scale_table,
    "gpu table": gpu_table,
}


def marks(name: str) -> tuple[str, str]:
    """The two comment lines that a table stands between."""
    return f"<!-- {name} -->", f"<!-- end of {name} -->"


def rewrite(text: str, records: Sequence[Record]) -> str:
    """`text` with the tables between their marks made anew. ValueError if it has none, or one of a pair is missing."""
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
    """Write the tables into files; with --check only tell whether they are as the result files give them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.documents", description=main.__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="files with the comment lines, such as README.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the folder of the result files")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a table is old")
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
