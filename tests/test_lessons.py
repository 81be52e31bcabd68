"""docs/lessons: NumPy alone, short, with worked numbers that hold, and equal to what rawcnn computes."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn import attacks
from rawcnn.attacks.ball import Ball
from rawcnn.attacks.common import loss_gradient
from rawcnn.attacks.gradient import random_start
from rawcnn.data.augmentation import Augmentation
from rawcnn.models import googlenet, resnet
from rawcnn.nn.layers import conv, dense, lrn, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.nn.trace import Trace, symbolic_trace
from rawcnn.training.recipes import ALEXNET
from rawcnn.training.step import State, TrainStep
from tests.references import close, random, tape_gradient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "lessons"
LESSONS = sorted(FOLDER.glob("*.py"))


@cache
def lesson(number: int) -> ModuleType:
    """The module of a lesson; its name begins with a digit, so it cannot be imported by a statement."""
    (path,) = FOLDER.glob(f"{number}_*.py")
    specification = importlib.util.spec_from_file_location(f"lesson_{number}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def array(shape, seed: int = 0) -> np.ndarray:
    """Standard normal values in float64."""
    return random(shape, seed, "float64").numpy()


# The rules of all lessons -------------------------------------------------------------------------------------


def test_lessons_are_numbered():
    assert [int(path.name.split("_")[0]) for path in LESSONS] == [*range(1, len(LESSONS) + 1)]


def test_the_documents_link_the_lessons():
    assert "](docs/lessons)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(
        f"](lessons/{path.name})" in (ROOT / "docs" / "reading.md").read_text(encoding="utf-8") for path in LESSONS
    )


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_one_short_file_that_needs_numpy_alone(path):
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    nodes = [*ast.walk(ast.parse(source))]
    imported = [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
    assert imported == ["numpy"] and not [node for node in nodes if isinstance(node, ast.ImportFrom)]
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"__import__", "exec", "eval", "open"}
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    assert all(ast.get_docstring(function) for function in functions)


@pytest.mark.parametrize("number", range(1, len(LESSONS) + 1))
def test_the_worked_numbers_hold(number):
    module = lesson(number)
    examples = {test.name: test for test in doctest.DocTestFinder().find(module) if test.examples}
    assert len(examples) >= 3, "worked numbers in three docstrings at least"
    for name, example in examples.items():
        output: list[str] = []
        assert doctest.DocTestRunner().run(example, out=output.append).failed == 0, f"{name}\n{''.join(output)}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_as_a_script(path, tmp_path):
    """In an empty folder, without PYTHONPATH."""
    ran = subprocess.run([sys.executable, "-I", str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and not ran.stderr, ran.stderr
    assert len(ran.stdout.splitlines()) > 10
    (error,) = re.findall(r"^Largest difference from central differences: (\S+)$", ran.stdout, re.MULTILINE)
    assert float(error) < 1e-7
    assert f"python docs/lessons/{path.name}" in path.read_text(encoding="utf-8")


# Lesson 1: a convolution --------------------------------------------------------------------------------------

CONVOLUTIONS = [  # x [B,H,W,C], w [kh,kw,C,K], stride, pad
    ((1, 5, 5, 1), (3, 3, 1, 1), 2, 1),
    ((2, 7, 6, 3), (3, 2, 3, 4), 1, 0),
    ((2, 6, 9, 2), (1, 1, 2, 5), 2, 0),
    ((3, 8, 7, 2), (3, 3, 2, 3), 3, 2),
    ((1, 23, 31, 3), (11, 11, 3, 4), 4, 0),  # AlexNet's conv1
    ((1, 14, 14, 3), (7, 7, 3, 2), 2, 3),  # ResNet's conv1
]


@pytest.mark.parametrize("x_shape, w_shape, stride, pad", CONVOLUTIONS)
def test_convolution_is_the_kernels(x_shape, w_shape, stride, pad):
    one, x, w, bias = lesson(1), array(x_shape), array(w_shape, 1), array(w_shape[-1:], 2)
    padding = ((pad, pad), (pad, pad))
    y = one.convolution(x, w, bias, stride, pad)
    close(y, kernels.conv2d(x, w, stride, padding) + bias)
    g = array(y.shape, 3)
    dx, dw = one.input_gradient(g, w, x_shape[1:3], stride, pad), one.filter_gradient(x, g, *w_shape[:2], stride, pad)
    close(dx, kernels.conv2d_input_gradient(g, w, x_shape[1:3], stride, padding), "gradient")
    close(dw, kernels.conv2d_filter_gradient(x, g, w_shape[:2], stride, padding), "gradient")
    with tf.GradientTape() as tape:
        b = tf.constant(bias)
        tape.watch(b)
        loss = tf.reduce_sum(g * tf.nn.bias_add(tf.constant(y - bias), b))
    close(one.bias_gradient(g), tape.gradient(loss, b), "gradient")


def test_convolution_with_same_padding_is_the_kernels():
    x, w = array((2, 8, 8, 3)), array((5, 5, 3, 4), 1)
    close(lesson(1).convolution(x, w, 0, pad=2), kernels.conv2d(x, w, padding="SAME"))


# Lesson 2: pooling and normalization --------------------------------------------------------------------------

POOLS = [  # x [B,H,W,C], size, stride, pad
    ((1, 5, 5, 1), 3, 2, 0),
    ((2, 7, 9, 3), 3, 2, 1),
    ((2, 6, 8, 2), 2, 2, 0),
    ((1, 6, 5, 4), 3, 1, 1),
    ((3, 10, 7, 2), 3, 4, 2),
]


@pytest.mark.parametrize("shape, size, stride, pad", POOLS)
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_is_the_kernels(shape, size, stride, pad, ties):
    two, x, padding = lesson(2), array(shape), ((pad, pad), (pad, pad))
    x = np.round(x) if ties else x
    y = two.max_pool(x, size, stride, pad)
    close(y, kernels.max_pool(x, size, stride, padding))
    g = array(y.shape, 1)
    expected = kernels.max_pool_input_gradient(x, g, size, stride, padding)
    close(two.max_pool_gradient(x, g, size, stride, pad), expected, "gradient")


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (4, 2, 5, 3), (2, 8, 8, 16)])
@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_batch_norm_is_the_kernels(shape, epsilon):
    two, x = lesson(2), 3 * array(shape) + 2
    gamma, beta, g = array(shape[-1:], 1), array(shape[-1:], 2), array(shape, 3)
    expected, mean, _ = kernels.batch_normalization_training(x, gamma, beta, epsilon)
    close(two.batch_norm(x, gamma, beta, epsilon), expected)
    gradients = kernels.batch_normalization_gradient(x, g, gamma, mean, x.var(axis=(0, 1, 2)), epsilon)
    for actual, one in zip(two.batch_norm_gradient(x, g, gamma, epsilon), gradients, strict=True):
        close(actual, one, "gradient")


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 3, 4, 1), (2, 4, 3, 12)])
@pytest.mark.parametrize("settings", [(2, 2.0, 1e-4, 0.75), (1, 1.0, 0.5, 0.5), (5, 1.0, 2e-1, 1.0)])
def test_lrn_is_the_kernels(shape, settings):
    two, x, g = lesson(2), 10 * array(shape), array(shape, 1)
    close(two.lrn(x, *settings), kernels.local_response_normalization(x, *settings))
    expected = kernels.local_response_normalization_input_gradient(x, g, *settings)
    close(two.lrn_gradient(x, g, *settings), expected, "gradient")


# Lesson 3: AlexNet's training step ----------------------------------------------------------------------------


def first_stage(net: Trace, images: tf.Tensor) -> tf.Tensor:
    """Lesson 3's network, built of rawcnn's layers."""
    x = conv(net, "conv1", images, 5, 11, stride=4, padding="VALID")
    x = max_pool(net, "pool1", lrn(net, "norm1", relu(net, x)), 3, 2, padding="VALID")
    return dense(net, "fc", x, 3)


def test_recipe_is_alexnets():
    three = lesson(3)
    assert (ALEXNET.rate, ALEXNET.momentum, ALEXNET.weight_decay) == (three.RATE, three.MOMENTUM, three.WEIGHT_DECAY)
    assert ALEXNET.optimizer == "momentum" and ALEXNET.clip is None and not ALEXNET.decay_all


@pytest.mark.parametrize("batch, size", [(1, 35), (4, 35), (2, 51)])
def test_training_steps_are_the_trainers(batch, size):
    """Three steps, so that the velocity counts; in float32, because the trainer's variables are."""
    network = Network("first stage", first_stage, size=size, classes=3)
    for path, variable in network.variables.items():  # biases that are not zero, and a loss that moves
        variable.assign(0.3 * random(variable.shape, len(path)))
    recipe = replace(ALEXNET, augmentation=Augmentation())
    step, state = TrainStep(network, recipe), State.begin(network, recipe)
    v = {path: variable.numpy().astype(np.float64) for path, variable in network.variables.items()}
    before, velocities = dict(v), dict.fromkeys(v, 0.0)
    images, labels = random((batch, size, size, 3), 1, low=0.0), np.arange(batch) % 3
    for number in range(3):
        loss = lesson(3).train_step(v, velocities, images.numpy().astype(np.float64), labels)
        metrics = step(state, images, tf.constant(labels), tf.constant([0, number]), tf.constant(recipe.rate))
        close(metrics["loss"], loss, "network")
    for path, variable in network.variables.items():
        close(variable - tf.cast(before[path], tf.float32), v[path] - before[path], "network")
        close(state.slots[f"{path}/velocity"].numpy(), velocities[path], "network", dtype="float32")


