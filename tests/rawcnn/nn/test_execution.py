"""How a step runs: the choice with its reason, and that the choice is what happens."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from kernels.dispatch import selection
from rawcnn.nn.execution import MODES, Choice, choose, choosing_for, compiled
from tests import references


def test_a_mode_asked_for_is_taken():
    for mode in MODES[1:]:
        assert choose(mode) == Choice(mode, "as requested")


def test_on_a_cpu_auto_is_the_graph(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert choose().mode == "graph" and "CPU" in choose().reason


def test_on_a_gpu_auto_is_xla(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["GPU:0"] if kind == "GPU" else [])
    assert choose("auto").mode == "xla" and "GPU" in choose("auto").reason


@pytest.mark.parametrize("gpus", [[], ["GPU:0"]])
def test_forms_that_were_measured_on_a_cpu_are_for_that_alone(monkeypatch, gpus):
    """On a GPU every kernel takes its default."""
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: gpus if kind == "GPU" else [])
    table = {"graph conv2d float32": {"3×3×8×8 /1": {512: "shifted"}}}
    monkeypatch.setattr(selection, "_forms", lambda: table)
    with choosing_for("graph")():
        form = selection.measured("conv2d", tf.float32, "3×3×8×8 /1", 512, ("nn", "shifted"))
    assert form == ("nn" if gpus else "shifted")


def test_on_a_cpu_bfloat16_is_mixed(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    assert choose("auto", (), "bfloat16").mode == "mixed" and "bfloat16" in choose("auto", (), "bfloat16").reason


def test_several_devices_take_the_graph():
    devices = ("CPU:0", "CPU:1")
    assert choose("auto", devices).mode == "graph" and "several devices" in choose("auto", devices).reason
    assert choose("eager", devices).mode == "eager"
    with pytest.raises(ValueError, match=r'XLA compiles for one device.*; use "graph" instead'):
        choose("xla", devices)


def test_unknown_mode_lists_the_known():
    with pytest.raises(ValueError, match="compile is 'jit'; expected one of auto, xla, graph, mixed, eager"):
        choose("jit")


def double(x):
    return 2 * x


def test_eager_is_the_function_itself():
    assert compiled(double, choose("eager")) is double


def test_graph_keeps_one_trace_for_a_signature():
    graph: Any = compiled(double, choose("graph"), [tf.TensorSpec((None,), tf.float32)])
    for length in (1, 2, 3):
        assert graph(tf.ones(length)).numpy().tolist() == [2.0] * length
    assert graph.experimental_get_tracing_count() == 1


def test_a_mixed_graph_compiles_the_elementwise_chains_of_bfloat16():
    """Which operations XLA is to compile, and that the results are the graph's."""

    def step(x, w):
        with tf.GradientTape() as tape:
            tape.watch((x, w))
            y = tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME") + x)
            loss = tf.reduce_sum(tf.cast(y * y, tf.float32))
        return y, *tape.gradient(loss, (x, w))

    for dtype, expected in ((tf.bfloat16, {"Relu", "ReluGrad", "AddV2", "Mul"}), (tf.float32, set())):
        x, w = (tf.cast(references.random(shape, 1), dtype) for shape in ((2, 6, 6, 4), (3, 3, 4, 4)))
        mixed: Any = compiled(step, choose("mixed"))
        nodes = mixed.get_concrete_function(x, w).graph.as_graph_def().node
        marked = {node.op for node in nodes if node.attr["_XlaCompile"].b}
        assert expected <= marked and "Conv2D" not in marked and bool(marked) == bool(expected)
        for ours, theirs in zip(mixed(x, w), compiled(step, choose("graph"))(x, w), strict=True):
            references.close(ours, theirs, "gradient")


def test_only_xla_compiles_with_xla():
    x = tf.ones(3)
    xla: Any = compiled(double, choose("xla"))
    graph: Any = compiled(double, choose("graph"))
    assert xla(x).numpy().tolist() == graph(x).numpy().tolist() == [2.0] * 3
    assert "HloModule" in xla.experimental_get_compiler_ir(x)(stage="hlo")
    with pytest.raises(ValueError, match="jit_compile"):
        graph.experimental_get_compiler_ir(x)
