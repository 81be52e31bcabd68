"""Names in PyTorch's state dicts: torchvision's, the CIFAR ResNets' that follow them, and timm's for other networks.

PyTorch stores filters as OIHW and fully connected weights as [out,in]. It flattens a map channels first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rawcnn.nn.network import Network
from rawcnn.nn.trace import Parameter
from rawcnn.weights.source import Rules, Source, plain, renamed, transposed
from rawcnn.weights.torch_inception_names import INCEPTIONS

LEAVES = {"filters": "weight", "weights": "weight", "bias": "bias", "scale": "weight", "offset": "bias"}
LEAVES |= {"mean": "running_mean", "variance": "running_var"}
UNUSED = (".num_batches_tracked",)  # a counter in each batch norm

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


def sources(network: Network, family: str, names: Iterable[str]) -> dict[str, Source] | None:
    """Return the source of each variable in a PyTorch state dict, or None if PyTorch has no such network.

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
        rules = SENET if family == "senet" else RESNET
    else:
        return None
    called = {p.operation: renamed(p.operation, rules) for p in network.parameters.values()}
    if "linear.weight" in names:
        called["classifier"] = "linear"  # its name in the CIFAR ResNets
    maps = {o.name: o.input_shapes[0][1:] for o in network.training_operations if o.kind == "dense"}
    return {path: _source(p, called[p.operation], maps.get(p.operation, ())) for path, p in network.parameters.items()}


def _source(parameter: Parameter, module: str | None, read: Sequence[int]) -> Source:
    """Return the source of a parameter. `read` is a dense layer's input shape, [H,W,C] or [C], without the batch."""
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

    return Source((name,), (shape[::-1],), convert)


def _sequential(network: Network) -> Rules:
    """Return the rules for AlexNet and VGG, whose layers PyTorch numbers in two lists, `features` and `classifier`."""
    kinds = ("conv", "relu", "max_pool", "dropout", "dense")
    layers = [o for o in network.operations if o.kind in kinds]
    after = next(place for place, o in enumerate(layers) if o.kind in ("dropout", "dense"))
    places = {o.name: f"features.{n}" for n, o in enumerate(layers[:after])}
    places |= {o.name: f"classifier.{n}" for n, o in enumerate(layers[after:])}
    return ((r"(\w+)", lambda name: places[name]),)


def published(model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """Return the settings of `rawcnn.create` that reproduce the published network with these tensor names."""
    if model == "googlenet":
        heads = any(name.startswith("aux") for name in names)
        return {"preprocessing": "centered", "torchvision": True, "auxiliary": heads}
    if model == "inception_v3":
        heads = any(name.startswith("AuxLogits") for name in names)
        return {"preprocessing": "centered", "count_padding": True, "auxiliary": heads}
    settings: dict[str, object] = {"preprocessing": "centered" if model in INCEPTIONS else "torch"}
    if model in ("resnet50", "resnet101", "resnet152"):
        settings["version"] = "v1.5"
    return settings
