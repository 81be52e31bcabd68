"""How results show themselves: every type through a real IPython shell, by what the shell returns to a front end."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import rawcnn
from rawcnn import attacks, notebook, visualize
from rawcnn.nn.backpropagation import backpropagate
from rawcnn.nn.network import Network
from rawcnn.papers import compare
from rawcnn.papers.comparison import Comparison, Line
from rawcnn.plots import figures
from rawcnn.visualize.dataset_examples import InputsByChannel, TopInput
from tests.rawcnn import small

ROOT = Path(__file__).resolve().parents[3]
HOSTILE = "<script>alert('x')</script>&\"$x$"


@pytest.fixture(scope="module")
def shell():
    """An IPython shell as notebooks have one, with all formatters active."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        config = Config()
        config.HistoryManager.enabled = False  # no file in the user's home
        hook, excepthook = sys.displayhook, sys.excepthook
        shell = InteractiveShell.instance(config=config)
    notebook.register(shell)
    yield shell
    InteractiveShell.clear_instance()
    sys.displayhook, sys.excepthook = hook, excepthook


@pytest.fixture(scope="module")
def net() -> Network:
    return small.network()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).random((4, 8, 8, 3), np.float32)


def shown(shell, result) -> dict:
    """Return what a front end gets: MIME type → content. A formatter that fails raises here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell, "showtraceback", _raise)
        data, _ = shell.display_formatter.format(result)
    return data


def _raise(info):
    raise info[1]


class Cells(HTMLParser):
    """The cells of all tables by rows; all other tags are counted."""

    def __init__(self, html: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.inside = False  # a cell
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")


def picture(data: dict) -> np.ndarray:
    """The pixels of a result's PNG, [H,W,3] in 0 … 255; all formatters return a single line of text, too."""
    assert "text/html" not in data and len(data["text/plain"].splitlines()) == 1 and len(data["text/plain"]) < 200
    content = data["image/png"]
    content = base64.b64decode(content) if isinstance(content, str) else content
    pixels = np.asarray(Image.open(BytesIO(content)).convert("RGB"))
    assert pixels.std() > 5  # something is drawn
    return pixels


def test_profile_shows_its_operations_and_totals(shell):
    profile = rawcnn.profile("alexnet")
    data = shown(shell, profile)
    cells = Cells(data["text/html"])
    assert [row[0] for row in cells.rows] == ["operation", *(row["name"] for row in profile.rows)]
    by_name = {row[0]: row for row in cells.rows}
    assert by_name["conv1"][2:5] == ["55×55×96", "34,944", "105,415,200"]
    assert f"{profile.totals['parameters']:,} parameters" in data["text/html"]
    assert (
        data["text/plain"].startswith("Profile(alexnet, batch 1, 227 px, float32: 6") and "\n" not in data["text/plain"]
    )
    assert cells.tags <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


def test_profile_of_images_that_are_not_square(shell):
    assert "32×48 px" in shown(shell, rawcnn.profile("cifar_resnet20", size=(32, 48)))["text/plain"]


def test_comparison_shows_each_printed_number(shell):
    comparison = compare("alexnet")
    data = shown(shell, comparison)
    rows = Cells(data["text/html"]).rows
    assert rows[0] == list(Comparison.columns) and len(rows) == 1 + len(comparison.lines)
    for row, line in zip(rows[1:], comparison.lines, strict=True):
        assert row[:3] == [line.row, line.quantity, line.printed]
        assert row[4:] == [line.verdict, line.explanation]
    assert comparison.summary in data["text/plain"]


def test_network_shows_its_operations(shell, net):
    data = shown(shell, net)
    rows = Cells(data["text/html"]).rows
    assert [row[0] for row in rows[1:]] == [x.name for x in net.operations]
    assert rows[1] == ["conv1", "convolution", "images", "8×8×8", "216", f"{8 * 8 * 8 * 27:,}", "3"]
    assert rows[2][:5] == ["conv1/bn", "batch normalization", "conv1", "8×8×8", "16"]  # the averages are not trained
    assert data["text/plain"] == repr(net)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_forward_shows_classes_and_ranges(shell, images, precision):
    net = small.network(precision=precision)
    forward = net.forward(images)
    data = shown(shell, forward)
    rows = Cells(data["text/html"]).rows
    classes = [row[1] for row in rows[1:5]]
    assert classes == [str(k) for k in np.argmax(forward.logits, axis=1)]
    row = {row[0]: row for row in rows}["conv1/relu" if "conv1/relu" in forward.activations else rows[6][0]]
    values = tf.cast(forward.activations[row[0]], tf.float64).numpy()
    assert float(row[2].replace(",", "")) == pytest.approx(values.min(), rel=1e-2, abs=1e-6)
    assert float(row[4].replace(",", "")) == pytest.approx(values.max(), rel=1e-2)
    assert row[5] == f"{np.mean(values == 0):.1%}"
    assert data["text/plain"] == f"Forward(logits 4×10, {len(forward.activations)} activations, 0 statistics)"


