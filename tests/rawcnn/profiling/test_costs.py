"""The profile compared with closed forms, and with the code that runs."""

from __future__ import annotations

import csv
import io
import json
import time

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.profiling import roofline as measuring
from rawcnn.profiling.costs import COLUMNS
from rawcnn.profiling.roofline import Machine, machine_limits, measure


def test_first_rows_by_hand():
    rows = {row["name"]: row for row in rawcnn.profile("alexnet").rows}
    conv1 = rows["conv1"]
    assert conv1["output_shape"] == [1, 55, 55, 96]
    assert conv1["parameters"] == 11 * 11 * 3 * 96 + 96
    assert conv1["macs"] == 55 * 55 * 96 * 11 * 11 * 3
    assert conv1["flops_forward"] == 2 * conv1["macs"] + 55 * 55 * 96  # the bias
    assert conv1["flops_backward"] == 2 * conv1["macs"] + 55 * 55 * 96  # the image needs no gradient
    assert rows["conv3"]["flops_backward"] == 4 * rows["conv3"]["macs"] + 13 * 13 * 384
    assert conv1["activation_bytes"] == 4 * 55 * 55 * 96
    moved = 4 * (227 * 227 * 3 + conv1["parameters"] + 55 * 55 * 96)
    assert conv1["intensity"] == pytest.approx(conv1["flops_forward"] / moved)


def test_rows_and_totals_have_the_promised_keys():
    result = rawcnn.profile("cifar_resnet20", batch=2)
    assert all(tuple(row) == COLUMNS for row in result.rows)
    assert result.totals["parameters"] == 269_722
    assert result.totals["non_trainable"] == 2 * sum(
        r["output_shape"][-1] for r in result.rows if r["kind"] == "batch_norm"
    )
    assert result.totals["macs"] == 2 * rawcnn.profile("cifar_resnet20").totals["macs"]
    assert result.totals["parameter_bytes"] == 4 * (result.totals["parameters"] + result.totals["non_trainable"])
    assert json.loads(result.to_json())["totals"] == result.totals


def test_shapes_are_those_that_the_network_gives():
    result = rawcnn.profile("googlenet", batch=1, size=64, classes=7)
    forward = rawcnn.create("googlenet", classes=7, size=64).forward(tf.zeros((1, 64, 64, 3)))
    assert {r["name"]: tuple(r["output_shape"]) for r in result.rows} == {
        name: tuple(x.shape) for name, x in forward.activations.items()
    }


def test_options_size_and_precision():
    assert rawcnn.profile("resnet50", version="v1.5").totals["macs"] == 4_089_184_256
    assert rawcnn.profile("resnet50", size=448).totals["macs"] > 3.9 * rawcnn.profile("resnet50").totals["macs"]
    half, full = rawcnn.profile("resnet18", precision="bfloat16").totals, rawcnn.profile("resnet18").totals
    assert half["activation_bytes"] * 2 == full["activation_bytes"]
    assert half["parameter_bytes"] == full["parameter_bytes"]


def test_profile_makes_no_variable_and_is_quick():
    before = time.process_time()
    rawcnn.profile("vgg19")  # 574 MB of variables, if they were made
    assert time.process_time() - before < 3


def test_csv_has_a_line_a_layer():
    result = rawcnn.profile("vgg_a")
    lines = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [line["name"] for line in lines] == [row["name"] for row in result.rows]
    assert lines[0]["output_shape"] == "1x224x224x64"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "lenet"}, "there is no model 'lenet'"),
        ({"model": "vgg16", "size": 16}, "pool5|does not fit"),
        ({"model": "vgg16", "batch": 0}, "batch is 0"),
        ({"model": "vgg16", "precision": "int8"}, "float32, bfloat16"),
        ({"model": "vgg16", "depth": 3}, "no option depth"),
    ],
)
def test_bad_settings_say_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        rawcnn.profile(**settings)


