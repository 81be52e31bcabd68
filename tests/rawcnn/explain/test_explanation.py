"""The document of an explanation: source lines, statistics, selections, embedded arrays, sections and paths."""

from __future__ import annotations

import base64
import cProfile
import inspect
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from kernels.geometry import crop_or_pad
from rawcnn.explain import explain
from rawcnn.explain.document import what_is_left_out
from rawcnn.explain.embedding import Piece, distinct, embed, whole
from rawcnn.explain.kernel_source import FILES, equation, sections
from rawcnn.explain.paths import TERMS, path_of
from rawcnn.explain.selection import (
    DETAILS,
    GRID,
    Detail,
    RequiredUnits,
    _around,
    choose_selections,
    default_layers,
    selection_at,
)
from rawcnn.explain.statistics import statistics
from rawcnn.explain.units import channels_read, pixels_read
from rawcnn.nn.backpropagation import GRADIENT_RULES, Applied
from rawcnn.nn.layers import conv, dense, global_average_pool, max_pool, residual_sum, scaled_residual_sum
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.training.recipes import find_recipe
from tests import references
from tests.rawcnn import small

SIZE = 32


def image_of(size: int) -> np.ndarray:
    return references.random((size, size, 3), 1, low=0.0).numpy()


@pytest.fixture(scope="module")
def resnet():
    network = rawcnn.create("cifar_resnet20", size=SIZE, seed=0)
    return network, explain(network, image_of(SIZE), label=3)


@pytest.fixture(scope="module")
def tiny():
    return small.network()


def operation(explanation, name: str) -> dict:
    (found,) = [op for op in explanation.document["operations"] if op["name"] == name]
    return found


def source_line(explanation, place: dict) -> str:
    return explanation.document["sources"][place["source"]]["lines"][place["line"] - 1]


def test_of_pieces_with_the_same_values_the_first_is_kept():
    """Otherwise a page would differ between two processes, because the order of a set does."""
    same = [Piece("x", (range(start, 9), tuple(range(9)))) for start in (0, 0)] + [Piece("x", (range(9), range(9)))]
    assert distinct(same) == same[:1] and distinct(same[::-1]) == same[2:]


def test_paths_know_every_kind_of_operation():
    assert TERMS.keys() == GRADIENT_RULES.keys() == FILES.keys() - {"cross_entropy"}


@pytest.mark.slow
def test_each_operation_has_the_line_that_applied_it(resnet):
    _, explanation = resnet
    words = {
        "conv": "conv(",
        "batch_norm": "norm(",
        "relu": "relu(",
        "dense": "dense(",
        "residual_sum": "residual_sum(",
    }
    for op in explanation.document["operations"][1:-1]:
        innermost, outermost = op["places"][0], op["places"][-1]
        assert innermost["source"] == 0 and explanation.document["sources"][0]["file"] == "rawcnn/models/resnet.py"
        if op["kind"] in words:
            assert words[op["kind"]] in source_line(explanation, innermost), op["name"]
        assert outermost["function"] == "cifar_resnet"


@pytest.mark.slow
def test_iterations_of_loops_are_told_apart(resnet):
    _, explanation = resnet
    loops = [place["loops"] for place in operation(explanation, "conv3_2/conv1")["places"]]
    assert loops == [[], ["stage = 1", "width = 32", "index = 1"]]
    assert all(not place["loops"] for place in operation(explanation, "conv1")["places"])


@pytest.mark.slow
def test_statistics_are_those_of_the_output(resnet):
    network, explanation = resnet
    activations = network.forward(image_of(SIZE)[None]).activations
    back = rawcnn.explain.backpropagate(network, image_of(SIZE)[None], tf.constant([3]), recipe=find_recipe("onecycle"))
    for op in explanation.document["operations"][1:-1]:
        x, g = activations[op["name"]].numpy(), back.activations[op["name"]].numpy()
        said = op["statistics"]
        assert said["minimum"] == x.min() and said["maximum"] == x.max()
        assert said["mean"] == pytest.approx(x.mean(dtype=np.float64))
        assert said["zeros"] == np.mean(x == 0)
        assert said["gradient_norm"] == pytest.approx(np.linalg.norm(g.astype(np.float64)), rel=1e-5)
        assert said["seconds"] > 0
        assert op["counts"]["output_shape"] == list(x.shape)


