"""The models, by name. No registry: one dict, and a test that every model file is in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral

from rawcnn.models import (
    alexnet,
    googlenet,
    inception_v2,
    inception_v3,
    inception_v4,
    nasnet,
    resnet,
    resnext,
    senet,
    vgg,
)


@dataclass(frozen=True)
class Model:
    """A model function and what it was made for."""

    function: Callable
    paper: str
    size: int = 224
    classes: int = 1000
    preprocessing: str = "none"

    @property
    def options(self) -> dict[str, object]:
        """Its keyword settings and their defaults; what the name already decides is not among them."""
        decided = self.function.keywords if isinstance(self.function, partial) else {}
        return {
            p.name: p.default
            for p in inspect.signature(self.function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in decided and p.name != "classes"
        }

    def configured(self, classes: int, **options) -> Callable:
        """The function with its settings; ValueError for one that it does not have, or of another type than its own."""
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(f"{name}={value!r}" for name, value in self.options.items()) or "none"
            raise ValueError(f"this model has no option {', '.join(unknown)}; its options are {known}")
        for name, value in options.items():
            own = self.options[name]
            if isinstance(value, bool) is not isinstance(own, bool) or not isinstance(value, _like(own)):
                raise ValueError(f"{name} is {value!r}; expected a value like {own!r}")
        return partial(self.function, classes=classes, **options)


def _like(value: object) -> tuple[type, ...]:
    """The types that an option of this value takes."""
    return (float, Integral) if isinstance(value, float) else (Integral,) if isinstance(value, int) else (type(value),)


_ALEXNET = "Krizhevsky et al. 2012"
_VGG = "Simonyan & Zisserman 2015"
_GOOGLENET = "Szegedy et al. 2015"
_RESNET = "He et al. 2016"
_RESNEXT = "Xie et al. 2017"
_SENET = "Hu et al. 2018"
_INCEPTION_V2 = "Ioffe & Szegedy 2015"
_INCEPTION_V3 = "Szegedy et al. 2016"
_INCEPTION_V4 = "Szegedy et al. 2017"
_NASNET = "Zoph et al. 2018"
_caffe = partial(Model, preprocessing="caffe")
_torch = partial(Model, preprocessing="torch")
_centered = partial(Model, preprocessing="centered")
_cifar = partial(Model, paper=_RESNET, size=32, classes=10, preprocessing="torch")

MODELS: dict[str, Model] = {
    "alexnet": _caffe(alexnet.alexnet, _ALEXNET, 227),
    "alexnet_one_tower": Model(alexnet.alexnet_one_tower, "Krizhevsky 2014", preprocessing="torch"),
    "vgg_a": _caffe(vgg.vgg_a, _VGG),
    "vgg_a_lrn": _caffe(vgg.vgg_a_lrn, _VGG),
    "vgg_b": _caffe(vgg.vgg_b, _VGG),
    "vgg_c": _caffe(vgg.vgg_c, _VGG),
    "vgg16": _caffe(vgg.vgg16, _VGG),
    "vgg19": _caffe(vgg.vgg19, _VGG),
    "googlenet": _caffe(googlenet.googlenet, _GOOGLENET),
    "googlenet_naive": _caffe(googlenet.googlenet_naive, _GOOGLENET),
    "resnet18": _caffe(resnet.resnet18, _RESNET),
    "resnet34": _caffe(resnet.resnet34, _RESNET),
    "resnet50": _caffe(resnet.resnet50, _RESNET),
    "resnet101": _caffe(resnet.resnet101, _RESNET),
    "resnet152": _caffe(resnet.resnet152, _RESNET),
    "plain18": _caffe(resnet.plain18, _RESNET),
    "plain34": _caffe(resnet.plain34, _RESNET),
    **{f"cifar_resnet{n}": _cifar(partial(resnet.cifar_resnet, depth=n)) for n in (20, 32, 44, 56, 110)},
    **{f"cifar_plain{n}": _cifar(partial(resnet.cifar_resnet, depth=n, residual=False)) for n in (20, 32, 44, 56)},
    "inception_v2": _centered(inception_v2.inception_v2, _INCEPTION_V2),
    "inception_v3": _centered(inception_v3.inception_v3, _INCEPTION_V3, 299),
    "inception_v4": _centered(inception_v4.inception_v4, _INCEPTION_V4, 299),
    "inception_resnet_v2": _centered(inception_v4.inception_resnet_v2, _INCEPTION_V4, 299),
    "resnext50": _torch(resnext.resnext50, _RESNEXT),
    "resnext101": _torch(resnext.resnext101, _RESNEXT),
    "se_resnet50": _torch(senet.se_resnet50, _SENET),
    "se_resnet101": _torch(senet.se_resnet101, _SENET),
    "se_resnet152": _torch(senet.se_resnet152, _SENET),
    "se_resnext50": _torch(senet.se_resnext50, _SENET),
    "se_resnext101": _torch(senet.se_resnext101, _SENET),
    "senet154": _torch(senet.senet154, _SENET),
    "nasnet_mobile": _centered(nasnet.nasnet_mobile, _NASNET),
    "nasnet_large": _centered(nasnet.nasnet_large, _NASNET, 331),
}


def find(name: str) -> Model:
    """The model called `name`; ValueError that lists them all."""
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}; the models are {', '.join(MODELS)}")
    return MODELS[name]
