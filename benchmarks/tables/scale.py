"""Tables of training on many devices: measured efficiency, and a prediction for ImageNet on many GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np

from benchmarks.harness.results import Record
from benchmarks.tables.markdown import device_tables, device_words, newest, table

IMAGENET = 1_281_167  # training images, 138 GB of JPEG
JPEG = 138e9 / IMAGENET  # bytes
DEVICES = (8, 16, 32, 64, 128, 256)
BATCH = 32  # images per device
STEP_BATCH = 8  # images of the measured training step


@dataclass(frozen=True)
class Device:
    """A device's own speed and its link to the others. Only the speed is measured."""

    name: str
    images_per_second: float
    bandwidth: float  # bytes per second and direction
    hop: float  # seconds: latency from one device to the next


def scale_table(records: Sequence[Record]) -> str:
    """Images per second of groups of workers, and their efficiency relative to one worker."""
    chosen = newest([r for r in records if "scale" in r["settings"]], ("scale", "size", "precision", "batch"))
    header = "| network | device per worker | images per worker | summed per step | images/s of 1 worker "
    header += "| workers | images/s | efficiency |"
    caption = "Medians of {rounds} interleaved rounds; in brackets the quartiles over the rounds."
    return device_tables(chosen, header, _scale_row, caption)


def _scale_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    alone, *groups = f["groups"]
    rows = [(str(g["workers"]), f"{g['images_per_second']:.1f}", _share(*g["efficiency"])) for g in groups]
    summed = f"{f['bytes'] / 1e6:.1f} MB in {f['sums']} sums"
    shared = ("<br>".join(column) for column in zip(*rows, strict=True))
    name = f"{s['scale']}, {s['size']} px, {s['precision']}"
    return name, s["each"], str(s["batch"]), summed, f"{alone['images_per_second']:.1f}", *shared


def _share(middle: float, low: float, high: float) -> str:
    return f"**{middle:.0%}** ({low:.0%}–{high:.0%})"


def exchange_seconds(count: int, size: float, sums: int, device: Device) -> float:
    """Seconds of a step's sums over `count` devices: the bytes around a ring, and the hops of a tree for each sum."""
    return 2 * (count - 1) / count * size / device.bandwidth + sums * 2 * log2(count) * device.hop


def paper_scale_table(records: Sequence[Record]) -> str:
    """Predicted efficiency of ResNet-50 on 8 to 256 devices; "" until its exchange and its step are measured."""
    exchanges = [r for r in records if r["settings"].get("scale") == "resnet50"]
    raced = [r for r in records if (r["settings"].get("model"), r["settings"].get("job")) == ("resnet50", "training")]
    requested = {"precision": "bfloat16", "size": 224, "batch": STEP_BATCH}
    raced = [r for r in raced if r["figures"].get("complete") and requested.items() <= r["settings"].items()]
    exchange = max(exchanges, key=lambda r: r["date"], default=None)
    raced = [r for r in raced if exchange and device_words(r["device"]) == device_words(exchange["device"])]  # this CPU
    if not exchange or not raced:
        return ""
    size, sums = (exchange["figures"][key] for key in ("bytes", "sums"))
    step = max(raced, key=lambda r: r["date"])
    times = {c["name"]: c["median"] for c in step["figures"]["contestants"]}
    here = step["settings"]["batch"] / times[step["figures"]["chosen"]]
    devices = [
        Device(f"this CPU ({here:.0f} images/s), 10 Gb/s", here, 1.25e9, 50e-6),
        Device("400 images/s, 100 Gb/s", 400, 12.5e9, 10e-6),
    ]
    on_gpus = [r for r in records if r["settings"].get("pjrt") == "resnet50 training bfloat16" and r["device"]["gpus"]]
    if on_gpus:
        newest_one = max(on_gpus, key=lambda r: r["date"])
        fast, name = newest_one["figures"]["images_per_second"]["rawcnn"], newest_one["device"]["gpus"][0]
        devices.append(Device(f"{name} ({fast:,.0f} images/s), 200 Gb/s", fast, 25e9, 10e-6))
    header = "| devices | batch | steps per epoch | input | " + " | ".join(d.name for d in devices) + " |"
    rows = [_paper_row(count, size, sums, devices) for count in DEVICES]
    caption = f"Predicted efficiency: {size / 1e6:.1f} MB in {sums} sums per step, {BATCH} images per device."
    return "\n".join([*table(header, rows), "", caption, ""])


def _paper_row(count: int, size: float, sums: int, devices: Sequence[Device]) -> Sequence[str]:
    fastest = max(d.images_per_second for d in devices)
    needed = f"{count * fastest:,.0f} images/s, {count * fastest * JPEG / 1e9:.1f} GB/s"
    shares = []
    for device in devices:
        step = BATCH / device.images_per_second
        shares.append(f"{step / (step + exchange_seconds(count, size, sums, device)):.0%}")
    return str(count), f"{count * BATCH:,}", f"{np.ceil(IMAGENET / (count * BATCH)):,.0f}", needed, *shares
