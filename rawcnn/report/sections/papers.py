"""The sections on the papers: each one's ideas, its printed table compared with the counts, and where its costs are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rawcnn.papers import Comparison
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.kernel_claims import Module, Stack
from rawcnn.report.page import Section
from rawcnn.report.sections import architectures

BATCH = 8  # maps that the timed inception modules read
FAMILIES = {
    "AlexNet": ("alexnet",),
    "VGG": ("vgg_a", "vgg16", "vgg19"),
    "GoogLeNet": ("googlenet", "googlenet_naive"),
    "ResNet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
}


@dataclass(frozen=True)
class Paper:
    """A section on one paper."""

    title: str
    comparison: str  # name in `rawcnn.papers.PAPERS`
    model: str  # its costs are drawn
    lead: str


PAPERS = (
    Paper(
        "AlexNet",
        "alexnet",
        "alexnet",
        "Eight layers on two GPUs. Each GPU holds half of the channels, and three of the five convolutions read only "
        "the half on their own GPU. ReLU, dropout, overlapping pooling, local response normalization and weight decay "
        "are all here.",
    ),
    Paper(
        "VGG",
        "vgg",
        "vgg16",
        "Only 3×3 convolutions and 2×2 pools, in columns of 11 to 19 layers. The lecture's VGG16 is column D, its "
        "VGG19 column E.",
    ),
    Paper(
        "GoogLeNet",
        "googlenet",
        "googlenet",
        "Nine inception modules, 22 layers, and no dense layer except the classifier. Its table is the most cited of "
        "the four, and the least exact.",
    ),
    Paper(
        "ResNet",
        "resnet",
        "resnet50",
        "Blocks add their input to their output, so a block that is not needed can learn the identity. This made 152 "
        "layers trainable. Plain networks get worse from about 20 layers on.",
    ),
    Paper(
        "Inception V2, V3, V4",
        "inception",
        "inception_v3",
        "GoogLeNet's module with batch normalization and without large kernels: two 3×3 replace a 5×5, and 1×7 and 7×1 "
        "replace a 7×7. A pool and convolutions halve the map in parallel. Inception-ResNet adds its modules to their "
        "input.",
    ),
    Paper(
        "ResNeXt",
        "resnext",
        "resnext50",
        "The 3×3 of a bottleneck works in 32 groups, which equals a sum of 32 narrow blocks. At the cost of a ResNet, "
        "this 3×3 can have twice as many channels.",
    ),
    Paper(
        "SENet",
        "senet",
        "se_resnet50",
        "Squeeze: average each channel over the image. Excite: two small dense layers turn these averages into a "
        "weight for each channel. This adds almost no arithmetic and a tenth more parameters, and every position "
        "depends on the whole image.",
    ),
    Paper(
        "NASNet",
        "nasnet",
        "nasnet_mobile",
        "A search on small images found two cells: one keeps the map's size, one halves it. Stacks of these cells make "
        "networks of any size. The paper's table compares them with several of the networks above.",
    ),
)


def sections(
    comparisons: Mapping[str, Comparison],
    profiles: Mapping[str, Profile],
    stacks: Sequence[Stack],
    modules: Sequence[Module],
    album: Album,
) -> Iterator[Section]:
    """Yield the sections on the papers. `modules` is module 3a in both forms, timed on BATCH maps."""
    families = [(family, profiles[name]) for family, names in FAMILIES.items() for name in names]
    yield architectures.landscape(families, album)
    for paper in PAPERS:
        table, profile = comparisons[paper.comparison], profiles[paper.model]
        yield architectures.comparison(paper.title, paper.lead, table, profile, album)
        if paper.title == "VGG":
            yield architectures.small_kernels(stacks, album)
        if paper.title == "GoogLeNet":
            yield architectures.inception(profiles["googlenet_naive"], profiles["googlenet"], modules, BATCH, album)
