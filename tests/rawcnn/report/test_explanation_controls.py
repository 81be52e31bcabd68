"""What a reader does with an explanation besides clicking on pixels: addresses, Back, the keyboard, large windows.

The network has what other small networks lack: a window of 11×11, an operation that reads one activation twice, and a
max-pool of negative values.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from kernels.geometry import pair
from rawcnn.explain.kernel_source import equation
from rawcnn.nn.backpropagation import GRADIENT_RULES
from rawcnn.nn.kinds import NAMES
from rawcnn.nn.layers import conv, dense, max_pool, residual_sum
from rawcnn.nn.network import Network
from tests import references
from tests.rawcnn.report.browser import Explained, browser
from tests.rawcnn.report.gradients import small_network, written_completely
from tests.rawcnn.report.test_explanation_page import window

CELLS = """() => [...document.querySelectorAll("#operation .matrix > *")].map(cell => cell.textContent)"""
LISTED = "#forward > .scroll output"  # the values of the table of terms
FIELDS = {"name": "#name", "result": "#forward .result", "gradient": "#backward .result"}


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


def model(net, images):
    x = conv(net, "wide", images, 4, 11)  # [B,12,12,4]
    x = residual_sum(net, "double", x, x)
    x = max_pool(net, "pool", x, 4, 2)  # [B,5,5,4]
    return dense(net, "classifier", x, 5)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The network, an image, the explanation and the page."""
    network = Network("odd", model, size=12, classes=5, seed=1)
    image = references.random((12, 12, 3), 5, low=0.0).numpy()
    network.variables["wide/bias"].assign_sub([20.0] * 4)  # all values are negative
    network.variables["classifier/bias"].assign([0.01 - network(image[None])[0, 0], 0, 0, 0, 0])  # logit 0 is 0.01
    return written_completely(network, tmp_path_factory.mktemp("controls"))


@pytest.fixture
def fresh(chromium, drawn):
    """The page in a new window."""
    return Explained(chromium, drawn[3])


@pytest.fixture(scope="module")
def page(chromium, drawn):
    """The page in a window that several tests share."""
    return Explained(chromium, drawn[3])


def shown(page: Explained) -> dict[str, str]:
    return {name: page.text(selector) for name, selector in FIELDS.items()}


# Addresses ------------------------------------------------------------------------------------------------------------


def test_back_and_forward_and_a_copied_address(chromium, fresh):
    """Each choice is a step for Back and Forward, and its address opens the same place in a new window."""
    page, places = fresh, [shown(fresh)]
    for choose in (
        lambda: page.open("wide"),
        lambda: page.click(2, 7, (12, 12)),
        lambda: page.press("#target-parameter-filters"),
        lambda: page.click(1, 1, (12, 12), "#backward-products"),
    ):
        choose()
        places.append(shown(page))
    assert "wide[2, 7, " in places[2]["result"] and "filters[5, 5, " in places[3]["gradient"]
    copy = open_address(chromium, page.page.url)
    assert shown(copy) == places[-1] and copy.text("#backward .position").startswith("at [1, 1]")
    for place in places[-2::-1]:
        page.page.go_back()
        assert shown(page) == place
    assert "#" not in page.page.url
    for place in places[1:]:
        page.page.go_forward()
        assert shown(page) == place
    assert page.text("#backward .position").startswith("at [1, 1]") and page.faults == copy.faults == []


def open_address(chromium, url: str, **context) -> Explained:
    """Open an address of a page in a new window."""
    path, _, address = url.removeprefix("file://").partition("#")
    return Explained(chromium, path, address=address, **context)


@pytest.mark.deeper
def test_a_part_of_the_panel_has_an_address(chromium, page):
    """A copied address of the backward arithmetic scrolls to it, on a narrow screen too."""
    page.open("pool")
    page.press('[data-part="backward"]')
    assert page.page.evaluate("document.activeElement.id") == "part-backward"
    copy = open_address(chromium, page.page.url, viewport={"width": 390, "height": 800})
    assert -1 <= copy.page.locator("#part-backward").bounding_box()["y"] < 800


