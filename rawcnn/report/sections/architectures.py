"""The sections on architectures: the lecture's four, with an idea, a diagram and a number each, and their claims."""

from __future__ import annotations

from collections.abc import Sequence

from rawcnn.models import MODELS
from rawcnn.papers import Comparison
from rawcnn.papers.comparison import Line
from rawcnn.plots import themed as plots
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.diagram import diagram
from rawcnn.report.kernel_claims import Module, Stack
from rawcnn.report.page import Card, Cards, Facts, Figure, Section, Table, Text, si
from rawcnn.report.stages import block_of


def landscape(profiles: Sequence[tuple[str, Profile]], album: Album) -> Section:
    """Return the section that plots all networks of the four families."""
    by_name = {p.model: p.totals for _, p in profiles}
    alexnet, googlenet = by_name["alexnet"], by_name["googlenet"]
    points = [(p.model, family, p.totals["macs"] / 1e9, p.totals["parameters"] / 1e6) for family, p in profiles]
    return Section(
        "Four families, from 2012 to 2016",
        (
            Text(
                "A network has two costs that are almost independent: the multiply-accumulates (MACs) for one image, "
                "and the parameters that must be learned and stored. In AlexNet and VGG, most parameters are in dense "
                "layers, which take almost no arithmetic. GoogLeNet and ResNet average the last map instead. GoogLeNet "
                f"takes {googlenet['macs'] / alexnet['macs']:.1f} times AlexNet's arithmetic, with "
                f"{alexnet['parameters'] / googlenet['parameters']:.1f} times fewer parameters."
            ),
            album.plot(
                "landscape",
                plots.landscape(points),
                (5.3, 4.0),
                alt="Scatter plot of parameters against MACs: VGG at the top right, GoogLeNet at the bottom left, the "
                "ResNets on a line between them, AlexNet at the top left.",
                caption="Trained parameters against MACs for one image of 224×224 pixels (AlexNet: 227×227). A ResNet "
                "of 152 layers takes less arithmetic than a VGG of 16.",
            ),
        ),
    )


def alexnet(paper: Comparison, profile: Profile) -> Section:
    """Return the section on AlexNet, with its parameters."""
    return Section(
        "AlexNet",
        (
            Text(
                "Eight layers on two GPUs. Each GPU holds half of the channels, and three of the five convolutions "
                "read only the half on their own GPU. ReLU, dropout, overlapping pooling, local response normalization "
                "and weight decay are all here."
            ),
            parameters(line_of(paper, "whole network", "parameters")),
            Cards((card(profile),)),
        ),
    )


def vgg(paper: Comparison, profile: Profile) -> Section:
    """Return the section on VGG, with the parameters of column D."""
    return Section(
        "VGG",
        (
            Text(
                "Only 3×3 convolutions and 2×2 pools, in columns of 11 to 19 layers. The lecture's VGG16 is column D, "
                "its VGG19 column E."
            ),
            parameters(line_of(paper, "D (VGG16)", "parameters")),
            Cards((card(profile),)),
        ),
    )


def googlenet(paper: Comparison, profile: Profile) -> Section:
    """Return the section on GoogLeNet, with its parameters."""
    return Section(
        "GoogLeNet",
        (
            Text("Nine inception modules, 22 layers, and no dense layer except the classifier."),
            parameters(line_of(paper, "whole network", "parameters")),
            Cards((card(profile),)),
        ),
    )


def resnet(deepest: Profile, vgg19: Profile) -> Section:
    """Return the section on ResNet, with the layers of the deepest one and its arithmetic against VGG19's."""
    less = deepest.totals["macs"] < vgg19.totals["macs"]
    return Section(
        "ResNet",
        (
            Text(
                "Blocks add their input to their output, so a block that is not needed can learn the identity. This "
                "made 152 layers trainable."
            ),
            Facts(
                (
                    (str(count_layers(deepest)), "layers with weights on the longest path, counted"),
                    (f"{si(deepest.totals['macs'])}", "MACs for one image"),
                    (f"{si(vgg19.totals['macs'])}", f"MACs of VGG19, {'more' if less else 'less'} with 19 layers"),
                )
            ),
            Cards((card(deepest),)),
        ),
    )


def parameters(line: Line) -> Facts:
    """Return the parameters that are counted and printed, and how they compare."""
    return Facts(
        ((f"{line.counted:,.0f}", "parameters, counted"), (line.printed, f"printed in the paper: {line.verdict}"))
    )


def line_of(paper: Comparison, row: str, quantity: str) -> Line:
    """Return the line of a paper's table with this row and quantity."""
    return next(line for line in paper.lines if (line.row, line.quantity) == (row, quantity))


def count_layers(profile: Profile) -> int:
    """Count the convolutions and dense layers, without those in shortcuts."""
    return sum(row["kind"] in ("conv", "dense") and "shortcut" not in row["name"] for row in profile.rows)


def card(profile: Profile) -> Card:
    """Return a network's diagram with its totals."""
    totals = profile.totals
    facts = (("image", f"{profile.size}×{profile.size}"), ("MACs", f"{totals['macs']:,}"))
    return Card(profile.model, MODELS[profile.model].paper, facts, diagram(profile.model, profile.operations))


