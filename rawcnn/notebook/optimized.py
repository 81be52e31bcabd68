"""Optimized images, with the values that they reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import SHOWN, images_text, numbers_text, rows_png

if TYPE_CHECKING:
    from rawcnn.visualize import Optimized


def text(optimized: Optimized) -> str:
    """Name the values that the images reach."""
    return f"Optimized({images_text(optimized.images)}, objective {numbers_text(optimized.values)})"


def png(optimized: Optimized) -> bytes | None:
    """Draw the images with their values."""
    titles = [f"objective {value:.4g}" for value in optimized.values[:SHOWN]]
    return rows_png({"optimized": list(optimized.images[:SHOWN])}, [titles])