@pytest.mark.deeper
def test_arrow_keys_are_one_step_for_back(page):
    page.open("wide")
    page.click(5, 5, (12, 12))
    before = page.text("#forward .result")
    page.page.focus("#output-map")
    for _ in range(4):
        page.page.keyboard.press("ArrowDown")
    page.page.wait_for_url(re.compile("unit=9,5,"))
    page.page.go_back()
    assert page.text("#forward .result") == before


# A click and an arrow key before the browser reports the address that the click wrote
QUICK = """() => {
  select("wide", {row: 5, column: 5, channel: 0});
  byId("output-map").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown"}));
  return new Promise(done => setTimeout(done, 50));
}"""


def test_a_quick_arrow_key_is_not_taken_back(page):
    page.page.evaluate(QUICK)
    assert "wide[6, 5, 0]" in page.text("#forward .result")


@pytest.mark.deeper
def test_a_link_to_a_line_keeps_the_place(page):
    page.open("pool")
    page.page.click("#place a")
    assert "#line-" in page.page.url and page.text("#name") == "pool"
    page.page.go_back()
    assert "operation=pool" in page.page.url and page.text("#name") == "pool"


@pytest.mark.sample("conv9", "input7")
@pytest.mark.parametrize(
    "address, fault",
    [
        ("operation=conv9&unit=0,0,0", "This page has no operation conv9; the address may be of another page."),
        ("operation=<img src=x onerror=alert(1)>", "This page has no operation <img src=x onerror=alert(1)>;"),
        ("operation=pool&unit=9,0,0", "The address names a value of pool that this page does not have."),
        ("operation=pool&unit=0,0", "The address names a value of pool that this page does not have."),
        ("operation=pool&unit=0,0,0&gradient=filters:0,0,0,0", "The address names a value of pool"),
        ("operation=wide&unit=0,0,0&gradient=filters:0,0,0,9", "The address names a value of wide"),
        ("operation=wide&unit=0,0,0&gradient=input7:0,0,0", "The address names a value of wide"),
        ("operation=wide&unit=0,0,0&gradient=constructor:0", "The address names a value of wide"),
        ("operation=wide&unit=1,2,3&gradient=input0:4,5,1&part=sideways", ""),
        ("operation=%E0%A4%A", "This page has no operation"),
        ("elsewhere", ""),
    ],
)
def test_addresses_of_what_the_page_lacks(page, address, fault):
    """The page shows one sentence; the next choice removes it."""
    page.open("wide")
    page.page.evaluate("address => new Promise(done => { location.hash = address; setTimeout(done, 50); })", address)
    assert page.text("#fault").startswith(fault) and bool(fault) == page.page.locator("#fault").is_visible()
    page.open("double")
    assert page.text("#fault") == "" and page.faults == []


# Keyboard -------------------------------------------------------------------------------------------------------------


def focused(page: Explained) -> str:
    return page.page.evaluate("document.activeElement.id || document.activeElement.dataset.operation")


def test_the_map_is_a_few_tab_presses_away(fresh):
    count = 0
    while focused(fresh) != "output-map":
        fresh.page.keyboard.press("Tab")
        count += 1
        assert count <= 8, focused(fresh)
    before = fresh.text("#forward .result")
    fresh.page.keyboard.press("ArrowDown")
    assert focused(fresh) == "output-map" and fresh.text("#forward .result") != before


def test_the_skip_link_leads_to_the_map(page):
    page.open("wide")
    page.page.focus("#skip")
    assert page.page.locator("#skip").bounding_box()["y"] >= 0  # visible while it has the focus
    page.page.keyboard.press("Enter")
    assert focused(page) == "output-map"
    page.open("classifier")  # which has no map
    page.page.focus("#skip")
    page.page.keyboard.press("Enter")
    assert focused(page) == "name"


