"""The explanation of a network in a browser: clicks, and the numbers that the page computes.

The numbers are compared with NumPy in float64, which computes each unit from the inputs that the network's operation
read, and with the network's own activations.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import rawcnn
from kernels.geometry import pair, window_padding
from rawcnn.explain import explain
from rawcnn.explain.paths import path_of
from rawcnn.explain.units import as_map
from rawcnn.nn.backpropagation import GRADIENT_RULES
from rawcnn.nn.layers import (
    average_pool,
    batch_norm,
    concatenate,
    conv,
    dense,
    discretize,
    drop_path,
    dropout,
    global_average_pool,
    lrn,
    max_pool,
    pad,
    relu,
    residual_sum,
    scaled_residual_sum,
    squeeze_excite,
    zero_padded_shortcut,
)
from rawcnn.nn.network import Network
from rawcnn.report.explanation_page import write_explanation
from tests import references
from tests.rawcnn import small
from tests.rawcnn.conformance import TABLE, Case
from tests.rawcnn.report.browser import Explained, browser

RELATIVE = 1e-5  # of a result, compared with NumPy in float64


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


def every_kind(net, images):
    """A model with an operation of every kind."""
    x = discretize(net, "codes", images, "thermometer", 2)  # [B,8,8,6]
    x = relu(net, conv(net, "conv1", x, 8, 3, groups=2, padding=((2, 0), (1, 1))))
    x = lrn(net, "norm", pad(net, "pad", x, ((1, 0), (0, -1))))
    a = max_pool(net, "pool", x, 3, 2)
    b = average_pool(net, "mean", x, 3, 2)
    c = average_pool(net, "mean_counting", x, 3, 2, count_padding=True)
    x = concatenate(net, "concat", [a, b, c])  # [B,5,4,24]
    y = batch_norm(net, "bn", conv(net, "conv2", x, 16, 3, dilation=2, bias=False))
    x = residual_sum(net, "sum", squeeze_excite(net, "se", conv(net, "conv3", x, 16, 1), 4), y)
    x = scaled_residual_sum(net, "scaled", x, drop_path(net, "path", y, 0.1), 0.3)
    x = zero_padded_shortcut(net, "wider", x, 20, 2, zeros="both")
    flat = dense(net, "fc", x, 12)
    x = global_average_pool(net, "gap", x)
    return dense(net, "classifier", dropout(net, "drop", concatenate(net, "both", [flat, x]), 0.5), 7)


def written(network, image, tmp_path, **settings):
    """Return the explanation and its page."""
    explanation = explain(network, image, **settings)
    return explanation, write_explanation(explanation, tmp_path)


def image_for(network) -> np.ndarray:
    return references.random((*network.image_size, 3), 5, low=0.0).numpy()


def window(op, x: np.ndarray, row: int, column: int, size, fill: float = 0.0) -> np.ndarray:
    """Return what a window reads of x [H,W,C], with `fill` as padding: [kh,kw,C] in float64."""
    (sh, sw), (dh, dw) = pair(op.settings["stride"]), pair(op.settings.get("dilation", 1))
    pads = window_padding(op.settings["padding"], x.shape[:2], size, (sh, sw), (dh, dw))
    padded = np.pad(x.astype(np.float64), (*pads, (0, 0)), constant_values=fill)
    reach = (size[0] - 1) * dh + 1, (size[1] - 1) * dw + 1
    return padded[row * sh : row * sh + reach[0] : dh, column * sw : column * sw + reach[1] : dw]


def expected(op, unit: tuple[int, int, int]) -> float:
    """Compute a unit of an operation with NumPy in float64, from the operation's inputs and parameters."""
    row, column, channel = unit
    xs = [as_map(x[0].numpy()).astype(np.float64) for x in op.inputs]
    x, settings = xs[0], op.settings
    p = {leaf: value.numpy().astype(np.float64) for leaf, value in op.parameters.items()}
    if op.kind == "conv":
        filters, groups = p["filters"], settings["groups"]
        depth, group = filters.shape[2], channel * groups // filters.shape[3]
        patch = window(op, x, row, column, filters.shape[:2])[..., group * depth : (group + 1) * depth]
        return np.sum(patch * filters[..., channel]) + (p["bias"][channel] if "bias" in p else 0)
    if op.kind == "dense":
        return x.ravel() @ p["weights"][:, channel] + (p["bias"][channel] if "bias" in p else 0)
    if op.kind == "max_pool":
        return window(op, x, row, column, pair(settings["size"]), -np.inf)[..., channel].max()
    if op.kind == "average_pool":
        patch = window(op, x, row, column, pair(settings["size"]), np.nan)[..., channel]
        return np.nansum(patch) / (patch.size if settings["count_padding"] else np.sum(~np.isnan(patch)))
    if op.kind == "lrn":
        near = x[row, column, max(channel - settings["radius"], 0) : channel + settings["radius"] + 1]
        s = settings["bias"] + settings["alpha"] * np.sum(near**2)
        return x[unit] / s ** settings["beta"]
    if op.kind == "batch_norm":
        inverse = 1 / np.sqrt(p["variance"][channel] + settings["epsilon"])
        scale = p["scale"][channel] if "scale" in p else 1
        offset = p["offset"][channel] if "offset" in p else 0
        return (x[unit] - p["mean"][channel]) * inverse * scale + offset
    if op.kind == "residual_sum":
        return x[unit] + settings.get("scale", 1.0) * xs[1][unit]
    if op.kind in ("pad", "zero_padded_shortcut", "discretize"):  # which only move values or compare them
        return float(as_map(op.output[0].numpy())[unit])
    return {
        "relu": lambda: max(x[unit], 0),
        "sigmoid": lambda: 1 / (1 + np.exp(-x[unit])),
        "dropout": lambda: x[unit],
        "drop_path": lambda: x[unit],
        "global_average_pool": lambda: x[..., channel].mean(),
        "concatenate": lambda: np.concatenate(xs, -1)[unit],
        "scale_channels": lambda: x[unit] * xs[1][0, 0, channel],
    }[op.kind]()


