"""Names in PyTorch's state dicts: torchvision's, the CIFAR ResNets' that follow them, and timm's for other networks.

PyTorch stores filters as OIHW and fully connected weights as [out,in]. It flattens a map channels first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.nn.trace import Parameter
from rawcnn.weights.source import Rules, Source, plain, renamed, transposed
from rawcnn.weights.torch_inception_names import INCEPTIONS

LEAVES = {"filters": "weight", "weights": "weight", "bias": "bias", "scale": "weight", "offset": "bias"}
LEAVES |= {"mean": "running_mean", "variance": "running_var"}
UNUSED = (".num_batches_tracked",)  # a counter in each batch norm

POOLED = {"alexnet": 6, "vgg": 7}  # family → side of the map that torchvision's first fully connected layer reads
BLOCK = r"conv(\d+)_(\d+)"  # conv2_1 is layer1.0


def _block(stage: str, index: str) -> str:
    return f"layer{int(stage) - 1}.{int(index) - 1}"


RESNET: Rules = (
    (r"conv1", lambda: "conv1"),
    (r"conv1/bn", lambda: "bn1"),
    (BLOCK + r"/((?:conv|bn)\d)", lambda s, i, part: f"{_block(s, i)}.{part}"),
    (BLOCK + r"/shortcut", lambda s, i: f"{_block(s, i)}.downsample.0"),
    (BLOCK + r"/shortcut/bn", lambda s, i: f"{_block(s, i)}.downsample.1"),
    (r"classifier", lambda: "fc"),
)
SENET: Rules = (
    (r"conv1", lambda: "layer0.conv1"),
    (r"conv1/bn", lambda: "layer0.bn1"),
    (r"conv1_(\d)", lambda n: f"layer0.conv{n}"),
    (r"conv1_(\d)/bn", lambda n: f"layer0.bn{n}"),
    (BLOCK + r"/se/(fc\d)", lambda s, i, part: f"{_block(s, i)}.se_module.{part}"),
    (r"classifier", lambda: "last_linear"),
    *RESNET,
)
NEWER_SENET: Rules = (  # timm's names since 2020
    (BLOCK + r"/se/(fc\d)", lambda s, i, part: f"{_block(s, i)}.se.{part}"),
    *RESNET,
)


def sources(network: Network, family: str, names: Iterable[str]) -> dict[str, Source] | None:
    """Return the source of each variable in a PyTorch state dict, or None if PyTorch has no such network.

    A network that ends early has the sources of the complete model.

    Args:
        network: The network.
        family: The name of the model's file in `rawcnn.models`: alexnet, vgg, …
        names: The names of the file's tensors.
    """
    if network.name in INCEPTIONS and network.settings.get("torchvision", True):
        rules = INCEPTIONS[network.name]
    elif network.name == "alexnet_one_tower" or (family == "vgg" and network.name != "vgg_a_lrn"):
        rules = _sequential(network)
    elif family in ("resnet", "resnext", "senet"):
        newer = _newer(names) or _in_sequence(names)
        rules = (NEWER_SENET if newer else SENET) if family == "senet" else RESNET
    else:
        return None
    parameters = network.complete.parameters
    called = {p.operation: renamed(p.operation, rules) for p in parameters.values()}
    if rules in (RESNET, NEWER_SENET) and _in_sequence(names):
        called = {operation: _sequence_name(module) for operation, module in called.items()}
    if "linear.weight" in names:
        called["classifier"] = "linear"  # its name in the CIFAR ResNets
    maps = {o.name: o.input_shapes[0][1:] for o in network.complete.training_operations if o.kind == "dense"}
    side = POOLED.get(family, 0)
    return {path: _source(p, called[p.operation], maps.get(p.operation, ()), side) for path, p in parameters.items()}


def _source(parameter: Parameter, module: str | None, read: Sequence[int], side: int) -> Source:
    """Return the source of a parameter.

    Args:
        parameter: The parameter.
        module: The module that it belongs to in PyTorch.
        read: A dense layer's input shape without the batch, [H,W,C] or [C].
        side: The side of the map that PyTorch's dense layer reads, if the network pools its last map to one size.
    """
    leaf = parameter.path.rsplit("/", 1)[1]
    name, shape = f"{module}.{LEAVES[leaf]}", parameter.shape
    if leaf == "filters":
        return transposed(name, shape, (2, 3, 1, 0))  # OIHW → HWIO
    if leaf != "weights":
        return plain(name, shape)
    if "/se/" in parameter.path:  # PyTorch has a 1×1 convolution here
        return Source((name,), ((*shape[::-1], 1, 1),), lambda value: value[:, :, 0, 0].T)  # OI·1·1 → IO
    if len(read) == 1:
        return transposed(name, shape, (1, 0))
    height, width, channels = read

    def convert(value: np.ndarray) -> np.ndarray:
        return value.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(shape)  # O·CHW → HWC·O

    pooled = Source((name,), ((shape[1], side * side * channels),), lambda value: _unpooled(value, side, *read))
    return Source((name,), (shape[::-1],), convert, otherwise=pooled if side else None)


def _unpooled(value: np.ndarray, side: int, height: int, width: int, channels: int) -> np.ndarray:
    """Return weights [H·W·C,O] that read a map as `value` [O,C·side·side] reads it after pooling to side×side.

    torchvision's AlexNet and VGG average the last map to 6×6 or 7×7 pixels, whatever the size of the images
    (AdaptiveAvgPool2d). Averaging and the fully connected layer are both linear, so their product is one layer.
    """
    weights = value.reshape(-1, channels, side, side)
    rows, columns = _averages(height, side), _averages(width, side)
    return np.einsum("ocpq,ph,qw->hwco", weights, rows, columns, optimize=True).reshape(height * width * channels, -1)


def _averages(length: int, side: int) -> np.ndarray:
    """Return the matrix [side,length] that averages pixels ⌊p·length/side⌋ to ⌈(p + 1)·length/side⌉ − 1 to pixel p."""
    matrix = np.zeros((side, length), np.float32)
    for p in range(side):
        first, end = p * length // side, -(-(p + 1) * length // side)
        matrix[p, first:end] = 1 / (end - first)
    return matrix


def _in_sequence(names: Iterable[str]) -> bool:
    """Return whether a file has a ResNet as nn.Sequential(*list(resnet.children())[:-2]), as fastai cuts off heads."""
    names = set(names)
    return {"4.0.conv1.weight", "7.0.conv1.weight"} <= names and "layer1.0.conv1.weight" not in names


def _sequence_name(module: str | None) -> str | None:
    """Return a module's name in this sequence: conv1, bn1, relu, maxpool, layer1, … are numbered from 0."""
    first, dot, rest = (module or "").partition(".")
    places = {"conv1": "0", "bn1": "1", **{f"layer{n}": str(n + 3) for n in range(1, 5)}}
    return f"{places.get(first, first)}{dot}{rest}" if module else None