def test_forward_of_traced_code_shows_shapes(shell, net):
    found = {}

    @tf.function(autograph=False)
    def traced(images):
        found.update(shown(shell, net.forward(images)))
        return images

    traced(tf.zeros((2, 8, 8, 3)))
    assert ["conv1", "8×8×8", "", "", "", ""] in Cells(found["text/html"]).rows


def test_forward_that_is_not_finite(shell, net, images):
    broken = images.copy()
    broken[0, 0, 0, 0] = np.nan
    assert "nan" in shown(shell, net.forward(broken))["text/html"]


def test_backward_shows_the_norms_of_gradients(shell, net, images):
    back = backpropagate(net, images, [0, 1, 2, 3])
    rows = {row[0]: row for row in Cells(shown(shell, back)["text/html"]).rows}
    norm = float(np.linalg.norm(back.parameters["conv1/filters"].numpy().astype(np.float64)))
    assert float(rows["conv1/filters"][2]) == pytest.approx(norm, rel=1e-3)
    assert "images" in rows


def test_attacks_show_images_that_were_fooled(shell, net, images):
    labels = np.argmax(net(images), axis=1).astype(np.int32)
    result = attacks.fgsm(net, images, labels, epsilon=0.3)
    data = shown(shell, result)
    picture(data)
    assert data["text/plain"].startswith("AttackResult(4 images: accuracy 100.0% → ")
    assert "0.3)" in data["text/plain"]


def test_attacks_show_first_what_they_fooled(shell, images, monkeypatch):
    """An image that was wrong from the start is no success of the attack."""
    labels, before, after = (np.array(x, np.int32) for x in ([0, 1, 2, 3], [0, 5, 2, 3], [0, 5, 7, 8]))
    ones, seen = np.ones(4, np.float32), []
    result = attacks.AttackResult(images, images, labels, None, before, after, ones, ones, labels, labels)
    examples = figures.examples
    monkeypatch.setattr(figures, "examples", lambda shown, *more: seen.append(shown) or examples(shown, *more))
    picture(shown(shell, result))
    assert seen[0].labels.tolist() == [2, 3, 0]


def test_attacks_that_find_nothing_and_networks_without_an_answer(shell, images):
    arrays = {"images": images, "originals": images, "labels": np.zeros(4, np.int32), "target": None}
    none, unknown = np.full(4, -1, np.int32), np.full(4, np.nan, np.float32)
    result = attacks.AttackResult(
        **arrays, predictions_before=none, predictions=none, confidences_before=unknown, confidences=unknown,
        iterations=np.zeros(4, np.int32), queries=np.zeros(4, np.int32),
    )  # fmt: skip
    data = shown(shell, result)
    picture(data)
    assert "none attempted" in data["text/plain"]


def test_attacks_without_images(shell):
    one, pictures = np.zeros(0, np.int32), np.zeros((0, 8, 8, 3), np.float32)
    data = shown(shell, attacks.AttackResult(pictures, pictures, one, None, *[one] * 6))
    assert data == {"text/plain": "AttackResult(0 images)"}


def test_transformations_show_themselves_as_attacks_do(shell, net, images):
    labels = np.argmax(net(images), axis=1).astype(np.int32)
    result = attacks.spatial(net, images, labels, method="worst", trials=2)
    assert "SpatialResult(4 images" in shown(shell, result)["text/plain"]
    picture(shown(shell, result))


def test_data_sets(shell):
    data = small.part(rawcnn.data.load("digits"), 20, 3)
    found = shown(shell, data)
    picture(found)
    assert found["text/plain"] == "DataSet(a part of digits, 10 classes, 8×8 px, images: 20 train, 3 test)"


def test_fooling_images(shell, images):
    found = attacks.FoolingImages(images, np.float32([0.1, 0.5, 0.9, 1]), np.zeros((1, 4)), "direct", {})
    data = shown(shell, found)
    picture(data)
    assert data["text/plain"] == "FoolingImages(direct, 4 classes, median confidence 70.0%)"


@pytest.mark.parametrize("count", [1, 12])
def test_optimized_images(shell, count):
    pixels = np.random.Generator(np.random.PCG64(1)).random((count, 16, 16, 3), np.float32)
    optimized = visualize.Optimized(pixels, np.arange(count, dtype=np.float32), np.zeros((1, count)), (), {})
    data = shown(shell, optimized)
    assert f"Optimized({count} images of 16×16, objective 0" in data["text/plain"]
    high, wide, _ = picture(data).shape
    assert count == 1 or wide > 4 * high  # a row