def click_units(page: Explained, explanation, count: int, seed: int = 0) -> None:
    """Select random units of all embedded operations in turn, and compare what the page says."""
    generator = np.random.default_rng(seed)
    operations = {op.name: op for op in explanation.recording.operations}
    chosen = [op for op in explanation.document["operations"] if op["selection"] and op["counts"]]
    for number in range(count):
        described = chosen[number % len(chosen)]
        selection, op = described["selection"], operations[described["name"]]
        unit = (
            int(generator.integers(*selection["rows"])),
            int(generator.integers(*selection["columns"])),
            int(generator.choice(selection["channels"])),
        )
        page.open(op.name)
        page.select(unit, tuple(described["shape"]))
        said, right = page.value("#forward .result"), expected(op, unit)
        assert said == pytest.approx(right, rel=RELATIVE, abs=1e-12), (op.name, unit)
        assert page.printed("#forward .result") == pytest.approx(right, rel=RELATIVE, abs=1e-12)
        own = float(as_map(op.output[0].numpy())[unit])
        scale = float(np.abs(op.output).max())
        assert page.value("#forward .agrees") == pytest.approx(own, rel=1e-7)
        assert said == pytest.approx(own, abs=1e-4 * scale), (op.name, unit)
    assert page.faults == []


@pytest.fixture(scope="module")
def opened(chromium, tmp_path_factory):
    """A small network's explanation, and its page in the browser."""
    network = small.network()
    explanation, file = written(network, image_for(network), tmp_path_factory.mktemp("small"))
    return explanation, Explained(chromium, file)


def test_a_small_network(opened):
    """One unit of each kind, the loss, and no request to a server."""
    explanation, page = opened
    chosen = [op for op in explanation.document["operations"] if op["selection"] and op["counts"]]
    click_units(page, explanation, len(chosen))
    page.open("loss")
    assert page.value("#forward .result") == pytest.approx(explanation.recording.loss, rel=1e-6)
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []


# The four sides of an outline around one corner pixel of a map: whether the dark line is seen on each of them
CORNER = """([row, column]) => {
  const canvas = Object.assign(element("canvas", {width: 40, height: 40}), {factor: 10, left: 0, top: 0});
  outline(canvas, {rows: [row, row + 1], columns: [column, column + 1]}, "unit");
  const seen = (x, y) => canvas.getContext("2d").getImageData(x, y, 1, 1).data;
  const [x, y] = [10 * column + 5, 10 * row + 5];
  const near = (from, to, at) => Array.from({length: to - from}, (_, k) => at(from + k)).some(
    ([red, , , alpha]) => alpha > 200 && red < 90);
  return [near(Math.max(x - 8, 0), x, k => seen(k, y)), near(x, Math.min(x + 8, 40), k => seen(k, y)),
          near(Math.max(y - 8, 0), y, k => seen(x, k)), near(y, Math.min(y + 8, 40), k => seen(x, k))];
}"""


@pytest.mark.parametrize("corner", [(0, 0), (3, 3), (0, 3), (1, 1)])
def test_the_outline_is_seen_at_the_edges_of_a_map(opened, corner):
    _, page = opened
    assert page.page.evaluate(CORNER, corner) == [True] * 4


