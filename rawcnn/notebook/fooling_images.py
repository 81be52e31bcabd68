"""Images that fool a network: one for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import DPI, class_numbers

if TYPE_CHECKING:
    from rawcnn.attacks import FoolingImages


def text(found: FoolingImages) -> str:
    """Say how confident the network is."""
    return (
        f"FoolingImages({found.encoding}, {len(found.images)} classes, median confidence "
        f"{found.summary()['median_confidence']:.1%})"
    )


def png(found: FoolingImages) -> bytes:
    """Draw the image of each class."""
    from rawcnn.plots import figures

    return figures.encoded(figures.fooling_images(found, class_numbers(len(found.images))), dpi=DPI)
