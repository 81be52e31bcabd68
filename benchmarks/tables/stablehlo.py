"""Table of the StableHLO races on GPUs: images per second against Keras and PyTorch, and where the time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import median, percentile

from benchmarks.harness.results import Record
from benchmarks.tables.markdown import device_tables, device_words, newest

LEAST = 0.05  # share of a step: kinds of kernels that take less are not named


def gpu_table(records: Sequence[Record]) -> str:
    """Networks on GPUs, one table per device. Runs on JAX's CPU client are tests and are left out."""

    def order(r: Record) -> tuple:
        return device_words(r["device"]), r["settings"]["pjrt"], r["settings"]["batch"]

    chosen = [r for r in records if r["settings"].get("job") in ("inference", "training") and "pjrt" in r["settings"]]
    chosen = newest([r for r in chosen if r["device"]["gpus"]], ("pjrt", "batch"))
    header = "| network, job | precision | batch | rawcnn, images/s | Keras on JAX | PyTorch eager | torch.compile "
    header += "| Keras's time / rawcnn's | PyTorch's best / rawcnn | share of the matmul peak | where the time goes |"
    caption = (
        "Keras runs on JAX, as a `jax.jit` around the model, so XLA compiles both. Medians of {rounds} interleaved "
    )
    caption += "rounds; in brackets the quartiles of their ratios; – was not measured. float32 multiplies as TF32."
    return device_tables(sorted(chosen, key=order), header, _row, caption, _peaks)


def _row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    network, job, _ = s["pjrt"].split()
    seconds = f["seconds"]
    keras = _fastest(seconds, "keras")
    torch = (
        _fastest(seconds, "torch") if "torch compile" in seconds else None
    )  # without torch.compile its best is unknown
    return (
        f"{network}, {'training step' if job == 'training' else job}",
        s["precision"],
        str(s["batch"]),
        *(_speed(f, name) for name in ("rawcnn", keras, "torch eager", "torch compile")),
        *(_ratio(seconds, name) for name in (keras, torch)),
        f"{f['share_of_matmul']:.0%}",
        _kinds(f.get("spent", {})),
    )


def _peaks(records: Sequence[Record]) -> str:
    """The measured peaks of the device."""
    peaks = {r["settings"]["precision"]: r["figures"] for r in records}
    matmuls = [f"{p} {f['matmul_flops_per_second'] / 1e12:.0f} TFLOP/s" for p, f in sorted(peaks.items())]
    copied = max(f["copy_bytes_per_second"] for f in peaks.values()) / 1e12
    return f" Measured peaks: a square matmul in {', '.join(matmuls)}; a copy {copied:.1f} TB/s."


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