def test_the_keyboard_moves_the_unit(opened):
    explanation, page = opened
    page.open("conv1")
    page.select((3, 3, explanation.document["operations"][1]["selection"]["channels"][0]), (8, 8, 8))
    page.page.focus("#output-map")
    for key, place in (("Down", "[4, 3,"), ("Right", "[4, 4,"), ("Up", "[3, 4,"), ("Left", "[3, 3,")):
        page.page.keyboard.press(f"Arrow{key}")
        assert place in page.text("#forward .result"), key
    for _ in range(9):  # further than the edge
        page.page.keyboard.press("ArrowLeft")
    assert "[3, 0," in page.text("#forward .result")
    assert page.page.evaluate("document.activeElement.id") == "output-map"


def test_the_largest_term_has_one_meaning(opened):
    """A negative term can be the largest one: in the table, for the window's channel, on the path and backward."""
    explanation, page = opened
    page.open("classifier")
    weights, x = (explanation.recording.tensors[name] for name in ("classifier/weights", "drop"))
    for channel in range(weights.shape[1]):
        page.choose_channel(channel)
        largest = f"drop[{np.argmax(np.abs(x.astype(np.float64) * weights[:, channel]))}]"
        assert page.page.locator("#forward td button").first.inner_text() == largest
        assert page.page.locator("#path td button").nth(1).inner_text() == largest
        _, factors, _ = page.page.locator("#forward tbody tr").first.locator("td").all_inner_texts()
        numbers = page.page.locator("#forward .steps td").nth(1).inner_text()
        assert numbers.startswith("·".join(bracketed(factor.split("\u00a0")[1]) for factor in factors.split(" · ")))
    assert page.page.evaluate("largestTerm([{value: 1}, {value: -2}, {value: 2}]).value") == -2
    page.open("loss")
    assert "log p" in page.page.locator("#path tbody tr").first.inner_text()


def test_an_operation_without_arrays_has_one_sentence(chromium, tmp_path):
    """Unless the selected unit is on a path that the page holds: then it is computed, without a gradient."""
    network = small.network()
    _, file = written(network, image_for(network), tmp_path, layers=["conv2"])
    page = Explained(chromium, file)
    path = page.page.locator("#path td button").all_inner_texts()
    assert path[2].startswith("conv1/bn/relu[")
    page.page.locator("#path td button").nth(2).click()
    assert page.text("#left-out").startswith("Of this operation, the page holds only what a path to the image reads")
    assert page.page.locator("#forward .result").is_visible() and not page.page.locator("#gradients").is_visible()
    page.open("classifier")
    assert page.text("#left-out").endswith("not in this page; run the command again with --layer classifier.")
    hidden = [page.page.locator(name) for name in ("#computed", "#gradients")]
    assert not any(part.is_visible() for part in hidden) and page.text("#selection") == ""
    page.open("conv2")
    assert all(part.is_visible() for part in hidden) and page.faults == []


def bracketed(number: str) -> str:
    return f"({number})" if number.startswith("−") else number


def path_on_page(page: Explained) -> list[str]:
    return page.page.locator("#path td button").all_inner_texts()


def test_the_path_is_the_one_that_python_finds(opened):
    explanation, page = opened
    for name in ("classifier", "conv2"):
        (described,) = [op for op in explanation.document["operations"] if op["name"] == name]
        page.open(name)
        steps = list(path_of(explanation.recording, name, tuple(described["selection"]["initial"])))
        vector = {op.name for op in explanation.recording.operations if len(op.output.shape) == 2}
        names = [
            f"{s.operation}[{s.unit[2]}]" if s.operation in vector else f"{s.operation}[{', '.join(map(str, s.unit))}]"
            for s in steps
        ]
        assert path_on_page(page) == names and names[-1].startswith("preprocessed[")


def test_every_line_leads_to_what_it_applies(opened):
    """The innermost call has the cards, and each line that called it has a link to the operation."""
    explanation, page = opened
    for operation in explanation.document["operations"][1:-1]:
        for depth, place in enumerate(operation["places"]):
            box = f"#line-{place['source']}-{place['line']} {'.called' if depth else '.applied'}"
            assert page.page.locator(f'{box} [data-operation="{operation["name"]}"]').count() == 1
    calling = explanation.document["operations"][1]["places"][1]
    page.press(f"#line-{calling['source']}-{calling['line']} > code")
    assert page.text("#name") == "conv1"
    page.press(f'#line-{calling["source"]}-{calling["line"]} [data-operation="conv2"]')
    assert page.text("#name") == "conv2"


