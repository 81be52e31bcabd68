"""The backward arithmetic of an explanation in a browser: clicks on pixels, taps and weights.

`gradients.py` clicks and compares; a step of the recipe is compared with the update of a training step.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.data.augmentation import Augmentation
from rawcnn.explain import explain
from rawcnn.explain.explanation import default_recipe
from rawcnn.explain.recording import record_image
from rawcnn.explain.selection import DETAILS, RequiredUnits, selection_at
from rawcnn.explain.units import as_map
from rawcnn.nn.layers import conv, dense, lrn, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.report.explanation_page import write_explanation
from rawcnn.training import step
from rawcnn.training.recipes import find_recipe, learning_rate
from tests import references
from tests.benchmarks.toys import scramble
from tests.rawcnn.report.browser import Explained, browser
from tests.rawcnn.report.gradients import (
    RELATIVE,
    Gradients,
    close_to,
    embedded,
    gradients,
    small_network,
    written,
    written_completely,
)
from tests.rawcnn.report.test_explanation_page import CASES, CODES


@pytest.fixture(scope="module")
def chromium():
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network with an operation of every kind, its explanation, and its page."""
    return written_completely(small_network(), tmp_path_factory.mktemp("page"))


def test_some_operations(chromium, small):
    """A unit of each input and an element of each parameter, with odd paddings and groups."""
    network, image, explanation, file = small
    clicks = Gradients(Explained(chromium, file), network, image, explanation)
    for name in ("conv1", "pool", "bn"):
        clicks.click_all(name, 1)


CLIPPED = """() => [...document.querySelectorAll("#operation .scroll")].filter(box => box.scrollWidth > box.clientWidth)
  .map(box => box.innerText)"""


def test_tables_fit_a_narrow_screen(chromium, small):
    """Long factors wrap, and the values, with their exponents, stand next to the names."""
    _, _, _, file = small
    page = Explained(chromium, file, viewport={"width": 390, "height": 800})
    for name in ("norm", "conv1", "bn", "classifier", "loss"):
        page.open(name)
        assert page.page.evaluate(CLIPPED) == [], name


def test_channels_of_groups(chromium, small):
    """A filter of a grouped convolution numbers its input channels within the group; the page says which they are."""
    _, _, _, file = small
    page = Explained(chromium, file)
    page.open("conv1")  # 6 channels in 2 groups → 8 channels
    page.choose_channel(7)
    assert "c + g·C/G" in page.text("#forward .equation")
    assert "c of w is input channel c + 3" in page.text("#forward")
    assert page.page.evaluate("inputChannelText(operations.get('conv1'), 7, 1)") == "input channel 4 (c = 1)"
    page.press("#target-parameter-filters")
    page.page.select_option("#backward-output", "7")
    assert "c + 3" in page.text("#backward .equation") and "is input channel c + 3" in page.text("#backward")
    page.press("#target-input-0")
    page.page.select_option("#backward-channel", "5")
    assert "Input channel 5 is c = 2 of the filters of its group" in page.text("#backward")
    assert page.faults == []


# The results of all units of an operation's output, and the gradients to all units of an input: [[[number]]]
EACH_UNIT = """([height, width, channels], resultAt) => indicesBelow(height).map(row =>
  indicesBelow(width).map(column => indicesBelow(channels).map(channel => resultAt({row, column, channel}))))"""
FORWARD = f"""name => {{
  const operation = operations.get(name);
  return ({EACH_UNIT})(operation.shape, unit => forward[operation.kind](operation, unit).result);
}}"""
BACKWARD = f"""([name, source]) => {{
  const operation = operations.get(name);
  const shape = mapShape(inputName(operation, source));
  return ({EACH_UNIT})(shape, unit => gradientOf(operation, {{what: "input", source, unit}}).result);
}}"""
WINNERS = f"""name => {{
  const operation = operations.get(name);
  const winner = unit => forward.max_pool(operation, unit).leading.from.unit;
  return ({EACH_UNIT})(operation.shape, unit => [winner(unit).row, winner(unit).column]);
}}"""


