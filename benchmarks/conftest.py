"""What `pytest benchmarks` needs: quiet TensorFlow, and the choice between small shapes and the real ones."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_xdist_auto_num_workers() -> int:
    """One process: what runs at the same time would slow down what is timed."""
    return 0


def pytest_addoption(parser):
    parser.addoption(
        "--full",
        action="store_true",
        help="the networks' own shapes, all networks and contestants, bfloat16 too: hours on a small machine",
    )
