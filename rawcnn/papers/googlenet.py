"""GoogLeNet: the parameters and operations of table 1."""

from __future__ import annotations

from rawcnn.models.googlenet import INCEPTION
from rawcnn.papers.comparison import Comparison, Line, explained, profiled, sum_of, weights_of

# Table 1: row → (params, ops) as printed. Its K is 1024, as 112K = 114,688 and 1000K = 1,024,000 show.
GOOGLENET_TABLE = {
    "conv1": ("2.7K", "34M"),
    "conv2": ("112K", "360M"),
    "inception_3a": ("159K", "128M"),
    "inception_3b": ("380K", "304M"),
    "inception_4a": ("364K", "73M"),
    "inception_4b": ("437K", "88M"),
    "inception_4c": ("463K", "100M"),
    "inception_4d": ("580K", "119M"),
    "inception_4e": ("840K", "170M"),
    "inception_5a": ("1072K", "54M"),
    "inception_5b": ("1388K", "71M"),
    "classifier": ("1000K", "1M"),
}


def separable_stem() -> tuple[int, int]:
    """Return (weights, MACs) of a separable 7×7/2 stem: depthwise to 3·8 channels, then 1×1 to 64, on 112×112 maps."""
    weights = 7 * 7 * 3 * 8 + 3 * 8 * 64
    return weights, weights * 112 * 112


def comparison() -> Comparison:
    """Compare Szegedy et al. 2015, table 1: parameters and operations of each module."""
    model = profiled("googlenet")
    stem_weights, stem_macs = separable_stem()
    stem = (
        f"an ordinary 7×7 convolution to 64 channels; the printed numbers fit a separable stem of depth multiplier 8: "
        f"49·24 + 24·64 = {stem_weights:,} weights, {stem_macs / 1e6:.2f}M MACs (our inference; figure 3 shows no such layer)"
    )
    lines, printed_kilo = [], 0.0
    for row, (parameters, operations) in GOOGLENET_TABLE.items():
        weights, macs = weights_of(model, row), sum_of(model, "macs", row)
        weight_line = Line(row, "weights", parameters, weights, units={"K": 1024, "": 1})
        cost = Line(row, "MACs", operations, macs)
        printed_kilo += weight_line.number
        for line, counted in (
            (weight_line, f"the widths of this row give {weights:,} weights, {weights / 1024:.1f}K"),
            (cost, f"{weights:,} weights at {macs // weights:,} positions give {macs / 1e6:.1f}M"),
        ):
            explanation = stem if row == "conv1" else f"{counted}: {line.kind_of_difference}{_GUESS.get(row, '')}"
            lines.append(explained(line, explanation))
    total, macs = model.totals["parameters"], model.totals["macs"]
    as_printed = macs - sum_of(model, "macs", "conv1") + stem_macs
    lines.append(
        Line(
            "whole network",
            "parameters",
            "6.8M",
            total,
            f"the printed rows add up to {printed_kilo:,.1f}K, which is 6.8M if K is 1000 and {printed_kilo * 1024 / 1e6:.2f}M "
            f"if K is 1024. Our count includes {total - weights_of(model, ''):,} biases, which table 1 leaves out",
        )
    )
    lines.append(
        Line(
            "whole network",
            "MACs",
            "1.5G",
            macs,
            f"with the separable stem the same network takes {as_printed / 1e9:.3f}G",
        )
    )
    naive = profiled("googlenet_naive")
    notes = [
        "K is 1024 in this table: conv2's 112K are exactly 114,688 weights, the classifier's 1000K exactly 1,024,000.",
        f"With naive modules the network would take {naive.totals['macs'] / 1e9:.2f} G MACs and "
        f"{naive.totals['parameters'] / 1e6:.1f} M parameters: the 1×1 reductions save "
        f"{naive.totals['macs'] / macs:.1f}× and {naive.totals['parameters'] / total:.1f}×.",
        f"The lecture prints 6.7M parameters. The 22 layers are {len(INCEPTION)} modules of depth 2 and 4 other layers.",
    ]
    return Comparison("googlenet", "GoogLeNet: 22 layers, 6.8 million parameters", _GOOGLENET, lines, notes)


# With 48 instead of 32 channels: 1,042,432 + 16·832 + 25·16·128 weights at 49 positions
_GUESS = {"inception_5a": "; with a 5×5 reduce of 48, as 5b has, it would be 1,081K and 54.2M (our guess)"}
_GOOGLENET = "Szegedy et al., CVPR 2015, table 1"
assert [f"inception_{name}" for name in INCEPTION] == [row for row in GOOGLENET_TABLE if "inception" in row]
