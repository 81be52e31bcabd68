"""Receptive fields: closed forms of the published networks, and what really changes an activation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rawcnn import models
from rawcnn.models.googlenet import inception
from rawcnn.models.resnet import cifar_resnet
from rawcnn.nn.layers import average_pool, concatenate, conv, max_pool, pad, relu, squeeze_excite
from rawcnn.nn.network import Network
from rawcnn.nn.receptive_field import Axis, ReceptiveField, Window, union
from rawcnn.nn.trace import find_operation, symbolic_trace
from tests import references


def fields(name, **options):
    """Receptive field by layer, at the model's own size."""
    model = models.find_model(name)
    operations = symbolic_trace(model.configured(model.classes, **options), (1, model.size, model.size, 3)).operations
    return {operation.name: operation.receptive_field for operation in operations}


def test_alexnet():
    """google-research/receptive_field counts the same."""
    by_layer = fields("alexnet")
    expected = {"conv1": 11, "pool1": 19, "conv2": 51, "conv3": 99, "conv4": 131, "conv5": 163, "pool5": 195}
    assert {name: by_layer[name].size for name in expected} == expected
    strides = {"conv1": 4, "pool1": 8, "conv2": 8, "pool2": 16, "conv5": 16, "pool5": 32}
    assert {name: by_layer[name].stride for name in strides} == strides


def test_vgg16():
    by_layer = fields("vgg16")
    expected = {"conv1_2": 5, "pool1": 6, "pool2": 16, "pool3": 44, "pool4": 100, "conv5_3": 196, "pool5": 212}
    assert {name: by_layer[name].size for name in expected} == expected
    assert by_layer["pool5"].stride == 32


@pytest.mark.parametrize("name, size", [("resnet50", 483), ("resnet101", 1027), ("resnet152", 1507)])
def test_resnet(name, size):
    function: Any = models.find_model(name).function
    blocks = function.keywords["blocks"]
    sums = 11 + sum(count * 8 * 2**stage for stage, count in enumerate(blocks))  # a 3×3 a block, on maps of stride 4·2ˢ
    by_layer = fields(name)
    last = by_layer[f"conv5_{blocks[-1]}"]
    assert last.size == sums == size and last.stride == 32


@pytest.mark.parametrize("depth", [8, 20, 56])
def test_cifar_resnet(depth):
    n = (depth - 2) // 6
    operations = symbolic_trace(partial(cifar_resnet, depth=depth), (1, 32, 32, 3)).operations
    assert find_operation(operations, f"conv4_{n}").receptive_field.size == 28 * n - 3


def test_three_layers_of_3x3_see_what_one_of_7x7_does_with_fewer_weights():
    """Simonyan & Zisserman §2.3: 27·C² weights against 49·C²."""
    channels = 64

    def three(net, images):
        x = conv(net, "images", images, channels, 1, bias=False)
        for number in range(3):
            x = conv(net, f"conv{number}", x, channels, 3, bias=False)
        return x

    def one(net, images):
        return conv(net, "conv", conv(net, "images", images, channels, 1, bias=False), channels, 7, bias=False)

    stacked, single = (symbolic_trace(model, (1, 32, 32, 3)) for model in (three, one))
    assert stacked.operations[-1].receptive_field == single.operations[-1].receptive_field
    assert stacked.operations[-1].receptive_field.size == 7
    weights = [sum(p.count for p in walk.parameters.values()) - 3 * channels for walk in (stacked, single)]
    assert weights == [27 * channels**2, 49 * channels**2]


def test_the_classifier_sees_the_whole_image():
    by_layer = fields("vgg16")
    assert by_layer["fc8"].box((0, 0), (224, 224)) == (0, 0, 224, 224)


def test_box_is_clipped_to_the_image():
    """A 3×3 at stride 2, padded by one in front: position 0 sees pixels −1 … 1."""
    field = Window(3, 2, ((1, 0), (1, 0))).over(ReceptiveField(), (8, 8))
    assert field.rows == Axis(start=-1, size=3, stride=2)
    assert field.box((0, 0), (8, 8)) == (0, 0, 2, 2)
    assert field.box((2, 3), (8, 8)) == (3, 5, 6, 8)


