"""The tables and sentences of `rawcnn profile`, from a Profile and its Measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.cli.console import short_number

if TYPE_CHECKING:
    from rawcnn.profiling.costs import Profile
    from rawcnn.profiling.roofline import LayerTiming, Measurement

COLUMNS = (
    "layer",
    "kind",
    "output",
    "parameters",
    "MACs",
    "forward FLOPs",
    "backward FLOPs",
    "memory",
    "receptive field",
    "stride",
    "FLOP/byte",
)
MEASURED_COLUMNS = ("ms", "share", "GFLOP/s", "GB/s", "limit", "reached")
SLOWEST_COLUMNS = ("layers", "ms", "share", "limit", "reached", "why")
TEXT_COLUMNS = ("layer", "kind", "output")
MEBIBYTE = 2**20


def layer_rows(profile: Profile, measurement: Measurement | None = None) -> list[list[object]]:
    """Return one row per layer with the cells of COLUMNS, and of MEASURED_COLUMNS if the layers were measured."""
    timings = {timing.name: timing for timing in measurement.timings} if measurement else {}
    rows = []
    for layer in profile.rows:
        timing = timings.get(layer["name"])
        rows.append(_static_cells(layer) + (_measured_cells(timing) if timing else []))
    return rows


def _static_cells(layer: dict) -> list[object]:
    from rawcnn.nn.kinds import NAMES

    return [
        layer["name"],
        NAMES.get(layer["kind"], layer["kind"]),
        "×".join(map(str, layer["output_shape"])),
        layer["parameters"],
        short_number(layer["macs"]),
        short_number(layer["flops_forward"]),
        short_number(layer["flops_backward"]),
        f"{layer['activation_bytes'] / MEBIBYTE:.2f} MiB",
        layer["receptive_field"] or "image",
        layer["stride"],
        f"{layer['intensity']:.1f}",
    ]


def _measured_cells(timing: LayerTiming) -> list[object]:
    """Rates of a layer that takes less time than a call are noise and shown as a dash."""
    rates = [f"{timing.flops_per_second / 1e9:.1f}", f"{timing.bytes_per_second / 1e9:.1f}"]
    reached = f"{timing.reached:.0%}"
    if not timing.resolved:
        rates, reached = ["–", "–"], "–"
    return [f"{timing.seconds * 1e3:.3f}", f"{timing.share:.1%}", *rates, timing.limit, reached]


def totals_lines(profile: Profile) -> list[str]:
    """Return the lines below the table: how operations are counted, and the totals."""
    t = profile.totals
    field = f"{t['receptive_field']} px" if t["receptive_field"] else "the whole image"
    field += ", both of the last map before it becomes a vector" if t["receptive_field"] else ""
    return [
        "MACs are the multiply-accumulates of convolutions and fully connected layers; FLOPs are 2 × MACs plus all "
        "elementwise operations",
        f"total: {t['parameters']:,} parameters ({t['non_trainable']:,} more are not trained), {t['macs']:,} MACs, "
        f"{short_number(t['flops_forward'])}FLOP forward, {short_number(t['flops_backward'])}FLOP backward, "
        f"activations {t['activation_bytes'] / MEBIBYTE:.1f} MiB, variables {t['parameter_bytes'] / MEBIBYTE:.1f} MiB, "
        f"stride {t['stride']}, receptive field {field}",
    ]


def machine_lines(measurement: Measurement) -> list[str]:
    """Return the lines about the machine and about how the layers were timed."""
    machine = measurement.machine
    return [
        f"this machine: {machine.flops_per_second / 1e9:.0f} GFLOP/s in a matmul, "
        f"{machine.bytes_per_second / 1e9:.1f} GB/s of memory; a call takes {measurement.call * 1e6:.0f} µs, which is "
        "subtracted; layers that take less have no rate (–)",
        f"layers run as {measurement.choice.mode}: {measurement.choice.reason}",
        f"oneDNN, TensorFlow's library of fast CPU kernels, is {'on' if measurement.onednn else 'off'}",
        "each layer was timed alone with its inputs in memory; the whole network may fuse or overlap layers",
    ]


def slowest_rows(measurement: Measurement) -> list[tuple[object, ...]]:
    """Return the rows of the slowest layers, equal layers together, with the cells of SLOWEST_COLUMNS."""
    rows: list[tuple[object, ...]] = []
    for timing, count in measurement.slowest():
        name = timing.name + (f" and {count - 1} alike" if count > 1 else "")
        seconds, share = count * timing.seconds, count * timing.share
        rows.append(
            (name, f"{seconds * 1e3:.2f}", f"{share:.0%}", timing.limit, f"{timing.reached:.0%}", timing.reason)
        )
    return rows
