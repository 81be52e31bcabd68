"""The plot of the family tree: error against MACs, with parameters as areas and arrows from each network's parents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter

from rawcnn.plots.themed import Draw, Look

AREA = 3.4  # square points of a marker for a million parameters
ALONG = 40  # points of an arrow that labels avoid
STEPS = (0.5, 1.0, 1.6, 2.4, 3.4, 4.6)  # distances at which a label is tried, in multiples of its height
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # right, left, above, below, …


@dataclass(frozen=True)
class Member:
    """A network of the tree. `hollow` marks an error that was measured with another protocol than most."""

    name: str
    family: str
    parents: tuple[str, ...]
    macs: float
    error: float  # percent
    parameters: float
    hollow: bool = False


def family_tree(members: Sequence[Member]) -> Draw:
    """Return a drawing of error against MACs, both logarithmic, with an arrow from each parent that is a member."""

    def draw(figure: Figure, look: Look) -> None:
        axes = figure.subplots()
        by_name = {member.name: member for member in members}
        colors = dict(zip(dict.fromkeys(member.family for member in members), look.series, strict=False))
        for member in sorted(members, key=lambda member: -member.parameters):  # small discs are drawn above large ones
            for parent in (by_name[name] for name in member.parents if name in by_name):
                axes.annotate(
                    "", (member.macs / 1e9, member.error), (parent.macs / 1e9, parent.error), zorder=1,
                    arrowprops={"arrowstyle": "-|>", "color": look.soft, "linewidth": 0.7, "mutation_scale": 7,
                                "shrinkA": _radius(parent), "shrinkB": _radius(member) + 1, "alpha": 0.7},
                )  # fmt: skip
            axes.scatter(
                [member.macs / 1e9], [member.error], [AREA * member.parameters / 1e6], linewidths=1.2, zorder=2,
                facecolors=look.paper if member.hollow else colors[member.family], edgecolors=colors[member.family],
                alpha=0.8,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="billion MACs per image", ylabel="top-1 error, %")
        axes.set_xlim(0.4, 42)
        axes.set_ylim(16.3, 44)
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        for axis, ticks in ((axes.xaxis, (0.5, 1, 2, 5, 10, 20)), (axes.yaxis, (17, 20, 25, 30, 35, 40))):
            axis.set_ticks(ticks)
            axis.set_ticks([], minor=True)
            axis.set_major_formatter(plain)
        axes.grid(True)
        handles = [Line2D([], [], marker="o", linestyle="", color=c, label=family) for family, c in colors.items()]
        axes.legend(handles=handles, loc="upper right")
        _label(figure, axes, members, look)

    return draw


def _radius(member: Member) -> float:
    """Return the radius of a marker in points. matplotlib's area is that of the square around it."""
    return (AREA * member.parameters / 1e6) ** 0.5 / 2


def _label(figure: Figure, axes: Axes, members: Sequence[Member], look: Look) -> None:
    """Write each name close to its marker, where it covers least of the other names, markers and arrows."""
    figure.draw_without_rendering()  # fixes the positions of the axes
    point = figure.dpi / 72  # pixels
    centers = {m.name: axes.transData.transform((m.macs / 1e9, m.error)) for m in members}
    taken = [_around(centers[m.name], _radius(m) * point, _radius(m) * point) for m in members]
    links = [(centers[parent], centers[m.name]) for m in members for parent in m.parents if parent in centers]
    arrows = [_around(place, point, point) for link in links for place in np.linspace(*link, ALONG)]
    halo = [withStroke(linewidth=1.5, foreground=look.paper)]
    for member in sorted(members, key=lambda member: member.parameters):
        text = axes.annotate(
            member.name, (member.macs / 1e9, member.error), (0, 0), textcoords="offset points", ha="center",
            va="center", fontsize=6.8, color=look.ink, zorder=9, path_effects=halo,
        )  # fmt: skip
        drawn = text.get_window_extent()
        half_width, half_height = drawn.width / 2 + 1, drawn.height / 2
        offsets = _offsets(_radius(member) * point, half_width, half_height)
        boxes = [_around(centers[member.name] + offset, half_width, half_height) for _, offset in offsets]
        costs = [
            step + (10 * _shared(box, taken) + 2 * _shared(box, arrows)) / (drawn.width * drawn.height)
            if _holds(np.array(axes.bbox.extents), box)
            else np.inf
            for (step, _), box in zip(offsets, boxes, strict=True)
        ]
        best = int(np.argmin(costs))
        taken.append(boxes[best])
        text.set_position(tuple(offsets[best][1] / point))


def _offsets(radius: float, half_width: float, half_height: float) -> list[tuple[float, np.ndarray]]:
    """Return possible positions of a label, nearest first: (step, pixels right and up from the marker's center)."""
    offsets = []
    for step in STEPS:
        for right, up in DIRECTIONS:
            reach = radius * (0.7 if right and up else 1) + step * half_height
            offsets.append((step, np.array([right * (reach + half_width), up * (reach + 0.6 * half_height)])))
    return offsets


def _around(center: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """Return the box [left, bottom, right, top]."""
    half = np.array([half_width, half_height])
    return np.concatenate([center - half, center + half])


def _holds(outer: np.ndarray, inner: np.ndarray) -> bool:
    return bool((outer[:2] <= inner[:2]).all() and (inner[2:] <= outer[2:]).all())


def _shared(box: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Return the area that `box` shares with each of the others, summed."""
    all_others = np.array(others)  # [N,4]
    sides = np.minimum(box[2:], all_others[:, 2:]) - np.maximum(box[:2], all_others[:, :2])
    return float(np.prod(np.maximum(sides, 0), axis=1).sum())
