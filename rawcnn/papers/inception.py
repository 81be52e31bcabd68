"""Inception V2, V3, V4 and Inception-ResNet V2: the few costs that their three papers print, and the sizes of maps."""

from __future__ import annotations

from rawcnn.papers.comparison import Comparison, Line, explained, profiled, shape_of
from rawcnn.profiling.costs import Profile

# Inception V3, table 1: layer → side of its map, layer → channels, and side → number of modules
V3_SIDES = {"conv1": 149, "conv3": 147, "pool1": 73, "conv5": 71, "pool2": 35}
V3_SIDES |= {"mixed_5d": 35, "mixed_6e": 17, "mixed_7c": 8}
V3_CHANNELS = {"conv1": 32, "conv3": 64, "conv5": 80, "pool2": 192}
V3_CHANNELS |= {"mixed_5d": 288, "mixed_6e": 768, "mixed_7a": 1280, "mixed_7c": 2048}
V3_MODULES = {35: 3, 17: 5, 8: 2}
# Inception V4, figure 9: layer → (side, channels) of its map
V4_MAPS = {
    "stem3": (35, 384),
    "inception_a4": (35, 384),
    "reduction_a": (17, 1024),
    "inception_b7": (17, 1024),
    "reduction_b": (8, 1536),
    "inception_c3": (8, 1536),
}
RESIDUAL_BLOCKS = {"block35": 5, "block17": 10, "block8": 5}  # figure 15, drawn for both Inception-ResNets


def comparison() -> Comparison:
    """Compare Ioffe & Szegedy 2015 and Szegedy et al. 2016, 2017: costs, and the maps of table 1 and figure 9."""
    v2, v3, v4, residual = map(profiled, ("inception_v2", "inception_v3", "inception_v4", "inception_resnet_v2"))
    parameters = v3.totals["parameters"]
    lines = [
        explained(Line("Inception V2", "parameters", "13.6M", v2.totals["parameters"]), _V2),
        Line("Inception V2", "MACs", "2.0G", v2.totals["macs"]),
        explained(
            Line("Inception V3", "parameters", "25M", parameters),
            f"the paper prints a bound, “less than 25 million”; {parameters / 1e6:.1f} million is less",
        ),
        explained(Line("Inception V3", "MACs", "4.8G", v3.totals["macs"]), _V3),
    ]
    lines += _table_1(v3)
    for name, (side, channels) in V4_MAPS.items():
        _, height, _, depth = shape_of(v4, name)
        lines.append(Line(f"V4, {name}", "side of the map", f"{side}", height))
        lines.append(Line(f"V4, {name}", "channels", f"{channels:,}", depth))
    for kind, count in RESIDUAL_BLOCKS.items():
        drawn = sum(row["kind"] == "residual_sum" and row["name"].startswith(f"{kind}_") for row in residual.rows)
        lines.append(explained(Line(f"Inception-ResNet V2, {kind}", "blocks", f"{count}", drawn), _BLOCKS))
    trained = profiled("inception_v3", train=True, auxiliary=True)
    notes = [
        "Here, as in later papers, Inception V2 is the network of the batch normalization paper. The Inception V3 paper "
        "uses this name for an intermediate step toward V3.",
        f"V3's auxiliary head would add {trained.totals['parameters'] - parameters:,} parameters in training.",
        f"The paper of V4 prints no costs. V4 has {v4.totals['parameters']:,} parameters and takes "
        f"{v4.totals['macs'] / 1e9:.2f} G MACs, Inception-ResNet V2 {residual.totals['parameters']:,} and "
        f"{residual.totals['macs'] / 1e9:.2f} G. `rawcnn paper nasnet` compares them with another paper's numbers.",
    ]
    return Comparison("inception", "Inception V2 to V4 and Inception-ResNet V2", _INCEPTION, lines, notes)


def _table_1(v3: Profile) -> list[Line]:
    """Return Inception V3's rows. Every module that does not halve the map has exactly one pool projection."""
    lines = [Line(f"V3, {n}", "side of the map", f"{side}", shape_of(v3, n)[1]) for n, side in V3_SIDES.items()]
    for name, channels in V3_CHANNELS.items():
        lines.append(explained(Line(f"V3, {name}", "channels", f"{channels:,}", shape_of(v3, name)[-1]), _STEM))
    (first,) = [o.input_shapes[0][-1] for o in v3.operations if o.name == "mixed_5b/1x1"]
    lines.append(explained(Line("V3, mixed_5b", "channels that it reads", "288", first), _FIRST))
    sides = [row["output_shape"][1] for row in v3.rows if row["name"].endswith("/pool_projection")]
    for side, count in V3_MODULES.items():
        lines.append(explained(Line(f"V3, {side}×{side}", "modules", f"{count}", sides.count(side)), _MODULES))
    return lines


_INCEPTION = (
    "Ioffe & Szegedy, ICML 2015, section 4.2; Szegedy et al., CVPR 2016, abstract, tables 1 and 3; "
    "Szegedy et al., AAAI 2017, figures 9 and 15"
)
_V2 = (
    "figure 5's widths give 11.2 million, which NASNet's table 2 also prints; nothing in the paper explains the further "
    "2.4 million"
)
_V3 = (
    "counted with the widths of the authors' published code, which NASNet's table 2 prints as 5.72; table 1 leaves the "
    "widths inside the modules open, so the difference is unexplained"
)
_STEM = (
    "in table 1, a 3×3 gives 80 channels of side 71, and a 3×3 of stride 2 gives 192; in the authors' published code, a "
    "1×1 gives the 80 at side 73, a 3×3 the 192, and a max pool halves the map"
)
_FIRST = (
    "in table 1, a 3×3 widens 192 channels to 288 before the modules; the published code has no such layer: its first "
    "module reads the 192 and gives 256, the other two give 288"
)
_MODULES = (
    "the published code has four, mixed_6b to 6e; mixed_6a, which halves the map, would be the fifth, but then the 8×8 "
    "maps would have three modules: unexplained"
)
_BLOCKS = "figure 15 is drawn for Inception-ResNet V1 and V2; the published V2 has twice as many of each"
