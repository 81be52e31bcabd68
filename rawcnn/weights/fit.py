"""Compare the tensors of a file with a network, and decide which variables of its head the file does not have to hold.

Only names, shapes and types are compared; nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rawcnn.nn.network import Network
from rawcnn.weights.detect import Scheme
from rawcnn.weights.stored import StoredTensors

FLOATS = ("float16", "bfloat16", "float32", "float64")
HEAD_SIZES = 2  # dimensions of fully connected weights: another network's head has no tensor with more
AUXILIARY = re.compile(r"^(aux\d|AuxLogits)\.")  # auxiliary heads in PyTorch's names

PARAMETRIZED = re.compile(r"\.parametrizations\.|\.weight_(orig|mask|g|v|u)$")


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit a network."""

    network: Network
    scheme: Scheme
    tensors: StoredTensors

    def problems(self, skipped: Collection[str]) -> list[str]:
        """Return a sentence for each tensor that is missing, left over, or of another shape or type."""
        found = [self._problem(path) for path in self.network.parameters if path not in skipped]
        return [problem for problem in found if problem] + self._after() + self._left(skipped)

    def skipped(self) -> tuple[str, ...]:
        """Return the variables that head="skip" does not load: classifiers, and what leads to them and does not fit."""
        if self.network.last is not None:
            return ()
        classifiers, hidden, auxiliary = self._heads()
        paths = set(classifiers)
        for group in (hidden, auxiliary):
            if any(self._problem(path) for path in group):
                paths |= set(group)
        return tuple(path for path in self.network.parameters if path in paths)

    def advice(self) -> str:
        """Return how to load the file without its head, if only the head does not fit; otherwise ""."""
        skipped = self.skipped()  # none in a network without a head
        if self.problems(skipped) or not any(self._problem(path) for path in skipped):
            return ""
        source = self.scheme.sources.get(f"{self.network.head}/bias")
        stored = self.tensors.get(source.names[0]) if source else None
        classes = stored.shape[0] if stored and len(stored.shape) == 1 else self.network.classes
        other = f"create it with classes={classes} (--classes {classes}), or "
        skip = 'load all but the classifier with head="skip" (--head skip)'
        return f"; {skip}" if classes == self.network.classes else f"; {other}{skip}"

    def remedy(self) -> str:
        """Return how to save pruned or parametrized weights, from which PyTorch computes the weights; otherwise ""."""
        if not any(PARAMETRIZED.search(name) for name in self.tensors):
            return ""
        return (
            "; make pruned and parametrized weights permanent before they are saved: torch.nn.utils.prune.remove, "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )

    def _problem(self, path: str) -> str:
        """Describe what makes the tensors of a variable unusable, or return ""."""
        shape = self.network.complete.parameters[path].shape
        source = self.scheme.sources.get(path) or self.scheme.after.get(path)
        if source is None:
            return f"the file has no tensor for {path} {shape}"
        for name, expected in zip(source.names, source.shapes, strict=True):
            if name not in self.tensors:
                return f"missing {name} for {path} {shape}"
            if self.tensors[name].shape != expected:
                return f"{name} is {self.tensors[name].shape}, expected {expected} for {path}"
            if self.tensors[name].dtype not in FLOATS:
                dtype = self.tensors[name].dtype
                kinds = ", ".join(FLOATS) if dtype.startswith("float") else "floating point numbers"
                return f"{name} holds {dtype}, expected {kinds}"
        return ""

    def _after(self) -> list[str]:
        """Describe filters after the network's end that the file of another model lacks or has in other shapes.

        The network does not read them. But if its first layers equal another model's, only the rest shows whose file
        it is. The file may end early, too: filters after the last one that it has are not missing.
        """
        operations, after = self.network.complete.operations, self.scheme.after
        filters = [p.path for o in operations for p in o.parameters if p.path in after and p.path.endswith("/filters")]
        present = [n for n, path in enumerate(filters) if all(name in self.tensors for name in after[path].names)]
        problems = [self._problem(path) for path in filters[: max(present, default=-1) + 1]]
        return [problem for problem in problems if problem]

    def _left(self, skipped: Collection[str]) -> list[str]:
        """Describe the tensors that no variable of the complete model uses.

        Counters are no problem. Neither is another head, if the network's own is skipped or the network ends before it.
        """
        sources = (*self.scheme.sources.values(), *self.scheme.after.values())
        used = {name for source in sources for name in source.names}
        left = [name for name in self.tensors if name not in used and not name.endswith(self.scheme.unused)]
        left = [name for name in left if self.tensors[name].shape and self.tensors[name].dtype in FLOATS]
        if skipped or self.network.last is not None:
            left = [name for name in left if not AUXILIARY.match(name)]
            if all(len(self.tensors[name].shape) <= HEAD_SIZES for name in left):
                return []
        return [f"unexpected {name} {self.tensors[name].shape}" for name in left]

    def _heads(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """Return the variables of all classifiers, of the layers between the last map and the classifier, and of the
        auxiliary heads before their classifiers."""
        network = self.network
        inference = [o.name for o in network.operations]
        maps = max(n for n, o in enumerate(network.operations) if len(o.output_shape) == 4)
        after = {*inference[maps + 1 :]}
        operation = {path: parameter.operation for path, parameter in network.parameters.items()}
        classifier = next((o.name for o in reversed(network.operations) if o.parameters), network.head)
        last = {classifier, *network.auxiliary}
        classifiers = [path for path, name in operation.items() if name in last]
        hidden = [path for path, name in operation.items() if name in after - last]
        auxiliary = [path for path, name in operation.items() if name not in inference and name not in last]
        return classifiers, hidden, auxiliary