def cost_bars(profile: Profile, album: Album) -> Figure:
    """Return the bars of a network's MACs and parameters by block."""
    blocks = by_block(profile)
    macs = max(blocks.items(), key=lambda item: item[1][0])[0]
    parameters = max(blocks.items(), key=lambda item: item[1][1])[0]
    draw = plots.layer_bars(
        list(blocks),
        [cost[0] for cost in blocks.values()],
        [cost[1] for cost in blocks.values()],
        (f"{si(profile.totals['macs'])} MACs", f"{si(profile.totals['parameters'])} parameters"),
    )
    return album.plot(
        f"cost-{profile.model}",
        draw,
        (5.3, 0.75 + 0.19 * len(blocks)),
        alt=f"Two bar charts for {profile.model}: most MACs are in {macs}, most parameters in {parameters}.",
        caption=f"Arithmetic and parameters of `{profile.model}` by block, the first layer at the top; one image of "
        f"{profile.size}×{profile.size}.",
    )


def by_block(profile: Profile) -> dict[str, tuple[int, int]]:
    """Return {block: (MACs, parameters)}. The first part of a layer's name, such as `conv2_1`, is its block."""
    blocks: dict[str, tuple[int, int]] = {}
    for row in profile.rows:
        name = block_of(row["name"])
        macs, parameters = blocks.get(name, (0, 0))
        blocks[name] = (macs + row["macs"], parameters + row["parameters"])
    return {name: cost for name, cost in blocks.items() if any(cost)}


def small_kernels(stacks: Sequence[Stack], album: Album) -> Section:
    """Return the section on VGG's argument: several small kernels have the receptive field of one large kernel."""
    rows = tuple(
        (
            " + ".join(f"{size}×{size}" for size in s.sizes),
            f"{s.receptive_field}×{s.receptive_field}",
            f"{s.weights_of_squares}·C²",
            s.weights,
            len(s.sizes),
        )
        for s in stacks
    )
    channels = stacks[0].channels
    return Section(
        "Three 3×3 kernels instead of one 7×7",
        (
            Text(
                "This is VGG's main idea. Three 3×3 layers see as many pixels as one 7×7 layer. They have three "
                "nonlinearities instead of one, and 27·C² weights instead of 49·C², for C channels in and out. The "
                "table shows counts, not the formula: rawcnn traces the stacks and counts weights and receptive fields."
            ),
            album.plot(
                "receptive-fields",
                plots.receptive_fields(),
                (5.3, 2.05),
                alt="Four grids of 9×9 cells: one cell after layer 3, 3×3 cells after layer 2, 5×5 after layer 1, "
                "7×7 in the image.",
                caption="One position after three 3×3 layers, and the parts of the earlier maps that it depends on.",
            ),
            Table(
                ("kernels", "sees", "weights", f"weights, C = {channels}", "nonlinearities"),
                rows,
                "Stacks of convolutions with C channels in and out.",
            ),
        ),
    )


def inception(naive: Profile, reduced: Profile, modules: Sequence[Module], batch: int, album: Album) -> Section:
    """Return the section on GoogLeNet's 1×1 reductions: MACs of all modules in both forms, times of module 3a."""
    costs = [{n: c for n, c in by_block(p).items() if n.startswith("inception")} for p in (naive, reduced)]
    names = [name.removeprefix("inception_") for name in costs[1]]
    slow, fast = modules
    rows = tuple(
        (m.form, m.channels, m.parameters, f"{m.macs / 1e6:,.1f} M", f"{1e3 * m.median:.1f} ms", spread(m.seconds))
        for m in modules
    )
    return Section(
        "The naive and the reduced inception module",
        (
            Text(
                "An inception module applies kernels of several sizes to one map and concatenates the results. In the "
                "naive form, the max-pool keeps all channels, so the depth can only grow, and each module costs more "
                "than the one before. In the reduced form, 1×1 convolutions before the large kernels reduce the depth."
            ),
            album.plot(
                "inception",
                plots.grouped_bars(
                    names,
                    (
                        ("naive", [cost[0] / 1e9 for cost in costs[0].values()]),
                        ("reduced", [cost[0] / 1e9 for cost in costs[1].values()]),
                    ),
                    "billion MACs",
                ),
                (5.3, 2.7),
                alt="Bar chart of the MACs of GoogLeNet's nine modules: the naive form takes several times the MACs of "
                "the reduced form, above all in the last modules.",
                caption=f"MACs of each module. The network takes {si(naive.totals['macs'])} with naive modules and "
                f"{si(reduced.totals['macs'])} with reduced ones, and has {si(naive.totals['parameters'])} and "
                f"{si(reduced.totals['parameters'])} parameters.",
            ),
            Table(
                ("module 3a", "channels out", "parameters", "MACs", "median time", "quartiles"),
                rows,
                f"Module 3a on {batch} maps of 28×28×192, measured on this machine in turns. The naive form takes "
                f"{slow.macs / fast.macs:.2f}× the MACs and {slow.median / fast.median:.2f}× the time.",
            ),
        ),
    )


def spread(seconds: Sequence[float]) -> str:
    """Format the quartiles of measured times in milliseconds."""
    ordered = sorted(seconds)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{1e3 * low:.1f}–{1e3 * high:.1f} ms"
