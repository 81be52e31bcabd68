"""The choice of forms: what a table says is what runs, and whatever runs computes the same."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

import kernels
from kernels.dispatch import selection
from kernels.dispatch.normalization import BATCH_NORMS
from kernels.dispatch.pooling import POOLS
from kernels.forms.compiler import compiled_by
from kernels.forms.convolutions import FILTER_GRADIENT, GROUPED_JOBS, INPUT_GRADIENT, JOBS
from tests import references


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Writes a user's own table, which is read from then on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def write(forms: object) -> None:
        selection.table_path().parent.mkdir(parents=True, exist_ok=True)
        selection.table_path().write_text(json.dumps({"forms": forms}))
        selection.forget()

    yield write
    monkeypatch.undo()
    selection.forget()


def entry(compiler: str, job: str, shape: str, dtype: tf.DType = tf.float32, **forms: str) -> dict:
    """A section of one shape; `forms` by pixels, as n128="nn"."""
    sizes = {pixels.removeprefix("n"): {"form": form} for pixels, form in forms.items()}
    return {selection.section(compiler, job, dtype): {shape: sizes}}


def operations(function, *tensors) -> set[str]:
    """What a graph of it is made of."""
    return {node.op for node in nodes(tf.function(function, autograph=False).get_concrete_function(*tensors).graph)}


def nodes(graph) -> list:
    """All nodes of a graph, those of its conditions included."""
    definition = graph.as_graph_def()
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def test_the_nearest_size_counts(table):
    table(entry("graph", "conv2d", "1×1×4×6 /1", n100="im2col", n10000="shifted"))

    def form(pixels, shape="1×1×4×6 /1"):
        return selection.measured("conv2d", tf.float32, shape, pixels, JOBS["conv2d"])

    assert [form(pixels) for pixels in (25, 100, 800, 2500, 80_000)] == ["im2col"] * 3 + ["shifted"] * 2
    assert [form(pixels) for pixels in (24, 801, 2499, 80_001)] == ["nn"] * 4  # too far from what was measured
    assert form(None) == "im2col"  # unknown: the smallest
    assert (
        form(100, "1×1×4×6 /2") == "nn" and selection.measured("conv2d", tf.bfloat16, "1×1×4×6 /1", 9, ["nn"]) == "nn"
    )


def test_a_choice_is_for_one_compiler(table):
    table(entry("graph", "conv2d", "a", n1="im2col") | entry("xla", "conv2d", "a", n1="winograd"))

    def form():
        return selection.measured("conv2d", tf.float32, "a", 1, JOBS["conv2d"])

    assert form() == "im2col"
    with compiled_by("xla"):
        assert form() == "winograd"
        with compiled_by("portable"):
            assert form() == "nn"
    assert form() == "im2col"


@pytest.mark.parametrize("stride", [1, 2])
def test_output_and_gradients_are_those_of_the_table(table, stride):
    """All three by matmuls: no convolution is left in the graph, and the numbers are the same."""
    x, w = references.random((2, 6, 8, 4), 1), references.random((1, 1, 4, 6), 2)

    def both(x, w):
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = kernels.conv2d(x, w, stride)
        return y, *tape.gradient(y, (x, w))

    table({})
    expected = both(x, w)
    assert {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"} <= operations(both, x, w)
    table({k: v for job in JOBS for k, v in entry("graph", job, f"1×1×4×6 /{stride}", n50="shifted").items()})
    assert "MatMul" in operations(both, x, w)
    assert not [name for name in operations(both, x, w) if name.startswith("Conv2D")]
    for actual, wanted in zip(both(x, w), expected, strict=True):
        references.close(actual, wanted, "gradient")


def test_one_part_may_differ(table):
    table(entry("graph", "conv2d filter gradient", "1×1×4×6 /1", n50="shifted"))
    x, w = references.random((2, 6, 8, 4), 1), references.random((1, 1, 4, 6), 2)

    def gradient(x, w):
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = kernels.conv2d(x, w)
        return tape.gradient(y, (x, w))

    found = operations(gradient, x, w)
    assert "Conv2DBackpropInput" in found and "Conv2DBackpropFilter" not in found


def test_pools_and_norms_are_chosen_too(table):
    x, ones = references.random((2, 6, 8, 4), 1), tf.ones(4)
    table(entry("graph", "max_pool", "3×3×4 /2", n96="lines") | entry("graph", "batch_norm", "4", n96="explicit"))

    def pool_gradient(x, size):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = kernels.max_pool(x, size, 2)
        return tape.gradient(y, x)

    assert "MaxPoolGrad" not in operations(lambda x: pool_gradient(x, 3), x)
    assert "MaxPoolGrad" in operations(lambda x: pool_gradient(x, 2), x)
    assert "MaxPool" not in operations(lambda x: kernels.max_pool(x, 3, 2, algorithm="lines"), x)
    norm = operations(lambda x: kernels.batch_normalization_training(x, ones, ones, 1e-5)[0], x)
    with compiled_by("xla"):
        assert "MatMul" in operations(lambda x: kernels.batch_normalization_training(x, ones, ones, 1e-5)[0], x)
    assert "Sum" in norm and "FusedBatchNormV3" not in norm


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_response_norms_of_an_unknown_batch_are_chosen_too(table, dtype):
    """XLA's island takes one image after the other; where XLA compiles all there is none."""
    in_graphs, by_xla = (entry(c, "lrn", "6", tf.as_dtype(dtype), n96="compiled") for c in ("graph", "xla"))
    table(in_graphs | by_xla)

    def graph(shape):
        norm = tf.function(lambda x: kernels.local_response_normalization(x), autograph=False)
        return norm.get_concrete_function(tf.TensorSpec(shape, dtype))

    def names(function) -> set[str]:
        return {node.op for node in function.graph.as_graph_def().node}

    assert names(graph([8, 3, 4, 6])) & {"StatefulPartitionedCall", "PartitionedCall"}
    assert names(graph([None, 3, 4, 6])) & {"While", "StatelessWhile"} and "LRN" in names(graph([None, None, 4, 6]))
    x = references.random((3, 3, 4, 6), 1, dtype)
    references.close(graph([None, 3, 4, 6])(x), kernels.local_response_normalization(x, algorithm="explicit"))
    with compiled_by("xla"):
        inline = names(graph([None, 3, 4, 6]))
    assert "Rsqrt" in inline and not inline & {"While", "StatelessWhile", "LRN", "PartitionedCall"}


