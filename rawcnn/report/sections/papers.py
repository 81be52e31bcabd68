"""The sections on the papers: the ideas that followed the lecture's four, and the printed tables next to the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rawcnn.papers import Comparison
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.page import Block, Cell, Notes, Section, Table
from rawcnn.report.sections.architectures import cost_bars


@dataclass(frozen=True)
class Paper:
    """A paper with a printed table."""

    title: str
    comparison: str  # name in `rawcnn.papers.PAPERS`
    model: str  # its costs are drawn


@dataclass(frozen=True)
class Successor:
    """An idea that followed the lecture's four papers."""

    title: str
    idea: str


PAPERS = (
    Paper("AlexNet", "alexnet", "alexnet"),
    Paper("VGG", "vgg", "vgg16"),
    Paper("GoogLeNet", "googlenet", "googlenet"),
    Paper("ResNet", "resnet", "resnet50"),
    Paper("Inception V2, V3, V4", "inception", "inception_v3"),
    Paper("ResNeXt", "resnext", "resnext50"),
    Paper("SENet", "senet", "se_resnet50"),
    Paper("NASNet", "nasnet", "nasnet_mobile"),
)
SUCCESSORS = (
    Successor(
        "Inception V2, V3, V4",
        "GoogLeNet's module with batch normalization and without large kernels: two 3×3 replace a 5×5, and 1×7 and 7×1 "
        "replace a 7×7. A pool and convolutions halve the map in parallel. Inception-ResNet adds its modules to their "
        "input.",
    ),
    Successor(
        "ResNeXt",
        "The 3×3 of a bottleneck works in 32 groups, which equals a sum of 32 narrow blocks. At the cost of a ResNet, "
        "this 3×3 can have twice as many channels.",
    ),
    Successor(
        "SENet",
        "Squeeze: average each channel over the image. Excite: two small dense layers turn these averages into a "
        "weight for each channel. So every position depends on the whole image.",
    ),
    Successor(
        "NASNet",
        "A search on small images found two cells: one keeps the map's size, one halves it. Stacks of these cells make "
        "networks of any size.",
    ),
)


def others() -> Section:
    """Return the section on the ideas that followed."""
    rows = tuple((one.title, one.idea) for one in SUCCESSORS)
    return Section("Others", (Table(("network", "idea"), rows, "Networks that developed the four further."),))


def tables(comparisons: Mapping[str, Comparison], profiles: Mapping[str, Profile], album: Album) -> Iterator[Section]:
    """Yield a section on each paper's table: printed and counted numbers, notes, and the costs of one network."""
    for paper in PAPERS:
        table = comparisons[paper.comparison]
        blocks: tuple[Block, ...] = (
            comparison_table(table),
            Notes(tuple(table.notes)),
            cost_bars(profiles[paper.model], album),
        )
        yield Section(f"{paper.title}: the printed numbers", blocks)


def comparison_table(comparison: Comparison) -> Table:
    """Return the table of printed and counted numbers. Each explanation follows the last line that it explains."""
    rows: list[tuple[Cell, ...]] = []
    remarks: dict[int, str] = {}
    for number, line in enumerate(comparison.lines):
        rows.append((line.row, line.quantity, line.printed, f"{line.counted:,.0f}", line.verdict))
        following = comparison.lines[number + 1].explanation if number + 1 < len(comparison.lines) else ""
        if line.explanation and line.explanation != following:
            remarks[number] = line.explanation[0].upper() + line.explanation[1:] + "."
    caption = f"{comparison.source}. Of {len(rows)} printed numbers: {comparison.summary}."
    return Table(("part", "quantity", "printed", "counted", "comparison"), tuple(rows), caption, remarks)
