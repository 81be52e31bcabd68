"""One input that activates a channel: its receptive field, next to the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import inputs_png

if TYPE_CHECKING:
    from rawcnn.visualize import TopInput


def text(shown: TopInput) -> str:
    """Name the image and its activation."""
    return (
        f"TopInput(channel {shown.channel}, image {shown.index}, activation {shown.activation:.4g} at {shown.position})"
    )


def png(shown: TopInput) -> bytes | None:
    """Draw the receptive field next to the image."""
    return inputs_png({f"channel {shown.channel}": [shown]})