def test_what_was_never_measured(table):
    """The kernel's default; under XLA on a CPU what won on nearly all shapes; of the same shape what was measured."""
    table(entry("xla", "max_pool", "3×3×4 /2", n96="nn"))
    with compiled_by("xla"):
        assert selection.measured("batch_norm", tf.float32, "no such shape", 96, BATCH_NORMS) == "explicit"
        assert selection.measured("batch_norm", tf.float64, "no such shape", 96, ("explicit",)) == "explicit"
        assert selection.measured("max_pool", tf.float32, "3×3×4 /2", 96 * selection.MORE + 1, POOLS) == "lines"
        assert selection.measured("max_pool", tf.float32, "3×3×4 /2", 96, POOLS) == "nn"
        assert selection.measured("conv2d", tf.float32, "no such shape", 96, JOBS["conv2d"]) == "nn"
    for compiler in ("graph", "inference", "gpu", "portable"):
        with compiled_by(compiler):
            assert selection.measured("batch_norm", tf.float32, "no such shape", 96, BATCH_NORMS) == "fused"


@pytest.mark.parametrize(
    "text", ['{"forms": ', "[]", '{"forms": []}', '{"forms": {"a": {"b": {"c": {"form": "nn"}}}}}', "{}"]
)
def test_a_broken_table_is_told_and_left_out(text, table, caplog):
    selection.table_path().parent.mkdir(parents=True)
    selection.table_path().write_text(text)
    selection.forget()
    with caplog.at_level("WARNING", logger="tensorflow"):
        assert selection.measured("conv2d", tf.float32, "no such shape", 1, ["nn"]) == "nn"
    assert "--tune" in caplog.text and f"{selection.table_path()} cannot be read" in caplog.text


def test_a_table_is_of_one_machine_and_one_tensorflow(table, monkeypatch):
    """A home that machines share has a table for each."""
    table(entry("graph", "conv2d", "1×1×4×6 /1", n50="im2col"))
    ask = ("conv2d", tf.float32, "1×1×4×6 /1", 50, ["nn", "im2col"])
    assert selection.measured(*ask) == "im2col"
    monkeypatch.setattr(selection, "_machine", lambda: "another")
    selection.forget()
    assert selection.measured(*ask) == "nn"


def test_a_form_that_is_no_more_is_the_default(table):
    table(entry("graph", "conv2d", "1×1×4×6 /1", n50="fourier"))
    x, w = references.random((2, 6, 8, 4), 1), references.random((1, 1, 4, 6), 2)
    references.close(kernels.conv2d(x, w), kernels.conv2d(x, w, algorithm="nn"))


