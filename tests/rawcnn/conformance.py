"""The conformance table over all models: the expected counts, and the small form that the tests run.

Parameters are the trained ones, MACs are per image at inference, both at the model's default size and classes. The
receptive field is that of the last map before it is pooled or flattened to a vector. Networks that differ only in
widths, biases or shortcuts have the same one. The counts were derived from the layers in the papers and in published
code, not by rawcnn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

import rawcnn
from tests import references


@dataclass(frozen=True)
class Case:
    """A model with options, its expected counts, and its small form."""

    name: str
    parameters: int
    macs: int
    field: int | None  # receptive field in pixels; None: the complete image
    stride: int
    small: int = 32  # pixels: an image size at which each layer still has a map
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    images: int = 2  # batch; in a larger one drop path drops no path for all images
    heads: int = 0  # auxiliary classifiers in training
    representative: bool = False  # of its family: all tests run it
    slow: bool = False  # slow even in the small form
    only_counted: bool = False  # a variant whose layers other cases run

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """The pytest marks of all longer tests of this case; by default only representatives run."""
        family = [pytest.mark.family] if self.representative else [pytest.mark.deeper]
        return family + [pytest.mark.slow] * self.slow

    @property
    def comparison(self) -> str:
        """The kind of comparison of its logits, a row of the tolerance table."""
        return "network" if self.field else "gated network"

    def create(self, seed: int = 0, classes: int = 5, **settings) -> rawcnn.Network:
        """Create the small form. With gates it has batch-norm averages of some images, or the gates saturate."""
        network = rawcnn.create(self.name, classes=classes, seed=seed, size=self.small, **self.options, **settings)
        if self.field is None:
            settle(network)
        return network


def settle(network: rawcnn.Network) -> None:
    """Set the batch-norm averages to the moments of eight random images, as after long training with a rate of zero.

    With the initial averages the maps grow over a hundred layers, until rounding switches gates between 0 and 1.
    """
    images = references.random((8, network.input_size, network.input_size, 3), 2, low=0.0)
    momentum = {o.name: o.settings["momentum"] for o in network.operations if o.kind == "batch_norm"}
    for path, average in network.forward(images, train=True, seed=0).statistics.items():
        decay = momentum[path.rsplit("/", 1)[0]]
        network.variables[path].assign((average - decay * network.variables[path]) / (1 - decay))


TABLE = (
    # Krizhevsky et al. 2012; torchvision's alexnet. 67 pixels reduce the last pool's 6×6 map to 1×1.
    Case("alexnet", 60_965_224, 724_406_816, 195, 32, small=67, representative=True),
    Case("alexnet", 62_378_344, 1_135_256_096, 195, 32, small=67, options={"groups": 1}),
    Case("alexnet_one_tower", 61_100_840, 714_188_480, 195, 32, small=63),
    # Simonyan & Zisserman 2015
    Case("vgg_a", 132_863_336, 7_609_090_048, 150, 32, representative=True),
    Case("vgg_a_lrn", 132_863_336, 7_609_090_048, 150, 32),
    Case("vgg_b", 133_047_848, 11_308_466_176, 156, 32),
    Case("vgg_c", 133_638_952, 11_770_888_192, 156, 32),
    Case("vgg16", 138_357_544, 15_470_264_320, 212, 32),
    Case("vgg19", 143_667_240, 19_632_062_464, 268, 32),
    # Szegedy et al. 2015; the heads pool 5×5 windows of a map with 1/16 of the image's side
    Case("googlenet", 6_998_552, 1_582_671_872, 715, 32, representative=True),
    Case("googlenet", 13_378_280, 1_582_671_872, 715, 32, small=80, options={"auxiliary": True}, heads=2),
    Case("googlenet", 6_624_904, 1_498_376_192, 379, 32, options={"torchvision": True}),
    Case(
        "googlenet",
        13_004_888,
        1_498_376_192,
        379,
        32,
        96,  # all maps before pools have even sides, as at 224 pixels, so the fingerprint's padding applies
        {"torchvision": True, "auxiliary": True},
        heads=2,
        slow=True,
    ),
    Case("googlenet_naive", 97_526_008, 12_568_061_056, 715, 32),
    Case("googlenet_naive", 104_274_376, 12_568_061_056, 715, 32, 80, {"auxiliary": True}, heads=2, slow=True),
    # He et al. 2016
    Case("resnet18", 11_689_512, 1_814_073_344, 435, 32, representative=True),
    Case("resnet18", 11_515_688, 1_794_805_760, 435, 32, options={"shortcut": "A"}),
    Case("resnet34", 21_797_672, 3_663_761_408, 899, 32),
    Case("resnet34", 21_623_848, 3_644_493_824, 899, 32, options={"shortcut": "A"}, only_counted=True),
    Case("resnet34", 22_716_840, 3_830_747_136, 899, 32, options={"shortcut": "C"}, slow=True),
    Case("resnet50", 25_557_032, 3_857_973_248, 483, 32),
    Case("resnet50", 25_557_032, 4_089_184_256, 427, 32, options={"version": "v1.5"}, slow=True),
    Case("resnet101", 44_549_160, 7_570_194_432, 1027, 32),
    Case("resnet101", 44_549_160, 7_801_405_440, 971, 32, options={"version": "v1.5"}, only_counted=True),
    Case("resnet152", 60_192_808, 11_282_415_616, 1507, 32),
    Case("resnet152", 60_192_808, 11_513_626_624, 1451, 32, options={"version": "v1.5"}, only_counted=True),
    Case("plain18", 11_515_688, 1_794_805_760, 435, 32),
    Case("plain34", 21_623_848, 3_644_493_824, 899, 32),
    Case("cifar_resnet20", 269_722, 40_551_040, 81, 4, small=8, representative=True),
    Case("cifar_resnet20", 272_474, 40_813_184, 81, 4, small=8, options={"shortcut": "B"}),
    Case("cifar_resnet20", 269_722, 40_551_040, 81, 4, small=8, options={"zeros": "end"}),
    Case("cifar_resnet32", 464_154, 68_862_592, 137, 4, small=8),
    Case("cifar_resnet44", 658_586, 97_174_144, 193, 4, small=8),
    Case("cifar_resnet56", 853_018, 125_485_696, 249, 4, small=8),
    Case("cifar_resnet110", 1_727_962, 252_887_680, 501, 4, small=8),
    Case("cifar_plain20", 269_722, 40_551_040, 81, 4, small=8),
    Case("cifar_plain32", 464_154, 68_862_592, 137, 4, small=8),
    Case("cifar_plain44", 658_586, 97_174_144, 193, 4, small=8),
    Case("cifar_plain56", 853_018, 125_485_696, 249, 4, small=8),
    # Ioffe & Szegedy 2015; Szegedy et al. 2016 and 2017
    Case("inception_v2", 11_194_984, 2_018_851_840, 699, 32, small=64, representative=True),
    Case("inception_v3", 23_834_568, 5_713_216_096, 1311, 32, small=75, representative=True),
    Case("inception_v3", 27_161_264, 5_713_216_096, 1311, 32, small=107, options={"auxiliary": True}, heads=1),
    Case("inception_v3", 23_834_568, 5_713_216_096, 1311, 32, options={"count_padding": True}, only_counted=True),
    Case("inception_v4", 42_679_816, 12_253_974_624, 2071, 32, small=75, representative=True, slow=True),
    Case("inception_resnet_v2", 55_843_464, 13_155_794_016, 3039, 32, small=75, slow=True),
    # Xie et al. 2017
    Case("resnext50", 25_028_904, 4_230_479_872, 427, 32, small=64, representative=True),
    Case("resnext101", 44_177_704, 7_969_996_800, 971, 32),
    Case("resnext101", 83_455_272, 15_460_270_080, 971, 32, options={"cardinality": 64}, only_counted=True),
    # Hu et al. 2018: the gates depend on the complete image
    Case("se_resnet50", 28_088_024, 3_860_488_192, None, 32, representative=True),
    Case("se_resnet101", 49_326_872, 7_574_937_600, None, 32),
    Case("se_resnet152", 66_821_848, 11_288_993_792, None, 32),
    Case("se_resnext50", 27_559_896, 4_232_994_816, None, 32),
    Case("se_resnext101", 48_955_416, 7_974_739_968, None, 32),
    Case("senet154", 115_088_984, 20_688_363_520, None, 32, slow=True),
    # Zoph et al. 2018; with 95 pixels the auxiliary head pools a 6×6 map. Maps are odd where those of full size are, so
    # that padding is that of the fingerprints
    Case("nasnet_mobile", 5_289_978, 563_638_816, 2407, 32, representative=True),
    Case("nasnet_mobile", 7_701_218, 563_638_816, 2407, 32, small=95, options={"auxiliary": True}, heads=1, slow=True),
    Case("nasnet_large", 88_753_150, 23_783_414_658, 3303, 32, small=43, images=8),
)