def test_deconvolutions(shell, net, images):
    found = visualize.deconvolve(net, images, "conv2", 3)
    data = shown(shell, found)
    picture(data)
    assert data["text/plain"].startswith("Deconvolution(4 images of 8×8, activations ")


def test_deconvolutions_that_are_not_finite(shell):
    pictures = np.full((1, 8, 8, 3), np.nan, np.float32)
    pictures[0, :4] = np.linspace(-1, 1, 96).reshape(4, 8, 3)
    found = visualize.Deconvolution(pictures, np.float32([np.nan]), np.zeros((1, 2), int), [(0, 0, 4, 4)])
    picture(shown(shell, found))


def test_saliency(shell, net, images):
    data = shown(shell, visualize.input_gradient(net, images))
    picture(data)
    assert data["text/plain"].startswith("Saliency(4 images of 8×8, classes ")


def top_input(channel: int, index: int) -> TopInput:
    pixels = np.random.Generator(np.random.PCG64(index)).random((8, 8, 3), np.float32)
    return TopInput(channel, index, 1.5, (2, 3), (1, 2, 5, 6), pixels)


def test_top_inputs(shell, net, images):
    data = small.data(np.uint8(255 * images), np.arange(4, dtype=np.int32), 4)
    tops = visualize.top_inputs(net, data, "conv1", [2, 5], 3)
    assert isinstance(tops, dict) and set(tops) == {2, 5} and tops == dict(tops)
    found = shown(shell, tops)
    picture(found)
    assert found["text/plain"] == "InputsByChannel(2 channels, up to 3 inputs of each)"
    picture(shown(shell, tops[2][0]))
    excitation = visualize.excitations(net, data, "conv1", [2], 3)[2]
    assert shown(shell, excitation)["text/plain"].startswith("Excitation(channel 2, 4 images, largest ")
    picture(shown(shell, excitation))


def test_top_inputs_of_many_channels_are_cut(shell, monkeypatch):
    monkeypatch.setattr(notebook.inputs_by_channel, "SHOWN", 2)
    many = InputsByChannel({k: [top_input(k, i) for i in range(9)] for k in range(5)})
    few = InputsByChannel({k: many[k] for k in range(2)})
    assert np.array_equal(picture(shown(shell, many)), picture(shown(shell, few)))
    assert shown(shell, InputsByChannel())["text/plain"] == "InputsByChannel(0 channels, up to 0 inputs of each)"


def test_names_are_escaped(shell):
    """Names of layers and papers are text, whatever they contain."""
    comparison = Comparison("n", HOSTILE, HOSTILE, [Line(HOSTILE, "x", "60M", 60e6, HOSTILE)], [HOSTILE])
    net = Network(HOSTILE, small.model, size=8, classes=10)
    for result in (comparison, net):
        html = shown(shell, result)["text/html"]
        assert "<script" not in html and "&lt;script&gt;" in html
    assert "script" not in Cells(shown(shell, comparison)["text/html"]).tags


def test_every_named_type_exists():
    """A type that moves to another module would silently lose its display."""
    for module, name in notebook.DISPLAYS:
        __import__(module)
        assert getattr(sys.modules[module], name).__module__ == module


def test_import_registers_where_ipython_runs_and_imports_nothing_heavy():
    code = """
import sys
import rawcnn
assert "IPython" not in sys.modules and "rawcnn.notebook" not in sys.modules
del sys.modules["rawcnn"]
import IPython
import rawcnn  # IPython is imported, but no shell runs
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
del sys.modules["rawcnn"], sys.modules["rawcnn.notebook"]
shell.run_cell("import rawcnn").raise_error()
formatters = shell.display_formatter.formatters
assert ("rawcnn.profiling.costs", "Profile") in formatters["text/html"].deferred_printers
assert ("rawcnn.attacks.result", "AttackResult") in formatters["image/png"].deferred_printers
assert not {"tensorflow", "matplotlib", "numpy"} & set(sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_a_shell_that_began_later_loads_an_extension(shell):
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.deferred_printers.pop(("rawcnn.papers.comparison", "Comparison"), None)
    formatter.type_printers.pop(Comparison, None)
    assert "text/html" not in shown(shell, compare("alexnet"))
    shell.run_line_magic("load_ext", "rawcnn.notebook")
    assert "text/html" in shown(shell, compare("alexnet"))


def test_plots_leave_the_backend_of_a_notebook_alone():
    """`import matplotlib.pyplot` elsewhere would choose a backend, and keep each figure open."""
    for path in (ROOT / "rawcnn").rglob("*.py"):
        assert not re.search(
            r"^\s*(from|import) matplotlib\.pyplot|matplotlib\.use\(", path.read_text(), re.MULTILINE
        ), path
