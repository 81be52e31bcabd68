"""SENet: the cost that squeeze and excitation adds to five residual networks."""

from __future__ import annotations

from math import prod

from rawcnn.papers.comparison import Comparison, Line, explained, profiled, shape_of, sum_of, weights_of
from rawcnn.profiling.costs import Profile

# Table 2: network → GFLOPs as printed, of the re-implementation without and with squeeze and excitation
SENET_TABLE = {
    "ResNet-50": ("3.86G", "3.87G"),
    "ResNet-101": ("7.58G", "7.60G"),
    "ResNet-152": ("11.30G", "11.32G"),
    "ResNeXt-50": ("4.24G", "4.25G"),
    "ResNeXt-101": ("7.99G", "8.00G"),
}
STAGES = ((3, 256), (4, 512), (6, 1024), (3, 2048))  # table 1, ResNet-50: blocks N_s and their output channels C_s
REDUCTION = 16


def added_weights() -> int:
    """Return the weights of squeeze and excitation in SE-ResNet-50: (2/r)·Σ N_s·C_s² (equation 5)."""
    return 2 * sum(blocks * channels**2 for blocks, channels in STAGES) // REDUCTION


def comparison() -> Comparison:
    """Compare Hu et al. 2018: table 2's GFLOPs, table 1's widths of the excitation, and section 4's parameters."""
    lines = []
    for title, printed in SENET_TABLE.items():
        name = title.lower().replace("-", "")
        for row, model, number in zip((title, f"SE-{title}"), (name, f"se_{name}"), printed, strict=True):
            line = Line(row, "MACs", number, profiled(model).totals["macs"])
            lines.append(explained(line, _with_sums(profiled(model), line)))
    plain, excited = profiled("resnet50"), profiled("se_resnet50")
    extra = excited.totals["parameters"] - plain.totals["parameters"]
    lines.append(Line("SE-ResNet-50", "parameters more than ResNet-50", "2.5M", extra))
    fc = sum(weights_of(excited, f"conv{stage}_{index}/se/") for stage, index in _blocks())
    for stage, (_, channels) in enumerate(STAGES, start=2):
        row = f"conv{stage}_x"
        squeezed, restored = (shape_of(excited, f"conv{stage}_1/se/{fc}")[-1] for fc in ("fc1", "fc2"))
        lines.append(Line(row, "units of the first fc", f"{channels // REDUCTION}", squeezed))
        lines.append(Line(row, "units of the second fc", f"{channels:,}", restored))
    last = sum(weights_of(excited, f"conv5_{index}/se/") for index in (1, 2, 3))
    total = plain.totals["parameters"]
    notes = [
        f"Squeeze and excitation adds {extra / total:.1%} to ResNet-50's parameters (the paper: about 10 %) and "
        f"{excited.totals['macs'] / plain.totals['macs'] - 1:.2%} to its MACs: its layers read one value for each channel.",
        f"{last / fc:.0%} of that is in the three blocks of conv5_x; without them it would be "
        f"{(fc - last) / total:.1%} (the paper: about 4 %).",
        f"Equation 5, (2/r)·ΣN·C² over the stages, gives {added_weights():,} weights; the count is {fc:,} weights and "
        f"{extra - fc:,} biases.",
        "The printed GFLOPs are multiply-adds, as in the ResNet paper. All but one are slightly larger than the count for "
        "convolutions and dense layers. One operation for each element of the sums and scalings explains most of that.",
    ]
    return Comparison("senet", "SENet: channels weighted by what the whole image shows", _SENET, lines, notes)


def _blocks() -> list[tuple[int, int]]:
    """Return (stage, index) of every block of SE-ResNet-50."""
    return [(stage, index) for stage, (count, _) in enumerate(STAGES, start=2) for index in range(1, count + 1)]


def _with_sums(model: Profile, line: Line) -> str:
    """Explain a line by counting one operation for each element of the residual sums and channel scalings."""
    elementwise = sum(
        prod(row["output_shape"]) for row in model.rows if row["kind"] in ("residual_sum", "scale_channels")
    )
    raised = Line(line.row, line.quantity, line.printed, line.counted + elementwise)
    rest = "the printed number" if raised.agrees else f"the remaining {abs(raised.difference):.2%} is unexplained"
    scaled = " and scalings" if sum_of(model, "macs", "conv2_1/se") else ""
    return (
        f"{line.counted / 1e9:.3f}G; with one operation for each element of the sums{scaled} "
        f"{raised.counted / 1e9:.3f}G: {rest}"
    )


_SENET = "Hu et al., CVPR 2018 and TPAMI 2019, tables 1 and 2, section 4"
