"""Training on many devices, as tables: what was measured, and what that lets expect of ImageNet on many GPUs."""

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
BATCH = 32  # images of a device
STEP_BATCH = 8  # of the step that was raced


@dataclass(frozen=True)
class Device:
    """What one does by itself, and what it is reached by. Only the first is measured."""

    name: str
    images_per_second: float
    bandwidth: float  # bytes a second, each way, of each device
    hop: float  # seconds from one device to the next, of a message of no length


def scale_table(records: Sequence[Record]) -> str:
    """Images a second of groups of workers, and what is left of a worker's speed in them."""
    chosen = newest([r for r in records if "scale" in r["settings"]], ("scale", "size", "precision", "batch"))
    header = (
        "| network | a worker has | images a worker | summed in a step | images/s of 1 worker | workers | images/s "
    )
    header += "| efficiency |"
    told = "Medians of {rounds} interleaved rounds; in brackets the middle half of the rounds."
    return device_tables(chosen, header, _scale_row, told)


def _scale_row(r: Record) -> Sequence[str]:
    s, f = r["settings"], r["figures"]
    alone, *groups = f["groups"]
    told = [(str(g["workers"]), f"{g['images_per_second']:.1f}", _share(*g["efficiency"])) for g in groups]
    summed = f"{f['bytes'] / 1e6:.1f} MB in {f['sums']} sums"
    shared = ("<br>".join(column) for column in zip(*told, strict=True))
    name = f"{s['scale']}, {s['size']} px, {s['precision']}"
    return name, s["each"], str(s["batch"]), summed, f"{alone['images_per_second']:.1f}", *shared


def _share(middle: float, low: float, high: float) -> str:
    return f"**{middle:.0%}** ({low:.0%}–{high:.0%})"


def exchange_seconds(count: int, size: float, sums: int, device: Device) -> float:
    """What a step's sums take on so many devices: the bytes around a ring, and the hops of a tree for each sum."""
    return 2 * (count - 1) / count * size / device.bandwidth + sums * 2 * log2(count) * device.hop


def paper_scale_table(records: Sequence[Record]) -> str:
    """ResNet-50 on ImageNet, on 8 to 256 devices, by arithmetic; "" until its exchange and its step were measured."""
    exchanges = [r for r in records if r["settings"].get("scale") == "resnet50"]
    raced = [r for r in records if (r["settings"].get("model"), r["settings"].get("job")) == ("resnet50", "training")]
    wanted = {"precision": "bfloat16", "size": 224, "batch": STEP_BATCH}
    raced = [r for r in raced if r["figures"].get("complete") and wanted.items() <= r["settings"].items()]
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
    header = "| devices | batch | steps an epoch | input | " + " | ".join(d.name for d in devices) + " |"
    rows = [_paper_row(count, size, sums, devices) for count in DEVICES]
    told = f"{size / 1e6:.1f} MB in {sums} sums a step, {BATCH} images a device."
    return "\n".join([*table(header, rows), "", told, ""])


def _paper_row(count: int, size: float, sums: int, devices: Sequence[Device]) -> Sequence[str]:
    fastest = max(d.images_per_second for d in devices)
    needed = f"{count * fastest:,.0f} images/s, {count * fastest * JPEG / 1e9:.1f} GB/s"
    shares = []
    for device in devices:
        step = BATCH / device.images_per_second
        shares.append(f"{step / (step + exchange_seconds(count, size, sums, device)):.0%}")
    return str(count), f"{count * BATCH:,}", f"{np.ceil(IMAGENET / (count * BATCH)):,.0f}", needed, *shares
