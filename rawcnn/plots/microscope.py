"""The plots of a run under the microscope, for `rawcnn.plots.themed.save`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rawcnn.plots.style import literal
from rawcnn.plots.themed import Draw, Look

NAMES = 12  # at most so many rows of a map are named
LEAST = 0.05  # the scale of a map of shares ends here or later, so that hardly any dead units look like few
EPOCHS = 5  # at most so many lines through the layers


def chosen_epochs(epochs: Sequence[int], most: int) -> list[int]:
    """Return the places of all epochs, or of `most`: the first, the last, and others that are about twice as late each.

    Zeiler & Fergus 2014, figure 4, shows the epochs 1, 2, 5, 10, 20, 30, 40, 64.
    """
    if len(epochs) <= most:
        return list(range(len(epochs)))
    places = np.unique(np.rint(np.geomspace(1, len(epochs), most)).astype(int)) - 1
    return [int(place) for place in places]


def share_map(names: Sequence[str], epochs: Sequence[int], shares: np.ndarray) -> Draw:
    """Return a drawing of shares [epochs, layers] in [0,1]: a row per layer, the first on top, a column per epoch."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        most = max(LEAST, float(np.nanmax(shares, initial=0)))
        shown = axes.imshow(shares.T, cmap=look.ramp(), vmin=0, vmax=most, aspect="auto", interpolation="nearest")
        step = -(-len(names) // NAMES)
        axes.set_yticks(range(0, len(names), step), [literal(name) for name in names[::step]])
        columns = chosen_epochs(epochs, 8)
        axes.set_xticks(columns, [str(epochs[place]) for place in columns])
        axes.set_xlabel("epoch")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=axes, format=PercentFormatter(1, decimals=0), fraction=0.05)
        bar.outline.set_visible(False)

    return draw


def lines_through_layers(epochs: Sequence[int], values: np.ndarray, label: str, usual: float | None = None) -> Draw:
    """Return a drawing of a quantity [epochs, layers] against the layer, with a line for some epochs, on a log axis.

    Args:
        epochs: The epochs.
        values: The quantity; values that are not positive and finite have no point.
        label: Its name.
        usual: A usual value, drawn as a dashed line.
    """

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        places = chosen_epochs(epochs, EPOCHS)
        for place, color in zip(places, time_colors(look, len(places)), strict=True):
            _line(axes, values[place], color=color, label=str(epochs[place]))
        if usual:
            axes.axhline(usual, color=look.soft, linewidth=0.9, linestyle="--")
        _layer_axes(axes, label)
        figure.legend(title="epoch", alignment="left", loc="outside upper left", ncols=EPOCHS, columnspacing=1.2)

    return draw


def time_colors(look: Look, count: int) -> list[str]:
    """Return the colors of lines over time, as hexadecimal codes: from a gray to the first series' color; the last line
    has the second's. All differ enough from the background.
    """
    gray = to_hex(LinearSegmentedColormap.from_list("grays", [look.line, look.soft])(0.7))
    ramp = LinearSegmentedColormap.from_list("time", [gray, look.series[0]])
    return [*(to_hex(ramp(share)) for share in np.linspace(0, 1, count - 1)), look.series[1]]


def gradients_through_depth(panels: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Draw:
    """Return a drawing of gradient norms against the layer, one panel per kind of network, on a common log axis.

    Args:
        panels: Title of the panel → label of the line → path of filters or weights → norm of the gradient, in the
            order of the forward pass.
    """

    def draw(figure: Figure, look: Look) -> None:
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, lines) in zip(row, panels.items(), strict=True):
            for number, (label, norms) in enumerate(lines.items()):
                _line(axes, np.array(list(norms.values())), color=look.series[number % len(look.series)], label=label)
            axes.set_title(literal(title))
            _layer_axes(axes, "")
            axes.legend()
        row[0].set_ylabel("norm of the gradient")

    return draw


def losses_against_rates(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float | None
) -> Draw:
    """Return a drawing of a learning-rate range test: the loss of each step, the smoothed loss, the suggestion."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        axes.plot(rates, losses, ".", color=look.series[4], markersize=4, label="loss of the step")
        axes.plot(rates, smoothed, color=look.series[0], label="smoothed")
        if suggestion:
            axes.axvline(suggestion, color=look.series[1], linewidth=1.2, label=f"suggested: {suggestion:.2g}")
        finite = np.asarray(smoothed)[np.isfinite(smoothed)]
        if len(finite):
            axes.set_ylim(0, 1.3 * max(finite[0], min(finite.max(), 2 * finite[0])))
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.grid(True, axis="y")
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower left")

    return draw


def _line(axes: Axes, values: np.ndarray, **style) -> None:
    """Draw the positive, finite values against the number of the layer."""
    shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
    marker = "o" if len(values) < 3 else ""
    axes.plot(np.arange(1, len(values) + 1), shown, marker=marker, linewidth=1.4, **style)


def _layer_axes(axes: Axes, label: str) -> None:
    """A logarithmic axis of values, and one of layers' numbers."""
    axes.set_yscale("log")
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