def test_sides_may_differ():
    field = Window((3, 5), (1, 2), "VALID", (2, 1)).over(ReceptiveField(), (16, 16))
    assert (field.rows, field.columns) == (Axis(0, 5, 1), Axis(0, 5, 2))
    tall = Window((7, 1)).over(ReceptiveField(), (16, 16))
    assert tall.size == 7
    assert union([field, tall]) == ReceptiveField(Axis(0, 7, 1), Axis(0, 5, 2))


# What really changes an activation ---------------------------------------------------------------------------


def windows(net, images):
    """Strides, dilation, even windows, explicit and "SAME" padding, pools; on maps of odd and even sizes.

    No stride leaves the last pixels unread here: where one does, the box is an upper bound at that edge.
    """
    x = relu(net, conv(net, "conv1", images, 4, (3, 2), stride=2, padding=((1, 1), (1, 0))))
    x = relu(net, conv(net, "conv2", x, 4, 3, dilation=(1, 2)))
    x = max_pool(net, "pool1", x, 3, 2, padding="SAME")
    x = relu(net, conv(net, "conv3", x, 4, 2))
    return average_pool(net, "pool2", x, 2, 1, padding="VALID")


def branches(net, images):
    """GoogLeNet's module twice, and a meeting of windows that are not centered alike."""
    x = inception(net, "a", images, (2, 2, 3, 2, 2, 2))
    x = max_pool(net, "pool", x, 3, 2, padding="SAME")
    x = inception(net, "b", x, (2, 2, 3, 2, 2, 2))
    right = conv(net, "right", x, 2, (1, 4), padding=((0, 0), (0, 3)))
    return concatenate(net, "both", [x, right])


def margins(net, images):
    """Pixels put around a map and taken off, before windows that read them."""
    x = relu(net, conv(net, "conv1", images, 3, 3, stride=2))
    x = pad(net, "around", x, ((2, 1), (0, 2)))
    x = average_pool(net, "pool", x, 3, 2, padding="VALID")
    x = pad(net, "further", x, ((-1, 0), (-1, 0)))
    return relu(net, conv(net, "conv2", x, 2, 1, padding="VALID"))


def gated(net, images):
    """A squeeze-and-excitation lets every position see every pixel."""
    x = relu(net, conv(net, "conv1", images, 4, 3))
    x = squeeze_excite(net, "gate", x, reduction=1)
    return conv(net, "conv2", x, 2, 3, stride=2)


def residual(net, images):
    """Identity and zero-padded shortcuts."""
    return cifar_resnet(net, images, depth=8, classes=2)


@pytest.mark.parametrize(
    "model, size",
    [(windows, 17), (windows, 23), (branches, 13), (branches, 16), (residual, 16), (margins, 13), (gated, 7)],
)
def test_exactly_the_pixels_of_the_box_change_a_position(model, size):
    """Each pixel in turn is moved up and down; the box is the smallest that holds all that matter, for every layer.

    Leaky rectifiers let every change pass. A pixel that no window reads changes nothing at all; the least effect of one
    that matters is far above what rounding leaves.
    """

    net = Network("perturbed", model, size=size, classes=2, seed=1)
    forward = tf.function(lambda images: net.forward(images, relu=tf.nn.leaky_relu).activations, autograph=False)
    image = references.random((1, size, size, 3), 2).numpy()
    moved = np.repeat(image, 1 + 2 * size * size, axis=0)
    for pixel in range(size * size):
        moved[1 + 2 * pixel, pixel // size, pixel % size] += 100
        moved[2 + 2 * pixel, pixel // size, pixel % size] -= 100
    activations = {name: value.numpy() for name, value in forward(tf.constant(moved)).items()}
    for operation in net.operations:
        if len(operation.output_shape) != 4:
            continue
        values = activations[operation.name]
        change = np.abs(values[1:] - values[:1]).max(axis=-1)  # [2·pixels,H',W']
        change = change.reshape(size, size, 2, *values.shape[1:3]).max(axis=2)
        rows, columns = values.shape[1:3]
        for position in {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (0, columns - 1)}:
            matters = change[:, :, position[0], position[1]] > 1e-4 * np.abs(values).max()
            top, left, bottom, right = operation.receptive_field.box(position, (size, size))
            if not matters.any():
                assert top == bottom or left == right, f"{operation.name} at {position} sees nothing"
                continue
            down, across = (np.flatnonzero(matters.any(axis=axis)) for axis in (1, 0))
            seen = (int(down[0]), int(across[0]), int(down[-1]) + 1, int(across[-1]) + 1)
            assert seen == (top, left, bottom, right), f"{operation.name} at {position}"
