"""On every model, the deconvnet's colors lie where the layer's unit sees."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from functools import partial
from itertools import product

import pytest
import tensorflow as tf

import rawcnn
from rawcnn import models
from rawcnn.nn.trace import Operation, SymbolicTrace, TraceComplete
from rawcnn.visualize.deconvolution import METHODS, deconvolve
from tests import references
from tests.rawcnn.conformance import TABLE, settle
from tests.rawcnn.visualize.test_deconvolution import inside, network

PLAIN = {case.name: case for case in reversed(TABLE) if not case.only_counted}  # the first of each: without options
SEEN = [pytest.param(name, id=name, marks=case.marks) for name, case in PLAIN.items()]


class Ungated(SymbolicTrace):
    """A drawing in which a gate is a number: a position sees what the convolutions before it see."""

    def apply(self, name, kind, kernel, inputs, parameters=(), **settings):
        result = super().apply(name, kind, kernel, inputs, parameters, **settings)
        if kind == "scale_channels":
            self._receptive_fields[name] = self._receptive_fields[self.name_of(inputs[0])]
            self.operations[-1] = dataclasses.replace(self.operations[-1], receptive_field=self._receptive_fields[name])
        return result


def drawn(kind, model, size: int) -> list[Operation]:
    """The operations of a model over images of `size`, by a kind of drawing."""
    with tf.Graph().as_default():
        trace = kind(tf.raw_ops.Placeholder(dtype=tf.float32, shape=(1, size, size, 3)))
        model(trace, trace.images)
    return trace.operations


def deepest(operations: list[Operation], places, size: int) -> tuple[Operation, list[tuple[int, int]]]:
    """The last convolution or sum that at all `places` of its map sees a part of the image; and the positions."""
    for operation in reversed(operations):
        if operation.kind in ("conv", "residual_sum"):
            positions = places(*operation.output_shape[1:3])
            if (0, 0, size, size) not in [
                operation.receptive_field.box(position, (size, size)) for position in positions
            ]:
                return operation, positions
    raise AssertionError("every layer sees the whole image")


def until(layer, model, net, images):
    """A model that ends with a layer: what comes after is most of the variables, and here nobody asks for it."""
    net.requested = net.requested or frozenset([layer])
    with suppress(TraceComplete):
        model(net, images)
    return [*net.activations.values()][-1]


def middle(height, width):
    return [(height // 2, width // 2)]


def corners(height, width):
    return [(0, 0), (height - 1, width - 1)]


def test_no_model_is_missing():
    assert set(PLAIN) == set(rawcnn.MODELS)


@pytest.mark.sample("^alexnet$", "^inception_v3$")
@pytest.mark.parametrize("name", SEEN)
def test_nothing_outside_the_receptive_field(name):
    """Of the deepest layers that see a part of the image, in the middle and in corners, by each method.

    Behind a gate every position sees the whole image, so there the deepest layer of the gradient and of guided
    backpropagation is before the first gate; for the deconvnet gates are constants, and it stays with the convolutions.
    """
    case = PLAIN[name]
    size, model, gated = case.small, models.find_model(name).configured(4), case.field is None
    operations = drawn(SymbolicTrace, model, size)
    convolutions = drawn(Ungated, model, size) if gated else operations
    asked = [
        (method, *deepest(convolutions if method == "deconvnet" else operations, places, size))
        for method, places in product(METHODS, (middle, corners))
    ]
    names = [operation.name for operation in operations]
    last = max((operation.name for _, operation, _ in asked), key=names.index)
    net = network(partial(until, last, model), size)
    if gated:
        settle(net)
    images = references.random((2, size, size, 3), 1, low=0.0)
    for method, operation, positions in asked:
        some, channels = images[: len(positions)], [*range(len(positions))]
        found = deconvolve(net, some, operation.name, channels, positions, method=method, seed="one", compile="eager")
        inside(found.pictures, [operation.receptive_field.box(position, (size, size)) for position in positions])
