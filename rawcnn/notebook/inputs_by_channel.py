"""The inputs that activate each channel most: a row for each of the first channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import PER_CHANNEL, SHOWN, inputs_png

if TYPE_CHECKING:
    from rawcnn.visualize.dataset_examples import InputsByChannel


def text(found: InputsByChannel) -> str:
    """Say how many inputs of how many channels there are."""
    count = max(map(len, found.values()), default=0)
    return f"InputsByChannel({len(found)} channels, up to {count} inputs of each)"


def png(found: InputsByChannel) -> bytes | None:
    """Draw a row for each of the first channels: receptive fields, each next to its image."""
    shown = dict(list(found.items())[:SHOWN])
    return inputs_png({f"channel {channel}": inputs[:PER_CHANNEL] for channel, inputs in shown.items()})