def test_arrow_keys_move_within_a_group(page):
    """One operation of a list is a Tab stop: the selected one, or the one that the arrow keys came to."""
    stops = '.shortcuts [tabindex="0"]'
    page.open("wide")
    page.page.focus("#skip")
    page.page.keyboard.press("Tab")
    assert focused(page) == "wide" and page.page.locator(stops).count() == 1
    for key, name in (("Right", "double"), ("Left", "wide"), ("Down", "double"), ("Up", "wide")):
        page.page.keyboard.press(f"Arrow{key}")
        assert focused(page) == name, key
    for key, name in (("End", "loss"), ("ArrowRight", "loss"), ("Home", "preprocessed"), ("ArrowLeft", "preprocessed")):
        page.page.keyboard.press(key)
        assert focused(page) == name, key
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    assert page.text("#name") == "wide" and focused(page) == "wide"
    assert page.page.locator(stops).inner_text() == "wide"


# Numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.deeper)])
def test_large_windows_show_their_numbers(chromium, drawn, width):
    """Each cell of an 11×11 window and of its filter has its number; the page is not wider than the screen."""
    _, _, explanation, file = drawn
    page = Explained(chromium, file, viewport={"width": width, "height": 800}, has_touch=True)
    page.open("wide")
    page.press("#target-parameter-filters")
    cells = page.page.evaluate(CELLS)
    assert len(cells) == 11 * 11 * (4 + 2) and all(cells)  # x, w, x·w, their sum over channels; w and its gradient
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width
    unit = page.page.evaluate("state.unit")
    (op,) = (op for op in explanation.recording.operations if op.name == "wide")
    channel = page.page.evaluate("leadingTerm(forward.conv(state.operation, state.unit)).from.unit.channel")
    read = window(op, op.inputs[0][0].numpy(), unit["row"], unit["column"], (11, 11))[..., channel]
    assert [float(cell.replace("−", "-")) for cell in cells[:121]] == pytest.approx(read.ravel(), rel=6e-3)


@pytest.mark.deeper
def test_a_tap_of_a_wide_filter_stays_in_view(chromium, drawn):
    """On a narrow screen, the box of the filter stays scrolled when a tap at its end is chosen."""
    page = Explained(chromium, drawn[3], viewport={"width": 390, "height": 800}, has_touch=True)
    page.open("wide")
    page.press("#target-parameter-filters")
    page.press('[data-tap="2,9"]')
    box = page.page.locator("#backward-taps").bounding_box()
    assert "filters[2, 9, " in page.text("#backward .result") and 0 <= box["x"] < box["x"] + box["width"] <= 390
    page.page.keyboard.press("ArrowRight")
    assert "filters[2, 10, " in page.text("#backward .result")


def test_the_winner_of_negative_values_is_first(page, drawn):
    (op,) = (op for op in drawn[2].recording.operations if op.name == "pool")
    page.open("pool")
    page.click(1, 2, op.output.shape[1:3])
    channel = page.page.evaluate("state.unit.channel")
    values = window(op, op.inputs[0][0].numpy(), 1, 2, pair(4), -np.inf)[..., channel]
    ordered = sorted(values.ravel().tolist(), reverse=True)
    rows = page.page.eval_on_selector_all(LISTED, "all => all.map(one => Number(one.dataset.value))")
    assert values.max() < 0 and rows == ordered[:13]  # twelve values, and the largest of the rest
    assert "(the winner)" in page.page.locator("#forward tbody tr").first.inner_text()
    (winner,) = page.page.locator("#forward .matrix .winner").all_inner_texts()
    assert float(winner.replace("−", "-")) == pytest.approx(values.max(), rel=6e-3)