def decoded(explanation, name: str) -> np.ndarray:
    """Return a tensor of the page, NaN where no piece holds a value."""
    floats = np.frombuffer(base64.b64decode(explanation.arrays), "<f4")
    described = explanation.document["tensors"][name]
    tensor = np.full(described["shape"], np.nan, np.float32)
    for piece in described["pieces"]:
        axes = [axis["list"] if "list" in axis else range(axis["start"], axis["stop"]) for axis in piece["axes"]]
        count = int(np.prod([len(axis) for axis in axes]))
        values = floats[piece["offset"] : piece["offset"] + count]
        tensor[np.ix_(*(np.asarray(axis) for axis in axes))] = values.reshape([len(axis) for axis in axes])
    return tensor


@pytest.mark.slow
def test_embedded_arrays_are_the_networks_own(resnet):
    _, explanation = resnet
    tensors = explanation.recording.tensors
    for name in explanation.document["tensors"]:
        if name != "loss":
            page = decoded(explanation, name)
            present = ~np.isnan(page)
            assert present.any() and np.array_equal(page[present], tensors[name][present]), name
    assert (
        not np.isnan(decoded(explanation, "preprocessed")).any() and not np.isnan(decoded(explanation, "∂images")).any()
    )


@pytest.mark.slow
def test_what_a_selected_unit_needs_is_embedded(resnet):
    """Every input of the outputs in the grid, every filter of the chosen channels, and every gradient in the grid."""
    _, explanation = resnet
    op = operation(explanation, "conv1")
    rows, columns = (slice(*op["selection"][axis]) for axis in ("rows", "columns"))
    channels, inputs = op["selection"]["channels"], op["selection"]["inputs"][0]
    assert not np.isnan(decoded(explanation, "conv1/filters")[..., channels]).any()
    assert not np.isnan(decoded(explanation, "conv1/filters")[:, :, inputs]).any()
    assert not np.isnan(decoded(explanation, "∂conv1/filters")[:, :, inputs][..., channels]).any()
    assert not np.isnan(decoded(explanation, "∂conv1")[rows, columns]).any()
    assert not np.isnan(decoded(explanation, "conv1")[..., channels]).any()


@pytest.mark.slow
def test_default_layers_have_each_kind_once(resnet):
    _, explanation = resnet
    layers = default_layers(explanation.recording.operations)
    kinds = [operation(explanation, layer)["kind"] for layer in layers]
    assert layers[0] == "conv1" and layers[-1] == "classifier"
    assert set(kinds) == {op.kind for op in explanation.recording.operations}
    assert max(kinds.count(kind) for kind in set(kinds) - {"conv"}) == 1 and kinds.count("conv") == 2


@pytest.mark.slow
def test_a_small_budget_takes_the_poorest_level(resnet):
    """Grids shrink to 16×16 at least, then channels to one; what does not even fit then is refused."""
    _, explanation = resnet
    recording = explanation.recording
    everything = choose_selections(recording, ["conv1", "conv2_1/conv1"], None)
    assert everything["conv1"].channels == tuple(range(16)) and everything["conv1"].rows == range(SIZE)
    few = choose_selections(recording, ["conv1", "conv2_1/conv1"], 40_000)
    for selection in few.values():
        assert len(selection.rows) >= GRID and len(selection.columns) >= GRID and selection.channels
        row, column, channel = selection.initial
        assert row in selection.rows and column in selection.columns and channel in selection.channels
    assert sum(len(selection.channels) for selection in few.values()) < 32
    with pytest.raises(ValueError, match=r"the layers need .* MB in the page, .* fewer or smaller layers"):
        choose_selections(recording, ["conv1", "conv2_1/conv1"], 5_000)


@pytest.mark.deeper
def test_a_dense_layer_has_its_ten_largest_outputs_and_the_label():
    """At the poorest level; the label is the class with the smallest logit."""
    network = small.network(classes=40)
    label = int(np.argmin(network(image_of(8)[None])))
    recording = explain(network, image_of(8), label=label, layers=["classifier"]).recording
    classifier = next(op for op in recording.operations if op.name == "classifier")
    channels = selection_at(recording, classifier, DETAILS[-1], RequiredUnits()).channels
    assert set(channels) == {*np.argsort(-recording.tensors["classifier"])[:10].tolist(), label} and len(channels) == 11


