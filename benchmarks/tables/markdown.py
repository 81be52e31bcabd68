"""Records as Markdown tables, one per device, and the words in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness.results import Record

PACKAGES = {"python": "Python", "tensorflow": "TensorFlow", "jax": "JAX", "keras": "Keras", "torch": "PyTorch"}


def newest(records: Sequence[Record], settings: Sequence[str]) -> list[Record]:
    """The newest record of each device and each combination of these settings."""
    found: dict[tuple, Record] = {}
    for r in records:
        key = (device_words(r["device"]), *(r["settings"][name] for name in settings))
        if key not in found or r["date"] >= found[key]["date"]:
            found[key] = r
    return list(found.values())


def device_tables(
    records: Sequence[Record],
    header: str,
    row: Callable[[Record], Sequence[str]],
    caption: str,
    summary: Callable[[Sequence[Record]], str] = lambda records: "",
) -> str:
    """One table per device; below it the device, the versions, the caption and a summary of the table's records."""
    lines: list[str] = []
    for where in dict.fromkeys(device_words(r["device"]) for r in records):
        local = [r for r in records if device_words(r["device"]) == where]
        fewest, most = (limit(r["settings"].get("rounds", 1) for r in local) for limit in (min, max))
        rounds = str(most) if fewest == most else f"{fewest} to {most}"
        lines += [
            *table(header, [row(r) for r in local]),
            "",
            f"Measured on {where}; {_version_words(local)}. {caption.format(rounds=rounds)}{summary(local)}",
            "",
        ]
    return "\n".join(lines)


def table(header: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """The table's lines. Raise ValueError for a row that does not fit the header."""
    for cells in rows:
        if len(cells) != header.count("|") - 1:
            raise ValueError(f"the row {cells} does not fit the header {header}")
    return [header, "|---" * (header.count("|") - 1) + "|", *(f"| {' | '.join(cells)} |" for cells in rows)]


def milliseconds(seconds: float) -> str:
    """Format with three significant digits: 1.23 ms, 12.3 ms, 123 ms, 1,230 ms."""
    value = seconds * 1e3
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f} ms"


def device_words(device: Mapping[str, Any]) -> str:
    """The GPUs, if any, and the processor."""
    flags = ", ".join([*device["flags"], *(["oneDNN off"] if device.get("onednn") is False else [])])
    words = f"{device['cores']} cores of {device['cpu']}" + (f" ({flags})" if flags else "")
    return f"{', '.join(device['gpus'])}, {words}" if device["gpus"] else words


def _version_words(records: Sequence[Record]) -> str:
    """The packages that took part, each with all its versions."""
    found = {
        name: _joined(version for r in records if name in _engines(r) and (version := r["versions"].get(name)))
        for name in PACKAGES
    }
    return ", ".join(f"{PACKAGES[name]} {versions}" for name, versions in found.items() if versions)


def _engines(r: Record) -> tuple[str, ...]:
    if not r["versions"]["tensorflow"]:
        return "python", "jax", "keras", "torch"
    raced = r["figures"].get("contestants", ())
    with_torch = any(isinstance(c, Mapping) and c["name"].startswith("torch") for c in raced)
    return "python", "tensorflow", "keras", *(("torch",) if with_torch else ())


def _joined(words: Iterable[str]) -> str:
    """The distinct words in their order."""
    return " or ".join(dict.fromkeys(words))