def test_first_stage_is_alexnets():
    """With the filters of rawcnn's AlexNet and LRN that counts: large pixels."""
    network, images = rawcnn.create("alexnet", size=67, classes=2, preprocessing="none"), 100 * random((2, 67, 67, 3))
    v = {path: variable.numpy() for path, variable in network.variables.items()}
    a = lesson(3).forward({**v, "fc/weights": np.zeros((7 * 7 * 96, 2)), "fc/bias": np.zeros(2)}, images.numpy())
    forward = network.forward(images).activations
    for name, there in (("conv1", "conv1"), ("relu1", "conv1/relu"), ("norm1", "norm1"), ("pool1", "pool1")):
        close(forward[there], a[name], "network")


@pytest.mark.parametrize("batch, classes", [(1, 2), (5, 3), (2, 10)])
def test_cross_entropy_is_the_kernels(batch, classes):
    logits, labels = 20 * array((batch, classes)), np.arange(batch) % classes
    loss, gradient = lesson(3).cross_entropy(logits, labels)
    close(loss, tf.reduce_mean(kernels.cross_entropy(logits, labels)))
    close(gradient, kernels.cross_entropy_gradient(logits, labels) / batch, "gradient")


@pytest.mark.parametrize("shape, stride, size", [((2, 9, 8, 3), 2, 3), ((1, 19, 23, 3), 4, 11), ((3, 5, 5, 1), 1, 2)])
def test_the_stages_layers_are_the_kernels(shape, stride, size):
    three, x, w = lesson(3), array(shape), array((size, size, shape[-1], 4), 1)
    y = three.convolution(x, w, 0, stride)
    close(y, kernels.conv2d(x, w, stride, "VALID"))
    g = array(y.shape, 2)
    expected = kernels.conv2d_filter_gradient(x, g, size, stride, "VALID")
    close(three.convolution_gradients(x, g, size, stride)[0], expected, "gradient")
    maps, upstream = 50 * array((2, 7, 9, 6), 3), array((2, 7, 9, 6), 4)
    close(three.lrn(maps), kernels.local_response_normalization(maps))
    expected = kernels.local_response_normalization_input_gradient(maps, upstream)
    close(three.lrn_gradient(maps, upstream), expected, "gradient")
    pooled = np.maximum(maps, 0)  # with ties: windows of zeros
    close(three.max_pool(pooled), kernels.max_pool(pooled, 3, 2))
    expected = kernels.max_pool_input_gradient(pooled, upstream[:, :3, :4], 3, 2)
    close(three.max_pool_gradient(pooled, upstream[:, :3, :4]), expected, "gradient")


