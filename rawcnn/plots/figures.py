"""The plots that the command line writes and that notebooks show, in one style for paper and screen.

Nothing here uses pyplot: its backend and its open figures belong to the user's program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, NullLocator, PercentFormatter

from rawcnn.files.atomic import write_atomic
from rawcnn.files.errors import remedy
from rawcnn.plots.style import COMMON, literal

if TYPE_CHECKING:
    from rawcnn.attacks import AttackResult, FoolingImages
    from rawcnn.profiling.costs import Profile
    from rawcnn.profiling.roofline import Measurement

COLORS = ("#2a6f97", "#c1440e", "#5a8f29", "#8a4f9e", "#b58900", "#555555", "#d16ba5", "#17a398")
STYLE: Any = {**COMMON, "figure.dpi": 120, "font.size": 10, "axes.grid": True, "grid.alpha": 0.25}


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically.

    Args:
        figure: The figure.
        path: A .png, .svg or .pdf file.

    Raises:
        ValueError: The path has another ending, or the file cannot be written.
    """
    try:
        write_atomic(path, encoded(figure, Path(path).suffix[1:]))
    except (ValueError, OSError) as error:
        advice = (
            f"{remedy(error)} and run the same command again, or name another path"
            if isinstance(error, OSError)
            else "give a path that ends in .png"
        )
        raise ValueError(f"the plot {path} cannot be written: {error}; {advice}") from error


def encoded(figure: Figure, form: str = "png", dpi: float | str = "figure") -> bytes:
    """Return the content of an image file, "png", "svg" or "pdf", with `dpi` pixels per inch."""
    drawn = BytesIO()
    figure.savefig(drawn, format=form, bbox_inches="tight", dpi=dpi)
    return drawn.getvalue()


def _panels(
    rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], layout: Any = None, **options: Any
) -> tuple[Figure, Any]:
    """A new figure of `figsize` inches and its axes, as pyplot's `subplots` returns them."""
    figure = Figure(figsize=figsize, layout=layout)
    return figure, figure.subplots(rows, columns, **options)


