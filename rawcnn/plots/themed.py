"""The plots of reports. Each is drawn twice, for light and for dark screens.

A drawing is a function (figure, look) → None. A look's colors are those of style.css, so that the edges of plots are
not visible on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from rawcnn.files.atomic import write_atomic
from rawcnn.plots.style import COMMON, literal


@dataclass(frozen=True)
class Look:
    """The colors of a theme. `series` lists those of the data in the order of their use."""

    paper: str
    ink: str
    soft: str
    line: str
    series: tuple[str, ...]

    @property
    def rc(self) -> dict[Any, Any]:
        """The settings of matplotlib for this theme."""
        return {
            **COMMON,
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "text.color": self.ink,
            "axes.labelcolor": self.soft,
            "axes.edgecolor": self.line,
            "axes.titlecolor": self.ink,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.axisbelow": True,
            "xtick.color": self.soft,
            "ytick.color": self.soft,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "xtick.minor.size": 0,
            "ytick.minor.size": 0,
            "grid.color": self.line,
            "grid.linewidth": 0.6,
            "font.size": 9.5,
            "font.family": "DejaVu Sans",  # part of matplotlib, so plots are equal on all machines
            "lines.linewidth": 1.8,
            "legend.fontsize": 8.5,
            "image.interpolation": "nearest",
            "figure.dpi": 100,
        }

    def ramp(self) -> LinearSegmentedColormap:
        """Return a color map from the background to the first series' color."""
        return LinearSegmentedColormap.from_list("ramp", [self.paper, self.series[0]])


LIGHT = Look("#fcfbf9", "#22262b", "#626a73", "#dcd8d0", ("#2c5f8d", "#c2693a", "#4b8264", "#8a5a86", "#8b8577"))
DARK = Look("#16191d", "#e4e1db", "#9aa2ab", "#353b42", ("#86b4de", "#e59a6b", "#84bf9f", "#c094bb", "#a9a394"))
Draw = Callable[[Figure, Look], None]


def save(draw: Draw, path: Path, look: Look, size: tuple[float, float]) -> None:
    """Draw into a PNG file of `size` inches, width and height. The file is written atomically."""
    encoded = BytesIO()
    with matplotlib.rc_context(look.rc):
        figure = Figure(figsize=size, layout="constrained")  # not pyplot, which has global state
        draw(figure, look)
        figure.savefig(encoded, format="png", dpi=200, metadata={"Software": None})
    write_atomic(path, encoded.getvalue())


def layer_bars(names: Sequence[str], left: Sequence[float], right: Sequence[float], titles: tuple[str, str]) -> Draw:
    """Return a drawing with one row per layer: bars of two quantities, each with its share of the sum."""

    def draw(figure: Figure, look: Look) -> None:
        for number, (axes, values) in enumerate(zip(figure.subplots(1, 2, sharey=True), (left, right), strict=True)):
            total = sum(values) or 1
            axes.barh(names, values, color=look.series[number], height=0.7)
            for row, value in enumerate(values):
                axes.text(value, row, f" {value / total:.1%}", va="center", fontsize=7.5, color=look.soft)
            axes.set_title(titles[number])
            axes.set_xlim(0, max(values) * 1.2)
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(axis="y", colors=look.ink)
        axes.invert_yaxis()  # shared

    return draw


