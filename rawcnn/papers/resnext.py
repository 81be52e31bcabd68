"""ResNeXt: parameters and FLOPs compared with ResNet's, the widths of table 1 and the templates of table 2."""

from __future__ import annotations

from rawcnn.models.resnext import block
from rawcnn.nn.trace import symbolic_trace
from rawcnn.papers.comparison import Comparison, Line, explained, profiled, shape_of

TEMPLATES = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}  # table 2: cardinality → width of a group, at nearly equal cost


def template(cardinality: int, width: int) -> tuple[int, int]:
    """Return (weights, MACs) of a block of conv2_x, 56×56×256 in and out, with `cardinality` groups `width` wide."""
    inner = cardinality * width
    operations = symbolic_trace(
        lambda net, x: block(net, "block", x, inner, 256, cardinality, 1), (1, 56, 56, 256)
    ).operations
    weights = sum(p.count for operation in operations for p in operation.parameters if p.path.endswith("/filters"))
    return weights, sum(operation.cost.macs for operation in operations)


def comparison() -> Comparison:
    """Compare Xie et al. 2017: tables 1 and 2, figure 5's caption, and the authors' published results for 64×4d."""
    resnet50, resnet101 = profiled("resnet50", version="v1.5"), profiled("resnet101", version="v1.5")
    resnext50, resnext101 = profiled("resnext50"), profiled("resnext101")
    wide = profiled("resnext101", cardinality=64)
    lines = []
    for row, model, parameters, macs in (
        ("ResNet-50", resnet50, "25.5M", "4.1G"),
        ("ResNeXt-50 (32×4d)", resnext50, "25.0M", "4.2G"),
        ("ResNet-101", resnet101, "44M", "7.8G"),
        ("ResNeXt-101 (32×4d)", resnext101, "44M", "7.8G"),
    ):
        lines.append(explained(Line(row, "parameters", parameters, model.totals["parameters"])))
        cost = Line(row, "MACs", macs, model.totals["macs"])
        lines.append(explained(cost, _SAME if model is resnext101 else ""))
    doubled = Line("ResNeXt-101 (64×4d)", "MACs", "15.6G", wide.totals["macs"])
    lines.append(explained(doubled, f"{wide.totals['macs'] / 1e9:.2f}G; printed as about 15.6, which is twice 7.8"))
    for stage, inner, outer, side in ((2, 128, 256, 56), (3, 256, 512, 28), (4, 512, 1024, 14), (5, 1024, 2048, 7)):
        row, first = f"conv{stage}_x", f"conv{stage}_1"
        _, rows, _, channels = shape_of(resnext50, first)
        lines.append(Line(row, "side of the map", f"{side}", rows))
        lines.append(Line(row, "channels inside", f"{inner:,}", shape_of(resnext50, f"{first}/conv2")[-1]))
        lines.append(Line(row, "channels out", f"{outer:,}", channels))
    for cardinality, width in TEMPLATES.items():
        row, (weights, multiplied) = f"conv2 block, {cardinality}×{width}d", template(cardinality, width)
        lines.append(explained(Line(row, "weights", "70K", weights), _ABOUT))
        lines.append(explained(Line(row, "MACs", "0.22G", multiplied), _ABOUT))
    notes = [
        "This paper's ResNets stride the 3×3 instead of the first 1×1 of a block (`version=v1.5`). They take "
        f"{resnet50.totals['macs'] / 1e9:.2f} G MACs, the ResNet paper's own form "
        f"{profiled('resnet50').totals['macs'] / 1e9:.2f} G.",
        "32 groups divide the 3×3's weights by 32. At equal cost, it can have 128 channels instead of 64. Nothing else "
        "changes.",
        f"64×4d doubles the groups: {wide.totals['parameters']:,} parameters and "
        f"{wide.totals['macs'] / resnext101.totals['macs']:.2f} times the MACs of 32×4d.",
    ]
    return Comparison("resnext", "ResNeXt: as many groups as fit the cost of a ResNet", _RESNEXT, lines, notes)


_RESNEXT = "Xie et al., CVPR 2017, tables 1 and 2, figure 5; 64×4d from the authors' published results"
_SAME = (
    "the caption gives one number for both networks, that of ResNet-101; the groups of 32×4d take 2 % more arithmetic"
)
_ABOUT = "the table says “about 70 thousand” and “about 0.22 billion” for all five; 8 groups of 14 are 2 % more"
