"""Deconvolutions, and their crops at the receptive field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import SHOWN, images_text, numbers_text, rows_png

if TYPE_CHECKING:
    from rawcnn.visualize import Deconvolution


def text(deconvolution: Deconvolution) -> str:
    """Name the activations."""
    return (
        f"Deconvolution({images_text(deconvolution.pictures)}, activations {numbers_text(deconvolution.activations)})"
    )


def png(deconvolution: Deconvolution) -> bytes | None:
    """Draw each projection around gray, and cropped at its receptive field if that is smaller than the image."""
    import numpy as np

    from rawcnn.visualize import diverging

    shown = np.nan_to_num(deconvolution.pictures[:SHOWN])
    places = zip(deconvolution.activations, deconvolution.positions, strict=True)
    titles = [f"{value:.4g} at ({row}, {column})" for value, (row, column) in list(places)[:SHOWN]]
    pictures = [diverging(picture) for picture in shown]
    boxes = deconvolution.boxes[:SHOWN]
    crops = [x[top:bottom, left:right] for x, (top, left, bottom, right) in zip(pictures, boxes, strict=True)]
    rows = {"projection": pictures, "receptive field": crops}
    if all(crop.shape == picture.shape for crop, picture in zip(crops, pictures, strict=True)):
        del rows["receptive field"]
    return rows_png(rows, [titles, [""] * len(crops)][: len(rows)])
