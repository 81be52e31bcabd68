"""docs/reading.md: each path runs under `sys.setprofile`, and Python enters the files of its table and no others."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import tensorflow as tf

import rawcnn
from rawcnn import attacks, visualize
from rawcnn.models import googlenet, resnet
from rawcnn.nn.trace import Trace, symbolic_trace
from rawcnn.training.recipes import ALEXNET
from rawcnn.training.step import State, TrainStep

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| \[([^\]]+)\]\(\.\./\1\) \| (.+?) \|", re.MULTILINE)
MOST_FILES = {1: 13, 2: 7, 3: 7, 4: 8, 5: 8}


@cache
def tables() -> dict[str, dict[str, str]]:
    """The heading of each section → its table: file or folder → the second column."""
    text = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    headings = [*SECTION.finditer(text)]
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    sections = zip(headings, ends, strict=True)
    return {heading[1]: dict(ROW.findall(text[heading.end() : end])) for heading, end in sections}


def path(number: int) -> dict[str, str]:
    """The table of path `number`: file → the functions to read, as Markdown."""
    return next(table for heading, table in tables().items() if heading.startswith(f"{number}. "))


def entered(run: Callable[[], object]) -> set[str]:
    """The files of rawcnn and kernels of which Python enters a function while `run` runs."""
    files: set[str] = set()

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_name != "<module>":
            files.add(frame.f_code.co_filename)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    inside = (Path(file) for file in files if file.startswith(str(ROOT)))
    relative = {file.relative_to(ROOT).as_posix() for file in inside}
    return {file for file in relative if file.startswith(("rawcnn/", "kernels/"))}


def traced(function: Callable[[Trace, tf.Tensor], tf.Tensor], shape: tuple[int, ...]) -> None:
    """Forward and backward pass of a part of a model, with new variables."""
    parameters = symbolic_trace(function, shape, train=True).parameters
    variables = {path: tf.Variable(parameter.create(0)) for path, parameter in parameters.items()}
    images = tf.random.stateless_normal(shape, (0, 1))

    def run() -> None:
        with tf.GradientTape() as tape:
            net = Trace(variables, images, train=True, seed=tf.constant([0, 1]))
            y = function(net, net.images)
        tape.gradient(y, list(variables.values()), unconnected_gradients="zero")

    return run


def training_step() -> Callable[[], object]:
    # A size that no other test uses: a compiled island that was traced before would not enter its kernel's file again
    network = rawcnn.create("alexnet", size=83, classes=3)
    recipe = replace(ALEXNET, augmentation=replace(ALEXNET.augmentation, crop=83))
    step = partial(TrainStep(network, recipe).update, State.begin(network, recipe).tensors())
    images = tf.random.stateless_uniform((2, 91, 91, 3), (0, 1))
    return lambda: step(images, tf.constant([0, 2]), tf.constant([0, 1]), tf.constant(0.01))


def inception_module() -> Callable[[], object]:
    return traced(lambda net, x: googlenet.inception(net, "inception_3a", x, googlenet.INCEPTION["3a"]), (1, 7, 7, 192))


def residual_block() -> Callable[[], object]:
    def block(net, x):
        y = resnet._bottleneck(net, "conv2_1", x, 8, 1, "v1")
        shortcut = resnet._shortcut(net, "conv2_1", x, 32, 1, "B")
        return resnet.relu(net, resnet.residual_sum(net, "conv2_1", y, shortcut))

    return traced(block, (2, 7, 7, 16))


def projected_gradient_descent() -> Callable[[], object]:
    weights = tf.random.stateless_normal((8 * 8 * 3, 4), (0, 1))
    images, labels = tf.random.stateless_uniform((2, 8, 8, 3), (0, 1)), tf.constant([0, 1])

    def network(images):
        return tf.reshape(images, (-1, 8 * 8 * 3)) @ weights

    return lambda: attacks.pgd(network, images, labels, steps=3)


def optimized_image() -> Callable[[], object]:
    network = rawcnn.create("cifar_resnet20", size=16)
    return lambda: visualize.optimize(network, "conv2_1", channel=1, steps=2, size=16)


RUNS = {1: training_step, 2: inception_module, 3: residual_block, 4: projected_gradient_descent, 5: optimized_image}
# An optimized image needs a network: these files of it are on the paths before.
OF_THE_NETWORK = ("rawcnn/models/resnet.py", "rawcnn/nn/layers.py", "rawcnn/nn/trace.py", *path(3))


@pytest.mark.parametrize("number", RUNS)
def test_a_path_is_what_runs(number):
    machinery = tuple(tables()["Machinery"])
    found, table = entered(RUNS[number]()), path(number)
    allowed = {*table, *(OF_THE_NETWORK if number == 5 else ())}
    assert not {file for file in found - allowed if not file.startswith(machinery)}, "add them to docs/reading.md"
    assert not set(table) - found, "on the path, but not entered"


@pytest.mark.parametrize("number", RUNS)
def test_a_path_is_short_and_free_of_machinery(number):
    assert len(path(number)) <= MOST_FILES[number]
    assert not [file for file in path(number) if file.startswith(tuple(tables()["Machinery"]))]


@pytest.mark.parametrize("number", RUNS)
def test_functions_on_a_path_exist(number):
    for file, functions in path(number).items():
        names = re.findall(r"`([\w.]+)`", functions)
        assert names and set(names) <= defined(ROOT / file), file


def defined(file: Path) -> set[str]:
    """The functions, classes and methods of a file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return found


def test_every_reason_of_the_machinery_is_given():
    machinery = tables()["Machinery"]
    assert 10 < len(machinery) < 25 and all(len(reason) > 10 for reason in machinery.values())
    assert all((ROOT / file).exists() for file in machinery)