# Lesson 4: an inception module and a residual block -----------------------------------------------------------


def traced(model, x: np.ndarray, dtype: tf.DType):
    """Run rawcnn's layers in training with random variables → (variables, y, g, ∂L/∂x, gradients by path)."""
    parameters = symbolic_trace(model, (1, *x.shape[1:]), train=True).parameters
    v = {path: random(parameter.shape, seed, dtype) for seed, (path, parameter) in enumerate(parameters.items())}
    images = tf.cast(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch([images, v])
        net = Trace(v, images, train=True, dtype=dtype)
        y = model(net, net.images)
    g = random(y.shape, 50, dtype)
    return v, y, g.numpy(), *tape.gradient(y, [images, v], output_gradients=g, unconnected_gradients="zero")


@pytest.mark.parametrize(
    "shape, widths",
    [
        ((1, 3, 3, 1), (1, 1, 1, 1, 1, 1)),
        ((2, 5, 4, 3), (4, 2, 5, 1, 3, 2)),
        ((2, 7, 7, 6), (2, 3, 4, 2, 2, 3)),
    ],
)
def test_inception_is_googlenets(shape, widths):
    four, x = lesson(4), array(shape)
    paths = {name: f"module/{'pool_projection' if name == 'pool' else name}" for name in four.SIZES}
    v, y, g, dx, dv = traced(lambda net, x: googlenet.inception(net, "module", x, widths), x, tf.float64)
    parameters = {name: (v[f"{path}/filters"].numpy(), v[f"{path}/bias"].numpy()) for name, path in paths.items()}
    a = four.inception(x, parameters)
    close(a["y"], y)
    found, gradients = four.inception_gradients(a, parameters, g)
    close(found, dx, "gradient")
    assert gradients.keys() == paths.keys()
    for name, path in paths.items():
        for one, suffix in zip(gradients[name], ("filters", "bias"), strict=True):
            close(one, dv[f"{path}/{suffix}"], "gradient")


@pytest.mark.parametrize("shape", [(2, 3, 3, 1), (2, 5, 4, 3), (3, 6, 6, 8)])
def test_residual_block_is_resnets(shape):
    """In float32, because the variables of batch norm are."""

    def model(net, x):
        return resnet._block(net, "block", x, resnet._basic(net, "block", x, shape[-1], 1), 1, "B")

    four, x = lesson(4), array(shape)
    v, y, g, dx, dv = traced(model, x, tf.float32)
    parameters = {f"conv{i}": v[f"block/conv{i}/filters"].numpy() for i in (1, 2)}
    parameters |= {f"bn{i}": (v[f"block/bn{i}/scale"].numpy(), v[f"block/bn{i}/offset"].numpy()) for i in (1, 2)}
    a = four.residual_block(x, parameters)
    close(y, a["y"], "network")
    found, gradients = four.residual_block_gradients(a, parameters, g)
    close(dx, found, "network")
    for i in (1, 2):
        close(dv[f"block/conv{i}/filters"], gradients[f"conv{i}"], "network")
        for suffix, one in zip(("scale", "offset"), gradients[f"bn{i}"], strict=True):
            close(dv[f"block/bn{i}/{suffix}"], one, "network")


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (2, 5, 4, 3)])
def test_residual_block_is_the_kernels(shape):
    """In float64, differentiated by the tape."""
    four, x, g, channels = lesson(4), tf.constant(array(shape)), array(shape, 1), shape[-1]
    filters = [tf.constant(array((3, 3, channels, channels), seed)) for seed in (2, 3)]
    norms = [tf.constant(array((channels,), seed)) for seed in range(4, 8)]

    def block(x, w1, w2, *norms):
        y, *_ = kernels.batch_normalization_training(kernels.conv2d(x, w1), *norms[:2], 1e-5)
        y, *_ = kernels.batch_normalization_training(kernels.conv2d(kernels.relu(y), w2), *norms[2:], 1e-5)
        return kernels.relu(x + y)

    w1, w2, *pairs = (tensor.numpy() for tensor in (*filters, *norms))
    v = {"conv1": w1, "conv2": w2, "bn1": pairs[:2], "bn2": pairs[2:]}
    a = four.residual_block(x.numpy(), v)
    close(a["y"], block(x, *filters, *norms))
    dx, d = four.residual_block_gradients(a, v, g)
    found = [dx, d["conv1"], d["conv2"], *d["bn1"], *d["bn2"]]
    for one, expected in zip(found, tape_gradient(block, [x, *filters, *norms], tf.constant(g)), strict=True):
        close(one, expected, "gradient")


