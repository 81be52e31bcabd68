"""What activates a channel most, between, and least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import PER_CHANNEL, inputs_png

if TYPE_CHECKING:
    from rawcnn.visualize import Excitation, TopInput


def text(excitation: Excitation) -> str:
    """Name the channel and its largest activation."""
    return f"Excitation(channel {excitation.channel}, {excitation.images:,} images, largest {excitation.largest:.4g})"


def png(excitation: Excitation) -> bytes | None:
    """Draw the images that activate the channel most, examples between them, and those that activate it least."""
    parts: dict[str, Sequence[TopInput]] = {
        "most": excitation.top[:PER_CHANNEL],
        "between": [shown for _, shown in reversed(excitation.quantiles)][:PER_CHANNEL],
        "least": excitation.bottom[:PER_CHANNEL],
    }
    return inputs_png({name: inputs for name, inputs in parts.items() if inputs})
