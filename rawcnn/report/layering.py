"""Place the boxes of a graph in layers, each box below all boxes that it reads, and route the edges around them.

Sugiyama, Tagawa, Toda 1981. The longest path to a box is its layer. An edge that passes layers gets a place in each of
them. Each layer is ordered by the mean position of its neighbors, and boxes are placed as close to these as possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

SWEEPS = 8  # alternately down and up; more sweeps change nothing in graphs of about thirty boxes
SIDES, ABOVE = (4.0, 22.0), 16.0  # least and largest space between boxes of a layer, and space between layers
LINE = 2.0  # width of an edge's place in a layer that it passes
Edge = tuple[str, str]
Place = Any  # an element of a layer: a box's name, or (edge, layer) for an edge that passes it


@dataclass(frozen=True)
class Layout:
    """The centers of the boxes, and the corners of each edge, alternately at the top and the bottom of a layer."""

    centers: Mapping[str, tuple[float, float]]
    routes: Sequence[Sequence[tuple[float, float]]]
    height: float


def place(sizes: Mapping[str, tuple[float, float]], edges: Sequence[Edge], width: float) -> Layout:
    """Place boxes on an area of the given width.

    Args:
        sizes: Name → (width, height), in an order in which every edge points forward.
        edges: Pairs (from, to).
        width: Width of the area.
    """
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
    centers = {box: (x[box], tops[depth[box]] + heights[depth[box]] / 2) for box in sizes}
    routes = []
    for chain in chains:
        (source, target), first = (chain[0], chain[-1]), depth[chain[0]]
        route = [(x[source], centers[source][1] + sizes[source][1] / 2)]
        for layer, point in enumerate(chain[1:-1], start=first + 1):
            route += [(x[point], tops[layer]), (x[point], tops[layer] + heights[layer])]
        routes.append([*route, (x[target], centers[target][1] - sizes[target][1] / 2)])
    return Layout(centers, routes, float(tops[-1] - ABOVE))


def _chain(edge: Edge, depth: Mapping[str, int]) -> list[Place]:
    """Return an edge's ends, with a point between them for each layer that it passes."""
    source, target = edge
    return [source, *((edge, layer) for layer in range(depth[source] + 1, depth[target])), target]


def _order(layers: list[list[Place]], links: Sequence[tuple[Place, Place]]) -> None:
    """Sort each layer by the mean position of its boxes' neighbors in the layer before or after it."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for before, layer in pairwise(layers if down else layers[::-1]):
            index = {box: number for number, box in enumerate(before)}
            means = {box: _mean([index[y] for y in _neighbors(box, links, down)], 0) for box in layer}
            layer.sort(key=means.__getitem__)


def _columns(
    layers: list[list[Place]], links: Sequence[tuple[Place, Place]], widths: Mapping[Place, float], width: float
) -> dict[Place, float]:
    """Return horizontal centers: each layer, in its order, is as close as possible to the means of its neighbors."""
    room = [(width - 2 - sum(widths[box] for box in layer)) / max(len(layer) - 1, 1) for layer in layers]
    side = float(np.clip(min(room), *SIDES))
    x = {box: width / 2 for layer in layers for box in layer}
    for sweep in range(4 * SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            half = np.array([widths[box] / 2 for box in layer])
            shift = np.concatenate([[0], np.cumsum(half[:-1] + side + half[1:])])
            means = [
                _mean([x[y] for y in (*_neighbors(b, links, True), *_neighbors(b, links, False))], x[b]) for b in layer
            ]
            low, high = half[0] + 1, max(width - 1 - half[-1] - shift[-1], half[0] + 1)
            x |= zip(layer, isotonic_regression(np.array(means) - shift, y_min=low, y_max=high) + shift, strict=True)
    return x


def _neighbors(box: Place, links: Sequence[tuple[Place, Place]], before: bool) -> list[Place]:
    """Return the box's neighbors in the layer before it, or in the layer after it."""
    return [a for a, b in links if b == box] if before else [b for a, b in links if a == box]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