def test_a_block_without_residual_branch_is_the_identity():
    """So are its gradients, which pass through the shortcut alone."""
    four, g = lesson(4), array((1, 3, 3, 1))
    v = four.BLOCK | {"bn2": (0, 0)}
    dx, _ = four.residual_block_gradients(four.residual_block(four.X, v), v, g)
    np.testing.assert_array_equal(dx, g)


@pytest.mark.parametrize("n, channels", [(1, 3), (3, 2), (5, 4)])
def test_lesson_4s_convolution_is_the_kernels(n, channels):
    four, x, w, g = lesson(4), array((2, 6, 7, channels)), array((n, n, channels, 3), 1), array((2, 6, 7, 3), 2)
    close(four.convolution(x, w), kernels.conv2d(x, w))
    dx, dw = four.convolution_gradients(x, w, g)
    close(dx, kernels.conv2d_input_gradient(g, w, (6, 7)), "gradient")
    close(dw, kernels.conv2d_filter_gradient(x, g, n), "gradient")


# Lesson 5: FGSM and PGD ---------------------------------------------------------------------------------------


def two_layers(shape, units: int, classes: int):
    """Return the lesson's variables, and rawcnn's function images → logits with the same float32 values."""
    inputs = int(np.prod(shape[1:]))
    tensors = {"w1": random((inputs, units), 1), "b1": random((units,), 2)}
    tensors |= {"w2": random((units, classes), 3), "b2": random((classes,), 4)}

    def network(images):
        hidden = kernels.dense(tf.reshape(images, (-1, inputs)), tensors["w1"], tensors["b1"])
        return kernels.dense(kernels.relu(hidden), tensors["w2"], tensors["b2"])

    return {name: tensor.numpy().astype(np.float64) for name, tensor in tensors.items()}, network


