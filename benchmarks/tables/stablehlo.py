"""What ran through StableHLO on GPUs, as a table: images a second beside Keras and PyTorch, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import median, percentile

from benchmarks.harness.results import Record
from benchmarks.tables.markdown import device_tables, device_words, newest

LEAST = 0.05  # of a step: kinds of kernels that take less are not named


def gpu_table(records: Sequence[Record]) -> str:
    """Networks on GPUs, one table a device; what ran on JAX's CPU client is a test, not a measurement."""

    def order(r: Record) -> tuple:
        return device_words(r["device"]), r["settings"]["pjrt"], r["settings"]["batch"]

    chosen = [r for r in records if r["settings"].get("job") in ("inference", "training") and "pjrt" in r["settings"]]
    chosen = newest([r for r in chosen if r["device"]["gpus"]], ("pjrt", "batch"))
    header = "| network, job | precision | batch | rawcnn, images/s | Keras on JAX | PyTorch eager | torch.compile "
    header += "| Keras's time / rawcnn's | PyTorch's better / rawcnn | of the matmul peak | where the time goes |"
    told = (
        "XLA on both sides of Keras's ratio, a jax.jit around the Keras model; medians of {rounds} interleaved rounds, "
    )
    told += "in brackets the middle half of their ratios; – was not measured. float32 multiplies as TF32."
    return device_tables(sorted(chosen, key=order), header, _row, told, _peaks)


def _row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    name, job, _ = s["pjrt"].split()
    seconds = f["seconds"]
    keras = _fastest(seconds, "keras")
    torch = _fastest(seconds, "torch") if "torch compile" in seconds else None  # eager alone is not its better way
    return (
        f"{name}, {'training step' if job == 'training' else job}",
        s["precision"],
        str(s["batch"]),
        *(_speed(f, who) for who in ("rawcnn", keras, "torch eager", "torch compile")),
        *(_ratio(seconds, who) for who in (keras, torch)),
        f"{f['share_of_matmul']:.0%}",
        _kinds(f.get("spent", {})),
    )


def _peaks(records: Sequence[Record]) -> str:
    """What the device was measured to do at most."""
    peaks = {r["settings"]["precision"]: r["figures"] for r in records}
    told = [f"{p} {f['matmul_flops_per_second'] / 1e12:.0f} TFLOP/s" for p, f in sorted(peaks.items())]
    copied = max(f["copy_bytes_per_second"] for f in peaks.values()) / 1e12
    return f" Peaks measured there: a square matmul in {', '.join(told)}; a copy {copied:.1f} TB/s."


def _fastest(seconds: Mapping[str, Any], beginning: str) -> str | None:
    names = [name for name in seconds if name.startswith(beginning)]
    return min(names, key=lambda name: median(seconds[name]), default=None)


def _speed(figures: Mapping[str, Any], name: str | None) -> str:
    return f"{figures['images_per_second'][name]:,.0f}" if name in figures["images_per_second"] else "–"


def _ratio(seconds: Mapping[str, Sequence[float]], other: str | None) -> str:
    if other is None:
        return "–"
    ratios = [theirs / ours for theirs, ours in zip(seconds[other], seconds["rawcnn"], strict=True)]
    low, middle, high = percentile(ratios, (25, 50, 75))
    return f"**{middle:.2f}** ({low:.2f}–{high:.2f})"


def _kinds(spent: Mapping[str, float]) -> str:
    whole = sum(spent.values())
    return ", ".join(f"{kind} {seconds / whole:.0%}" for kind, seconds in spent.items() if seconds >= LEAST * whole)
