"""The papers, one after the other: what each brought, its printed table beside the counts, and where its costs are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from rawcnn.papers import Comparison
from rawcnn.profiling.costs import Profile
from rawcnn.report.album import Album
from rawcnn.report.kernel_claims import Module, Stack
from rawcnn.report.page import Section
from rawcnn.report.sections import architectures

BATCH = 8  # maps for the inception modules that are timed
FAMILIES = {
    "AlexNet": ("alexnet",),
    "VGG": ("vgg_a", "vgg16", "vgg19"),
    "GoogLeNet": ("googlenet", "googlenet_naive"),
    "ResNet": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
}


def sections(
    comparisons: Mapping[str, Comparison],
    profiles: Mapping[str, Profile],
    stacks: Sequence[Stack],
    modules: Sequence[Module],
    album: Album,
) -> Iterator[Section]:
    """The sections on the papers; `modules` is module 3a in both forms, timed on BATCH maps."""
    yield architectures.landscape(
        [(family, profiles[name]) for family, names in FAMILIES.items() for name in names], album
    )
    compared = partial(architectures.comparison, album=album)
    yield compared(
        "AlexNet",
        "Eight layers on two GPUs: each GPU held half of the channels, and three of the five convolutions read only "
        "their own half. ReLU, dropout, overlapping pooling, local response normalisation and weight decay are all "
        "here.",
        comparisons["alexnet"],
        profiles["alexnet"],
    )
    yield compared(
        "VGG",
        "Nothing but 3×3 convolutions and 2×2 pools, in columns of 11 to 19 layers. The lecture's VGG16 is column D, "
        "its VGG19 column E.",
        comparisons["vgg"],
        profiles["vgg16"],
    )
    yield architectures.small_kernels(stacks, album)
    yield compared(
        "GoogLeNet",
        "Nine inception modules, 22 layers deep, and no dense layer but the classifier. Its table is the most cited "
        "and the least exact of the four.",
        comparisons["googlenet"],
        profiles["googlenet"],
    )
    yield architectures.inception(profiles["googlenet_naive"], profiles["googlenet"], modules, BATCH, album)
    yield compared(
        "ResNet",
        "Blocks that add their input to their output, so that a block that has nothing to add can learn to be the "
        "identity. That made 152 layers trainable, where plain networks get worse from about 20 on.",
        comparisons["resnet"],
        profiles["resnet50"],
    )
    yield compared(
        "Inception V2, V3, V4",
        "GoogLeNet's module with batch normalisation and without large kernels: a 5×5 becomes two 3×3, a 7×7 becomes "
        "1×7 and 7×1, and pool and convolution halve the map side by side. Inception-ResNet adds its modules to their "
        "input.",
        comparisons["inception"],
        profiles["inception_v3"],
    )
    yield compared(
        "ResNeXt",
        "A bottleneck whose 3×3 works in 32 groups, which is the same as a sum of 32 narrow blocks. At the cost of a "
        "ResNet it can be twice as wide there.",
        comparisons["resnext"],
        profiles["resnext50"],
    )
    yield compared(
        "SENet",
        "Squeeze: average each channel over the image. Excite: two small dense layers make of that a weight for each "
        "channel. Almost no arithmetic, a tenth more parameters, and every position knows of the whole image.",
        comparisons["senet"],
        profiles["se_resnet50"],
    )
    yield compared(
        "NASNet",
        "A search on small images found two cells, one that keeps the map's size and one that halves it; stacked, "
        "they make networks of any size. The paper's table sets several of the networks above beside its own.",
        comparisons["nasnet"],
        profiles["nasnet_mobile"],
    )
