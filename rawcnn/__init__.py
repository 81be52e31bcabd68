"""rawcnn: the convolutional network with the lid off.

Names are imported at first use, so that the command line can answer before TensorFlow is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawcnn import attacks, data, visualize
    from rawcnn.folded import program
    from rawcnn.models import MODELS, create
    from rawcnn.network import Forward, Network
    from rawcnn.profiler import Profile, profile
    from rawcnn.weights import load_weights, save_weights

__version__ = "0.1.0"
__all__ = [
    "MODELS",
    "Forward",
    "Network",
    "Profile",
    "attacks",
    "create",
    "data",
    "load_weights",
    "profile",
    "program",
    "save_weights",
    "visualize",
]

_HOMES = {
    "MODELS": "rawcnn.models",
    "Forward": "rawcnn.network",
    "Network": "rawcnn.network",
    "Profile": "rawcnn.profiler",
    "create": "rawcnn.models",
    "load_weights": "rawcnn.weights",
    "profile": "rawcnn.profiler",
    "program": "rawcnn.folded",
    "save_weights": "rawcnn.weights",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("attacks", "data", "visualize"):
        return importlib.import_module(f"rawcnn.{name}")
    raise AttributeError(f"module 'rawcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