def test_the_table_that_comes_with_rawcnn():
    """Every form in it is one that its kernel knows."""
    shipped = json.loads(selection.SHIPPED.read_text(encoding="utf-8"))
    known = {**JOBS, "batch_norm": BATCH_NORMS, "max_pool": POOLS, "average_pool": POOLS}
    known["lrn"] = ("nn", "explicit", "compiled")
    assert all({"date", "device", "versions", "commit", "command"} == set(about) for about in shipped["measured"])
    sections = {selection.section(c, job, tf.as_dtype(d)) for c in ("graph", "xla") for job in known for d in TYPES}
    sections |= {selection.section("inference", job, tf.as_dtype(d)) for job in ("conv2d", "lrn") for d in TYPES}
    assert set(shipped["forms"]) == sections
    for name, shapes in shipped["forms"].items():
        job = name.split(" ", 1)[1].rsplit(" ", 1)[0]
        for sizes in shapes.values():
            for pixels, told in sizes.items():
                assert int(pixels) > 0 and told["form"] in told["microseconds"] and told["form"] in known[job]
                assert told["by"] in range(len(shipped["measured"]))


TYPES = ("float32", "bfloat16")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("stride, padding", [(1, "SAME"), (2, "SAME"), (2, "VALID"), ((2, 3), ((1, 2), (0, 1)))])
def test_gradient_forms_agree(dtype, stride, padding):
    x, w = references.random((2, 9, 8, 3), 1, dtype), references.random((3, 2, 3, 4), 2, dtype)
    dy = references.random(kernels.conv2d(x, w, stride, padding).shape, 3, dtype)
    for function, tensors, forms in (
        (kernels.conv2d_input_gradient, (dy, w, x.shape[1:3]), (*JOBS[INPUT_GRADIENT], "auto")),
        (kernels.conv2d_filter_gradient, (x, dy, (3, 2)), JOBS[FILTER_GRADIENT]),
    ):
        plain = [form for form in forms if not form.startswith("winograd")]  # for 3×3 alone
        expected, *others = (function(*tensors, stride, padding, algorithm=form) for form in plain)
        for other in others:
            references.close(other, expected, "gradient")
        with pytest.raises(ValueError, match="algorithm is 'im2col'; expected one of"):
            function(*tensors, stride, padding, algorithm="im2col")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("dilation", [1, 2])
def test_gradient_forms_in_groups_agree(dtype, dilation):
    x, w = references.random((2, 9, 8, 6), 1, dtype), references.random((3, 2, 2, 9), 2, dtype)
    settings = 2, "SAME", dilation, 3
    dy = references.random(kernels.conv2d(x, w, *settings).shape, 3, dtype)
    for job, function, tensors in (
        ("conv2d input gradient", kernels.conv2d_input_gradient, (dy, w, x.shape[1:3])),
        ("conv2d filter gradient", kernels.conv2d_filter_gradient, (x, dy, (3, 2))),
    ):
        expected, *others = (function(*tensors, *settings, form) for form in GROUPED_JOBS[job])
        for other in others:
            references.close(other, expected, "gradient")


@pytest.mark.parametrize("form", ["split", "dense"])
def test_groups_are_of_the_table(table, form):
    """For a number of groups by itself, output and gradients."""
    x, w = references.random((2, 6, 8, 4), 1), references.random((3, 3, 2, 6), 2)

    def both(x, w):
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = kernels.conv2d(x, w, groups=2)
        return y, *tape.gradient(y, (x, w))

    def convolutions():
        found = nodes(tf.function(both, autograph=False).get_concrete_function(x, w).graph)
        return [
            sum(node.op == op for node in found) for op in ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
        ]

    table({k: v for job in JOBS for k, v in entry("graph", job, "3×3×2×6 /1", n96="im2col").items()})
    expected = both(x, w)
    assert convolutions() == [2, 0, 0]  # in groups, and the flipped one
    table({k: v for job in JOBS for k, v in entry("graph", job, "3×3×2×6 /1 in 2 groups", n96=form).items()})
    # "dense" spreads NaN to the other group, so it has "split" next to it.
    assert convolutions() == ([2, 2, 2] if form == "split" else [3, 3, 3])
    for actual, wanted in zip(both(x, w), expected, strict=True):
        references.close(actual, wanted, "gradient")


@pytest.mark.parametrize("form", ["nn", "space_to_depth"])
def test_two_forms_know_no_dilation(form):
    x, w = references.random((2, 9, 8, 3), 1), references.random((3, 2, 3, 4), 2)
    dy = kernels.conv2d(x, w, 1, "SAME", 2)
    with pytest.raises(ValueError, match=f'"{form}" is for one group without dilation'):
        kernels.conv2d_input_gradient(dy, w, (9, 8), 1, "SAME", 2, algorithm=form)
    with pytest.raises(ValueError, match=f'"{form}" is for one group without dilation'):
        kernels.conv2d_filter_gradient(x, dy, (3, 2), 1, "SAME", 2, algorithm=form)


def test_space_to_depth_knows_no_groups():
    with pytest.raises(ValueError, match='"space_to_depth" is for one group without dilation'):
        kernels.conv2d(tf.ones((1, 4, 4, 4)), tf.ones((2, 2, 2, 4)), 2, groups=2, algorithm="space_to_depth")