NETWORKS = [((1, 3, 3, 3), 4, 2), ((4, 5, 4, 3), 16, 3), ((6, 8, 8, 3), 8, 10)]  # images [B,H,W,C], units, classes


@pytest.fixture(params=NETWORKS, ids=str)
def attacked(request):
    """(the lesson's variables, rawcnn's network, images, labels)."""
    shape, units, classes = request.param
    return *two_layers(shape, units, classes), random(shape, low=0.0), np.arange(shape[0]) % classes


def test_input_gradient_is_the_attacks(attacked):
    v, network, images, labels = attacked
    five, x = lesson(5), images.numpy().astype(np.float64)
    gradient, logits = loss_gradient(network, images, tf.constant(labels), targeted=False)
    close(logits, five.forward(v, x)[1], "gradient")
    close(gradient, five.input_gradient(v, x, labels), "network")
    close(kernels.cross_entropy(logits, labels), five.loss(v, x, labels), "network")


def test_two_layers_are_the_kernels():
    """In float64, differentiated by the tape."""
    shapes = {"w1": (12, 5), "b1": (5,), "w2": (5, 3), "b2": (3,)}
    v = {name: array(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}
    images, labels = array((3, 2, 3, 2), 9), [0, 2, 1]

    def total(x):
        hidden = kernels.relu(kernels.dense(tf.reshape(x, (3, 12)), v["w1"], v["b1"]))
        return tf.reduce_sum(kernels.cross_entropy(kernels.dense(hidden, v["w2"], v["b2"]), labels))

    (expected,) = tape_gradient(total, [tf.constant(images)], None)
    close(lesson(5).input_gradient(v, images, labels), expected, "gradient")
    close(lesson(5).loss(v, images, labels).sum(), total(images))
    close(lesson(5).softmax(50 * images[0, 0]), kernels.softmax(50 * images[0, 0]))


def test_fgsm_is_rawcnns(attacked):
    v, network, images, labels = attacked
    five, x = lesson(5), images.numpy().astype(np.float64)
    for epsilon in (8 / 255, 0.3):
        close(attacks.fgsm(network, images, labels, epsilon=epsilon).images, five.fgsm(v, x, labels, epsilon))
        targets = (labels + 1) % len(v["b2"])
        found = attacks.fgsm(network, images, labels, epsilon=epsilon, target=targets).images
        close(found, five.fgsm(v, x, targets, -epsilon))


@pytest.mark.sample(4)
@pytest.mark.parametrize("norm, epsilon", [("linf", 8 / 255), ("linf", 0.3), ("l2", 0.5)])
def test_pgd_is_rawcnns(attacked, norm, epsilon):
    """All steps of all images, without and with a random start. Steps that L2 divides by a length round differently."""
    v, network, images, labels = attacked
    five, x = lesson(5), images.numpy().astype(np.float64)
    start = random_start(images, tf.fill([len(x)], epsilon), tf.range(len(x)), 0, 0, Ball(norm))
    for settings, first in (({"random_start": False}, None), ({"seed": 0}, start.numpy().astype(np.float64))):
        found = attacks.pgd(
            network, images, labels, epsilon=epsilon, step=epsilon / 3, steps=7, norm=norm, early_stop=False, **settings
        )
        close(found.images, five.pgd(v, x, labels, epsilon, epsilon / 3, 7, norm, first), "network")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_and_projections_are_the_balls(norm):
    five, x, center, ball = lesson(5), array((4, 3, 5, 3)), array((4, 3, 5, 3), 1), Ball(norm)
    close(five.steepest(x, norm), ball.steepest(tf.constant(x)))
    assert not five.steepest(0 * x, norm).any()
    for epsilon in (0.0, 0.1, 100.0):
        close(five.project(x, center, epsilon, norm), ball.project(tf.constant(x), center, epsilon))


def test_the_attacks_of_the_worked_example_succeed():
    five, labels = lesson(5), np.array([0])
    assert five.forward(five.V, five.X)[1].argmax() == five.LEFT
    for attacked in (five.fgsm(five.V, five.X, labels, 0.2), five.pgd(five.V, five.X, labels, 0.3, 0.1, 5, "l2")):
        assert five.forward(five.V, attacked)[1].argmax() == five.RIGHT
