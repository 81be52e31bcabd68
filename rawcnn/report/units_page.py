"""A page of a layer's units, a row each: optimised, diverse, negative, top and bottom inputs, deconvolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rawcnn.report.data_uri import data_uri
from rawcnn.visualize.dataset_examples import TopInput
from rawcnn.visualize.pictures import diverging, draw_box, enlarge
from rawcnn.visualize.unit_summary import Unit

HERE = Path(__file__).parent
SHOWN = 96  # pixels that the longer side of a small picture is enlarged to, by whole factors
FRAME = (0.95, 0.45, 0.15)


def units_page(units: Sequence[Unit], *, title: str, lead: str, settings: Mapping[str, object]) -> str:
    """One HTML file, its pictures in it. Every text is escaped, whatever it holds."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    rows = [_row(unit) for unit in units]
    return environment.get_template("units.html").render(
        title=title, lead=lead, rows=rows, style=style, settings={k: str(v) for k, v in settings.items()}
    )


def _row(unit: Unit) -> dict[str, object]:
    """What the template shows of a unit."""
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
    scale = _factor(top.image)
    large = enlarge(top.image, scale)
    if top.box != (0, 0, height, width):
        y0, x0, y1, x1 = (scale * edge for edge in top.box)
        large = draw_box(large, (y0, x0, y1, x1), FRAME, 2)
    return {"picture": data_uri(large), "label": f"image {top.index}: {top.activation:.3g}"}


def _factor(pixels: np.ndarray) -> int:
    return max(1, round(SHOWN / max(pixels.shape[:2])))


def _shown(pixels: np.ndarray) -> str:
    return data_uri(pixels, _factor(pixels))


def _histogram(counts: np.ndarray) -> list[dict[str, float]]:
    """Bars of an SVG 100 wide and 30 high; heights by the square root, for tails to be seen."""
    tallest = np.sqrt(max(counts.max(), 1))
    width = 100 / len(counts)
    bars = [(i * width, 30 * float(np.sqrt(count)) / tallest) for i, count in enumerate(counts)]
    return [{"x": round(x, 2), "y": round(30 - h, 2), "width": round(width, 2), "height": round(h, 2)} for x, h in bars]
