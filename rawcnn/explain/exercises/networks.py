"""Exercises 9 and 10: receptive fields, and what an inception module saves by its reductions."""

from __future__ import annotations

import numpy as np

from rawcnn.explain.exercises.exercise import Exercise
from rawcnn.nn.receptive_field import Axis


def receptive_field(layers):
    """Compute how many pixels of the image a position sees after each layer, along one axis.

    Args:
        layers: Pairs (taps, stride) of convolutions and pools, from the image on.

    Returns:
        Two arrays [layers]: the size of the receptive field in pixels, and the distance of neighboring positions in
        pixels of the image.
    """
    size, distance, sizes, distances = 1, 1, [], []
    for taps, stride in layers:
        size += (taps - 1) * distance
        distance *= stride
        sizes.append(size)
        distances.append(distance)
    return np.array(sizes), np.array(distances)


def inception_macs(side, channels, one, reduce_three, three, reduce_five, five, projection):
    """Count the multiply-accumulates of an inception module with and without its 1×1 reductions.

    Args:
        side: Height and width of the map.
        channels: Channels of the input.
        one: Filters of the 1×1 convolution.
        reduce_three: Filters of the 1×1 reduction before the 3×3 convolution.
        three: Filters of the 3×3 convolution.
        reduce_five: Filters of the 1×1 reduction before the 5×5 convolution.
        five: Filters of the 5×5 convolution.
        projection: Filters of the 1×1 convolution after the pool. Without reductions there is none.

    Returns:
        Two ints: the multiply-accumulates of the module, and those of the naive module of the same paper's figure 2a,
        which has only the 1×1, the 3×3 and the 5×5 convolution, each over all input channels.
    """
    pixels = side * side
    reduced = (
        channels * (one + reduce_three + reduce_five + projection) + 9 * reduce_three * three + 25 * reduce_five * five
    )
    naive = channels * (one + 9 * three + 25 * five)
    return pixels * reduced, pixels * naive


# Inputs and right values -----------------------------------------------------------------------------------------


def _fields(layers):
    axis, sizes, distances = Axis(), [], []
    for taps, stride in layers:
        axis = axis.window(taps, stride, padding=0)
        sizes.append(axis.size)
        distances.append(axis.stride)
    return np.array(sizes), np.array(distances)


def _macs(side, channels, one, reduce_three, three, reduce_five, five, projection):
    """One convolution after another, as (taps, channels in, channels out)."""
    module = [(1, channels, one), (1, channels, reduce_three), (9, reduce_three, three)]
    module += [(1, channels, reduce_five), (25, reduce_five, five), (1, channels, projection)]
    naive = [(1, channels, one), (9, channels, three), (25, channels, five)]
    return tuple(
        side**2 * sum(taps * ins * outs for taps, ins, outs in convolutions) for convolutions in (module, naive)
    )


ALEXNET = ((11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2))

RECEPTIVE_FIELD = Exercise(
    title="the receptive field",
    task="""
A position of a layer with k taps sees k positions of the layer before. If those are j pixels of the image apart, and
each sees r pixels, the position sees

    r' = r + (k − 1) · j        and its neighbors are    j' = j · s    pixels away, with the stride s.

The image itself has r = j = 1.
""",
    solution=receptive_field,
    expected=_fields,
    cases={
        "two 3×3 convolutions see as much as one 5×5": dict(layers=((3, 1), (3, 1))),
        "AlexNet, conv1 to pool5": dict(layers=ALEXNET),
        "VGG's first five layers": dict(layers=((3, 1), (3, 1), (2, 2), (3, 1), (3, 1))),
    },
    hints=(
        "Keep two numbers, r and j, and update them layer by layer.",
        "Update r before j: the positions of the layer before are j pixels apart, not j'.",
    ),
    source="rawcnn/nn/receptive_field.py",
    look=lambda index, layers: {"layers up to this one: taps, stride": list(layers[: index[0] + 1])},
)

REDUCTION = Exercise(
    title="what an inception module saves by its reductions",
    task="""
A convolution with k×k taps from C to O channels on a map of n×n pixels needs n·n · k·k · C · O multiply-accumulates.
GoogLeNet puts 1×1 convolutions in front of the 3×3 and the 5×5 ones, which reduce the number of channels first
(Szegedy et al. 2015, figure 2 and table 1). Count both modules.
""",
    solution=inception_macs,
    expected=_macs,
    cases={
        "one channel each": dict(
            side=1, channels=1, one=1, reduce_three=1, three=1, reduce_five=1, five=1, projection=1
        ),
        "GoogLeNet's inception (3a)": dict(
            side=28, channels=192, one=64, reduce_three=96, three=128, reduce_five=16, five=32, projection=32
        ),
        "GoogLeNet's inception (5b)": dict(
            side=7, channels=832, one=384, reduce_three=192, three=384, reduce_five=48, five=128, projection=128
        ),
    },
    hints=(
        "List the convolutions of each module as (taps, channels in, channels out). The module has six, the naive one "
        "three.",
        "The pool costs no multiply-accumulates, but the 1×1 convolution after it does.",
    ),
    source="rawcnn/models/googlenet.py",
    look=lambda index, **inputs: inputs,
)
