"""What the annotated source says about an operation: its counts, and the statistics of its output on this image."""

from __future__ import annotations

from typing import Any

import numpy as np

from rawcnn.explain.recording import GRADIENT, Recording
from rawcnn.nn.trace import Operation


def counts(operation: Operation) -> dict[str, Any]:
    """Return what holds for any image: output shape, parameters, MACs, receptive field in pixels (None: the image)."""
    return {
        "output_shape": list(operation.output_shape),
        "parameters": sum(p.count for p in operation.parameters if p.trained),
        "macs": operation.cost.macs,
        "receptive_field": operation.receptive_field.size,
    }


def statistics(recording: Recording, name: str) -> dict[str, float | None]:
    """Return the statistics of an operation's output on this image; None for a value that is not finite.

    Returns:
        "minimum", "mean", "maximum", "zeros" (the share of values that are 0), "gradient_norm" (√Σg² of the loss's
        gradient to the output) and "seconds".
    """
    output = recording.tensors[name].astype(np.float64)
    gradient = recording.tensors[GRADIENT + name].astype(np.float64)
    found = {
        "minimum": output.min(),
        "mean": output.mean(),
        "maximum": output.max(),
        "zeros": np.mean(output == 0),
        "gradient_norm": np.sqrt(np.sum(gradient**2)),
        "seconds": recording.seconds[name],
    }
    return {key: float(value) if np.isfinite(value) else None for key, value in found.items()}