def roofline(profile: Profile, measurement: Measurement) -> Figure:
    """Draw each layer's FLOP/s against its intensity, and the machine's two limits. Areas are shares of the time."""
    from rawcnn.nn.kinds import NAMES

    machine = measurement.machine
    intensities = {row["name"]: row["intensity"] for row in profile.rows}
    working = [t for t in measurement.timings if t.flops_per_second > 0]
    shown = [t for t in working if t.resolved] or working
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(figsize=(8, 5))
        knee = machine.flops_per_second / machine.bytes_per_second
        low = min(*(intensities[t.name] / 2 for t in shown), knee / 10)  # so that both limits are visible
        high = max(*(intensities[t.name] * 2 for t in shown), knee * 10)
        axes.plot([low, knee], [machine.attainable(low) / 1e9, machine.flops_per_second / 1e9], "k-", lw=1.2)
        axes.plot([knee, high], [machine.flops_per_second / 1e9] * 2, "k-", lw=1.2)
        middle = (low * knee) ** 0.5  # of the logarithmic axis
        axes.annotate(
            f"{machine.bytes_per_second / 1e9:.0f} GB/s memory",
            (middle, machine.attainable(middle) / 1e9),
            xytext=(-6, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
        )
        axes.annotate(
            f"{machine.flops_per_second / 1e9:.0f} GFLOP/s matmul",
            (high, machine.flops_per_second / 1e9),
            ha="right",
            va="bottom",
        )
        for color, kind in zip(COLORS * 3, dict.fromkeys(t.kind for t in shown), strict=False):
            alike = [t for t in shown if t.kind == kind]
            axes.scatter(
                [intensities[t.name] for t in alike],
                [t.flops_per_second / 1e9 for t in alike],
                [12 + 1500 * t.share for t in alike],
                color=color,
                alpha=0.6,
                label=f"{NAMES.get(kind, kind)} {sum(t.share for t in alike):.0%}",
                linewidths=0,
            )
        axes.set(xscale="log", yscale="log", xlabel="intensity, FLOP/byte", ylabel="GFLOP/s")
        axes.set_title(f"{profile.model}, batch {profile.batch}, {profile.size}×{profile.size}, {profile.precision}")
        legend: Any = axes.legend(title="share of the time", loc="lower right")
        for handle in legend.legend_handles:
            handle.set_sizes([40])
    return figure


def depth_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw figure 6 of the ResNet paper: errors of plain networks (left) and residual ones (right), training dashed.

    Args:
        histories: Name → summaries of the epochs, from `rawcnn.training.plain_vs_residual.compare_depths`.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(1, 2, figsize=(10, 4.5), sharex=True, sharey=True, layout="constrained")
        for axes, kind, title in zip(panels, ("plain", "resnet"), ("plain networks", "residual networks"), strict=True):
            runs = {name: history for name, history in histories.items() if kind in name}
            for color, (name, history) in zip(COLORS, runs.items(), strict=False):
                epochs = [summary["epoch"] for summary in history]
                layers = name.removeprefix(f"cifar_{kind}")
                for split, line in (("train", "--"), (_held_out(history), "-")):
                    errors = [100 * (1 - summary[f"{split}_accuracy"]) for summary in history]
                    axes.plot(epochs, errors, line, color=color, label=f"{layers} layers, {split}")
            axes.set(xlabel="epoch", title=title, ylim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(fontsize=9)
        panels[0].set_ylabel("error, %")
    return figure


def depth_gradients(norms: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the gradient norms of plain networks (left) and residual ones (right) against the layer.

    Args:
        norms: Name → path of filters or weights → norm, from `rawcnn.training.depth_gradients.gradient_norms`.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(1, 2, figsize=(10, 4.2), layout="constrained", sharex=True, sharey=True)
        for axes, kind, title in zip(panels, ("plain", "resnet"), ("plain networks", "residual networks"), strict=True):
            networks = {name: values for name, values in norms.items() if kind in name}
            for color, (name, values) in zip(COLORS, networks.items(), strict=False):
                label = f"{name.removeprefix(f'cifar_{kind}')} layers"
                axes.plot(range(1, len(values) + 1), list(values.values()), color=color, label=label)
            axes.set(xlabel="layer", title=title, yscale="log")
            axes.legend(fontsize=9)
        panels[0].set_ylabel("norm of the gradient to filters or weights")
    return figure


def _held_out(history: Sequence[Mapping[str, float]]) -> str:
    """The split that a run evaluated after each epoch."""
    return "validation" if history and "validation_accuracy" in history[0] else "test"


def training_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw loss, error and learning rate against the epochs of a `Training.history`."""
    epochs = [summary["epoch"] for summary in history]
    with matplotlib.rc_context(STYLE):
        figure, (losses, errors, rates) = _panels(1, 3, figsize=(12, 3.6))
        for part, color in (("train", COLORS[0]), (_held_out(history), COLORS[1])):
            losses.plot(epochs, [s[f"{part}_loss"] for s in history], color=color, marker=".", label=part)
            errors.plot(epochs, [1 - s[f"{part}_accuracy"] for s in history], color=color, marker=".", label=part)
        rates.plot(epochs, [s["rate"] for s in history], color=COLORS[2], marker=".")
        for axes, title in ((losses, "loss"), (errors, "error"), (rates, "learning rate at the epoch's end")):
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        losses.set_yscale("log")  # so that small losses at the end are visible, too
        errors.set_ylim(0, None)
        rates.set_ylim(0, None)
        errors.yaxis.set_major_formatter(PercentFormatter(1.0))
        losses.legend()
        figure.tight_layout()
    return figure


def growth(series: Sequence[Any]) -> Figure:
    """Draw the time per image against the batch, the side, the arithmetic and the steps, one panel each."""
    titles = {
        "batch": "images in a batch",
        "size": "side of an image, px",
        "depth": "GMAC per image",
        "steps": "steps",
    }
    shown = {along: [s for s in series if s.along == along] for along in titles}
    shown = {along: lines for along, lines in shown.items() if lines}
    with matplotlib.rc_context(STYLE):
        rows, columns = (2, 2) if len(shown) == 4 else (1, len(shown))
        size = (5 * columns, 3.75 * rows)
        figure, panels = _panels(rows, columns, figsize=size, layout="constrained", squeeze=False)
        for axes, (along, lines) in zip(panels.flat, shown.items(), strict=True):
            for color, s in zip(COLORS, lines, strict=False):
                xs = [x / 1e9 for x in s.points] if along == "depth" else s.points
                label = f"{s.job} ∝ x^{s.exponent:.2f}"
                axes.plot(xs, [1e3 * t for t in s.seconds_per_image], "o-", color=color, label=label)
            if along == "depth":
                for x, y, name in zip(lines[-1].points, lines[-1].seconds_per_image, lines[-1].names, strict=True):
                    place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 8}
                    axes.annotate(name.removeprefix("resnet"), (x / 1e9, 1e3 * y), **place)
            axes.set(xscale="log", yscale="log", xlabel=titles[along], ylabel="ms per image")
            for axis in (axes.xaxis, axes.yaxis):  # 20, not 2 × 10¹
                axis.set_major_formatter(LogFormatter())
                axis.set_minor_formatter(LogFormatter())
            if along != "depth":
                axes.set_xticks(lines[0].points, lines[0].names)
                axes.xaxis.set_minor_locator(NullLocator())
            axes.set_title(lines[0].model if along != "depth" else "ResNets by depth", fontsize=10)
            axes.legend(fontsize=9)
    return figure


def examples(result: AttackResult, labels: Sequence[str], count: int = 4) -> Figure:
    """Draw one row per image: original + noise × k = attacked image, each with its class and confidence."""
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        shown = list(range(min(count, len(result.labels))))
        figure, rows = _panels(len(shown), 3, figsize=(7.2, 2.7 * len(shown)), squeeze=False)
        for axes, index in zip(rows, shown, strict=True):
            noise = result.noise[index]
            times = 0.5 / max(float(abs(noise).max()), 1e-12)
            pictures = (result.originals[index], 0.5 + times * noise, result.images[index])
            titles = (
                f"“{name_of(result.predictions_before[index], labels)}”  {result.confidences_before[index]:.1%}",
                f"+ difference, shown ×{times:,.{0 if times >= 2 else 2}f}",
                f"= “{name_of(result.predictions[index], labels)}”  {result.confidences[index]:.1%}"
                + ("" if result.success[index] else "  (not fooled)"),
            )
            for panel, image, title in zip(axes, pictures, titles, strict=True):
                panel.imshow(image.clip(0, 1), interpolation="nearest")
                panel.set_axis_off()
                panel.set_title(literal(title), fontsize=9)
        figure.tight_layout()
    return figure


def name_of(prediction: int, labels: Sequence[str]) -> str:
    """The name of a predicted class; an attack's result has none where the network answers NaN."""
    return labels[prediction] if prediction >= 0 else "no class: NaN"


def accuracy_curve(rows: Sequence[Mapping[str, Any]], name: str, unit: str) -> Figure:
    """Draw the accuracy against ε, and the attack's success rate on images that were classified correctly.

    The curve begins with the accuracy before the attack, at ε = 0.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(figsize=(6, 3.6))
        epsilons = [row["epsilon"] for row in rows]
        accuracies = [row["accuracy_after"] for row in rows]
        start = ([0.0], [rows[0]["accuracy_before"]]) if epsilons[0] > 0 else ([], [])
        axes.plot(start[0] + epsilons, start[1] + accuracies, "o-", color=COLORS[0], label="accuracy")
        success = [np.nan if row["success_rate"] is None else row["success_rate"] for row in rows]
        axes.plot(epsilons, success, "o--", color=COLORS[1], label="success of the attack")
        axes.set(title=name, xlabel=f"ε: {unit}", ylim=(-0.03, 1.03))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend()
    return figure


def fooling_images(found: FoolingImages, labels: Sequence[str], most: int = 20) -> Figure:
    """Draw the fooling image of each class with the network's confidence, or the `most` confident ones."""
    shown = np.sort(np.argsort(-found.confidences)[:most])
    columns = min(5, len(shown))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        rows = -(-len(shown) // columns)
        figure, panels = _panels(rows, columns, figsize=(1.7 * columns, 2.0 * rows), squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for panel, number in zip(panels.flat, shown, strict=False):
            panel.imshow(found.images[number], interpolation="nearest")
            panel.set_title(literal(f"“{labels[number]}”  {found.confidences[number]:.1%}"), fontsize=8)
        figure.tight_layout()
    return figure


def picture_rows(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> Figure:
    """Draw rows of pictures [H,W,3] in [0,1], with a name to the left of each row and a title above each picture."""
    columns = max(len(pictures) for pictures in rows.values())
    shape = max(pixels.shape[0] / pixels.shape[1] for pictures in rows.values() for pixels in pictures)
    size = (1.2 + 1.7 * columns, (0.3 + 1.7 * min(shape, 3)) * len(rows))
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, panels = _panels(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
        for line, (name, pictures), above in zip(panels, rows.items(), titles, strict=True):
            for panel in line:
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
            for panel, pixels, title in zip(line, pictures, above, strict=False):
                panel.imshow(pixels.clip(0, 1), interpolation="nearest")
                panel.set_title(literal(title), fontsize=8)
            line[0].set_ylabel(literal(name), fontsize=9)
    return figure
