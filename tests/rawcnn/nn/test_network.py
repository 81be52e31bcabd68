"""Network, Trace and Forward: what a walk returns, what it leaves alone, and what it says about bad input."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.nn.layers import conv, dense, dropout, global_average_pool, relu
from rawcnn.nn.network import Network
from rawcnn.nn.trace import symbolic_trace
from tests import references
from tests.rawcnn import small

IMAGES = references.random((4, 8, 8, 3), 0, low=0.0)


@pytest.fixture(scope="module")
def net():
    return small.network(seed=1)


def test_forward_has_every_operation_of_the_ledger_by_name(net):
    forward = net.forward(IMAGES)
    assert list(forward.activations) == [operation.name for operation in net.operations]
    for operation in net.operations:
        assert tuple(forward.activations[operation.name].shape[1:]) == operation.output_shape[1:]
    assert {"conv1", "conv1/bn", "conv1/bn/relu", "pool1", "conv2/relu", "classifier"} <= {*forward.activations}
    np.testing.assert_array_equal(forward.activations["classifier"], forward.logits)
    np.testing.assert_array_equal(net(IMAGES), forward.logits)
    assert forward.logits.dtype == tf.float32 and forward.logits.shape == (4, 10)
    assert forward.statistics == {} and net.auxiliary == ()


def test_ledger_connects_the_operations(net):
    known = {"images"}
    for operation in net.operations:
        assert known.issuperset(operation.inputs)
        known.add(operation.name)
    assert net.operation("conv1").inputs == ("images",)
    assert net.operation("conv1/bn/relu").kind == "relu"
    assert [p.path for p in net.operation("conv2").parameters] == ["conv2/filters", "conv2/bias"]
    listed = [p.path for operation in net.operations for p in operation.parameters]
    assert listed == list(net.variables)


def test_ledgers_kernels_compute_the_activations(net):
    """Operation by operation, from the activations before: what `rawcnn profile --measure` times is the network."""
    values = {"images": IMAGES, **net.forward(IMAGES).activations}
    for operation in net.operations:
        inputs = [values[name] for name in operation.inputs]
        parameters = [net.variables[p.path] for p in operation.parameters]
        references.close(operation.kernel(*inputs, *parameters), values[operation.name])


def test_unknown_operation_lists_near_names(net):
    with pytest.raises(ValueError, match=r"there is no layer 'conv3'; names near it are .*conv[12]"):
        net.operation("conv3")
    with pytest.raises(ValueError, match="there is no layer 'zzz'; names near it are conv1"):
        net.operation("zzz")


def test_statistics_are_new_averages_and_nothing_is_assigned(net):
    before = {path: v.numpy() for path, v in net.variables.items()}
    forward = net.forward(IMAGES, train=True, seed=0)
    for path, value in net.variables.items():
        np.testing.assert_array_equal(value, before[path], path)
    assert list(forward.statistics) == ["conv1/bn/mean", "conv1/bn/variance"]
    x = forward.activations["conv1"].numpy().astype(np.float64).reshape(-1, 8)
    references.close(forward.statistics["conv1/bn/mean"], 0.9 * 0 + 0.1 * x.mean(0))
    references.close(forward.statistics["conv1/bn/variance"], 0.9 * 1 + 0.1 * x.var(0, ddof=1))  # Bessel: 256 − 1
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)  # the batch itself is divided by its biased variance
    references.close(forward.activations["conv1/bn"], y.reshape(4, 8, 8, 8), dtype="float32")


def test_inference_uses_the_averages():
    net = small.network(seed=1)
    net.variables["conv1/bn/mean"].assign(np.linspace(-1, 1, 8, dtype=np.float32))
    net.variables["conv1/bn/variance"].assign(np.linspace(0.5, 2, 8, dtype=np.float32))
    activations = net.forward(IMAGES).activations
    expected = (activations["conv1"] - np.linspace(-1, 1, 8)) / np.sqrt(np.linspace(0.5, 2, 8) + 1e-5)
    references.close(activations["conv1/bn"], expected)


def test_dropout_needs_a_seed(net):
    with pytest.raises(ValueError, match=r"drop draws random numbers in training; pass train=True .*seed=step"):
        net.forward(IMAGES, train=True)
    plain = Network("plain", lambda net, x: dense(net, "fc", x, 2), size=8, classes=2)
    assert plain.forward(IMAGES, train=True).logits.shape == (4, 2)


def test_seed_decides_the_masks(net):
    def drop(seed):
        return net.forward(IMAGES, train=True, seed=seed).activations["drop"].numpy()

    np.testing.assert_array_equal(drop(3), drop(3))
    np.testing.assert_array_equal(drop(3), drop(tf.constant([3, 0])))
    assert np.any(drop(3) != drop(4)) and np.any(drop([3, 0]) != drop([3, 1]))


def test_each_dropout_has_a_mask_of_its_own():
    def model(net, images):
        return dropout(net, "first", images, 0.5) + dropout(net, "second", images, 0.5)

    net = Network("masks", model, size=8, classes=3)
    activations = net.forward(IMAGES, train=True, seed=0).activations
    assert np.any((activations["first"].numpy() == 0) != (activations["second"].numpy() == 0))


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((1, 8, 8, 3), np.uint8), "images are uint8; expected float RGB in .0,1.: divide bytes by 255"),
        (np.zeros((1, 8, 8, 3), np.int64), "images are int64; expected float RGB"),
        (np.zeros((8, 8, 3), np.float32), r"images have shape \(8, 8, 3\); expected a batch \[B,H,W,3\]"),
        (np.zeros((1, 8, 8, 1), np.float32), r"images have shape \(1, 8, 8, 1\); expected a batch \[B,H,W,3\]"),
        (np.zeros((1, 3, 8, 8), np.float32), r"images have shape \(1, 3, 8, 8\); expected a batch \[B,H,W,3\]"),
    ],
)
def test_bad_images(net, images, message):
    with pytest.raises(ValueError, match=message):
        net(images)


def test_numpy_float64_and_half_are_taken(net):
    expected = net(IMAGES)
    references.close(net(IMAGES.numpy().astype(np.float64)), expected)
    assert net(IMAGES.numpy().astype(np.float16)).dtype == tf.float32


def test_dense_layers_fix_the_image_size():
    net = Network("fixed", lambda net, x: dense(net, "fc", x, 2), size=8, classes=2)
    with pytest.raises(ValueError, match=r"fc/weights was built with shape \(192, 2\), .* needs \(300, 2\)"):
        net(tf.zeros((1, 10, 10, 3)))
    assert small.network()(tf.zeros((1, 20, 12, 3))).shape == (1, 10)  # a global average pool does not


@pytest.mark.parametrize("rule", ["relu", "deconvnet_relu", "guided_relu"])
def test_relu_rule_handed_in_changes_the_gradient_as_it_says(rule):
    """Against the rules by hand, through two rectifiers: backwards from a one at each logit."""

    def model(net, images):
        x = relu(net, dense(net, "fc1", images, 12))
        x = relu(net, dense(net, "fc2", x, 9))
        return dense(net, "fc3", x, 4)

    net = Network("dense", model, size=3, classes=4, seed=2)
    images = references.random((5, 3, 3, 3), 3)
    with tf.GradientTape() as tape:
        tape.watch(images)
        forward = net.forward(images, relu=getattr(kernels, rule))
    gradient = tape.gradient(forward.logits, images)
    np.testing.assert_array_equal(forward.logits, net(images))

    back = np.ones((5, 4))
    for layer, before in (("fc3", "fc2"), ("fc2", "fc1"), ("fc1", None)):
        back = back @ net.variables[f"{layer}/weights"].numpy().astype(np.float64).T
        if before:
            passes = np.ones(back.shape, bool) if rule == "deconvnet_relu" else forward.activations[before].numpy() > 0
            back = np.where(passes, back if rule == "relu" else np.maximum(back, 0), 0)
    references.close(gradient, back.reshape(5, 3, 3, 3), "gradient")


def test_preprocessing():
    """By NumPy: images in [0,1] to what each network was trained on."""
    images = references.random((2, 8, 8, 3), 5, low=0.0).numpy()
    deviation = np.array([0.229, 0.224, 0.225])
    expected = {
        "none": images,
        "centered": images / 0.5 - 1,
        "torch": (images - np.array([0.485, 0.456, 0.406])) / deviation,
        "caffe": np.stack([255 * images[..., i] - mean for i, mean in ((2, 103.939), (1, 116.779), (0, 123.68))], -1),
    }
    for name, values in expected.items():
        net = Network("first", lambda net, x: dropout(net, "first", x, 0.5), size=8, classes=3, preprocessing=name)
        references.close(net(images), values)


def test_unknown_preprocessing_and_precision_list_the_known():
    with pytest.raises(ValueError, match="preprocessing is 'keras'; expected one of none, centered, torch, caffe"):
        rawcnn.create("cifar_resnet20", preprocessing="keras")
    with pytest.raises(ValueError, match="precision is 'float16'; expected one of float32, bfloat16"):
        rawcnn.create("cifar_resnet20", precision="float16")


def test_bfloat16_keeps_variables_statistics_and_logits_in_float32():
    net, wide = small.network(seed=1, precision="bfloat16"), small.network(seed=1)
    forward = net.forward(IMAGES, train=True, seed=0)
    assert {v.dtype for v in net.variables.values()} == {tf.float32}
    assert {v.dtype for v in forward.statistics.values()} == {tf.float32}
    assert forward.logits.dtype == tf.float32
    assert {value.dtype for value in forward.activations.values()} == {tf.bfloat16}
    references.close(net(IMAGES), wide(IMAGES), dtype="bfloat16")


def test_drawing_computes_nothing_and_creates_no_variable():
    """224-pixel VGG19: 20 G multiply-adds and 144 M parameters, in the time of a few hundred symbols."""
    trace = symbolic_trace(rawcnn.MODELS["vgg19"].configured(1000), (64, 224, 224, 3))
    assert trace.operations[-1].output_shape == (64, 1000)
    assert all(tf.is_symbolic_tensor(value) for value in trace.activations.values())


def test_names_in_a_model_must_differ():
    def twice(net, images, first, second):
        return conv(net, second, conv(net, first, images, 2, 3), 2, 3)

    with pytest.raises(ValueError, match="'a/filters'; every path in a model must differ"):
        symbolic_trace(partial(twice, first="a", second="a"), (1, 8, 8, 3))
    with pytest.raises(ValueError, match="two operations are named 'a'"):
        symbolic_trace(lambda net, x: global_average_pool(net, "a", relu_named(net, x)), (1, 8, 8, 3))


def relu_named(net, x):
    return net.apply("a", "relu", net.relu, [x])


def test_a_tensor_from_outside_is_refused():
    with pytest.raises(ValueError, match=r"no layer made the tensor .*; a model may only combine what layers return"):
        symbolic_trace(lambda net, x: relu(net, x + 1), (1, 8, 8, 3))


def test_repr_says_what_it_is(net):
    assert repr(net) == f"Network(small, 10 classes, 8×8, {net.parameter_count:,} parameters)"
