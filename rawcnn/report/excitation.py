"""The plot of what excites a unit: how often it is how active, what it saw there, and what it saw at its best."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import ConnectionPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from rawcnn.plots.themed import Draw, Look
from rawcnn.visualize.dataset_examples import Excitation, TopInput

ROWS = 3  # of the best images
HISTOGRAM, COLUMN, HEIGHT = 3.6, 1.8, 3.4  # inches that these take


def histogram_sheet(excitation: Excitation, title: str = "", *, columns: int = 3) -> Draw:
    """Left the histogram of the images' activations, under it the crops at its quantiles; right the best images.

    Of these there are three rows of `columns`: each crop, the receptive field, beside the whole image with its box.
    Draw it with `plots.save(histogram_sheet(excitation), path, LIGHT, sheet_size())`. ValueError for columns below 1.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected 1 or more columns of images")

    def draw(figure: Figure, look: Look) -> None:
        panels: Any = figure.subfigures(1, 2, width_ratios=(HISTOGRAM, COLUMN * columns), wspace=0.03)
        left, right = panels
        cells = GridSpec(2, max(len(excitation.quantiles), 1), left, height_ratios=(2.6, 1))
        axes = left.add_subplot(cells[0, :])
        axes.set_title((title or f"channel {excitation.channel}").replace("$", r"\$"))
        _histogram(axes, excitation, look)
        for column, (quantile, example) in enumerate(excitation.quantiles):
            below = left.add_subplot(cells[1, column])
            _show(below, example.crop, look)
            below.set_xlabel(f"{quantile:.3g}", color=look.soft, fontsize=8)
            _join(left, axes, below, example, look)
        cells = GridSpec(ROWS, 2 * columns, right)
        for number in range(ROWS * columns):
            row, column = divmod(number, columns)
            crop, whole = (right.add_subplot(cells[row, 2 * column + side]) for side in (0, 1))
            if number < len(excitation.top):
                _top(crop, whole, excitation.top[number], look)
            else:  # an empty cell keeps its place
                crop.set_axis_off()
                whole.set_axis_off()

    return draw


def sheet_size(columns: int = 3) -> tuple[float, float]:
    """Inches, width and height, that a `histogram_sheet` is made for."""
    return HISTOGRAM + COLUMN * columns, HEIGHT


def _histogram(axes: Axes, excitation: Excitation, look: Look) -> None:
    """The words under it stand on paper, so that the lines to the crops pass behind them."""
    axes.stairs(excitation.counts, excitation.edges, fill=True, color=look.series[0])
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("images")
    part = "" if excitation.sampled == excitation.images else f" of {excitation.images:,}"
    axes.set_xlabel(f"activation ({excitation.sampled:,}{part} images)", labelpad=2)
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    for text in (axes.xaxis.label, *axes.get_xticklabels()):
        text.set_bbox({"facecolor": look.paper, "edgecolor": "none", "pad": 1})


def _join(panel, axes: Axes, below: Axes, example: TopInput, look: Look) -> None:
    """A line from the activation on the axis to the crop under it, behind the words between."""
    start, end = (example.activation, 0), ((example.crop.shape[1] - 1) / 2, -0.5)
    line = ConnectionPatch(start, end, axes.get_xaxis_transform(), below.transData, color=look.series[1], linewidth=0.8)
    line.set_in_layout(False)
    line.set_zorder(-1)
    panel.add_artist(line)


def _top(crop: Axes, whole: Axes, shown: TopInput, look: Look) -> None:
    """The crop with its activation, and the image with the box."""
    _show(crop, shown.crop, look)
    _show(whole, shown.image, look)
    crop.set_xlabel(f"{shown.activation:#.3g}", color=look.soft, fontsize=8, labelpad=2)
    _frame(whole, shown.box, look.series[1], 1.2)


def _show(axes: Axes, picture: np.ndarray, look: Look) -> None:
    """A picture in the middle of a square, without ticks."""
    height, width = picture.shape[:2]
    side = max(height, width)
    axes.imshow(picture, vmin=0, vmax=1)
    axes.set_xlim((width - side - 1) / 2, (width + side - 1) / 2)
    axes.set_ylim((height + side - 1) / 2, (height - side - 1) / 2)
    axes.set(xticks=[], yticks=[])
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    _frame(axes, (0, 0, height, width), look.line, 0.6)  # black on a dark page has an edge too


def _frame(axes: Axes, box: tuple[int, int, int, int], color: str, width: float) -> None:
    top, left, bottom, right = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)  # pixels have their middles on whole numbers
    axes.add_patch(Rectangle(corner, *size, fill=False, linewidth=width, clip_on=False, edgecolor=color))
