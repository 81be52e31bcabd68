"""Pictures of what a network has learned. One file a technique; all give arrays, `save_png` writes them."""

from rawcnn.visualize.filters import activation_grid, filter_grid, first_layers
from rawcnn.visualize.picture import diverging, draw_box, enlarge, fit, grid, normalize, picture, save_png
from rawcnn.visualize.top_inputs import TopInput, contact_sheet, top_inputs

__all__ = [
    "TopInput",
    "activation_grid",
    "contact_sheet",
    "diverging",
    "draw_box",
    "enlarge",
    "filter_grid",
    "first_layers",
    "fit",
    "grid",
    "normalize",
    "picture",
    "save_png",
    "top_inputs",
]
