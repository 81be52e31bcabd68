"""A plot of a unit's activations: the histogram, inputs at its quantiles, and the inputs that excite the unit most."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import ConnectionPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from rawcnn.plots.style import literal
from rawcnn.plots.themed import Draw, Look
from rawcnn.visualize.dataset_examples import Excitation, TopInput

ROWS = 3  # rows of top inputs
HISTOGRAM, COLUMN, HEIGHT = 3.6, 1.8, 3.4  # widths of the histogram and of a column, height of the sheet, in inches


def histogram_sheet(inputs: Excitation, title: str = "", *, columns: int = 3) -> Draw:
    """Return a drawing of the histogram, the crops at its quantiles (below it), and the top inputs (to the right).

    The top inputs have three rows. Each shows the crop that is the receptive field, and the image with its box. Draw
    the sheet with `plots.save(histogram_sheet(inputs), path, LIGHT, sheet_size())`.

    Args:
        inputs: A channel's activations and inputs.
        title: By default the channel's number.
        columns: Columns of top inputs.

    Raises:
        ValueError: `columns` is below 1.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; expected 1 or more columns of images")

    def draw(figure: Figure, look: Look) -> None:
        panels: Any = figure.subfigures(1, 2, width_ratios=(HISTOGRAM, COLUMN * columns), wspace=0.03)
        left, right = panels
        cells = GridSpec(2, max(len(inputs.quantiles), 1), left, height_ratios=(2.6, 1))
        axes = left.add_subplot(cells[0, :])
        axes.set_title(literal(title or f"channel {inputs.channel}"))
        _histogram(axes, inputs, look)
        for column, (quantile, example) in enumerate(inputs.quantiles):
            below = left.add_subplot(cells[1, column])
            _show(below, example.crop, look)
            below.set_xlabel(f"{quantile:.3g}", color=look.soft, fontsize=8)
            _join(left, axes, below, example, look)
        cells = GridSpec(ROWS, 2 * columns, right)
        for number in range(ROWS * columns):
            row, column = divmod(number, columns)
            crop, complete = (right.add_subplot(cells[row, 2 * column + side]) for side in (0, 1))
            if number < len(inputs.top):
                _top(crop, complete, inputs.top[number], look)
            else:  # an empty cell keeps its space
                crop.set_axis_off()
                complete.set_axis_off()

    return draw


def sheet_size(columns: int = 3) -> tuple[float, float]:
    """Return width and height of a `histogram_sheet` in inches."""
    return HISTOGRAM + COLUMN * columns, HEIGHT


def _histogram(axes: Axes, inputs: Excitation, look: Look) -> None:
    """Draw the histogram. Its labels have a background, so that the lines to the crops pass behind them."""
    axes.stairs(inputs.counts, inputs.edges, fill=True, color=look.series[0])
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("images")
    part = "" if inputs.sampled == inputs.images else f" of {inputs.images:,}"
    axes.set_xlabel(f"activation ({inputs.sampled:,}{part} images)", labelpad=2)
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high])
    for text in (axes.xaxis.label, *axes.get_xticklabels()):
        text.set_bbox({"facecolor": look.paper, "edgecolor": "none", "pad": 1})


def _join(panel, axes: Axes, below: Axes, example: TopInput, look: Look) -> None:
    """Draw a line from the activation on the axis to the crop below, behind the labels between them."""
    start, end = (example.activation, 0), ((example.crop.shape[1] - 1) / 2, -0.5)
    line = ConnectionPatch(start, end, axes.get_xaxis_transform(), below.transData, color=look.series[1], linewidth=0.8)
    line.set_in_layout(False)
    line.set_zorder(-1)
    panel.add_artist(line)


def _top(crop: Axes, complete: Axes, shown: TopInput, look: Look) -> None:
    """Show the crop with its activation, and the image with the box."""
    _show(crop, shown.crop, look)
    _show(complete, shown.image, look)
    crop.set_xlabel(f"{shown.activation:#.3g}", color=look.soft, fontsize=8, labelpad=2)
    _frame(complete, shown.box, look.series[1], 1.2)


def _show(axes: Axes, picture: np.ndarray, look: Look) -> None:
    """Show a picture in the center of a square, without ticks."""
    height, width = picture.shape[:2]
    side = max(height, width)
    axes.imshow(picture, vmin=0, vmax=1)
    axes.set_xlim((width - side - 1) / 2, (width + side - 1) / 2)
    axes.set_ylim((height + side - 1) / 2, (height - side - 1) / 2)
    axes.set(xticks=[], yticks=[])
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    _frame(axes, (0, 0, height, width), look.line, 0.6)  # a dark picture on a dark page needs an edge


def _frame(axes: Axes, box: tuple[int, int, int, int], color: str, width: float) -> None:
    top, left, bottom, right = box
    corner, size = (left - 0.5, top - 0.5), (right - left, bottom - top)  # pixel centers have integer coordinates
    axes.add_patch(Rectangle(corner, *size, fill=False, linewidth=width, clip_on=False, edgecolor=color))
