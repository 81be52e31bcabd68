"""Folded batch norms: the same logits, the same gradients, for every kind of network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.nn.execution import MODES
from rawcnn.nn.folding import Folded, fold, folded
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace
from tests import references
from tests.rawcnn import small

NAMES = {
    "cifar_resnet20": {},
    "cifar_plain20": {},
    "inception_v3": {"size": 75},
    "resnext50": {"size": 32},
    "se_resnet50": {"size": 32},
    "googlenet": {"size": 64},
}


def busy(network):
    """Batch-norm averages and scales as after a training."""
    generator = np.random.default_rng(0)
    for path, variable in network.variables.items():
        if path.endswith(("/mean", "/offset")):
            variable.assign(generator.normal(0, 0.2, variable.shape))
        elif path.endswith(("/variance", "/scale")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return network


@pytest.mark.sample("^cifar_resnet20$")
@pytest.mark.parametrize("name", NAMES)
def test_the_same_logits_and_gradients(name):
    network = busy(rawcnn.create(name, classes=10, **NAMES[name]))
    images = references.random((2, network.input_size, network.input_size, 3), low=0.0)
    upstream = references.random((2, 10), 3)
    (expected,) = references.tape_gradient(network, [images], upstream)
    (gradient,) = references.tape_gradient(folded(network), [images], upstream)
    references.close(folded(network)(images), network(images), "gated network")
    differences = np.abs(gradient - expected) / np.abs(expected).max()
    assert np.median(differences) < 1e-3
    assert differences.max() < 5e-2  # a rectifier within rounding of zero may switch a path


class Exact(Trace):
    """A trace in float64 from end to end."""

    def variable(self, path, shape, initial, **options):
        return self._variables[path]


class ExactFolded(Folded):
    """A folded trace in float64 from end to end."""

    def variable(self, path, shape, initial, **options):
        return None if path.rsplit("/", 1)[0] in self.fold.convolutions else self._variables[path]


@pytest.mark.sample("^cifar_resnet20$")
@pytest.mark.parametrize("name", NAMES)
def test_folding_is_exact_in_float64(name):
    """No rectifier is within float64's rounding of zero, so every pixel's gradient agrees."""
    network = busy(rawcnn.create(name, classes=10, **NAMES[name]))
    values = {path: tf.cast(variable, tf.float64) for path, variable in network.variables.items()}
    wide = SimpleNamespace(operations=network.operations, operation=network.operation, variables=values)
    images = references.random((2, *network.image_size, 3), dtype="float64")
    upstream = references.random((2, 10), 3, "float64")

    def logits(trace_type, **options):
        def run(images):
            trace = trace_type(values, images, dtype=tf.float64, **options)
            return network.model(trace, trace.images)

        return run

    plain, exact = logits(Exact), logits(ExactFolded, fold=fold(cast(Network, wide)))
    references.close(exact(images), plain(images), wobble=1e-10)
    (expected,), (gradient,) = (references.tape_gradient(run, [images], upstream) for run in (plain, exact))
    assert gradient.dtype == tf.float64 and np.abs(expected).max() > 0
    assert references.error(gradient, expected) < 1e-6


def test_a_wide_program_of_a_narrow_network_sees_wide_images():
    """Attacks try again in float32 what bfloat16 does not fool: the images may not be rounded on the way."""
    narrow = busy(rawcnn.create("cifar_resnet20", classes=10, precision="bfloat16", size=16))
    wide = rawcnn.create("cifar_resnet20", classes=10, size=16)
    for path, variable in narrow.variables.items():
        wide.variables[path].assign(variable)
    images = references.random((2, 16, 16, 3), low=0.0)
    np.testing.assert_array_equal(folded(narrow, "float32")(images), folded(wide)(images))


@pytest.mark.parametrize("make", [folded, rawcnn.program])
def test_an_unknown_precision_is_named(make):
    with pytest.raises(ValueError, match="precision is 'int8'; expected one of float32, bfloat16"):
        make(small.network(), precision="int8")


def test_every_norm_after_a_convolution_is_folded():
    network = rawcnn.create("cifar_resnet20")
    products = fold(network)
    norms = {op.name for op in network.operations if op.kind == "batch_norm"}
    assert products.norms == norms and len(products.convolutions) == len(norms) == 19
    spared = fold(network, spare=["conv2_1/conv1"])
    assert norms - spared.norms == {"conv2_1/bn1"}


def test_a_spared_convolution_keeps_its_activation():
    network = busy(small.network())
    images = references.random((2, 8, 8, 3), low=0.0)
    plain = network.activations(images, ["conv1"])["conv1"]
    folding = network.activations(
        images, ["conv1"], trace_type=lambda *a, **o: Folded(*a, fold=fold(network, ["conv1"]), **o)
    )
    references.close(folding["conv1"], plain)


def test_bfloat16():
    network = busy(rawcnn.create("cifar_resnet20"))
    images = references.random((4, 32, 32, 3), low=0.0)
    logits = folded(network, "bfloat16")(images)
    assert logits.dtype == tf.float32
    assert references.error(logits, network(images)) < 0.1


@pytest.mark.sample("cifar_resnet20-xla")
@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("name", ["cifar_resnet20", "alexnet"])
def test_a_program_is_the_network(name, mode):
    """AlexNet has grouped convolutions, and fully connected layers that nothing is folded into."""
    network = busy(rawcnn.create(name, classes=10, size=67 if name == "alexnet" else 32))
    for count in (1, 3):
        images = references.random((count, network.input_size, network.input_size, 3), low=0.0)
        references.close(rawcnn.program(network, mode)(images), network(images), "gated network")


def test_a_program_holds_its_weights():
    """In a graph filters are constants, and none is there twice; what is assigned later does not reach it."""
    network = busy(rawcnn.create("cifar_resnet20"))
    images = references.random((2, 32, 32, 3), low=0.0)
    program: Any = rawcnn.program(network, "graph")
    before = program(images)
    graph = program.get_concrete_function(images).graph
    assert max(outer.shape.rank for outer, _ in graph.captures) == 2  # the classifier's weights, and what is [C]
    constants = [node.attr["value"].tensor for node in graph.as_graph_def().node if node.op == "Const"]
    numbers = sum(tf.TensorShape(tensor.tensor_shape).num_elements() for tensor in constants)
    folded_numbers = sum(np.size(p) for both in fold(network).convolutions.values() for p in both)
    assert folded_numbers < numbers < 1.1 * folded_numbers
    network.variables["conv1/filters"].assign_add(tf.ones((3, 3, 3, 16)))
    references.close(program(images), before)


def test_later_weights_do_not_move_what_is_folded():
    network = busy(small.network())
    images = references.random((2, 8, 8, 3), low=0.0)
    function = folded(network)
    before = function(images)
    network.variables["conv1/bn/scale"].assign_add(tf.ones(8))
    references.close(function(images), before)
    assert references.error(folded(network)(images), before) > 1e-3
