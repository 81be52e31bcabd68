"""Saliency maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import SHOWN, images_text, numbers_text, rows_png

if TYPE_CHECKING:
    from rawcnn.visualize import Saliency


def text(saliency: Saliency) -> str:
    """Name the classes and their logits."""
    classes, logits = numbers_text(saliency.classes), numbers_text(saliency.logits)
    return f"Saliency({images_text(saliency.maps)}, classes {classes}, logits {logits})"


def png(saliency: Saliency) -> bytes | None:
    """Draw the gray maps."""
    from rawcnn.visualize import saliency_pictures

    titles = [f"class {k}, logit {value:.3g}" for k, value in zip(saliency.classes, saliency.logits, strict=True)]
    return rows_png({"saliency": saliency_pictures(saliency)[:SHOWN]}, [titles[:SHOWN]])
