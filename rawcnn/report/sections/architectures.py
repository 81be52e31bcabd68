"""Architectures: the four families beside their papers' tables, and where their arithmetic and parameters are."""

from __future__ import annotations

from collections.abc import Sequence

from rawcnn.papers import Comparison
from rawcnn.plots import themed as plots
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.kernel_claims import Module, Stack
from rawcnn.report.page import Block, Cell, Figure, Notes, Section, Table, Text, si
from rawcnn.report.stages import block_of


def landscape(profiles: Sequence[tuple[str, Profile]], album: Album) -> Section:
    """All networks of the chapter in one plot; each with its family's name."""
    by_name = {p.model: p.totals for _, p in profiles}
    alexnet, googlenet = by_name["alexnet"], by_name["googlenet"]
    points = [(p.model, family, p.totals["macs"] / 1e9, p.totals["parameters"] / 1e6) for family, p in profiles]
    return Section(
        "Four families, from 2012 to 2015",
        (
            Text(
                "A network's cost has two sides that have little to do with each other: the multiply-accumulates "
                "(MACs) that one image takes, and the parameters that must be learned and stored. AlexNet and VGG "
                "keep most of their parameters in dense layers that take almost no arithmetic. GoogLeNet and ResNet "
                f"average the last map instead: GoogLeNet takes {googlenet['macs'] / alexnet['macs']:.1f} times "
                f"AlexNet's arithmetic, with {alexnet['parameters'] / googlenet['parameters']:.1f} times fewer "
                "parameters."
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


def comparison(title: str, lead: str, table: Comparison, profile: Profile, album: Album, *more: Block) -> Section:
    """A paper's table beside our counts, the notes on it, and the bars of `profile`."""
    return Section(
        title, (Text(lead), comparison_table(table), Notes(tuple(table.notes)), cost_bars(profile, album), *more)
    )


def comparison_table(comparison: Comparison) -> Table:
    """Printed and counted, line by line; under a line that differs, why. An explanation is given once."""
    rows: list[tuple[Cell, ...]] = []
    remarks: dict[int, str] = {}
    for number, line in enumerate(comparison.lines):
        rows.append((line.row, line.quantity, line.printed, "=" if line.agrees else "≠", f"{line.counted:,.0f}"))
        following = comparison.lines[number + 1].explanation if number + 1 < len(comparison.lines) else ""
        if line.explanation and line.explanation != following:
            remarks[number] = line.explanation[0].upper() + line.explanation[1:] + "."
    agreeing = sum(line.agrees for line in comparison.lines)
    caption = f"{comparison.source}: {agreeing} of {len(rows)} printed numbers are the rounded count."
    return Table(("part", "quantity", "printed", "", "counted"), tuple(rows), caption, remarks)


def cost_bars(profile: Profile, album: Album) -> Figure:
    """Where a network's MACs and parameters are, by block."""
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
        caption=f"Where the arithmetic and the parameters of `{profile.model}` are, first layer at the top; "
        f"one image of {profile.size}×{profile.size}.",
    )


def by_block(profile: Profile) -> dict[str, tuple[int, int]]:
    """{block: (MACs, parameters)}: layers by the first part of their name, `inception_3a` or `conv2_1`."""
    blocks: dict[str, tuple[int, int]] = {}
    for row in profile.rows:
        name = block_of(row["name"])
        macs, parameters = blocks.get(name, (0, 0))
        blocks[name] = (macs + row["macs"], parameters + row["parameters"])
    return {name: cost for name, cost in blocks.items() if any(cost)}


def small_kernels(stacks: Sequence[Stack], album: Album) -> Section:
    """VGG's argument: one large kernel against several small ones of the same receptive field."""
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
                "VGG's main idea. Three 3×3 layers see as many pixels as one 7×7 layer, with three nonlinearities "
                "instead of one, and 27·C² weights instead of 49·C² for C channels in and out. The table is not the "
                "formula: the stacks were built, and their weights and receptive fields counted."
            ),
            album.plot(
                "receptive-fields",
                plots.receptive_fields(),
                (5.3, 2.05),
                alt="Four grids of 9×9 cells: one cell after layer 3, 3×3 cells after layer 2, 5×5 after layer 1, "
                "7×7 in the image.",
                caption="One position after three 3×3 layers, and what it sees of the maps below.",
            ),
            Table(
                ("kernels", "sees", "weights", f"weights, C = {channels}", "nonlinearities"),
                rows,
                "Stacks of convolutions with C channels in and out.",
            ),
        ),
    )


def inception(naive: Profile, reduced: Profile, modules: Sequence[Module], batch: int, album: Album) -> Section:
    """GoogLeNet's 1×1 reductions: the MACs of every module in both forms, and module 3a timed."""
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
                "An inception module applies kernels of several sizes to one map and concatenates the results. Done "
                "naively, the max-pool passes its whole depth on, so the depth can only grow and each module pays more "
                "than the one before. 1×1 convolutions in front of the large kernels reduce the depth first."
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
                alt="Bar chart of the MACs of GoogLeNet's nine modules: the naive form takes several times those of "
                "the reduced one, most of all in the late modules.",
                caption=f"MACs of each module. The whole network takes {si(naive.totals['macs'])} with naive modules, "
                f"{si(reduced.totals['macs'])} with reduced ones; {si(naive.totals['parameters'])} and "
                f"{si(reduced.totals['parameters'])} parameters.",
            ),
            Table(
                ("module 3a", "channels out", "parameters", "MACs", "median time", "quartiles"),
                rows,
                f"Module 3a on {batch} maps of 28×28×192, measured on this machine in turns: "
                f"{slow.macs / fast.macs:.2f}× the MACs, {slow.median / fast.median:.2f}× the time.",
            ),
        ),
    )


def spread(seconds: Sequence[float]) -> str:
    """The quartiles of measured times, in milliseconds."""
    ordered = sorted(seconds)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{1e3 * low:.1f}–{1e3 * high:.1f} ms"