@pytest.mark.slow
def test_the_path_follows_the_largest_product(resnet):
    _, explanation = resnet
    recording = explanation.recording
    steps = list(path_of(recording, "classifier", (0, 0, 5)))
    weights = recording.tensors["classifier/weights"][:, 5].astype(np.float64)
    assert steps[1].operation == "pool" and steps[1].unit[2] == np.argmax(np.abs(recording.tensors["pool"] * weights))
    pooled = recording.tensors[steps[2].operation][..., steps[2].unit[2]]
    assert pooled[steps[2].unit[:2]] == pooled.max()
    assert steps[-1].operation == "preprocessed"
    names = [op.name for op in recording.operations]
    order = [names.index(step.operation) for step in steps[:-1]]
    assert order == sorted(order, reverse=True)


@pytest.mark.slow
def test_parts_of_a_gradient_add_up(resnet):
    """An activation that two operations read gets the sum of their parts."""
    network, _ = resnet
    readers = ["conv2_2/conv1", "conv2_2"]
    tensors = explain(network, image_of(SIZE), layers=readers).recording.tensors
    parts = [tensors[f"∂conv2_1/relu←{reader}"] for reader in readers]
    references.close(sum(parts), tensors["∂conv2_1/relu"], kind="gradient")


def test_every_kind_of_operation_has_a_file_of_five_sections():
    assert set(FILES) == {*GRADIENT_RULES, "cross_entropy"}
    for file in set(FILES.values()) - {"geometry"}:
        titles = [section["title"] for section in sections(file)["sections"]]
        assert titles[:2] == ["Equation", "NumPy reference"] and titles[3:] == ["Gradient by hand", "Cost"], file
        assert titles[2].startswith("Tensor form")
    assert [section["title"] for section in sections("geometry")["sections"]] == ["crop_or_pad", "crop_or_pad_gradient"]


EQUATIONS = [  # kind of operation, its settings, a part of its equation
    ("conv", {}, "x[b, p·s + i·d − top, q·s + j·d − left, c + g·C/G] · w[i, j, c, o]"),
    ("dense", {}, "y = x·W + b"),
    ("batch_norm", {}, "(x − μ)·γ/√(σ² + ε) + β"),
    ("lrn", {}, "x_i / (k + α·Σ_j x_j²)^β"),
    ("relu", {}, "max(x, 0)"),
    ("max_pool", {}, "y[b,p,q,c] = max "),
    ("average_pool", {}, "y[b,p,q,c] = 1/n Σ "),
    ("global_average_pool", {}, "1/HW Σ x[b,p,q,c]"),
    ("dropout", {}, "y = mask · x"),
    ("drop_path", {}, "y = mask · x"),
    ("discretize", {"code": "onehot"}, "[k = l]"),
    ("discretize", {"code": "thermometer"}, "[k ≤ l]"),
    ("concatenate", {}, "the channels of all branches"),
    ("residual_sum", {}, "y = x + s"),
    ("residual_sum", {"scale": 0.3}, "y = x + a·r"),
    ("sigmoid", {}, "1 / (1 + exp(−x))"),
    ("scale_channels", {}, "x[b,i,j,c] · s[b,c]"),
    ("zero_padded_shortcut", {}, "x[b,i·sh,j·sw,c], and 0 in the other channels"),
    ("cross_entropy", {}, "−Σₖ qₖ · log_softmax(z)ₖ"),
]


@pytest.mark.parametrize("kind, settings, part", EQUATIONS)
def test_the_equation_is_that_of_the_kernels_first_section(kind, settings, part):
    found = equation(kind, settings)
    first = sections(FILES[kind])["sections"][0]
    lines = first["source"].splitlines()
    assert all(f"#   {line}" in lines for line in found["text"].splitlines()) and part in found["text"]
    source = (Path(kernels.__file__).parent.parent / found["file"]).read_text(encoding="utf-8").splitlines()
    assert source[found["line"] - 1] == f"#   {found['text'].splitlines()[0]}"


