"""The Keras twin computes the same as the network, and the comparison detects differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from benchmarks.harness.agreement import Disagreement, check_twin, compare_gradients, compare_logits
from benchmarks.twins.keras import LAYERS, keras_twin, twin_variables
from rawcnn.models import MODELS
from rawcnn.nn.trace import symbolic_trace
from tests.benchmarks.toys import batch, dropping, everything, scramble, small, toy

FAMILIES = [  # (model, options, size, images, dtype of the comparison)
    ("cifar_resnet20", {}, 8, 8, "float32"),
    ("cifar_resnet20", {"shortcut": "A", "zeros": "end"}, 8, 8, "float64"),
    ("resnet18", {}, 64, 4, "float32"),
    ("googlenet", {}, 64, 1, "float32"),
    ("vgg_a_lrn", {}, 32, 2, "float32"),
    ("alexnet", {}, 67, 2, "float32"),
    # float32 gradients of a network this deep change by 2 % when its images are rounded
    pytest.param("resnet50", {"version": "v1.5"}, 64, 2, "float64", marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def fresh_keras():
    yield
    keras.backend.clear_session()


@pytest.mark.sample("^cifar.*float32$")
@pytest.mark.parametrize("model, options, size, count, dtype", FAMILIES)
def test_family(model, options, size, count, dtype):
    network = scramble(rawcnn.create(model, classes=10, size=size, **options))
    agreement = check_twin(network, keras_twin(network, dtype), *batch(network, count))
    assert agreement.logits <= 1e-4
    assert agreement.gradient <= 1e-3


@pytest.mark.sample("none", "torch")
@pytest.mark.parametrize("preprocessing", ["none", "centered", "torch", "caffe"])
def test_every_layer_and_setting(preprocessing):
    network = toy(everything, preprocessing=preprocessing)
    assert {op.kind for op in network.operations} == set(LAYERS)
    agreement = check_twin(network, keras_twin(network), *batch(network))
    assert agreement.logits <= 1e-5
    assert agreement.gradient <= 1e-3  # a bias before batch norm has gradient 0, up to rounding


@pytest.mark.parametrize("model", [small, dropping])
def test_bfloat16(model):
    network = toy(model, "bfloat16")
    twin = keras_twin(network, "bfloat16")
    assert twin.get_layer("conv1").compute_dtype == "bfloat16"
    assert twin.get_layer("conv1").variable_dtype == "float32"
    check_twin(network, twin, *batch(network))


DEEPER = (
    "101",
    "152",
    "154",
    "nasnet_large",
    "net32",
    "44",
    "56",
    "110",
    "plain32",
)  # deeper networks of the same blocks


@pytest.mark.sample(9)
@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith(DEEPER)])
def test_all_models_are_within_the_twin(name):
    model = MODELS[name]
    operations = symbolic_trace(model.configured(10), (1, model.size, model.size, 3)).operations
    assert {op.kind for op in operations} <= set(LAYERS)


def test_the_check_leaves_the_twin_as_it_was():
    network = toy(everything)
    twin = keras_twin(network)
    check_twin(network, twin, *batch(network))
    assert twin.get_layer("drop").rate == 0.5
    for path, variable in twin_variables(network, twin).items():
        np.testing.assert_array_equal(np.reshape(variable, network.variables[path].shape), network.variables[path])


@pytest.mark.sample(5)
@pytest.mark.parametrize("path", toy(everything).variables)
def test_one_wrong_weight_is_seen(path):
    network = toy(everything)
    twin = keras_twin(network)
    variable = twin_variables(network, twin)[path]
    variable.assign(variable * 1.02 + 0.02)
    with pytest.raises(Disagreement, match="other logits"):
        check_twin(network, twin, *batch(network))


def test_another_rule_of_training_is_seen():
    network = toy(small)
    twin = keras_twin(network)
    twin.get_layer("bn1").epsilon = 1e-2
    twin.get_layer("bn1").moving_variance.assign_sub(
        1e-2 - 1e-3 + tf.zeros(8)
    )  # compensates the changed epsilon at inference
    with pytest.raises(Disagreement, match="other gradients"):
        check_twin(network, twin, *batch(network))


def test_numbers_that_are_not_finite_never_agree():
    nothing = np.array([np.nan, 1.0])
    with pytest.raises(Disagreement):
        compare_logits(np.ones(2), nothing, "float32")
    with pytest.raises(Disagreement):
        compare_gradients({"a/filters": np.ones(2)}, {"a/filters": nothing}, "float32", lambda: 1.0)


def test_refusals():
    network = toy(small)
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        keras_twin(network, "float16")
    heads = rawcnn.create("googlenet", classes=10, size=224, auxiliary=True)
    with pytest.raises(ValueError, match="auxiliary heads"):
        keras_twin(heads)

    def strange(net, images):
        return dense_of(net.apply("odd", "strange", tf.identity, [images]), net)

    def dense_of(x, net):
        from rawcnn.nn.layers import dense

        return dense(net, "classifier", x, 5)

    with pytest.raises(ValueError, match="odd is a strange"):
        keras_twin(toy(strange))
