"""Keras's names: the networks of keras.applications, as their published files and Keras 3's own call them.

A name is the layer's and the variable's: `conv2_block1_1_conv/kernel`. Filters and weights are laid out as here, except
those of a depthwise convolution, [kh,kw,C,1]. Files hold some things that these networks have not, or do without:

    ResNets           a bias in each convolution: taken off the average that the batch norm subtracts;
                      ε = 1.001·10⁻⁵: what it has more goes to the variance
    Inception nets    no scale in batch norms: ones. Most layers have no names of their own: they are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.nn.trace import Parameter
from rawcnn.weights.source import Rules, Source, constant, plain, renamed, transposed

LEAVES = {"filters": "kernel", "weights": "kernel", "bias": "bias", "scale": "gamma", "offset": "beta"}
LEAVES |= {"mean": "moving_mean", "variance": "moving_variance"}
EPSILON, RESNET_EPSILON = 1e-5, 1.001e-5  # of a batch norm in our ResNets and in Keras's

VGG: Rules = (
    (r"conv(\d)_(\d)", lambda block, n: f"block{block}_conv{n}"),
    (r"fc6", lambda: "fc1"),
    (r"fc7", lambda: "fc2"),
    (r"fc8", lambda: "predictions"),
)
RESNET: Rules = (
    (r"conv1", lambda: "conv1_conv"),
    (r"conv1/bn", lambda: "conv1_bn"),
    (r"conv(\d)_(\d+)/(conv|bn)(\d)", lambda stage, i, kind, n: f"conv{stage}_block{i}_{n}_{kind}"),
    (r"conv(\d)_(\d+)/shortcut", lambda stage, i: f"conv{stage}_block{i}_0_conv"),
    (r"conv(\d)_(\d+)/shortcut/bn", lambda stage, i: f"conv{stage}_block{i}_0_bn"),
    (r"classifier", lambda: "predictions"),
)
INCEPTION: Rules = (  # what has a name; the rest is counted
    (r"(block\d+_\d+)/expand", lambda block: f"{block}_conv"),
    (r"conv_7b", lambda: "conv_7b"),
    (r"conv_7b/bn", lambda: "conv_7b_bn"),
    (r"classifier", lambda: "predictions"),
)


def _nasnet(repeats: int) -> Rules:
    """NASNet's rules; cells are numbered through there, a reduction counting as one and called after its number."""

    def kind(cell: str) -> str:
        return "normal" if cell.startswith("normal") else "reduction"

    def number(cell: str) -> str:
        what, place = cell.split("_")
        if what == "normal":
            return str(int(place) - (int(place) <= repeats))
        return f"reduce_{int(place) * repeats}" if what == "reduction" else cell

    def separable(layer: str, cell: str, place: str) -> str:
        place = "left4" if (kind(cell), place) == ("reduction", "left5") else place
        return f"separable_conv_{layer}_{kind(cell)}_{place}_{number(cell)}"

    return (
        (r"stem", lambda: "stem_conv1"),
        (r"stem/bn", lambda: "stem_bn1"),
        (r"(\w+)/squeeze", lambda cell: f"{kind(cell)}_conv_1_{number(cell)}"),
        (r"(\w+)/squeeze/bn", lambda cell: f"{kind(cell)}_bn_1_{number(cell)}"),
        (r"(\w+)/adjust", lambda cell: f"adjust_conv_projection_{number(cell)}"),
        (r"(\w+)/adjust/even", lambda cell: f"adjust_conv_1_{number(cell)}"),
        (r"(\w+)/adjust/odd", lambda cell: f"adjust_conv_2_{number(cell)}"),
        (r"(\w+)/adjust/bn", lambda cell: f"adjust_bn_{number(cell)}"),
        (r"(\w+)/(\w+)/bn(\d)", lambda cell, place, n: separable(f"{n}_bn", cell, place)),
        (r"(\w+)/(\w+)/(?:depth|point)wise(\d)", lambda cell, place, n: separable(n, cell, place)),
        (r"classifier", lambda: "predictions"),
    )


def sources(network: Network, family: str, names: Iterable[str]) -> dict[str, Source] | None:
    """Each variable's place in a file of `names`, but for auxiliary heads; None for a network that Keras has not.

    `family` is the file that the model is written in: vgg, resnet, …
    """
    names = set(names)
    if family == "nasnet":
        rules = _nasnet(repeats=sum(bool(re.fullmatch(r"normal_\d+", o.name)) for o in network.operations) // 3)
    elif network.name in ("inception_v3", "inception_resnet_v2"):
        rules = INCEPTION
    elif family in ("vgg", "resnet"):
        rules = {"vgg": VGG, "resnet": RESNET}[family]
    else:
        return None
    called = {o.name: layer for o in network.operations if o.parameters and (layer := renamed(o.name, rules))}
    if rules is INCEPTION:
        called |= _counted(network, called, names)
    found = {path: p for path, p in network.parameters.items() if p.operation in called}
    return {path: _source(p, called[p.operation], names, family) for path, p in found.items()}


def _counted(network: Network, named: Iterable[str], names: set[str]) -> dict[str, str]:
    """The layers without names of their own: conv2d, conv2d_1, … in the order they were made in, the operations's."""
    called: dict[str, str] = {}
    for kind, prefix in (("conv", "conv2d"), ("batch_norm", "batch_normalization")):
        layers = {name.split("/")[0] for name in names if re.fullmatch(rf"{prefix}(_\d+)?/\w+", name)}
        there = sorted(layers, key=lambda layer: int(layer.removeprefix(prefix).lstrip("_") or 0))
        here = [o.name for o in network.operations if o.kind == kind and o.name not in named]
        there += [f"{prefix}[{n}]" for n in range(len(there), len(here))]  # no such names: they will be missed
        called |= dict(zip(here, there, strict=False))
    return called


def _source(parameter: Parameter, layer: str, names: set[str], family: str) -> Source:
    operation, leaf = parameter.path.rsplit("/", 1)
    name, shape = f"{layer}/{LEAVES[leaf]}", parameter.shape
    if re.search(r"/depthwise\d$", operation):
        return transposed(f"{layer}/depthwise_kernel", shape, (0, 1, 3, 2))
    if re.search(r"/pointwise\d$", operation):
        return plain(f"{layer}/pointwise_kernel", shape)
    if leaf == "scale" and family.startswith("inception") and name not in names:
        return constant(1.0, shape)
    bias = f"{layer.removesuffix('_bn')}_conv/bias"
    if leaf == "mean" and family == "resnet" and bias in names:
        return Source((name, bias), (shape, shape), lambda mean, bias: mean - bias)
    if leaf == "variance" and family == "resnet":
        return replace(plain(name, shape), convert=lambda variance: variance + np.float32(RESNET_EPSILON - EPSILON))
    return plain(name, shape)


def published(model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """The settings of `rawcnn.create` with which keras.applications publishes these networks."""
    settings: dict[str, object] = {"preprocessing": "caffe" if family in ("vgg", "resnet") else "centered"}
    if model in ("resnet50", "resnet101", "resnet152"):
        settings["version"] = "v1"
    if model == "inception_v3":
        settings |= {"count_padding": False, "auxiliary": False}
    return settings
