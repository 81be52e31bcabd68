"""The structure of a network's diagram, derived from its operations: its stages, and the graph of a repeated block.

The first part of an operation's name is its block: `conv2_1/bn1` belongs to block `conv2_1`. Consecutive blocks of the
same kind whose maps have the same size are a stage.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rawcnn.nn.trace import Operation

WORK = ("conv", "dense")
UNSEEN = {"batch_norm", "relu", "dropout", "pad"}  # drawn with the operation before them


def block_of(name: str) -> str:
    """Return the block of an operation. The 1×1 reduction of a layer belongs to the layer's block."""
    return re.sub(r"_reduce$", "", name.split("/")[0])


@dataclass(frozen=True)
class Stage:
    """Consecutive blocks of the same kind whose maps have the same size."""

    blocks: tuple[str, ...]
    kind: str  # the kind of a block's only layer, or "block" if it has several
    window: str  # size and stride of the filters or the pool; "" for blocks, and if layers differ
    map: str  # size of the output, "56×56 × 256"
    layers: int  # convolutions and dense layers
    parameters: int
    macs: int

    @property
    def name(self) -> str:
        return self.blocks[0] if len(self.blocks) == 1 else f"{self.blocks[0]} – {self.blocks[-1]}"

    @property
    def content(self) -> str:
        """A description of the stage: "7×7 / 2", "3 layers of 3×3", "4 blocks, 12 layers"."""
        if self.layers < 2:
            return self.window
        if self.kind == "block" and len(self.blocks) > 1:
            return f"{len(self.blocks)} blocks, {self.layers} layers"
        return f"{self.layers} layers of {self.window}" if self.window else f"{self.layers} layers"


def stages(operations: Sequence[Operation]) -> list[Stage]:
    """Return the stages in the order of the trace, without operations that act only in training."""
    blocks: dict[str, list[Operation]] = {}
    for operation in operations:
        blocks.setdefault(block_of(operation.name), []).append(operation)
    seen = {name: block for name, block in blocks.items() if any(x.kind != "dropout" for x in block)}

    def sort(name: str) -> tuple:
        """Return what the blocks of a stage share: kind, name without its last number or letter, size of the map."""
        stem = re.sub(r"((?<=\d)[a-z]|\d+)$", "", name)
        return _kind(seen[name]), stem, seen[name][-1].output_shape[1:-1]

    return [_stage(tuple(names), seen) for _, names in groupby(seen, key=sort)]


def _stage(names: tuple[str, ...], blocks: dict[str, list[Operation]]) -> Stage:
    operations = [x for name in names for x in blocks[name]]
    sides = "×".join(map(str, operations[-1].output_shape[1:-1]))
    channels = list(dict.fromkeys(f"{blocks[name][-1].output_shape[-1]:,}" for name in names))
    depth = channels[0] if len(channels) == 1 else f"{channels[0]} … {channels[-1]}"
    kind = _kind(blocks[names[0]])
    windows = {window_of(x) for name in names for x in blocks[name] if x.kind == kind}
    return Stage(
        names,
        kind,
        windows.pop() if len(windows) == 1 else "",
        f"{sides} × {depth}" if sides else depth,
        sum(x.kind in WORK for x in operations),
        sum(p.count for x in operations for p in x.parameters if p.trained),
        sum(x.cost.macs for x in operations),
    )


def _kind(block: Sequence[Operation]) -> str:
    layers = [x for x in block if x.kind in WORK]
    return "block" if len(layers) > 1 else (*layers, *block)[0].kind


def window_of(operation: Operation) -> str:
    """Return an operation's window and stride, "3×3" or "7×7 / 2", or "" if it has no window."""
    if operation.kind == "conv":
        size = operation.parameters[0].shape[:2]
    elif "size" in operation.settings:
        size = _pair(operation.settings["size"])
    else:
        return ""
    stride = _pair(operation.settings["stride"])[0]
    return f"{size[0]}×{size[1]}" + (f" / {stride}" if stride != 1 else "")


def _pair(value) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


@dataclass(frozen=True)
class Node:
    """A box of a block's graph: two lines of text, and the names of the nodes that it reads."""

    title: str
    detail: str = ""
    sources: tuple[str, ...] = ()
    outside: bool = False  # the output of another block


def repeated(found: Sequence[Stage]) -> tuple[Stage, str] | None:
    """Return the stage with the most blocks of several layers, and its last block. None if no block is repeated."""
    several = [stage for stage in found if stage.kind == "block" and len(stage.blocks) > 1]
    if not several:
        return None
    stage = max(several, key=lambda stage: len(stage.blocks))
    return stage, stage.blocks[-1]


def graph(operations: Sequence[Operation], block: str) -> dict[str, Node]:
    """Return the nodes of a block, each after the nodes that it reads.

    Operations that share the second part of their name are one node, such as the four layers of NASNet's separable
    convolutions. Batch normalizations and ReLUs belong to the node before them.
    """
    inside = [x for x in operations if block_of(x.name) == block]
    parts: dict[str, list[Operation]] = {}
    for operation in inside:
        parts.setdefault(_part(operation.name), []).append(operation)
    nodes: dict[str, Node] = {}
    stands_for: dict[str, str] = {}  # an operation → the node that its output is drawn as
    for operation in inside:
        part = _part(operation.name)
        sources = tuple(stands_for[x] if x in stands_for else _outside(x, nodes) for x in operation.inputs)
        if all(x.kind in UNSEEN for x in parts[part]):
            (stands_for[operation.name],) = sources
            continue
        stands_for[operation.name] = part
        before = nodes[part].sources if part in nodes else ()
        read = dict.fromkeys((*before, *(x for x in sources if x != part)))
        nodes[part] = Node(*_label(parts[part]), tuple(read))
    return nodes


def _part(name: str) -> str:
    """Return the second part of a name: "left1" for `normal_1/left1/bn1`, "" for the block's output."""
    return name.split("/")[1] if "/" in name else ""


def _outside(name: str, nodes: dict[str, Node]) -> str:
    """Return the node of another block's output. It is added to the nodes when it is first read."""
    key = f"← {block_of(name)}"
    nodes.setdefault(key, Node(block_of(name), outside=True))
    return key


def _label(operations: Sequence[Operation]) -> tuple[str, str]:
    """Return two short lines that describe a node."""
    by_kind = {x.kind: x for x in reversed(operations)}  # the first operation of each kind
    channels = f"{operations[-1].output_shape[-1]:,}"
    if "scale_channels" in by_kind:
        squeezed = by_kind["dense"].output_shape[-1]
        return "squeeze, excite", f"{channels} → {squeezed:,} → {channels}"
    if conv := by_kind.get("conv"):
        groups = int(str(conv.settings["groups"]))
        if groups == conv.input_shapes[0][-1]:
            return "sep", window_of(conv)
        return window_of(conv), f"{channels}, {groups} groups" if groups > 1 else channels
    (kind,) = set(by_kind) - UNSEEN or {operations[0].kind}
    if kind == "residual_sum":
        scale = by_kind[kind].settings.get("scale")
        return ("+" if scale is None else f"+ {scale:g} ×"), ""
    if kind in ("max_pool", "average_pool"):
        return {"max_pool": "max", "average_pool": "mean"}[kind], window_of(by_kind[kind])
    return kind.replace("_", " "), channels