INCOMPLETE = """() => page.operations.filter(operation => operation.selection).flatMap(operation =>
  operation.selection.paths.filter(([row, column, channel]) =>
    pathToImage(operation, {row, column, channel}).ended).map(unit => [operation.name, unit]))"""


def test_the_paths_that_the_page_lists_are_complete(opened):
    explanation, page = opened
    assert sum(len(op["selection"]["paths"]) for op in explanation.document["operations"] if op["selection"]) > 20
    assert page.page.evaluate(INCOMPLETE) == []


@pytest.mark.slow
def test_every_kind_of_operation(chromium, tmp_path):
    """Two units of each kind of operation, with odd paddings, groups and dilation."""
    network = Network("every kind", every_kind, size=8, classes=7, seed=1)
    explanation, file = written(network, image_for(network), tmp_path)
    assert {op.kind for op in explanation.recording.operations} == set(GRADIENT_RULES)
    page = Explained(chromium, file)
    chosen = [op for op in explanation.document["operations"] if op["selection"] and op["counts"]]
    click_units(page, explanation, 2 * len(chosen))


@pytest.mark.slow
@pytest.mark.parametrize("model, size", [("alexnet", 67), ("googlenet", 64), ("resnet18", 64), ("se_resnet50", 64)])
def test_fifty_positions(chromium, tmp_path, model, size):
    network = rawcnn.create(model, classes=10, size=size, seed=0)
    explanation, file = written(network, image_for(network), tmp_path)
    page = Explained(chromium, file)
    click_units(page, explanation, 50)
    assert page.page.evaluate(INCOMPLETE) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_touch_and_width(chromium, tmp_path, width, scheme):
    """Taps work, nothing is wider than the screen, and letters differ from their background."""
    network = rawcnn.create("googlenet", classes=10, size=64, seed=0)
    explanation, file = written(network, image_for(network), tmp_path, name="x" * 300)
    settings = {"viewport": {"width": width, "height": 844}, "has_touch": True, "color_scheme": scheme}
    page = Explained(chromium, file, **settings)
    for described in explanation.document["operations"]:
        if described["selection"]:
            page.page.locator(f'[data-operation="{described["name"]}"]').first.tap()
            assert page.text("#name") == described["name"]
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width, described["name"]
    page.page.locator('[data-operation="conv1"]').first.tap()
    page.page.locator("#output-map").tap(position={"x": 3, "y": 3})
    assert "conv1[0, 0," in page.text("#forward .result")
    assert page.faults == []


@pytest.mark.slow
def test_hostile_names(chromium, tmp_path):
    """Names of files and classes are text: no tag, script or template in them has an effect."""
    hostile = [
        "</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a&b", "{{ 7*7 }}", "\u2028", "'\"`",
        "]]>", "<!--<script>", "\ud83d", "\x00\x1b[31m",
    ]  # fmt: skip
    network = small.network()
    network.labels = tuple(hostile)
    for number, name in enumerate(hostile):
        _, file = written(network, image_for(network), tmp_path / str(number), name=name, label=number)
        page = Explained(chromium, file)
        page.open("loss")
        page.open("classifier")
        assert page.page.locator("#unit-channel option").count() == network.classes
        assert page.faults == [] and page.page.locator("img[src=x], marquee").count() == 0


# Every family of models, and the kinds of operations that only some forms have: levels, wider shortcuts by zeros
CASES = [case for case in TABLE if case.representative]
CODES = Case("cifar_resnet20", 0, 0, 0, 0, small=8, options={"discretize": "thermometer", "zeros": "end"})


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, CODES], ids=lambda case: case.id)
def test_pages_of_all_families(chromium, tmp_path, case):
    """Each operation has its line; ten units and all listed paths are computed; the page has at most 15 MB."""
    network = case.create()
    explanation, file = written(network, image_for(network), tmp_path)
    assert file.stat().st_size <= 15e6
    assert all(op["places"] for op in explanation.document["operations"][1:-1])
    json.dumps(explanation.document, allow_nan=False)
    page = Explained(chromium, file)
    click_units(page, explanation, 10)
    assert page.page.evaluate(INCOMPLETE) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vgg16", "nasnet_mobile"])
def test_pages_at_full_size(tmp_path, model):
    network = rawcnn.create(model, seed=0)
    explanation, file = written(network, image_for(network), tmp_path)
    assert file.stat().st_size <= 15e6
    for op in explanation.document["operations"]:
        if op["selection"] and op["counts"]:
            for axis, length in zip(("rows", "columns"), op["shape"][:2], strict=True):
                assert op["selection"][axis][1] - op["selection"][axis][0] >= min(16, length), op["name"]
