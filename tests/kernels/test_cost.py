"""Counting: sums, closed forms, published layers, and the arithmetic that made 3×3 filters win."""

from __future__ import annotations

from importlib import import_module
from math import prod
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import Cost
from rawcnn.nn.receptive_field import ReceptiveField, Window

KERNELS = Path(kernels.__file__).parent


def test_costs_add():
    assert Cost(1, 2, 3) + Cost(10, 20, 30) == Cost(11, 22, 33)
    assert Cost() + Cost(flops=5) == Cost(0, 5, 0)
    assert hash(Cost(1)) == hash(Cost(1, 0, 0))
    with pytest.raises(AttributeError):
        Cost().macs = 1  # type: ignore[misc]


def test_elementwise_cost():
    assert kernels.elementwise_cost((2, 3, 4)) == Cost(flops=24, backward_flops=24)
    assert kernels.elementwise_cost((2, 3), forward=3, backward=0) == Cost(flops=18)
    assert kernels.elementwise_cost(()) == Cost(flops=1, backward_flops=1)


def test_convolution_cost():
    """Two for each MAC forward, and two each for the gradients of the filters and of the input."""
    shapes = (3, 3, 8, 16), (2, 10, 10, 16)
    macs = 2 * 10 * 10 * 16 * 3 * 3 * 8
    assert kernels.conv2d_cost(*shapes) == Cost(macs, 2 * macs, 4 * macs)
    assert kernels.conv2d_cost(*shapes, input_gradient=False) == Cost(macs, 2 * macs, 2 * macs)


@pytest.mark.parametrize(
    ("filters", "output", "macs"),
    [
        ((11, 11, 3, 96), (55, 55), 105_415_200),  # AlexNet conv1
        ((5, 5, 48, 256), (27, 27), 223_948_800),  # AlexNet conv2, in two groups
        ((3, 3, 64, 64), (224, 224), 1_849_688_064),  # VGG conv1_2
        ((7, 7, 3, 64), (112, 112), 118_013_952),  # ResNet conv1
        ((1, 1, 256, 64), (56, 56), 51_380_224),  # ResNet's bottleneck
    ],
)
def test_layers_of_the_papers(filters, output, macs):
    assert kernels.conv2d_cost(filters, (1, *output, filters[-1])).macs == macs


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_groups_divide_the_cost(groups):
    dense = kernels.conv2d_cost((3, 3, 8, 8), (1, 5, 5, 8))
    assert kernels.conv2d_cost((3, 3, 8 // groups, 8), (1, 5, 5, 8)).macs * groups == dense.macs


def test_depthwise_and_pointwise_instead_of_one_convolution():
    """1/Cout + 1/k² of the multiplications (Howard et al. 2017, §3.1)."""
    output, channels = (1, 14, 14, 512), 512
    full = kernels.conv2d_cost((3, 3, channels, 512), output)
    separable = kernels.conv2d_cost((3, 3, 1, channels), output) + kernels.conv2d_cost((1, 1, channels, 512), output)
    assert separable.macs / full.macs == pytest.approx(1 / 512 + 1 / 9)


@pytest.mark.parametrize(
    ("layers", "wide", "stack_weights", "one_weights"), [(2, 5, 18, 25), (3, 7, 27, 49), (5, 11, 45, 121)]
)
def test_a_stack_of_small_filters_sees_as_much_for_less(layers, wide, stack_weights, one_weights):
    """Simonyan & Zisserman, §2.3: three 3×3 layers see 7×7 pixels, with 3·(3²C²) = 27C² weights for 7²C² = 49C²."""
    channels, size = 64, (28, 28)
    field = ReceptiveField()
    for _ in range(layers):
        field = Window(3, padding="SAME").over(field, size)
    assert field == Window(wide, padding="SAME").over(ReceptiveField(), size)
    assert field.size == wide

    small, large = (3, 3, channels, channels), (wide, wide, channels, channels)
    assert layers * prod(small) == stack_weights * channels**2
    assert prod(large) == one_weights * channels**2
    output = (1, *size, channels)  # each weight is used once a position
    assert layers * kernels.conv2d_cost(small, output).macs == stack_weights * channels**2 * prod(size)
    assert kernels.conv2d_cost(large, output).macs == one_weights * channels**2 * prod(size)


few = st.integers(1, 4)


@settings(max_examples=25, deadline=None)
@given(image=st.tuples(few, few), window=st.tuples(few, few), channels=st.tuples(few, few), groups=few)
def test_macs_are_the_products_that_are_summed(image, window, channels, groups):
    """With ones everywhere and no padding, the sum of all outputs is the number of products."""
    height, width = (n + k - 1 for n, k in zip(image, window, strict=True))
    depth, out = channels[0], channels[1] * groups
    y = kernels.conv2d(
        tf.ones((2, height, width, depth * groups)), tf.ones((*window, depth, out)), 1, "VALID", 1, groups
    )
    cost = kernels.conv2d_cost((*window, depth, out), y.shape)
    assert cost.macs == int(tf.reduce_sum(y))
    assert (cost.flops, cost.backward_flops) == (2 * cost.macs, 4 * cost.macs)


def test_exports_are_the_kernels_own():
    """Every public kernel, reference, gradient and cost is exported once, from the file of its tier."""
    assert len(set(kernels.__all__)) == len(kernels.__all__) == 138
    for name in kernels.__all__:
        module = getattr(kernels, name).__module__
        assert (KERNELS.parent / f"{module.replace('.', '/')}.py").is_file()
    for module in sorted(path.stem for path in KERNELS.glob("*.py")):
        source = import_module(f"kernels.{module}") if module != "__init__" else kernels
        named = [name for name in vars(source) if name.endswith(("_cost", "_reference")) and not name.startswith("_")]
        assert set(named) - {"padding_reference"} <= set(kernels.__all__)
