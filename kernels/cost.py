"""The cost of an operation, counted from shapes alone.

MACs are the multiply-accumulates of convolutions and fully connected layers, the unit of the papers' tables. FLOPs are
all floating point operations: two per MAC, plus the elementwise ones. A bias, a ReLU, and a comparison in a max-pool
each count one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Cost:
    """The operations of one call on a batch.

    Attributes:
        macs: Multiply-accumulates.
        flops: Floating point operations of the forward pass.
        backward_flops: Those of the gradients to the inputs and to the parameters.
    """

    macs: int = 0
    flops: int = 0
    backward_flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.macs + other.macs,
            self.flops + other.flops,
            self.backward_flops + other.backward_flops,
        )


def elementwise_cost(shape: Sequence[int], forward: int = 1, backward: int = 1) -> Cost:
    """Count the operations of an elementwise function.

    Args:
        shape: The shape of the tensor.
        forward: Operations per element in the forward pass.
        backward: Operations per element in the backward pass.

    Returns:
        `forward` and `backward` FLOPs for each element, and no MACs.
    """
    return Cost(flops=forward * prod(shape), backward_flops=backward * prod(shape))