def test_measure_times_every_layer_and_names_its_limit():
    result = rawcnn.profile("cifar_resnet20", batch=2, size=8)
    seen = []
    measured = measure(result, repeats=1, progress=lambda done, total: seen.append((done, total)))
    assert [t.name for t in measured.timings] == [row["name"] for row in result.rows]
    assert seen[-1] == (len(result.rows), len(result.rows))
    assert np.isclose(sum(t.share for t in measured.timings), 1)
    assert {t.limit for t in measured.timings} <= {"arithmetic", "memory"}
    assert all(t.seconds > 0 for t in measured.timings)
    assert all(t.resolved == (t.seconds > measured.call) for t in measured.timings) and 0 < measured.call < 0.01
    groups = measured.slowest(len(result.rows))
    assert len(measured.slowest()) == 5 and sum(many for _, many in groups) == len(result.rows)
    assert sum(many * t.share for t, many in groups) == pytest.approx(1)
    together = [many * t.seconds for t, many in groups]
    assert together == sorted(together, reverse=True)
    many = {t.name: count for t, count in groups}
    convolutions = [many[row["name"]] for row in result.rows if row["kind"] == "conv" and row["name"] in many]
    assert max(convolutions) == 6 and many["conv1/bn"] == 7  # of the first stage, all 3×3s and batch norms are alike
    machine = measured.machine
    assert machine.attainable(1e-9) < machine.flops_per_second == machine.attainable(1e9)


def test_layers_of_one_shape_and_other_filters_are_measured_apart(monkeypatch):
    """VGG's C has a 1×1 convolution after two 3×3 convolutions, with the same maps."""
    timed = []
    monkeypatch.setattr(measuring, "_time", lambda operation, *_: timed.append(operation.name) or 1.0)
    monkeypatch.setattr(measuring, "machine_limits", lambda dtype: Machine(1e11, 1e10))
    measure(rawcnn.profile("vgg_c", size=32))
    assert {"conv3_2", "conv3_3"} <= {*timed} and "conv5_2" not in timed  # as conv5_1


def test_bytes_are_those_of_each_tensor():
    """Fully connected weights are read in float32, even with bfloat16."""
    rows = {row["name"]: row for row in rawcnn.profile("alexnet", precision="bfloat16").rows}
    dense = 2 * (9216 + 4096 + 4096) + 4 * 4096 * 9216
    assert rows["fc6"]["intensity"] == pytest.approx(rows["fc6"]["flops_forward"] / dense)


def test_machine_limits_are_plausible():
    machine = machine_limits()
    assert 1e9 < machine.flops_per_second < 1e15
    assert 1e8 < machine.bytes_per_second < 1e13


REASONS = {  # layer of AlexNet, share of its limit that it reaches → why it takes that long
    ("conv1", 0.3): "reads 3 channels at a time, so vector units stay partly empty",
    ("conv2", 0.9): "does 0.45 GFLOP",
    ("conv4", 0.3): "only 169 pixels for 663,552 weights, which take long to read and to rearrange",
    ("fc6", 0.2): "only 1 image for 37,748,736 weights, which take long to read and to rearrange",
    ("conv4", 1.4): "Winograd's form needs fewer multiplications than the 0.22 GFLOP that are counted",
    ("norm1", 0.05): "reads its tensors more than once",
    ("norm1", 0.8): "moves 2.2 MiB",
    ("conv1/relu", 3.0): "its 2.2 MiB stay in the caches, which are faster than memory",
    ("conv1/relu", 0.3): "reaches 30% of its memory limit; its shape does not explain why",
}


@pytest.mark.parametrize("layer, reached", REASONS)
def test_why_a_layer_is_slow(layer, reached):
    (operation,) = (op for op in rawcnn.profile("alexnet").operations if op.name == layer)
    machine = Machine(1e11, 1e10)
    at_its_limit = measuring._timing(operation, 1.0, 0.1, machine, tf.float32, 1e-9, layer).reached  # in a second
    timing = measuring._timing(operation, at_its_limit / reached, 0.1, machine, tf.float32, 1e-9, layer)
    assert np.isclose(timing.reached, reached) and timing.reason == REASONS[layer, reached]
    assert (
        measuring._timing(operation, 1e-9, 0.1, machine, tf.float32, 1e-3, layer).reason
        == "takes less time than a call"
    )