def assert_gradients(page: Explained, recording, name: str) -> None:
    """Compare the gradients to all units of an operation's inputs with those in float64."""
    (op,) = (op for op in recording.operations if op.name == name)
    to_inputs, _ = gradients(op, recording)
    for source, exact in enumerate(to_inputs):
        found = np.array(page.page.evaluate(BACKWARD, [name, source]))
        np.testing.assert_allclose(found, exact, rtol=RELATIVE, atol=1e-9 * np.abs(exact).max(), err_msg=name)


@pytest.mark.deeper
def test_all_units_of_small_operations(chromium, small):
    """Their values and their gradients, also where a window reaches into the padding."""
    _, _, explanation, file = small
    page = Explained(chromium, file)
    for name in ("pad", "pool", "mean", "mean_counting", "concat", "bn", "sum", "scaled", "wider", "gap"):
        found = np.array(page.page.evaluate(FORWARD, name))
        own = as_map(explanation.recording.tensors[name])
        np.testing.assert_allclose(found, own, rtol=RELATIVE, atol=1e-6 * np.abs(own).max(), err_msg=name)
        assert_gradients(page, explanation.recording, name)


def tied(net, images):
    """ReLUs of exact zeros, a max-pool of zeros, and a response normalization with large sums."""
    x = relu(net, conv(net, "conv1", images, 6, 3, bias=False))
    x = max_pool(net, "pool", relu(net, lrn(net, "norm", x, radius=1, bias=1.0, alpha=2.0)), 3, 2)
    return dense(net, "classifier", x, 5)


@pytest.fixture(scope="module")
def ties(chromium, tmp_path_factory):
    """The network above, for images that are black on the left; its recording and its open page."""
    network = Network("tied", tied, size=8, classes=5, seed=3)
    image = references.random((8, 8, 3), 5, low=0.0).numpy()
    image[:, :4] = 0
    explanation = explain(network, image, layers=[op.name for op in network.operations])
    file = write_explanation(explanation, tmp_path_factory.mktemp("tied"))
    return explanation.recording, Explained(chromium, file)


def test_ties_and_zeros(ties):
    """At 0 a ReLU's gradient is 0; of equal values of a window the first is the winner, and gets the gradient."""
    recording, page = ties
    x, pool = recording.tensors["norm/relu"], recording.tensors["pool"]
    assert np.mean(recording.tensors["norm"] == 0) > 0.3
    winners, zeros = np.array(page.page.evaluate(WINNERS, "pool")), 0
    for row, column, channel in np.ndindex(*pool.shape):
        window = x[2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        first = np.unravel_index(np.argmax(window), window.shape)
        assert winners[row, column, channel].tolist() == [2 * row + first[0], 2 * column + first[1]]
        zeros += window.max() == 0
    assert zeros > 5
    assert_gradients(page, recording, "norm/relu")
    assert_gradients(page, recording, "pool")


def test_a_response_normalization_with_large_sums(ties):
    """The part of the gradient that comes through the neighbors is as large as the direct one."""
    recording, page = ties
    assert_gradients(page, recording, "norm")


@pytest.mark.slow
def test_every_kind_of_operation(chromium, small):
    network, image, explanation, file = small
    clicks = Gradients(Explained(chromium, file), network, image, explanation)
    for name in embedded(explanation):
        clicks.click_all(name, 2)


@pytest.mark.slow
def test_the_ends_of_the_network(chromium, small):
    """The gradient to a logit is softmax − target; that to a pixel is scaled by the preprocessing."""
    network, image, explanation, file = small
    page, recording = Explained(chromium, file), explanation.recording
    clicks = Gradients(page, network, image, explanation)
    page.open("loss")
    logits = recording.tensors[network.head].astype(np.float64)
    smoothing = recording.recipe.label_smoothing
    targets = np.eye(7)[recording.label] * (1 - smoothing) + smoothing / 7
    right = np.exp(logits) / np.exp(logits).sum() - targets
    for channel in (recording.label, (recording.label + 1) % 7):
        clicks.choose("#backward-channel", channel)
        assert page.value("#backward .result") == pytest.approx(right[channel], rel=RELATIVE)
        assert close_to(right[channel], page.value("#backward .agrees"), right)


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", ["none", "centered", "torch", "caffe"])
def test_pixels(chromium, tmp_path, preprocessing):
    network = rawcnn.create("cifar_resnet20", classes=10, size=16, preprocessing=preprocessing, discretize="none")
    network, image, explanation, file = written(network, tmp_path)
    page = Explained(chromium, file)
    clicks = Gradients(page, network, image, explanation)
    page.open("preprocessed")
    own = clicks.back.activations["images"][0].numpy()
    for unit in ((3, 5, 0), (8, 8, 1), (0, 15, 2)):
        clicks.choose("#backward-channel", unit[2])
        page.click(*unit[:2], (16, 16), "#backward-gradient")
        assert close_to(page.value("#backward .result"), own[unit], own)
        assert close_to(page.value("#backward .agrees"), own[unit], own)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model, size, options",
    [
        ("alexnet", 67, {}),
        ("googlenet", 64, {}),
        ("resnet18", 64, {}),
        ("se_resnet50", 64, {}),
        ("cifar_resnet20", 32, {"shortcut": "A"}),
    ],
)
def test_models(chromium, tmp_path, model, size, options):
    """Clicks on all inputs and parameters of the operations that the page of a model holds by default."""
    network = rawcnn.create(model, classes=10, size=size, seed=0, **options)
    network, image, explanation, file = written(network, tmp_path, label=3)
    clicks = Gradients(Explained(chromium, file), network, image, explanation)
    for name in embedded(explanation):
        clicks.click_all(name, 4)