def test_equations_of_what_has_no_first_section():
    """Padding has its docstring, preprocessing the expression that its function returns."""
    assert {kind for kind, _, _ in EQUATIONS} == FILES.keys() - {"pad"}
    pad = equation("pad", {})["text"]
    assert str(crop_or_pad.__doc__).splitlines()[0] == pad
    for rule, function in PREPROCESSING.items():
        found = equation("preprocessing", {"rule": rule})
        assert inspect.getsource(function).endswith(f"return {found['text']}\n")
        assert found["file"] == "rawcnn/nn/preprocessing.py"


@pytest.mark.slow
def test_the_form_is_the_function_that_ran(resnet):
    _, explanation = resnet
    form = operation(explanation, "conv1")["form"]
    assert form["file"].startswith("kernels/") and f"def {form['name']}(" in form["source"]
    assert any("dispatch/convolution.py: conv2d" in call for call in form["calls"])
    assert operation(explanation, "loss")["form"]["name"] == "cross_entropy"


@pytest.mark.deeper
def test_the_step_has_the_norm_that_clips():
    network, recipe = small.network(), replace(find_recipe("onecycle"), clip=0.5)
    explanation = explain(network, image_of(8), label=1, recipe=recipe)
    back = rawcnn.explain.backpropagate(network, image_of(8)[None], tf.constant([1]), recipe=recipe)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in back.parameters.values()))
    step = explanation.document["recipe"]
    assert step["norm"] == pytest.approx(norm, rel=1e-5) and step["clip"] == 0.5
    assert step["slots"] == {"velocity": 0.0} and step["weight_decay"] == recipe.weight_decay
    assert step["rate"] == pytest.approx(recipe.rate / 10)  # OneCycle begins with a tenth
    assert explanation.recording.label == 1 != explanation.recording.predicted


def branching(net, images):
    """A pool of values of both signs, a scaled residual, and a sum that reads one activation twice."""
    x = conv(net, "first", images, 8, 3)
    y = scaled_residual_sum(net, "scaled", max_pool(net, "pool", x, 3, 1), conv(net, "second", x, 8, 3), 0.3)
    z = residual_sum(net, "sum", residual_sum(net, "twice", y, y), conv(net, "third", y, 8, 1))
    return dense(net, "classifier", global_average_pool(net, "gap", z), 5)


@pytest.fixture(scope="module")
def branches():
    """The complete recording of the network above."""
    network = Network("branching", branching, size=8, classes=5, seed=2)
    return explain(network, image_of(8), layers=["pool", "scaled", "twice", "third"]).recording


def test_a_path_goes_to_the_leading_term(branches):
    """A sum's is the largest magnitude, a maximum's is its winner, and a residual counts with its scale."""
    x, pooled, second = (branches.tensors[name] for name in ("first", "pool", "second"))
    around, filters = np.pad(x, ((1, 1), (1, 1), (0, 0))), branches.tensors["second/filters"]
    told_apart = [0, 0, 0]
    for row, column, channel in np.ndindex(8, 8, 8):
        _, step = list(path_of(branches, "pool", (row, column, channel)))[:2]
        window = x[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2, channel]
        assert x[step.unit] == window.max() == pooled[row, column, channel] and step.unit[2] == channel
        told_apart[0] += np.abs(window).max() > window.max()
        _, step = list(path_of(branches, "scaled", (row, column, channel)))[:2]
        terms = {"pool": abs(pooled[row, column, channel]), "second": 0.3 * abs(second[row, column, channel])}
        assert step.operation == max(terms, key=terms.__getitem__) and step.unit == (row, column, channel)
        told_apart[1] += terms["second"] < terms["pool"] < terms["second"] / 0.3
        _, step = list(path_of(branches, "second", (row, column, channel)))[:2]
        products = around[row : row + 3, column : column + 3] * filters[..., channel]
        i, j, depth = np.unravel_index(np.argmax(np.abs(products)), products.shape)
        assert step.unit == (row + i - 1, column + j - 1, depth)
        told_apart[2] += products[i, j, depth] < 0
    assert min(told_apart) > 20


def test_an_activation_that_is_read_twice(branches):
    """By one operation: each reading has its part of the gradient."""
    tensors = branches.tensors
    parts = [tensors[f"∂scaled←{reader}"] for reader in ("twice[0]", "twice[1]", "third")]
    np.testing.assert_array_equal(parts[0], tensors["∂twice"])
    np.testing.assert_array_equal(parts[1], tensors["∂twice"])
    references.close(sum(parts), tensors["∂scaled"], kind="gradient")


