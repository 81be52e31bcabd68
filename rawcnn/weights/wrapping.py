"""Find a network's tensors under the names that wrappers and containers put before its own.

    module.             torch.nn.DataParallel
    _orig_mod.          torch.compile
    model. net.         a training module that holds the network
    state_dict. ema.    containers in the saved file
    resnet50/           a Keras model inside another

A prefix is not looked up in a list. It is what the file has before the names that the network needs. Only the wrappers
that PyTorch itself puts around parts of a network are: `features.module.0.weight` is `features.0.weight`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from rawcnn.nn.network import Network
from rawcnn.weights.detect import detect_scheme
from rawcnn.weights.stored import Stored, StoredTensors

SEPARATOR = re.compile(r"[./]")
COPY = 0.5  # a prefix with this share of the names of the best one holds another copy of the network
WRAPPERS = re.compile(r"(?<![^./])(module|_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
# Names of copies next to the trained network: moving averages, the slow network of self-supervised training, and the
# network inside an attack
AVERAGED = re.compile(
    r"(^|[./_])(ema|swa|averaged?|shadow|teacher|target|slow|momentum|encoder_k|key|attacker)([./_]|$)", re.IGNORECASE
)


def unwrapped(network: Network, tensors: StoredTensors) -> dict[str, Stored]:
    """Return the tensors of a file under the names that the network's naming scheme expects.

    Args:
        network: The network that the file is to be loaded into.
        tensors: The tensors of the file.

    Returns:
        The tensors without the prefix that most of them share, and without what lies outside of it. If there is no
        prefix, all tensors. A classifier outside of the prefix is under its own name, too.

    Raises:
        ValueError: The names follow no known scheme, or the file holds the network twice.
    """
    named = {name.removesuffix(":0"): tensor for name, tensor in tensors.items()}  # a TensorFlow variable's output
    bare = {WRAPPERS.sub("", name): tensor for name, tensor in named.items()}
    named = bare if len(bare) == len(named) else named
    parts = {name: [*_suffixes(name)] for name in named}
    all_names = dict.fromkeys([*named, *(suffix for suffixes in parts.values() for _, suffix in suffixes)])
    scheme = detect_scheme(network, all_names)
    expected = {name for source in scheme.sources.values() for name in source.names}
    votes = Counter(prefix for suffixes in parts.values() for prefix, suffix in suffixes if suffix in expected)
    prefix = _prefix(votes, len(expected))
    inside = {name.removeprefix(prefix): name for name in named if name.startswith(prefix)}
    others = {name for name in named if not (name.startswith(prefix) and name.removeprefix(prefix) in expected)}
    found = _elsewhere(expected - {*inside}, {name: parts[name] for name in others}, votes)
    moved = {*found.values()}  # under another name now
    return {name: named[place] for name, place in inside.items() if place not in moved} | {
        name: named[place] for name, place in found.items()
    }


def _suffixes(name: str) -> Iterator[tuple[str, str]]:
    """Yield ("", name), then each split of the name into a prefix, with its last separator, and the rest."""
    yield "", name
    for mark in SEPARATOR.finditer(name):
        yield name[: mark.end()], name[mark.end() :]


def _prefix(votes: Counter[str], expected: int) -> str:
    """Return the prefix under which most of the network's names are; of copies the one that is not a moving average.

    Args:
        votes: How many of the network's names are under each prefix.
        expected: How many names the network has. Parts of a network of other names are no copies.
    """
    most = max(votes.values(), default=0)
    if votes[""] >= COPY * most:
        return ""
    copies = [prefix for prefix, count in votes.items() if count > COPY * most]
    trained = [prefix for prefix in copies if not AVERAGED.search(prefix)] or copies
    if len(trained) > 1 and most > COPY * expected:
        raise ValueError(
            f"it holds the network {len(trained)} times, under {', '.join(map(repr, sorted(trained)))}; write one of "
            "them to a file of its own"
        )
    return trained[0]


def _elsewhere(missing: Iterable[str], parts: dict[str, list[tuple[str, str]]], votes: Counter[str]) -> dict[str, str]:
    """Return the places of tensors outside of the prefix, such as a classifier's, that have no rival."""
    limit = COPY * max(votes.values())
    found: dict[str, list[str]] = {name: [] for name in missing}
    for name, suffixes in parts.items():
        for prefix, suffix in suffixes:
            if suffix in found and votes[prefix] <= limit:
                found[suffix].append(name)
    return {suffix: names[0] for suffix, names in found.items() if len(names) == 1}
