"""The zoo: the networks with published ImageNet errors as a family tree, and a card with a diagram for each."""

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
A box is a stage: layers or blocks of one sort whose maps have one size. On its right stand height, width and channels
of its output, the first and the last number of channels where they change; below, its parameters and its MACs, in the
colours of the two bars, which are its shares of the network's. A line without a box is a pool or a normalisation.

Under the stages is the inside of a block of the sort that is repeated most, with the size of each convolution above its
output channels; `sep` is a separable convolution, twice. Batch normalisations and ReLUs are not drawn. Nothing here is
drawn by hand: names, sizes, counts and lines are read off the operations that the network's own function writes.
"""


def sections(profiles: Profiles, album: Album) -> Iterator[Section]:
    """The tree, and a section of cards for each family; `profiles` has one for each row of ERRORS."""
    yield tree(profiles, album)
    yield Section("How to read the diagrams", (Text(LEGEND),))
    for family, rows in groupby(ERRORS, key=lambda row: row.family):
        yield Section(f"{family}: diagrams", (Cards(tuple(card(row, profiles[row.model]) for row in rows)),))


def tree(profiles: Profiles, album: Album) -> Section:
    """Error against MACs, with the published errors and their sources below."""
    smallest, largest = (f(ERRORS, key=lambda row: profiles[row.model].totals["parameters"]) for f in (min, max))
    sizes = [f"{si(profiles[row.model].totals['parameters'])} of `{row.model}`" for row in (smallest, largest)]
    rows = tuple(
        (row.model, percent(row.top1), "—" if row.top5 is None else percent(row.top5), row.protocol, row.source)
        for row in ERRORS
    )
    return Section(
        "What an error costs",
        (
            Text(
                "Each network was made from those before it: smaller kernels, modules of several, sums around blocks, "
                "groups, channels weighed by the whole image, cells found by search. To the lower left is better: less "
                "arithmetic and less error. The MACs and parameters are counted; the errors are the printed ones, for "
                "nothing on this page was trained on ImageNet."
            ),
            album.plot(
                "family-tree",
                family_tree([_member(row, profiles[row.model]) for row in ERRORS]),
                (5.3, 6.2),
                alt="Published top-1 error against MACs of the networks in the table below, with arrows from each "
                "network to those made from it: from AlexNet at the top left down to NASNet-A at the bottom right.",
                caption=f"Area is the number of parameters, from {sizes[0]} to {sizes[1]}. A disc's error is that of "
                "one central crop. Rings cannot be compared with discs: AlexNet, `plain34` and `resnet34` were tested "
                "on ten crops, VGG on the whole image at one scale. Inception V4 and Inception-ResNet V2 were tested "
                "without the validation images on ILSVRC's blacklist. The sizes of the images differ; the cards have "
                "them.",
            ),
            Table(
                ("network", "top-1", "top-5", "tested on", "printed in"),
                rows,
                "Published errors on ImageNet's validation images, in percent; one network, no ensemble.",
            ),
        ),
    )


def _member(row: Published, profile: Profile) -> Member:
    totals = profile.totals
    return Member(
        row.model, row.family, row.parents, totals["macs"], row.top1, totals["parameters"], not row.is_single_crop
    )


def card(row: Published, profile: Profile) -> Card:
    """The network's totals, its published error and its diagram."""
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
    """With one decimal, or with two where the second is not zero."""
    return f"{error:.1f}" if error == round(error, 1) else f"{error:.2f}"
