"""A page with one row for each unit of a layer: optimized images, top and bottom inputs, deconvolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rawcnn.report.data_uri import data_uri
from rawcnn.report.html import render
from rawcnn.visualize.dataset_examples import TopInput
from rawcnn.visualize.pictures import diverging, draw_box, enlarge, scale_to
from rawcnn.visualize.unit_summary import Unit

SHOWN = 96  # pixels: the longer side of a small picture is enlarged to about this, by a whole factor
FRAME = (0.95, 0.45, 0.15)


def units_page(units: Sequence[Unit], *, title: str, lead: str, settings: Mapping[str, object]) -> str:
    """Render the page.

    Args:
        units: One row each.
        title: The page's title.
        lead: The paragraph below it.
        settings: Listed at the end of the header.

    Returns:
        One HTML file that includes its pictures.
    """
    rows = [_row(unit) for unit in units]
    shown = {name: str(value) for name, value in settings.items()}
    return render("units.html", styles=("units.css",), title=title, lead=lead, rows=rows, settings=shown)


def _row(unit: Unit) -> dict[str, object]:
    """Return what the template shows of a unit."""
    tops, bottoms = unit.inputs.top, unit.inputs.bottom
    return {
        "channel": unit.channel,
        "value": f"{unit.value:.3g}",
        "optimized": _shown(unit.optimized),
        "diverse": [_shown(image) for image in unit.diverse],
        "negative": _shown(unit.negative),
        "negative_value": f"{unit.negative_value:.3g}",
        "top": [_input(top) for top in tops],
        "bottom": [_input(bottom) for bottom in bottoms],
        "deconvolutions": [
            {"picture": _shown(diverging(picture)), "label": f"image {top.index}"}
            for picture, top in zip(unit.deconvolutions, tops, strict=True)
        ],
        "histogram": _histogram(unit.inputs.counts),
        "range": (f"{unit.inputs.edges[0]:.3g}", f"{unit.inputs.edges[-1]:.3g}"),
    }


def _input(top: TopInput) -> dict[str, str]:
    height, width = top.image.shape[:2]
    scale = scale_to(top.image, SHOWN)
    large = enlarge(top.image, scale)
    if top.box != (0, 0, height, width):
        y0, x0, y1, x1 = (scale * edge for edge in top.box)
        large = draw_box(large, (y0, x0, y1, x1), FRAME, 2)
    return {"picture": data_uri(large), "label": f"image {top.index}: {top.activation:.3g}"}


def _shown(pixels: np.ndarray) -> str:
    return data_uri(pixels, scale_to(pixels, SHOWN))


def _histogram(counts: np.ndarray) -> list[dict[str, float]]:
    """Return the bars of an SVG of 100×30. Heights follow the square root, so that tails are visible."""
    tallest = np.sqrt(max(counts.max(), 1))
    width = 100 / len(counts)
    bars = [(i * width, 30 * float(np.sqrt(count)) / tallest) for i, count in enumerate(counts)]
    return [{"x": round(x, 2), "y": round(30 - h, 2), "width": round(width, 2), "height": round(h, 2)} for x, h in bars]
