"""A network's block diagram as SVG, drawn from its operations: the stages from top to bottom, then a repeated block.

style.css defines the colors of its CSS classes for light and dark screens.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from rawcnn.nn.trace import Operation
from rawcnn.report.layering import place
from rawcnn.report.page import si
from rawcnn.report.stages import Node, Stage, graph, repeated, stages

WIDTH = 340.0  # the width of a card, so that a unit is about a pixel
TALL, LOW, BETWEEN = 40.0, 19.0, 6.0  # heights of a stage with MACs, a pool or normalization, and a line between
LETTER, PADDING = 6.0, 11.0  # width of a letter in a node, and space around its text


def diagram(name: str, operations: Sequence[Operation]) -> Markup:
    """Return the diagram of the network `name` as SVG, with every text escaped."""
    found = stages(operations)
    parameters, macs = (sum(getattr(stage, key) for stage in found) or 1 for key in ("parameters", "macs"))
    parts, y = [], 0.0
    for number, stage in enumerate(found):
        if number:
            parts.append(_line(WIDTH / 2, y - BETWEEN, y))
        height = TALL if stage.macs else LOW
        parts.append(_working(stage, y, parameters, macs) if stage.macs else _passing(stage, y))
        y += height + BETWEEN
    if chosen := repeated(found):
        stage, block = chosen
        heading = f"Inside {block}, one of {len(stage.blocks)}"
        parts.append(_text(WIDTH / 2, y + 26, heading, "heading", "middle"))
        inner, height = _graph(graph(operations, block))
        parts.append(Markup('<g transform="translate(0 %.1f)">%s</g>') % (y + 38, inner))
        y += 38 + height + BETWEEN
    return Markup('<svg class="diagram" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">%s</svg>') % (
        WIDTH,
        y,
        f"The stages of {name}: {', '.join(stage.name for stage in found)}",
        Markup("").join(parts),
    )


def _working(stage: Stage, y: float, parameters: int, macs: int) -> Markup:
    """Draw a box with name, map and cost, and bars of the stage's shares of the network's parameters and MACs."""
    cost = Markup('<tspan class="parameters">%s</tspan> · <tspan class="macs">%s</tspan>') % (
        si(stage.parameters),
        si(stage.macs),
    )
    return Markup("").join(
        (
            Markup('<g class="stage">'),
            _box(0.5, y, WIDTH - 1, TALL),
            _text(9, y + 14.5, stage.name, "name"),
            _text(WIDTH - 9, y + 14.5, stage.map, "map", "end"),
            _text(9, y + 28, stage.content, "soft"),
            _text(WIDTH - 9, y + 28, cost, "soft", "end"),
            _bar(y + TALL - 6, stage.parameters / parameters, "parameters"),
            _bar(y + TALL - 3, stage.macs / macs, "macs"),
            Markup("</g>"),
        )
    )


def _passing(stage: Stage, y: float) -> Markup:
    """Draw a line of text for a pool or a normalization."""
    text = f"{stage.name}, {stage.window}" if stage.window else stage.name
    return Markup('<g class="stage">%s%s</g>') % (
        _text(9, y + 13.5, text, "soft"),
        _text(WIDTH - 9, y + 13.5, stage.map, "soft", "end"),
    )


def _graph(nodes: dict[str, Node]) -> tuple[Markup, float]:
    """Draw the boxes of a block and the curves between them. Return the drawing and its height."""
    sizes = {key: _size(node) for key, node in nodes.items()}
    layout = place(sizes, [(source, key) for key, node in nodes.items() for source in node.sources], WIDTH)
    parts = [_curve(route) for route in layout.routes]
    for key, node in nodes.items():
        (x, y), (width, height) = layout.centers[key], sizes[key]
        if not node.outside:
            parts.append(_box(x - width / 2, y - height / 2, width, height))
        parts.append(
            _text(x, y + (-1.5 if node.detail else 4), node.title, "soft" if node.outside else "node", "middle")
        )
        if node.detail:
            parts.append(_text(x, y + 10, node.detail, "detail", "middle"))
    return Markup("").join(parts), layout.height


def _size(node: Node) -> tuple[float, float]:
    longest = max(len(node.title), 0.9 * len(node.detail))
    return max(longest * LETTER + PADDING, 24.0), 28.0 if node.detail else 19.0


def _curve(route: Sequence[tuple[float, float]]) -> Markup:
    """Draw an edge through its corners: curves between layers, straight lines within a layer."""
    (x, y), *others = route
    path = f"M{x:.1f} {y:.1f}"
    for number, (next_x, next_y) in enumerate(others):
        if number % 2 == 0:
            middle = (y + next_y) / 2
            path += f"C{x:.1f} {middle:.1f} {next_x:.1f} {middle:.1f} {next_x:.1f} {next_y:.1f}"
        else:
            path += f"V{next_y:.1f}"
        x, y = next_x, next_y
    return Markup('<path d="%s"/>') % path


def _line(x: float, top: float, bottom: float) -> Markup:
    return Markup('<path d="M%.1f %.1fV%.1f"/>') % (x, top, bottom)


def _box(x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"/>') % (x, y, width, height)


def _bar(y: float, share: float, kind: str) -> Markup:
    return Markup('<rect class="%s" x="1" y="%.1f" width="%.1f" height="2.5"/>') % (kind, y, share * (WIDTH - 2))


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> Markup:
    return Markup('<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>') % (kind, x, y, anchor, text)