# Gradients of all embedded operations, at random places, that differ from the network's own by more than rounding
DIFFERENT = """count => {
  const any = list => list[Math.floor(Math.random() * list.length)];
  const place = (operation, target) => {
    if (target.what === "input") {
      const [row, column] = [0, 1].map(axis => any(completeIndices(operation, target.source, axis)));
      return {...target, unit: {row, column, channel: any(completeChannels(operation, target.source))}};
    }
    if (target.leaf === "filters") {
      const channel = any(outputsWithFilters(operation));
      const taps = operation.settings.size.map(length => any(indicesBelow(length)));
      return {...target, index: [...taps, any(filterDepths(operation, channel)), channel]};
    }
    const channel = any(operation.selection.channels);
    if (target.leaf !== "weights") return {...target, index: [channel]};
    const [row, column] = [0, 1].map(axis => any(completeIndices(operation, 0, axis)));
    const unit = {row, column, channel: any(completeChannels(operation, 0))};
    return {...target, index: [flatIndex(operation.inputs[0], unit), channel]};
  };
  const found = [];
  for (const operation of page.operations.filter(one => one.selection)) {
    select(operation.name);
    for (const target of gradientTargets(operation)) {
      for (let k = 0; k < count; k++) {
        const at = place(operation, target);
        const {result, terms} = gradientOf(operation, at);
        // softmax − target subtracts values up to 1
        const size = terms.length ? sum(terms.map(term => Math.abs(term.value))) : 1;
        if (Math.abs(result - ownGradient(operation, at)) > 1e-5 * size) found.push([operation.name, at, result]);
      }
      chooseTarget(initialTarget(operation, target));
    }
  }
  return found;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CASES, CODES], ids=lambda case: case.id)
def test_pages_of_all_families(chromium, tmp_path, case):
    """Gradients to all inputs and parameters of a page are the network's own, and all can be drawn."""
    _, _, _, file = written(case.create(), tmp_path)
    page = Explained(chromium, file)
    assert page.page.evaluate(DIFFERENT, 30) == []
    assert page.faults == []


@pytest.mark.slow
def test_large_maps(chromium, tmp_path):
    """AlexNet at its own size: the page has a grid of the first convolution, and offers what it can sum completely."""
    network = rawcnn.create("alexnet", classes=10, seed=0)
    network, image, explanation, file = written(network, tmp_path, label=3)
    page = Explained(chromium, file)
    clicks = Gradients(page, network, image, explanation)
    (conv1,) = (op for op in explanation.document["operations"] if op["name"] == "conv1")
    (start, stop), stride, reach = conv1["selection"]["rows"], 4, 11
    assert (start, stop) != (0, 55)
    for name in ("conv1", "norm1", "pool1", "conv5", "fc6", "drop6"):
        clicks.click_all(name, 5)
    page.open("conv1")
    rows = page.page.evaluate("completeIndices(operations.get('conv1'), 0, 0)")
    # row m is read by the outputs p with 4p ≤ m < 4p + 11
    readers = [{p for p in range(55) if stride * p <= m < stride * p + reach} for m in range(227)]
    assert rows == [m for m in range(227) if readers[m] <= set(range(start, stop))]
    assert "can be chosen" in page.text("#backward")
    page.click(0, 0, (227, 227), "#backward-input")  # outside: the nearest pixel with a complete sum
    assert page.page.input_value("#backward-row") == str(rows[0])


