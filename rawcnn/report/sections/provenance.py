"""How a report was made: the settings, versions and machine, and what took how long."""

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

import rawcnn
from rawcnn.nn.execution import choose
from rawcnn.report.page import Code, Section, Table, Text


def circumstances(command: str, seed: int, settings: Mapping[str, object]) -> dict[str, object]:
    """All that a report's numbers depend on, as plain values."""
    choice = choose()
    return {
        "command": command,
        "seed": seed,
        **settings,
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rawcnn": rawcnn.__version__,
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
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def section(circumstances: Mapping[str, object], seconds: Mapping[str, float]) -> Section:
    """The circumstances and the time of each step."""
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
                "The same command with the same seed on the same machine and versions trains the same network and "
                "finds the same adversarial examples. Measured times vary. All numbers of this page are in `tour.json`."
            ),
            Code(str(circumstances["command"])),
            Table(("setting", "value"), rows, "What the numbers depend on."),
            Table(("step", "time"), (*times, ("together", f"{sum(seconds.values()):.1f} s")), "What took how long."),
        ),
    )
