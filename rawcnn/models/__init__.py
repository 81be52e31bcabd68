"""The models by name: MODELS lists every model function. A test checks that every file of this package is used."""

from __future__ import annotations

import difflib
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
class ModelEntry:
    """A model function with its paper and its default settings.

    Attributes:
        function: `function(net, images, *, classes, …) → logits`.
        paper: Authors and year.
        size: Side of the images in pixels.
        classes: Number of classes.
        preprocessing: First step of the network: "none", "centered", "torch" or "caffe".
    """

    function: Callable
    paper: str
    size: int = 224
    classes: int = 1000
    preprocessing: str = "none"

    @property
    def options(self) -> dict[str, object]:
        """The function's keyword options and their defaults, without those that the model's name fixes."""
        fixed = self.function.keywords if isinstance(self.function, partial) else {}
        return {
            p.name: p.default
            for p in inspect.signature(self.function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in fixed and p.name != "classes"
        }

    def configured(self, classes: int, **options) -> Callable:
        """Return the function with its options set.

        Raises:
            ValueError: The model has no such option, or the value has another type than the default.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = ", ".join(f"{name}={value!r}" for name, value in self.options.items()) or "none"
            raise ValueError(f"this model has no option {', '.join(unknown)}; its options are {known}")
        for name, value in options.items():
            default = self.options[name]
            if isinstance(value, bool) is not isinstance(default, bool) or not isinstance(value, _types_of(default)):
                raise ValueError(f"{name} is {value!r}; expected a value like {default!r}")
        return partial(self.function, classes=classes, **options)


def _types_of(default: object) -> tuple[type, ...]:
    """Return the types that an option with this default accepts."""
    if isinstance(default, float):
        return (float, Integral)
    return (Integral,) if isinstance(default, int) else (type(default),)


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
_caffe = partial(ModelEntry, preprocessing="caffe")
_torch = partial(ModelEntry, preprocessing="torch")
_centered = partial(ModelEntry, preprocessing="centered")
_cifar = partial(ModelEntry, paper=_RESNET, size=32, classes=10, preprocessing="torch")

MODELS: dict[str, ModelEntry] = {
    "alexnet": _caffe(alexnet.alexnet, _ALEXNET, 227),
    "alexnet_one_tower": ModelEntry(alexnet.alexnet_one_tower, "Krizhevsky 2014", preprocessing="torch"),
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


def find_model(name: str) -> ModelEntry:
    """Return the model called `name`.

    Raises:
        ValueError: No model has this name. The message names similar ones.
    """
    if not isinstance(name, str) or name not in MODELS:
        near = difflib.get_close_matches(str(name).lower(), MODELS, n=4, cutoff=0.5)
        similar = f"similar names are {', '.join(near)}; " if near else ""
        raise ValueError(f"there is no model {name!r}; {similar}`rawcnn models` or rawcnn.MODELS lists all")
    return MODELS[name]
