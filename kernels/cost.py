"""What an operation costs, counted from shapes alone.

MACs are the multiply-accumulates of convolutions and fully connected layers, the unit of the papers' tables.
FLOPs are all floating point operations: two a MAC, plus the elementwise ones (a bias, a ReLU, a comparison in
a max-pool each count one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Cost:
    """Operations of one call on a whole batch."""

    macs: int = 0
    flops: int = 0
    backward_flops: int = 0  # gradients to the inputs and to the parameters

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.flops + other.flops,
            self.backward_flops + other.backward_flops,
        )


def elementwise_cost(shape: Sequence[int], forward: int = 1, backward: int = 1) -> Cost:
    """`forward` and `backward` operations for each element of `shape`."""
    return Cost(flops=forward * prod(shape), backward_flops=backward * prod(shape))
