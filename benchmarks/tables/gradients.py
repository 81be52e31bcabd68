"""The table of the race between the tape and the gradients by hand."""

from __future__ import annotations

from collections.abc import Sequence

from numpy import percentile

from benchmarks.harness.results import Record
from benchmarks.tables.markdown import device_tables, milliseconds, newest

ROUNDS = 3  # fewer rounds have no middle half


def gradient_table(records: Sequence[Record]) -> str:
    """A training step by the tape and by hand: time, first call and peak memory, a row per network and compiler."""
    raced = [r for r in records if "gradients" in r["settings"] and r["figures"]["complete"]]
    raced = [r for r in raced if r["settings"]["rounds"] >= ROUNDS]
    rows = [{**r, "mode": mode} for r in newest(raced, ("gradients", "batch", "size")) for mode in ("graph", "xla")]
    header = "| network | batch | compiler | step: tape | by hand | by hand / tape | first call: tape, by hand "
    header += "| peak memory: tape, by hand |"
    caption = "Medians of {rounds} interleaved rounds; in brackets the quartiles of the rounds' ratios. First call: "
    caption += "tracing, compilation and one step. First call and peak memory are measured in a fresh process each."
    return device_tables(rows, header, _row, caption)


def _row(r: Record) -> Sequence[str]:
    s, mode = r["settings"], r["mode"]
    found = {c["name"]: c for c in r["figures"]["contestants"]}
    tape, hand = found[f"tape {mode}"], found[f"hand {mode}"]
    low, middle, high = percentile([h / t for h, t in zip(hand["seconds"], tape["seconds"], strict=True)], (25, 50, 75))
    return (
        f"{s['gradients']}, {s['size']} px",
        str(s["batch"]),
        "XLA" if mode == "xla" else "graph",
        milliseconds(tape["median"]),
        milliseconds(hand["median"]),
        f"**{middle:.2f}** ({low:.2f}–{high:.2f})",
        ", ".join(f"{c['first_call']:.1f} s" for c in (tape, hand)),
        ", ".join("–" if c["memory"] is None else f"{c['memory'] / 2**20:,.0f} MiB" for c in (tape, hand)),
    )
