"""Published errors of single networks on ImageNet's validation images, and the networks that each is derived from.

Protocols differ: "1 crop" tests one central crop, "10 crops" averages ten, "dense" runs the network over the whole image.
Training data, schedules and augmentation differ, too, so a difference of one point may not be due to the network.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSIC, INCEPTION, RESIDUAL, EXCITED, SEARCHED = "AlexNet, VGG", "Inception", "ResNet, ResNeXt", "SENet", "NASNet"
_ALEXNET = "Krizhevsky et al. 2012, section 6, table 1"
_VGG = "Simonyan & Zisserman 2015, table 3"
_INCEPTION = "Szegedy et al. 2016, table 3"
_INCEPTION_V4 = "Szegedy et al. 2017, tables of section 5"
_RESNET = "He et al. 2016, table 3"
_RESNET_1 = "He et al. 2016, published models"
_RESNEXT = "Xie et al. 2017, section 5"
_SENET = "Hu et al. 2018, table 2"
_SENET154 = "Hu et al. 2018, published models"
_NASNET = "Zoph et al. 2018, tables 2 and 3"


@dataclass(frozen=True)
class Published:
    """A network's printed error rates in percent; `top5` is None where the source prints none."""

    model: str
    family: str
    parents: tuple[str, ...]
    top1: float
    top5: float | None
    protocol: str
    source: str

    @property
    def is_single_crop(self) -> bool:
        return self.protocol == "1 crop"


ERRORS: tuple[Published, ...] = (
    Published("alexnet", CLASSIC, (), 40.7, 18.2, "10 crops", _ALEXNET),
    Published("vgg_a", CLASSIC, ("alexnet",), 29.6, 10.4, "dense", _VGG),
    Published("vgg16", CLASSIC, ("vgg_a",), 27.0, 8.8, "dense", _VGG),
    Published("vgg19", CLASSIC, ("vgg16",), 27.3, 9.0, "dense", _VGG),
    Published("googlenet", INCEPTION, ("alexnet",), 30.2, 10.1, "1 crop", _NASNET),
    Published("inception_v2", INCEPTION, ("googlenet",), 25.2, 7.8, "1 crop", _INCEPTION),
    Published("inception_v3", INCEPTION, ("inception_v2",), 21.2, 5.6, "1 crop", _INCEPTION),
    Published("inception_v4", INCEPTION, ("inception_v3",), 20.0, 5.0, "1 crop", _INCEPTION_V4),
    Published("inception_resnet_v2", INCEPTION, ("inception_v3", "resnet152"), 19.9, 4.9, "1 crop", _INCEPTION_V4),
    Published("plain34", RESIDUAL, ("vgg19",), 28.54, 10.02, "10 crops", _RESNET),
    Published("resnet34", RESIDUAL, ("plain34",), 24.52, 7.46, "10 crops", _RESNET),
    Published("resnet50", RESIDUAL, ("resnet34",), 24.7, 7.8, "1 crop", _RESNET_1),
    Published("resnet101", RESIDUAL, ("resnet50",), 23.6, 7.1, "1 crop", _RESNET_1),
    Published("resnet152", RESIDUAL, ("resnet101",), 23.0, 6.7, "1 crop", _RESNET_1),
    Published("resnext50", RESIDUAL, ("resnet50",), 22.2, None, "1 crop", _RESNEXT),
    Published("resnext101", RESIDUAL, ("resnext50",), 21.2, 5.6, "1 crop", _RESNEXT),
    Published("se_resnet50", EXCITED, ("resnet50",), 23.29, 6.62, "1 crop", _SENET),
    Published("se_resnet101", EXCITED, ("resnet101",), 22.38, 6.07, "1 crop", _SENET),
    Published("se_resnet152", EXCITED, ("resnet152",), 21.57, 5.73, "1 crop", _SENET),
    Published("se_resnext50", EXCITED, ("resnext50",), 21.10, 5.49, "1 crop", _SENET),
    Published("se_resnext101", EXCITED, ("resnext101",), 20.70, 5.01, "1 crop", _SENET),
    Published("senet154", EXCITED, ("se_resnext101",), 18.68, 4.47, "1 crop", _SENET154),
    Published("nasnet_mobile", SEARCHED, (), 26.0, 8.4, "1 crop", _NASNET),
    Published("nasnet_large", SEARCHED, ("nasnet_mobile",), 17.3, 3.8, "1 crop", _NASNET),
)