def _sequential(network: Network) -> Rules:
    """Return the rules for AlexNet and VGG, whose layers PyTorch numbers in two lists, `features` and `classifier`."""
    kinds = ("conv", "relu", "max_pool", "dropout", "dense")
    layers = [o for o in network.complete.operations if o.kind in kinds]
    after = next(place for place, o in enumerate(layers) if o.kind in ("dropout", "dense"))
    places = {o.name: f"features.{n}" for n, o in enumerate(layers[:after])}
    places |= {o.name: f"classifier.{n}" for n, o in enumerate(layers[after:])}
    return ((r"(\w+)", lambda name: places[name]),)


def published(model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """Return the settings of `rawcnn.create` that reproduce the published network with these tensor names."""
    if model == "googlenet":
        heads = any(re.search(r"(^|[./])aux\d\.", name) for name in names)
        return {"preprocessing": "centered", "torchvision": True, "auxiliary": heads}
    if model == "inception_v3":
        heads = any(re.search(r"(^|[./])AuxLogits\.", name) for name in names)
        return {"preprocessing": "centered", "count_padding": True, "auxiliary": heads}
    settings: dict[str, object] = {"preprocessing": "centered" if model in INCEPTIONS else "torch"}
    if model in ("resnet50", "resnet101", "resnet152"):
        settings["version"] = "v1.5"
    if model.startswith(("se_resnet", "se_resnext")):
        settings["version"] = "v1.5" if _newer(names) else "v1"
    return settings


def _newer(names: Iterable[str]) -> bool:
    """Return whether a SENet's names are timm's since 2020: layer1.0.se.fc1 instead of layer1.0.se_module.fc1."""
    return any(".se.fc1." in name for name in names)