def test_statistics_of_a_small_network(branches):
    """Of values of both signs, and of exact zeros."""
    x = branches.tensors["first"].astype(np.float64)
    zeros = replace(branches, tensors={**branches.tensors, "first": np.where(x > 0.1, 0, branches.tensors["first"])})
    for recording in (branches, zeros):
        x, g = (recording.tensors[name].astype(np.float64) for name in ("first", "∂first"))
        found = statistics(recording, "first")
        assert found["zeros"] == np.mean(x == 0) != np.mean(x <= 0)
        assert (found["minimum"], found["maximum"]) == (x.min(), x.max()) and found["mean"] == pytest.approx(x.mean())
        assert found["gradient_norm"] == pytest.approx(np.linalg.norm(g))
    assert statistics(zeros, "first")["zeros"] > 0.1


WINDOWS = [  # size, stride, padding, dilation
    ((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((11, 2), (4, 3), ((0, 2), (5, 1)), (1, 1)),
    ((3, 3), (2, 1), ((2, 2), (0, 4)), (2, 3)),
]


@pytest.mark.parametrize("size, stride, padding, dilation", WINDOWS)
def test_what_the_windows_of_some_outputs_read(size, stride, padding, dilation):
    """From the first tap of the first window to the last tap of the last, as far as the map goes."""
    length, outputs = 17, 4
    x, filters = tf.zeros((1, length, length, 1)), tf.zeros((*size, 1, 1))
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    op = Applied("y", "conv", ("x",), (x,), {"filters": filters}, x, (), settings)
    for axis in (0, 1):
        taps = [
            [at * stride[axis] - padding[axis][0] + tap * dilation[axis] for tap in range(size[axis])]
            for at in range(outputs)
        ]
        for first, last in combinations_with_replacement(range(outputs), 2):
            hull = set(range(min(taps[first]), max(taps[last]) + 1)) & set(range(length))
            positions = range(first, last + 1)
            assert set(pixels_read(op, positions, positions)[axis]) == hull


def applied(kind: str, depths: list[int], **settings) -> Applied:
    """An operation that reads maps with so many channels."""
    inputs = tuple(tf.zeros((1, 2, 2, depth)) for depth in depths)
    return Applied("y", kind, ("x",) * len(depths), inputs, {}, inputs[0], (), settings)


@pytest.mark.parametrize(
    "op, source, channels, expected",
    [
        (applied("relu", [6]), 0, [2, 5], [2, 5]),
        # y[5] reads x[3 … 7]; the gradient to x[5] reads y[3 … 7], whose sums read x[1 … 9]
        (applied("lrn", [12], radius=2), 0, [5], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (applied("lrn", [12], radius=1), 0, [0, 11], [0, 1, 2, 9, 10, 11]),
        (applied("concatenate", [3, 4, 2]), 1, [2, 3, 6, 7], [0, 3]),
        (applied("zero_padded_shortcut", [3], channels=8, zeros="both"), 0, [1, 2, 4, 5], [0, 2]),
        (applied("zero_padded_shortcut", [3], channels=8, zeros="end"), 0, [0, 2, 3], [0, 2]),
        (applied("discretize", [3], levels=4), 0, [3, 4, 11], [0, 1, 2]),
    ],
)
def test_channels_that_each_kind_reads(op, source, channels, expected):
    assert channels_read(op, source, channels) == expected


def test_a_grid_stays_on_the_map():
    """It has its size and contains its center, also at an edge."""
    for center in range(20):
        grid = _around(center, 20, 16)
        assert len(grid) == 16 and center in grid and grid[0] >= 0 and grid[-1] < 20
    assert _around(9, 20, 4) == range(7, 11) and _around(3, 20, None) == _around(3, 20, 30) == range(20)


def test_pieces_that_others_hold_are_left_out():
    tensor = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    crop = Piece("x", (range(1, 2), (0, 2), range(4)))
    assert distinct([crop, whole("x", (2, 3, 4)), crop]) == [whole("x", (2, 3, 4))]
    assert distinct([Piece("x", (range(0), (0,), (1,)))]) == []
    described, text = embed([crop], {"x": tensor})
    assert described == {
        "x": {
            "shape": [2, 3, 4],
            "pieces": [{"axes": [{"start": 1, "stop": 2}, {"list": [0, 2]}, {"start": 0, "stop": 4}], "offset": 0}],
        }
    }
    assert np.array_equal(np.frombuffer(base64.b64decode(text), "<f4"), tensor[1, [0, 2]].ravel())


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"layers": ["conv9"]}, "there is no layer 'conv9'"),
        ({"label": 10}, "the label is 10"),
        ({"label": -1}, "the label is -1"),
        ({"layers": ["conv1"], "position": (8, 0)}, r"position is \(8, 0\); the map of conv1 is 8×8"),
        ({"layers": ["classifier"], "position": (0, 0)}, "classifier has no map"),
        ({"layers": ["conv1"], "channels": [8]}, r"channels are \[8\]; conv1 has channels 0 to 7"),
        ({"position": (0, 0)}, "name one layer"),
        ({"layers": ["conv1", "conv2"], "channels": [0]}, "name one layer"),
        ({"layers": "conv9"}, "there is no layer 'conv9'"),
        ({"layers": "conv1", "channels": 8}, r"channels are \[8\]; conv1 has channels 0 to 7"),
    ],
)
def test_wrong_arguments(tiny, wrong, message):
    with pytest.raises(ValueError, match=message):
        explain(tiny, image_of(8), **wrong)


