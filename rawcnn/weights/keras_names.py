"""Names in Keras's files: the networks of keras.applications, in their published files and in Keras 3's own.

A name consists of the layer's and the variable's: `conv2_block1_1_conv/kernel`. Filters and weights have rawcnn's
layout, except those of a depthwise convolution, which are [kh,kw,C,1]. Keras's networks differ in these points:

    ResNets           Each convolution has a bias. It is subtracted from the batch norm's mean.
                      ε is 1.001·10⁻⁵. The difference from 10⁻⁵ is added to the variance.
    Inception nets    Batch norms have no scale; it is one. Most layers have numbers instead of names.
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
UNUSED: tuple[str, ...] = ()  # endings of tensor names that rawcnn does not need
EPSILON, RESNET_EPSILON = 1e-5, 1.001e-5  # ε of the batch norms in rawcnn's and in Keras's ResNets

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
INCEPTION: Rules = (  # the layers that have names; the others are numbered
    (r"(block\d+_\d+)/expand", lambda block: f"{block}_conv"),
    (r"conv_7b", lambda: "conv_7b"),
    (r"conv_7b/bn", lambda: "conv_7b_bn"),
    (r"classifier", lambda: "predictions"),
)


def _nasnet(repeats: int) -> Rules:
    """Return NASNet's rules. Keras numbers all cells in one sequence, and names a reduction after its number."""

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
    """Return the source of each variable in a Keras file, or None if Keras has no such network.

    A network that ends early has the sources of the complete model. Keras's networks have no auxiliary heads, so the
    variables of these have no source.

    Args:
        network: The network.
        family: The name of the model's file in `rawcnn.models`: vgg, resnet, …
        names: The names of the file's tensors.
    """
    names, operations = set(names), network.complete.operations
    if family == "nasnet":
        rules = _nasnet(repeats=sum(bool(re.fullmatch(r"normal_\d+", o.name)) for o in operations) // 3)
    elif network.name in ("inception_v3", "inception_resnet_v2"):
        rules = INCEPTION
    elif family in ("vgg", "resnet"):
        rules = {"vgg": VGG, "resnet": RESNET}[family]
    else:
        return None
    called = {o.name: layer for o in operations if o.parameters and (layer := renamed(o.name, rules))}
    if rules is INCEPTION:
        called |= _numbered(network, called, names)
    found = {path: p for path, p in network.complete.parameters.items() if p.operation in called}
    return {path: _source(p, called[p.operation], names, family) for path, p in found.items()}


def _numbered(network: Network, named: Iterable[str], names: set[str]) -> dict[str, str]:
    """Name the layers that Keras only numbers: conv2d, conv2d_1, … in the order of the network's operations."""
    called: dict[str, str] = {}
    for kind, prefix in (("conv", "conv2d"), ("batch_norm", "batch_normalization")):
        layers = {name.split("/")[0] for name in names if re.fullmatch(rf"{prefix}(_\d+)?/\w+", name)}
        there = sorted(layers, key=lambda layer: int(layer.removeprefix(prefix).lstrip("_") or 0))
        here = [o.name for o in network.complete.operations if o.kind == kind and o.name not in named]
        there += [f"{prefix}[{n}]" for n in range(len(there), len(here))]  # no file has these: reported as missing
        called |= dict(zip(here, there, strict=False))
    return called


def _source(parameter: Parameter, layer: str, names: set[str], family: str) -> Source:
    """Return the source of a parameter of the Keras layer `layer`."""
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
    """Return the settings of `rawcnn.create` that reproduce the network as keras.applications publishes it."""
    settings: dict[str, object] = {"preprocessing": "caffe" if family in ("vgg", "resnet") else "centered"}
    if model in ("resnet50", "resnet101", "resnet152"):
        settings["version"] = "v1"
    if model == "inception_v3":
        settings |= {"count_padding": False, "auxiliary": False}
    return settings
