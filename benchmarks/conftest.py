"""Configuration of `pytest benchmarks`: TensorFlow's log level, one process, and the option --full."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_xdist_auto_num_workers() -> int:
    """Use one process, because tests that run at the same time would disturb the timing."""
    return 0


def pytest_addoption(parser):
    parser.addoption(
        "--full",
        action="store_true",
        help="use the networks' full shapes, all networks and contestants, and bfloat16 (hours on a small machine)",
    )
