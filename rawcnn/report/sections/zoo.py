"""The sections on the zoo: a family tree of the networks with published ImageNet errors, and a diagram of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from rawcnn.models import MODELS
from rawcnn.papers.imagenet_errors import ERRORS, Published
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.diagram import diagram
from rawcnn.report.page import Card, Cards, Section, Table, Text, si
from rawcnn.report.tree import Member, family_tree

Profiles = Mapping[str, Profile]
LEGEND = """
A box is a stage: layers or blocks of the same kind whose maps have the same size. On the right are the height, width
and channels of its output; if the number of channels changes, the first and the last one are shown. Below are its
parameters and MACs. The two bars of the same colors show its shares of the network's. A line without a box is a pool or
a normalization.

Below the stages is the inside of the block that is repeated most often. Each convolution shows its size above its
output channels; `sep` is a separable convolution applied twice. Batch normalization and ReLU are not drawn. The
diagrams are generated from the operations that are recorded when the network's function is traced.
"""


def diagrams(profiles: Profiles) -> Iterator[Section]:
    """Yield the published errors, and a section of diagrams for each family. `profiles` has an entry for each error."""
    yield published_errors()
    yield Section("How to read the diagrams", (Text(LEGEND),))
    for family, rows in groupby(ERRORS, key=lambda row: row.family):
        yield Section(f"{family}: diagrams", (Cards(tuple(card(row, profiles[row.model]) for row in rows)),))


def tree(profiles: Profiles, album: Album) -> Section:
    """Return the section with the plot of error against MACs."""
    smallest, largest = (f(ERRORS, key=lambda row: profiles[row.model].totals["parameters"]) for f in (min, max))
    sizes = [f"{si(profiles[row.model].totals['parameters'])} of `{row.model}`" for row in (smallest, largest)]
    return Section(
        "Error against arithmetic",
        (
            Text(
                "Each network develops earlier ones further: smaller kernels, modules of several kernels, sums around "
                "blocks, groups, channels weighted by the whole image, cells found by search. Networks to the lower "
                "left are better: they have less arithmetic and less error. MACs and parameters are counted. The "
                "errors are those that the papers print; rawcnn trains no network on ImageNet."
            ),
            album.plot(
                "family-tree",
                family_tree([_member(row, profiles[row.model]) for row in ERRORS]),
                (5.3, 6.2),
                alt="Published top-1 error against MACs of the networks in the appendix, with arrows from each "
                "network to those derived from it: from AlexNet at the top left down to NASNet-A at the bottom right.",
                caption=f"The area shows the number of parameters, from {sizes[0]} to {sizes[1]}. Discs show errors on "
                "one central crop. Rings cannot be compared with discs: AlexNet, `plain34` and `resnet34` were tested "
                "on ten crops, VGG on the whole image at one scale. Inception V4 and Inception-ResNet V2 were tested "
                "without the validation images on ILSVRC's blacklist. Image sizes differ; the diagrams in the appendix "
                "show them.",
            ),
        ),
    )


def published_errors() -> Section:
    """Return the table of published errors and their sources."""
    rows = tuple(
        (row.model, percent(row.top1), "—" if row.top5 is None else percent(row.top5), row.protocol, row.source)
        for row in ERRORS
    )
    caption = "Published errors of single networks on ImageNet's validation images, in percent."
    return Section(
        "Published errors", (Table(("network", "top-1", "top-5", "tested on", "printed in"), rows, caption),)
    )


def _member(row: Published, profile: Profile) -> Member:
    totals = profile.totals
    return Member(
        row.model, row.family, row.parents, totals["macs"], row.top1, totals["parameters"], not row.is_single_crop
    )


def card(row: Published, profile: Profile) -> Card:
    """Return a card with the network's totals, its published error and its diagram."""
    totals = profile.totals
    field = totals["receptive_field"]
    top5 = "" if row.top5 is None else f" / {percent(row.top5)}"
    return Card(
        row.model,
        MODELS[row.model].paper,
        (
            ("image", f"{profile.size}×{profile.size}"),
            ("parameters", f"{totals['parameters']:,}"),
            ("MACs", f"{totals['macs']:,}"),
            ("sees", f"{field:,} pixels, stride {totals['stride']}" if field else "the whole image"),
            ("error", f"{percent(row.top1)}{top5} %, {row.protocol}"),
        ),
        diagram(row.model, profile.operations),
    )


def percent(error: float) -> str:
    """Format an error with one decimal, or with two if the second is not zero."""
    return f"{error:.1f}" if error == round(error, 1) else f"{error:.2f}"