def test_an_activation_that_one_operation_reads_twice(page, drawn):
    """double = wide + wide: each input has its part of the gradient, and both add up."""
    _, _, explanation, _ = drawn
    tensors = explanation.recording.tensors
    page.open("double")
    unit = tuple(page.page.evaluate("[state.unit.row, state.unit.column, state.unit.channel]"))
    for source in (0, 1):
        page.press(f"#target-input-{source}")
        page.choose_gradient(unit)
        assert f"through double (input {source})" in page.text("#backward .result >> nth=0")
        part = tensors[f"∂wide←double[{source}]"][unit]
        assert page.value("#backward .result") == page.value("#backward .agrees") == part
        assert page.value("#backward .sum-of-parts") == pytest.approx(tensors["∂wide"][unit]) == pytest.approx(2 * part)
        assert page.text("#backward h4").startswith("double reads wide[")
    page.page.click("#backward table .link >> nth=0")
    assert page.page.get_attribute("#target-input-0", "aria-pressed") == "true"
    assert page.faults == []


def test_terms_that_cancel(page, drawn):
    """The page says how many digits a float32 sum loses, and nothing about other sums."""
    network, _, explanation, _ = drawn
    x = explanation.recording.tensors["pool"].ravel().astype(np.float64)
    weights, bias = (network.variables[f"classifier/{leaf}"].numpy() for leaf in ("weights", "bias"))
    terms = np.append(x * weights[:, 0], bias[0])
    lost = int(np.ceil(np.log10(np.abs(terms).sum() / abs(np.sum(terms)))))
    page.open("classifier")
    page.choose_channel(0)
    assert 2 <= lost < 7 and f"loses about {lost} of its 7 digits" in page.text("#forward .cancellation")
    page.open("double")  # two equal summands
    assert page.page.locator("#forward .cancellation").count() == 0
    assert "and the result is 0" in page.page.evaluate("cancellation([1, -1], 0)")
    for call in ("cancellation([0, 0], 0)", "cancellation([3, -2], 1)", "cancellation(undefined, 0)"):
        assert page.page.evaluate(call) is None


# Texts ----------------------------------------------------------------------------------------------------------------


def test_every_kind_has_a_name_in_words(page):
    assert NAMES.keys() == {*GRADIENT_RULES, "cross_entropy", "preprocessing"}
    assert not any("_" in name for name in NAMES.values())
    page.open("wide")
    assert page.text("#facts").startswith("convolution, output 12×12×4")
    assert "max-pooling" in page.text('.card[data-operation="pool"]')


SYMBOLS = """() => page.operations.filter(operation => operation.selection).flatMap(operation => {
  const [row, column, channel] = operation.selection.initial;
  const {symbols} = explainUnit(operation, {row, column, channel});
  return symbols.map(([letter]) => [operation.kind, letter, operation.equation.text]);
})"""


def check_equations(page: Explained, document: dict) -> None:
    """The page shows the equation of the file, and explains no letter that the equation lacks."""
    for operation in document["operations"]:
        if operation["selection"]:
            page.open(operation["name"])
            expected = equation(operation["kind"], operation["settings"])
            assert page.page.locator("#forward .equation").text_content() == expected["text"]
            assert page.text("#forward .origin") == f"{expected['file']}, line {expected['line']}"
    for kind, letter, text in page.page.evaluate(SYMBOLS):
        assert letter in text, (kind, letter)


def test_the_page_shows_the_equations_of_the_kernels(page, drawn):
    check_equations(page, drawn[2].document)
    page.open("wide")
    page.click(2, 7, (12, 12))
    assert "p = 2, q = 7" in page.text("#forward .symbols").replace("\u00a0", " ")


@pytest.mark.slow
def test_the_page_shows_the_equations_of_all_kinds(chromium, tmp_path):
    _, _, explanation, file = written_completely(small_network(), tmp_path)
    assert {op["kind"] for op in explanation.document["operations"]} == NAMES.keys()
    check_equations(Explained(chromium, file), explanation.document)
