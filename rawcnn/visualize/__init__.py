"""Visualization of what a network has learned, one file per technique.

All functions return arrays; `save_png` writes them to a file.
"""

from rawcnn.visualize.atlas import Atlas, Level, activation_atlas
from rawcnn.visualize.class_attribution import Attribution, attribution
from rawcnn.visualize.comparison import compare, noise_ratios
from rawcnn.visualize.dataset_examples import Excitation, TopInput, contact_sheet, excitations, top_inputs
from rawcnn.visualize.deconvolution import Deconvolution, deconvolve
from rawcnn.visualize.factorization import Groups, neuron_groups
from rawcnn.visualize.filters import activation_grid, filter_grid, first_layers
from rawcnn.visualize.interpretability import BuildingBlocks, building_blocks, channel_icons, semantic_dictionary
from rawcnn.visualize.objectives import Objective
from rawcnn.visualize.optimization import Optimized, optimize
from rawcnn.visualize.pictures import diverging, draw_box, enlarge, fit, grid, normalize, picture, save_png
from rawcnn.visualize.regularization import Regularization
from rawcnn.visualize.saliency import (
    Saliency,
    input_gradient,
    integrated_gradients,
    saliency_pictures,
    smooth_gradient,
)
from rawcnn.visualize.unit_summary import Unit, units

__all__ = [
    "Atlas",
    "Attribution",
    "BuildingBlocks",
    "Deconvolution",
    "Excitation",
    "Groups",
    "Level",
    "Objective",
    "Optimized",
    "Regularization",
    "Saliency",
    "TopInput",
    "Unit",
    "activation_atlas",
    "activation_grid",
    "attribution",
    "building_blocks",
    "channel_icons",
    "compare",
    "contact_sheet",
    "deconvolve",
    "diverging",
    "draw_box",
    "enlarge",
    "excitations",
    "filter_grid",
    "first_layers",
    "fit",
    "grid",
    "input_gradient",
    "integrated_gradients",
    "neuron_groups",
    "noise_ratios",
    "normalize",
    "optimize",
    "picture",
    "saliency_pictures",
    "save_png",
    "semantic_dictionary",
    "smooth_gradient",
    "top_inputs",
    "units",
]