@pytest.mark.parametrize("image", [image_of(9), image_of(8)[None], image_of(8)[..., 0], np.zeros((8, 8, 3), np.uint8)])
def test_wrong_images(tiny, image):
    with pytest.raises(ValueError, match=r"the image has shape|expected float RGB"):
        explain(tiny, image)


@pytest.mark.parametrize(
    "image, message",
    [
        (image_of(8) * np.nan, "pixels of the image have values that are not finite"),
        (image_of(8) * 255, "divide bytes by 255"),
        ("cat.png", "the image"),
        (None, "the image"),
    ],
)
def test_wrong_pixels(tiny, image, message):
    with pytest.raises(ValueError, match=message):
        explain(tiny, image)


def test_one_layer_and_one_channel_need_no_list(tiny):
    found = explain(tiny, image_of(8), layers="conv1", channels=3)
    assert operation(found, "conv1")["selection"]["initial"][2] == 3


def test_a_network_whose_values_are_rounded_is_refused():
    with pytest.raises(ValueError, match=r"bfloat16.*expected a network in float32"):
        explain(rawcnn.create("cifar_resnet20", size=8, precision="bfloat16"), image_of(8))


@pytest.mark.slow
def test_a_network_that_is_not_finite():
    network = small.network()
    network.variables["conv1/filters"].assign(tf.fill(network.variables["conv1/filters"].shape, np.nan))
    with pytest.raises(ValueError, match="logits that are not finite"):
        explain(network, image_of(8))


@pytest.mark.slow
def test_a_chosen_unit_is_selected_first(tiny):
    explanation = explain(tiny, image_of(8), layers=["conv1"], position=(2, 5), channels=[6, 1])
    selection = operation(explanation, "conv1")["selection"]
    assert selection["initial"] == [2, 5, 6] and {1, 6} <= {*selection["channels"]}


@pytest.mark.slow
def test_a_profiler_of_the_process_is_left_alone(tiny):
    profiler = cProfile.Profile()
    profiler.enable()
    explanation = explain(tiny, image_of(8))
    profiler.disable()
    assert operation(explanation, "conv1")["form"] is None
    assert operation(explain(tiny, image_of(8)), "conv1")["form"]["name"]


def test_what_is_left_out_is_said(tiny):
    """A sentence for the channels and one for the positions, with what they limit."""
    recording = explain(tiny, image_of(8), layers=["conv2"]).recording
    (conv2,) = [op for op in recording.operations if op.name == "conv2"]
    poor = selection_at(recording, conv2, Detail(2, 3), RequiredUnits((1, 1)))
    assert what_is_left_out(recording, "conv2", poor) == (
        "The page holds 3 of 16 channels, those with the largest values. Inside rows 0 to 1 of 4 and columns 0 to 1 of "
        "4 (dashed in the map) the page has all that the sums over channels read, forward and backward; outside, some "
        "of these sums cannot be computed. --all embeds the rest."
    )
    rich = selection_at(recording, conv2, Detail(None, None), RequiredUnits())
    assert what_is_left_out(recording, "conv2", rich) == ""
