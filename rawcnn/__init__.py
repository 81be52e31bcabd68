"""rawcnn: layers, gradients, visualizations and attacks of the classic CNN papers in plain TensorFlow.

Names are imported at first use, so that the command line can answer before TensorFlow is loaded. In a notebook, results
show themselves (`rawcnn.notebook`).
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

import onednn  # noqa: F401 (before TensorFlow: it turns oneDNN on)

if TYPE_CHECKING:
    from rawcnn import attacks, data, explain, visualize
    from rawcnn.models import MODELS
    from rawcnn.nn.folding import program
    from rawcnn.nn.network import Network
    from rawcnn.nn.trace import Forward
    from rawcnn.profiling.costs import Profile, profile
    from rawcnn.weights import load_weights, save_weights
    from rawcnn.zoo import create

__version__ = "0.1.0"
__all__ = [
    "MODELS",
    "Forward",
    "Network",
    "Profile",
    "attacks",
    "create",
    "data",
    "explain",
    "load_weights",
    "profile",
    "program",
    "save_weights",
    "visualize",
]

_HOMES = {
    "MODELS": "rawcnn.models",
    "Forward": "rawcnn.nn.network",
    "Network": "rawcnn.nn.network",
    "Profile": "rawcnn.profiling.costs",
    "create": "rawcnn.zoo",
    "load_weights": "rawcnn.weights",
    "profile": "rawcnn.profiling.costs",
    "program": "rawcnn.nn.folding",
    "save_weights": "rawcnn.weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("attacks", "data", "explain", "visualize"):
        return importlib.import_module(f"rawcnn.{name}")
    raise AttributeError(f"module 'rawcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if sys.modules.get("IPython"):  # as matplotlib finds it: a program that does not use IPython does not import it
    importlib.import_module("rawcnn.notebook").register()