def landscape(points: Sequence[tuple[str, str, float, float]]) -> Draw:
    """Return a drawing of networks (name, family, 10⁹ MACs, 10⁶ parameters) on logarithmic axes."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        families = list(dict.fromkeys(family for _, family, _, _ in points))
        for number, family in enumerate(families):
            members = [(name, x, y) for name, other, x, y in points if other == family]
            xs, ys = [x for _, x, _ in members], [y for _, _, y in members]
            color = look.series[number % len(look.series)]
            axes.plot(xs, ys, "o-", color=color, markersize=6, linewidth=0.9, label=family)
            for place, (name, x, y) in enumerate(members):  # labels alternate between top left and bottom right
                offset, side = ((-5, 4), "right") if place % 2 == 0 else ((5, -9), "left")
                axes.annotate(name, (x, y), offset, ha=side, textcoords="offset points", fontsize=7.5, color=look.ink)
        axes.set(xscale="log", yscale="log", xlabel="billion MACs per image", ylabel="million parameters")
        axes.set_xlim(0.4, 40)
        axes.set_ylim(5, 200)
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        for axis, ticks in ((axes.xaxis, (1, 2, 5, 10, 20)), (axes.yaxis, (5, 10, 20, 50, 100))):
            axis.set_ticks(ticks)
            axis.set_ticks([], minor=True)
            axis.set_major_formatter(plain)
        axes.grid(True)
        axes.legend(loc="lower right")

    return draw


def receptive_fields() -> Draw:
    """Return a drawing of the receptive field of three 3×3 layers: 1 ← 3×3 ← 5×5 ← 7×7."""

    def draw(figure: Figure, look: Look) -> None:
        for number, (axes, side) in enumerate(zip(figure.subplots(1, 4), (7, 5, 3, 1), strict=True)):
            seen = np.zeros((9, 9))
            first = (9 - side) // 2
            seen[first : first + side, first : first + side] = 1
            axes.imshow(seen * 0.8, cmap=look.ramp(), vmin=0, vmax=1)
            axes.set_xticks(np.arange(10) - 0.5, [])
            axes.set_yticks(np.arange(10) - 0.5, [])
            axes.grid(True)
            axes.spines[:].set_visible(False)
            axes.set_title(("image", "after layer 1", "after layer 2", "after layer 3")[number])
            axes.set_xlabel(f"{side}×{side}")

    return draw


def grouped_bars(names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], label: str) -> Draw:
    """Return a drawing with bars of several quantities for each name."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        width = 0.8 / len(series)
        for number, (name, values) in enumerate(series):
            places = np.arange(len(names)) + (number - (len(series) - 1) / 2) * width
            axes.bar(places, values, width * 0.92, color=look.series[number], label=name)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel(label)
        axes.grid(True, axis="y")
        axes.spines["left"].set_visible(False)
        axes.legend()

    return draw


def curves(history: Sequence[dict[str, float]]) -> Draw:
    """Return a drawing of the loss and accuracy after each epoch, of training images and validation or test images."""
    held_out = "validation" if "validation_accuracy" in history[0] else "test"

    def draw(figure: Figure, look: Look) -> None:
        epochs = [row["epoch"] for row in history]
        for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, split in enumerate(("train", held_out)):
                values = [row[f"{split}_{quantity}"] for row in history]
                marker = "o" if len(values) < 3 else ""
                axes.plot(epochs, values, marker=marker, color=look.series[number], label=f"{split} images")
            axes.set_title(quantity)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(True, axis="y")
            axes.spines["left"].set_visible(False)
            if quantity == "accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
                axes.legend(loc="lower right")

    return draw


def confusion(matrix: np.ndarray, labels: Sequence[str]) -> Draw:
    """Return a drawing of a confusion matrix [K,K]: rows are true classes, columns are predictions."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(np.sqrt(shares) * 0.85, cmap=look.ramp(), vmin=0, vmax=1)  # a root, so that 1 % is visible
        for row, column in np.argwhere(matrix):
            color = look.paper if shares[row, column] > 0.3 else look.ink
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=8, color=color)
        _names(axes, labels)
        axes.set_xlabel("prediction")
        axes.set_ylabel("true class")
        axes.spines[:].set_visible(False)

    return draw


def _names(axes: Axes, labels: Sequence[str]) -> None:
    """Write class names along both axes. Long names are shortened."""
    short = [" ".join(label.split()) for label in labels]
    names = [literal(name if len(name) <= 14 else name[:13] + "…") for name in short]
    axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
    axes.set_yticks(range(len(names)), names)


def accuracy_against_epsilon(series: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> Draw:
    """Return a drawing with a line for each attack (name, values of ε, accuracies)."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        for number, (name, epsilons, accuracies) in enumerate(series):
            axes.plot(epsilons, accuracies, "o-", markersize=3.5, color=look.series[number], label=name)
        axes.set(xlabel="ε, the largest change of a pixel in [0, 1]", ylabel="accuracy", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(True, axis="y")
        axes.spines["left"].set_visible(False)
        axes.legend()

    return draw


def time_bars(names: Sequence[str], times: Sequence[float], second: Sequence[bool], label: str) -> Draw:
    """Return a drawing of horizontal bars with a line at 1. Bars marked in `second` have another color."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        axes.barh(names, times, color=[look.series[int(other)] for other in second], height=0.65)
        for row, time in enumerate(times):
            paper = {"facecolor": look.paper, "edgecolor": "none", "pad": 1}  # hides the line at 1
            axes.annotate(
                f"{time:.2f}", (time, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5,
                color=look.ink, bbox=paper,
            )  # fmt: skip
        axes.axvline(1, color=look.ink, linewidth=0.8, zorder=1)
        axes.set_xlim(0, max(times) * 1.12)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", colors=look.ink)
        axes.invert_yaxis()
        axes.grid(True, axis="x")
        axes.spines["left"].set_visible(False)

    return draw
