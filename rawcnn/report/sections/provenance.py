"""The provenance of a report: settings, versions, machine, and the time of each step."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

import matplotlib
import numpy as np
import sklearn
import tensorflow as tf

from rawcnn import __version__
from rawcnn.nn.execution import choose
from rawcnn.report.page import Code, Section, Table, Text


def circumstances(command: str, seed: int, settings: Mapping[str, object]) -> dict[str, object]:
    """Return everything that a report's numbers depend on, as plain values."""
    choice = choose()
    return {
        "command": command,
        "seed": seed,
        **settings,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rawcnn": __version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "matplotlib": matplotlib.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [tf.config.experimental.get_device_details(d).get("device_name", d.name) for d in _gpus()],
        "compilation": f"{choice.mode}: {choice.reason}",
    }


def _gpus() -> list:
    return tf.config.list_physical_devices("GPU")


def processor() -> str:
    """Return the processor's name, as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def section(circumstances: Mapping[str, object], seconds: Mapping[str, float]) -> Section:
    """Return the section with the settings, the versions, and the time of each step."""
    rows = tuple(
        (name, ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value))
        for name, value in circumstances.items()
        if name != "command"
    )
    times = tuple((step, f"{value:.1f} s") for step, value in seconds.items())
    return Section(
        "Settings, versions, time",
        (
            Text(
                "The same command, with the same seed, machine and versions, trains the same network and finds the "
                "same adversarial examples. Measured times vary. `tour.json` contains all numbers of this page."
            ),
            Code(str(circumstances["command"])),
            Table(("setting", "value"), rows, "Settings, versions and machine."),
            Table(("step", "time"), (*times, ("total", f"{sum(seconds.values()):.1f} s")), "Time of each step."),
        ),
    )
