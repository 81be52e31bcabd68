"""Inception V2, V3, V4 and Inception-ResNet V2: three papers, whose tables and figures print little of the cost."""

from __future__ import annotations

from rawcnn.papers.table import Comparison, Line, explained, profiled, shape_of

# Inception V3, table 1: the layer that gives each map, its side and, where the stages end, its channels.
V3_SIDES = {"conv1": 149, "conv3": 147, "pool1": 73, "conv5": 71, "mixed_5d": 35, "mixed_6e": 17, "mixed_7c": 8}
V3_CHANNELS = {"mixed_5d": 288, "mixed_6e": 768, "mixed_7a": 1280, "mixed_7c": 2048}
# Inception V4, figure 9: the layer, the side and the channels of its map.
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
    """Ioffe & Szegedy 2015, Szegedy et al. 2016 and 2017: the printed costs, and the maps of table 1 and figure 9."""
    v2, v3, v4, residual = map(profiled, ("inception_v2", "inception_v3", "inception_v4", "inception_resnet_v2"))
    parameters = v3.totals["parameters"]
    lines = [
        explained(Line("Inception V2", "parameters", "13.6M", v2.totals["parameters"]), _V2),
        Line("Inception V2", "MACs", "2.0G", v2.totals["macs"]),
        explained(
            Line("Inception V3", "parameters", "25M", parameters),
            f"a bound and no count: “less than 25 million”, and {parameters / 1e6:.1f} million are",
        ),
        explained(Line("Inception V3", "MACs", "4.8G", v3.totals["macs"]), _V3),
    ]
    lines += [Line(f"V3, {n}", "side of the map", f"{side}", shape_of(v3, n)[1]) for n, side in V3_SIDES.items()]
    lines += [Line(f"V3, {n}", "channels", f"{c:,}", shape_of(v3, n)[-1]) for n, c in V3_CHANNELS.items()]
    for name, (side, channels) in V4_MAPS.items():
        _, height, _, depth = shape_of(v4, name)
        lines.append(Line(f"V4, {name}", "side of the map", f"{side}", height))
        lines.append(Line(f"V4, {name}", "channels", f"{channels:,}", depth))
    for kind, count in RESIDUAL_BLOCKS.items():
        drawn = sum(row["kind"] == "residual_sum" and row["name"].startswith(f"{kind}_") for row in residual.rows)
        lines.append(explained(Line(f"Inception-ResNet V2, {kind}", "blocks", f"{count}", drawn), _BLOCKS))
    trained = profiled("inception_v3", train=True, auxiliary=True)
    notes = [
        "Inception V2 is here the network of the batch normalisation paper, as the papers after it count: the Inception "
        "V3 paper gives the name to a step on the way to V3.",
        f"V3's auxiliary head would add {trained.totals['parameters'] - parameters:,} parameters in training.",
        f"The paper of V4 prints no costs. V4 has {v4.totals['parameters']:,} parameters and takes "
        f"{v4.totals['macs'] / 1e9:.2f} G MACs, Inception-ResNet V2 {residual.totals['parameters']:,} and "
        f"{residual.totals['macs'] / 1e9:.2f} G: `rawcnn paper nasnet` has what others print for it.",
    ]
    return Comparison("inception", "Inception V2 to V4 and Inception-ResNet V2", _INCEPTION, lines, notes)


_INCEPTION = (
    "Ioffe & Szegedy, ICML 2015, section 4.2; Szegedy et al., CVPR 2016, abstract, tables 1 and 3; "
    "Szegedy et al., AAAI 2017, figures 9 and 15"
)
_V2 = (
    "figure 5's widths make 11.2 million, which is also what NASNet's table 2 prints; nothing in the paper explains 2.4 "
    "million more"
)
_V3 = (
    "counted with the widths of the authors' published code, which NASNet's table 2 prints as 5.72; table 1 leaves the "
    "widths inside the modules open, so the difference is unexplained"
)
_BLOCKS = "figure 15 is drawn for Inception-ResNet V1 and V2; the published V2 has twice as many of each"