@pytest.mark.deeper
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_the_poorest_page_has_filters(groups):
    """Of each convolution some filter can be selected: the maps of an input channel of its group are in the page."""

    def model(net, images):
        x = conv(net, "first", images, 8, 3)
        return dense(net, "classifier", conv(net, "grouped", x, 16, 3, groups=groups), 5)

    network = scramble(Network("grouped", model, size=8, classes=5))
    recording = record_image(network, references.random((8, 8, 3), 5, low=0.0).numpy(), None, default_recipe("grouped"))
    (op,) = (op for op in recording.operations if op.name == "grouped")
    selection = selection_at(recording, op, DETAILS[-1], RequiredUnits())
    (channel,), (inputs,) = selection.channels, selection.input_channels
    assert any(c // (8 // groups) == channel // (16 // groups) for c in inputs)


# A step of the recipe -------------------------------------------------------------------------------------------------

RECIPES = {
    "momentum": find_recipe("alexnet2012"),
    "nesterov": replace(find_recipe("resnext2016"), clip=0.01),
    "short": replace(find_recipe("resnext2016"), clip=1e6),  # gradients shorter than the limit stay as they are
    "rmsprop": replace(find_recipe("inception_v3_2015"), clip=0.01),
    "momentum_outside": replace(find_recipe("resnet2015"), optimizer="momentum_outside"),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RECIPES)
def test_the_step_is_that_of_training(chromium, tmp_path, monkeypatch, rule):
    """A training step with the gradients of this image at inference moves each weight as the page says."""
    recipe = replace(RECIPES[rule], augmentation=Augmentation(), average=None)
    network, image, explanation, file = written_completely(small_network(), tmp_path, recipe=recipe)
    before = {path: v.numpy() for path, v in network.trained_variables.items()}
    state = taken_step(network, recipe, image, explanation.recording.label, monkeypatch)
    page = Explained(chromium, file)
    clicks = Gradients(page, network, image, explanation)
    for path in ("conv1/filters", "conv1/bias", "bn/scale", "fc/weights", "classifier/bias"):
        name, leaf = path.split("/")
        page.open(name)
        page.press(f"#target-parameter-{leaf}")
        op = clicks.operations[name]
        index = clicks.index(op, leaf, op.parameters[leaf].numpy())
        steps = clicks.steps()
        assert ("g, clipped" in steps) == (recipe.clip is not None)
        (after,) = (value for formula, value in steps.items() if formula.startswith("w after"))
        moved = state.variables[path].numpy().astype(np.float64) - before[path]
        assert after == pytest.approx(state.variables[path].numpy()[index], rel=1e-6)
        assert close_to(after - steps["w before"], moved[index], moved + 1e-2 * before[path])
        (velocity,) = (value for formula, value in steps.items() if formula.startswith("v = "))
        velocities = state.slots[f"{path}/velocity"].numpy()
        assert close_to(velocity, velocities[index], velocities), (path, index)


def taken_step(network, recipe, image, label, monkeypatch) -> step.State:
    """Take a training step, with the gradients of the inference mode in place of those of the training mode."""
    images, labels = tf.constant(image[None]), tf.constant([label])
    back = rawcnn.explain.backpropagate(
        network, images, labels, recipe=replace(recipe, weight_decay=0.0, auxiliary_weight=0.0)
    )
    forward = network.forward(images)
    monkeypatch.setattr(step, "by_tape", lambda *_: (forward, back.loss, dict(back.parameters)))
    state = step.State.begin(network, recipe)
    rate = tf.constant(learning_rate(recipe, 0), tf.float32)
    step.TrainStep(network, recipe)(state, images, labels, tf.constant([0, 0]), rate)
    return state


# Reading and moving ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_of_branches(chromium, small):
    """Where several operations read an activation, the page lists the part of each and their sum."""
    _, _, _, file = small
    page = Explained(chromium, file)
    page.open("sum")  # the batch norm is read by the sum and by the path
    page.press("#target-input-1")
    assert "2 operations read bn[" in page.text("#backward")
    assert {"sum", "path"} <= set(page.page.locator("#backward table .link").all_inner_texts())
    assert page.value("#backward .sum-of-parts") == pytest.approx(page.value("#backward .sum-agrees"), rel=1e-4)


@pytest.mark.slow
def test_keys_move(chromium, small):
    """Arrow keys move the pixel, the tap and the position; the focus stays."""
    _, _, _, file = small
    page = Explained(chromium, file)
    page.open("conv1")

    def pressed(selector: str, key: str) -> None:
        page.page.focus(selector)
        page.page.keyboard.press(key)
        focused = page.page.evaluate("document.activeElement.id")
        assert f"#{focused}" == selector

    row = int(page.page.input_value("#backward-row"))
    pressed("#backward-input", "ArrowUp" if row else "ArrowDown")
    assert int(page.page.input_value("#backward-row")) == (row - 1 if row else 1)
    page.press("#target-parameter-filters")
    pressed("#backward-taps", "ArrowLeft")
    assert page.page.get_attribute("#backward-taps", "data-tap") == "1,0"
    place = page.text("#backward .position")
    pressed("#backward-products", "ArrowUp" if "[0," not in place else "ArrowDown")
    assert page.text("#backward .position") != place
    assert page.faults == []


@pytest.mark.slow
def test_weights_of_a_dense_layer(chromium, small):
    """A click on the map of weights chooses an input and an output."""
    _, _, explanation, file = small
    page = Explained(chromium, file)
    page.open("classifier")
    page.press("#target-parameter-weights")
    page.click(2, 5, (7, 24), "#backward-weights")
    assert page.page.input_value("#backward-output") == "2"
    channel = int(page.page.input_value("#backward-channel"))
    assert f"classifier/weights[{channel}, 2]" in page.text("#backward .result")
    weight = explanation.recording.tensors["classifier/weights"][channel, 2]
    assert page.value("#backward .step") == pytest.approx(float(weight))
    page.page.keyboard.press("ArrowDown")
    assert page.page.input_value("#backward-output") == "3"
    assert page.faults == []


@pytest.mark.slow
def test_touch(chromium, small):
    """On a narrow screen, a tap with a finger selects a pixel, and nothing is wider than the screen."""
    _, _, _, file = small
    page = Explained(chromium, file, viewport={"width": 390, "height": 800}, has_touch=True)
    page.open("conv2")
    box = page.page.locator("#backward-gradient").bounding_box()
    page.page.locator("#backward-gradient").scroll_into_view_if_needed()
    page.page.tap("#backward-gradient", position={"x": box["width"] * 0.9, "y": box["height"] * 0.1})
    assert (page.page.input_value("#backward-row"), page.page.input_value("#backward-column")) == ("0", "3")
    for target in page.page.locator(".target").all():
        target.click()
        assert page.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.slow
def test_links_follow_the_gradient(chromium, small):
    """From an operation to the one that its gradient comes from, up to the loss."""
    _, _, _, file = small
    page = Explained(chromium, file)
    page.open("drop")
    page.page.click("#backward .origins .link")
    assert page.text("#name") == "classifier"
    page.page.click("#backward .origins .link")
    assert page.text("#name") == "loss"
    assert page.page.locator("#backward .origins").count() == 0
    assert page.faults == []


@pytest.mark.slow
def test_every_term_is_listed(chromium, small):
    """The table of all terms is drawn on demand, and its terms add up to the result."""
    _, _, _, file = small
    page = Explained(chromium, file)
    page.open("conv3")
    page.press("#backward .every summary")
    page.page.wait_for_selector("#backward .every table")
    values = page.page.eval_on_selector_all(
        "#backward .every output", "all => all.map(one => Number(one.dataset.value))"
    )
    assert len(values) > 12
    assert sum(values) == pytest.approx(page.value("#backward .result"), rel=RELATIVE)
