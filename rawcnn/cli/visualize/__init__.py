"""`rawcnn visualize`: pictures and pages about what a network has learned."""

from __future__ import annotations

from collections.abc import Callable

import typer

from rawcnn.cli.visualize import deconv, filters, optimize, pages, saliency, top_inputs

app = typer.Typer(
    help="Show what a network has learned, as pictures and pages.", no_args_is_help=True, rich_markup_mode=None
)
VERBS: dict[str, Callable[..., None]] = {
    "filters": filters.filters,
    "top-inputs": top_inputs.top_inputs,
    "deconv": deconv.deconv,
    "saliency": saliency.saliency,
    "optimize": optimize.optimize,
    "building-blocks": pages.building_blocks,
    "atlas": pages.atlas,
    "page": pages.page,
}
for name, verb in VERBS.items():
    app.command(name)(verb)
