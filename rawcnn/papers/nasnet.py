"""NASNet: its two networks, and the other papers' networks that its table 2 compares them with."""

from __future__ import annotations

from rawcnn.papers.comparison import Comparison, Line, explained, profiled, shape_of, sum_of
from rawcnn.papers.googlenet import separable_stem
from rawcnn.profiling.costs import Profile


def comparison() -> Comparison:
    """Compare Zoph et al. 2018, tables 2 and 3: parameters and multiply-adds at the tables' image sizes."""
    mobile, large = profiled("nasnet_mobile"), profiled("nasnet_large")
    v2, wide = profiled("inception_v2"), profiled("resnext101", size=320, cardinality=64)
    senet = profiled("senet154", size=320)
    printed: list[tuple[str, Profile, str, str]] = [
        ("NASNet-A (4 @ 1056)", mobile, "5.3M", "564M"),
        ("NASNet-A (6 @ 4032)", large, "88.9M", "23.8B"),
        ("Inception V2", v2, "11.2M", "1.94B"),
        ("Inception V3", profiled("inception_v3"), "23.8M", "5.72B"),
        ("Inception-ResNet V2", profiled("inception_resnet_v2"), "55.8M", "13.2B"),
        ("ResNeXt-101 (64×4d)", wide, "83.6M", "31.5B"),
        ("SENet", senet, "145.8M", "42.3B"),
    ]
    v3 = profiled("inception_v3", train=True, auxiliary=True)
    reasons = {("Inception V2", "MACs"): _stem(v2), ("Inception V3", "MACs"): _auxiliary(v3)}
    lines = []
    for row, model, parameters, macs in printed:
        stored = model.totals["parameters"] + model.totals["non_trainable"]
        trained = Line(row, "parameters", parameters, model.totals["parameters"])
        with_averages = Line(row, "parameters", parameters, stored)
        why = f"with batch normalization's averages, which are not trained, {stored:,}: {with_averages.verdict}"
        lines.append(explained(trained, why if with_averages.agrees else ""))
        lines.append(explained(Line(row, "MACs", macs, model.totals["macs"]), reasons.get((row, "MACs"), "")))
    for name, model, filters in (("4 @ 1056", mobile, "1,056"), ("6 @ 4032", large, "4,032")):
        lines.append(Line(f"NASNet-A ({name})", "channels of the last map", filters, shape_of(model, "pool")[-1]))
    depthwise = sum(
        row["macs"] for row, operation in zip(large.rows, large.operations, strict=True) if _is_depthwise(operation)
    )
    notes = [
        "Sizes of the images: 224 pixels for NASNet-A (4 @ 1056) and Inception V2, 299 for Inception V3 and "
        "Inception-ResNet V2, 320 for ResNeXt-101 and SENet, 331 for NASNet-A (6 @ 4032).",
        f"Depthwise convolutions take {depthwise / large.totals['macs']:.0%} of the large network's MACs; the 1×1 "
        "convolutions after them take most of the rest.",
        "The paper says that SENet's size was computed from an open-source implementation. Its 145.8M are "
        f"{1.458e8 - senet.totals['parameters']:,.0f} more than SENet-154 has, while the multiply-adds nearly agree.",
    ]
    return Comparison("nasnet", "NASNet-A: cells found by search", _NASNET, lines, notes)


def _stem(v2: Profile) -> str:
    """Explain Inception V2's MACs: the authors' published network has GoogLeNet's separable stem."""
    macs = v2.totals["macs"] - sum_of(v2, "macs", "conv1") + separable_stem()[1]
    return (
        f"counted with an ordinary 7×7 stem; with a separable stem of depth multiplier 8, as in the published code, "
        f"{macs / 1e9:.3f}B; the rest is unexplained"
    )


def _auxiliary(v3: Profile) -> str:
    """Explain Inception V3's MACs with its auxiliary head."""
    return f"with the auxiliary head, which only training uses, {v3.totals['macs'] / 1e9:.3f}B"


def _is_depthwise(operation) -> bool:
    groups = operation.settings.get("groups", 1)
    return groups > 1 and groups == operation.input_shapes[0][-1]


_NASNET = "Zoph et al., CVPR 2018, tables 2 and 3"
