"""Places the boxes of a graph in layers, each below all that it reads, and leads the edges around them.

Sugiyama, Tagawa, Toda 1981: layers by the longest path, an edge over several layers gets a place in each of them, and
layers are ordered by the mean of their neighbours. Within a layer, boxes stand as near to these as there is room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

SWEEPS = 8  # down and up in turns; more change nothing in graphs of some thirty boxes
SIDES, ABOVE = (4.0, 22.0), 16.0  # least and most room between boxes of a layer, and the room between layers
LINE = 2.0  # width of an edge's place in a layer that it passes
Edge = tuple[str, str]
Place = Any  # what stands in a layer: a box's name, or (edge, layer) for an edge that passes


@dataclass(frozen=True)
class Layout:
    """`centres` of the boxes; `routes`, the corners of each edge, by turns at the top and the bottom of a layer."""

    centres: Mapping[str, tuple[float, float]]
    routes: Sequence[Sequence[tuple[float, float]]]
    height: float


def place(sizes: Mapping[str, tuple[float, float]], edges: Sequence[Edge], width: float) -> Layout:
    """Boxes of `sizes` (width, height), in an order in which every edge (from, to) points onward, on `width`."""
    depth = dict.fromkeys(sizes, 0)
    for box in sizes:
        depth[box] = max((depth[source] + 1 for source, target in edges if target == box), default=0)
    chains = [_chain(edge, depth) for edge in edges]
    layers: list[list[Place]] = [[] for _ in range(max(depth.values()) + 1)]
    for box in sizes:
        layers[depth[box]].append(box)
    for source, *passed, _ in chains:
        for further, point in enumerate(passed, start=depth[source] + 1):
            layers[further].append(point)
    links = [link for chain in chains for link in pairwise(chain)]
    _order(layers, links)
    widths = {box: sizes[box][0] if box in sizes else LINE for layer in layers for box in layer}
    x = _columns(layers, links, widths, width)
    heights = [max(sizes[box][1] for box in layer if box in sizes) for layer in layers]
    tops = np.concatenate([[0], np.cumsum(np.array(heights) + ABOVE)])
    centres = {box: (x[box], tops[depth[box]] + heights[depth[box]] / 2) for box in sizes}
    routes = []
    for chain in chains:
        (source, target), first = (chain[0], chain[-1]), depth[chain[0]]
        route = [(x[source], centres[source][1] + sizes[source][1] / 2)]
        for layer, point in enumerate(chain[1:-1], start=first + 1):
            route += [(x[point], tops[layer]), (x[point], tops[layer] + heights[layer])]
        routes.append([*route, (x[target], centres[target][1] - sizes[target][1] / 2)])
    return Layout(centres, routes, float(tops[-1] - ABOVE))


def _chain(edge: Edge, depth: Mapping[str, int]) -> list[Place]:
    """The edge's ends, and between them a point for each layer that it passes."""
    source, target = edge
    return [source, *((edge, layer) for layer in range(depth[source] + 1, depth[target])), target]


def _order(layers: list[list[Place]], links: Sequence[tuple[Place, Place]]) -> None:
    """Sort each layer by the mean place of what its boxes are linked to in the layer before, or behind."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for before, layer in pairwise(layers if down else layers[::-1]):
            index = {box: number for number, box in enumerate(before)}
            means = {box: _mean([index[y] for y in _beside(box, links, down)], 0) for box in layer}
            layer.sort(key=means.__getitem__)


def _columns(
    layers: list[list[Place]], links: Sequence[tuple[Place, Place]], widths: Mapping[Place, float], width: float
) -> dict[Place, float]:
    """Centres across: each layer as near as it can be, in its order, to the means of all its neighbours."""
    room = [(width - 2 - sum(widths[box] for box in layer)) / max(len(layer) - 1, 1) for layer in layers]
    side = float(np.clip(min(room), *SIDES))
    x = {box: width / 2 for layer in layers for box in layer}
    for sweep in range(4 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            half = np.array([widths[box] / 2 for box in layer])
            shift = np.concatenate([[0], np.cumsum(half[:-1] + side + half[1:])])
            wanted = [_mean([x[y] for y in (*_beside(b, links, True), *_beside(b, links, False))], x[b]) for b in layer]
            low, high = half[0] + 1, max(width - 1 - half[-1] - shift[-1], half[0] + 1)
            x |= zip(layer, isotonic_regression(np.array(wanted) - shift, y_min=low, y_max=high) + shift, strict=True)
    return x


def _beside(box: Place, links: Sequence[tuple[Place, Place]], before: bool) -> list[Place]:
    """What the box is linked to in the layer before it, or in the one behind it."""
    return [a for a, b in links if b == box] if before else [b for a, b in links if a == box]


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise
