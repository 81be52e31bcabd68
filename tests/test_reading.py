"""docs/reading.md: each path runs under `sys.setprofile`. Python enters the files and functions of its table, and no
other files than those that the page lists. JavaScript files run in a browser: the page has them, and they declare the
functions of their rows."""

from __future__ import annotations

import ast
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
import tensorflow as tf

import rawcnn
from rawcnn import attacks, visualize
from rawcnn.cli import explain as explain_command
from rawcnn.models import googlenet, resnet
from rawcnn.nn.execution import choose
from rawcnn.nn.trace import Trace, symbolic_trace
from rawcnn.report.explanation_page import SCRIPTS
from rawcnn.training.recipes import ALEXNET
from rawcnn.training.step import State, make_step

ROOT = Path(__file__).resolve().parents[1]
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
ROW = re.compile(r"^\| \[([^\]]+)\]\(\.\./\1\) \|(.+)\|$", re.MULTILINE)
CONTINUES = re.compile(r"this path continues with \[path (\d)\](?:\([^)]+\), except for\s`([^`]+)`)?")
DECLARED = re.compile(r"^(?:const|function) (\w+)", re.MULTILINE)  # in JavaScript
MOST_FILES = {1: 14, 2: 7, 3: 7, 4: 8, 5: 8, 6: 14, 7: 14}


@cache
def sections() -> dict[str, str]:
    """The heading of each section → its text."""
    text = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    headings = [*SECTION.finditer(text)]
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return {heading[1]: text[heading.end() : end] for heading, end in zip(headings, ends, strict=True)}


def table(heading: str) -> dict[str, list[str]]:
    """A section's table: file or folder → the other columns."""
    rows = ROW.findall(sections()[heading])
    return {file: [cell.strip() for cell in cells.split("|")] for file, cells in rows}


def heading_of(number: int) -> str:
    return next(heading for heading in sections() if heading.startswith(f"{number}. "))


def path(number: int) -> dict[str, list[str]]:
    """The table of path `number`: file → functions that run, functions to read besides, what happens."""
    return table(heading_of(number))


def of_python(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    return {file: cells for file, cells in rows.items() if file.endswith(".py")}


def continued(number: int) -> list[tuple[int, str]]:
    """The paths that path `number` continues with, and the file of each that does not run, if there is one."""
    return [(int(further), but) for further, but in CONTINUES.findall(sections()[heading_of(number)])]


def off_the_paths(number: int) -> dict[str, list[str]]:
    """What path `number` enters besides, and which is no machinery: file → functions that run, path, what happens."""
    rows = (
        (file, [cell.strip() for cell in cells.split("|")]) for file, cells in ROW.findall(sections()["Off the paths"])
    )
    return {file: cells for file, cells in rows if cells[1] == str(number)}


def named(cell: str) -> set[str]:
    """The functions that a cell names."""
    return set(re.findall(r"`([\w.]+)`", cell))


def entered(run: Callable[[], object]) -> dict[str, set[str]]:
    """File of rawcnn or kernels → the functions and classes of it that Python enters while `run` runs."""
    places: set[tuple[str, int]] = set()

    def profile(frame, event, argument):
        if event == "call":
            places.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    found: dict[str, set[str]] = {}
    for file, line in places:
        inside = Path(file).relative_to(ROOT).as_posix() if file.startswith(str(ROOT)) else ""
        if inside.startswith(("rawcnn/", "kernels/")) and inside.endswith(".py"):  # no template of a page
            found.setdefault(inside, set()).update(enclosing(ROOT / inside, line))
    return found


def enclosing(file: Path, line: int) -> set[str]:
    """The names of the functions and classes of a file that contain a line."""
    return {name for name, (first, last) in defined(file).items() if first <= line <= last}


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
    step = make_step(network, recipe, State.begin(network, recipe), choose("auto"))  # as `rawcnn train` runs it
    images = tf.random.stateless_uniform((2, 91, 91, 3), (0, 1))
    return lambda: step(images, tf.constant([0, 2]), tf.constant([0, 1]), tf.constant(0.01))


def inception_module() -> Callable[[], object]:
    return traced(lambda net, x: googlenet.inception(net, "inception_3a", x, googlenet.INCEPTION["3a"]), (1, 7, 7, 192))


def residual_block() -> Callable[[], object]:
    def block(net, x):
        y = resnet._bottleneck(net, "conv2_1", x, 8, 1, "v1")
        return resnet._block(net, "conv2_1", x, y, 1, "B")

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


def gradients_by_hand() -> Callable[[], object]:
    network = rawcnn.create("alexnet", size=87, classes=3)  # another size, too
    images, labels = tf.random.stateless_uniform((2, 87, 87, 3), (0, 1)), tf.constant([0, 2])
    backpropagate = rawcnn.explain.backpropagate
    return lambda: backpropagate(network, images, labels, train=True, seed=3, recipe=ALEXNET)


def explained_image() -> Callable[[], object]:
    """What `rawcnn explain` does once it has its network."""
    network = rawcnn.create("alexnet", size=89, classes=3)
    image = tf.random.stateless_uniform((89, 89, 3), (0, 1)).numpy()
    request = explain_command.ExplainRequest(
        model="alexnet", images=(Path("image.png"),), layers=("conv2", "pool2"), label="1", recipe=None, position=None,
        channels=(), everything=False, folder=Path("page"), classes=3, size=89, weights=None, head="load", option=None,
        as_json=False, seed=0,
    )  # fmt: skip
    run = SimpleNamespace(network=network, images=[image], screen=MagicMock())

    def write() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            patch.object(explain_command, "begin", lambda _: nullcontext(run)),
        ):
            explain_command.write_page(replace(request, folder=Path(folder) / "page"))

    return write


RUNS = {
    1: training_step,
    2: inception_module,
    3: residual_block,
    4: projected_gradient_descent,
    5: optimized_image,
    6: gradients_by_hand,
    7: explained_image,
}


@pytest.mark.parametrize("number", [*range(1, 7), pytest.param(7, marks=pytest.mark.deeper)])
def test_a_path_is_what_runs(number):
    found, off = entered(RUNS[number]()), off_the_paths(number)
    rest = {file: [""] for further, but in continued(number) for file in path(further) if file != but}
    listed = rest | of_python(path(number)) | off
    machinery = tuple(table("Machinery"))
    assert not {file for file in found.keys() - listed if not file.startswith(machinery)}, "add them to docs/reading.md"
    assert not listed.keys() - found.keys(), "in docs/reading.md, but not entered"
    for file, (runs, *_) in listed.items():
        assert not named(runs) - found[file], f"functions of {file} that docs/reading.md names, but that do not run"


def test_paths_that_continue_with_another():
    """An optimized image with a residual block, an explanation with the gradients by hand."""
    further = {number: continued(number) for number in RUNS}
    assert {number: paths for number, paths in further.items() if paths} == {
        5: [(3, "")],
        7: [(6, "kernels/dropout.py")],
    }


@pytest.mark.parametrize("number", RUNS)
def test_a_path_is_short_and_free_of_machinery(number):
    assert len(path(number)) <= MOST_FILES[number]
    assert not [file for file in path(number) if file.startswith(tuple(table("Machinery")))]


@pytest.mark.parametrize("number", RUNS)
def test_functions_on_a_path_exist(number):
    for file, (runs, also, happens) in of_python(path(number)).items():
        assert named(runs) and happens, file
        assert named(runs) | named(also) <= defined(ROOT / file).keys(), file
        has_forms = file.startswith(("kernels/", "rawcnn/optim/"))
        assert not named(also) or has_forms, f"{file}: only kernels and update rules have forms that run instead"


def test_functions_in_the_browser_exist():
    """Only the last path has files of JavaScript, after those of Python, in the order in which the page loads them."""
    scripts = {file: cells for file, cells in path(7).items() if file.endswith(".js")}
    assert [*path(7)][-len(scripts) :] == [*scripts]
    names = [Path(file).name for file in scripts]
    assert names and names == [name for name in SCRIPTS if name in names]
    for file, (runs, in_the_browser, happens) in scripts.items():
        assert not runs and named(in_the_browser) and happens, file
        assert named(in_the_browser) <= set(DECLARED.findall((ROOT / file).read_text(encoding="utf-8"))), file
    assert not [file for number in RUNS if number != 7 for file in path(number) if file.endswith(".js")]


@cache
def defined(file: Path) -> dict[str, tuple[int, int]]:
    """The functions, classes and methods of a file, with their first and last line; decorators belong to them."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        methods = [(f"{node.name}.", method) for method in node.body] if isinstance(node, ast.ClassDef) else []
        for prefix, item in [("", node), *methods]:
            if isinstance(item, (ast.FunctionDef, ast.ClassDef)):
                first = min(line.lineno for line in (item, *item.decorator_list))
                found[prefix + item.name] = first, item.end_lineno
    return found


def test_every_reason_is_given():
    machinery, off = table("Machinery"), table("Off the paths")
    assert 10 < len(machinery) < 30 and all(len(reason) > 10 for (reason,) in machinery.values())
    assert all((ROOT / file).exists() for file in (*machinery, *off))
    assert all(int(number) in RUNS and len(happens) > 10 for _, number, happens in off.values())
