"""Scaling: the count of sums, the agreement of groups with one device, and the efficiency."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import tensorflow as tf

import rawcnn
from benchmarks.measurements import scale
from benchmarks.measurements.scale import Exchange, ScaleResult, measure_scale, places_here, step_metadata
from benchmarks.tables import scale as scale_tables
from benchmarks.tables.scale import Device, exchange_seconds
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State

RESULT = ScaleResult(
    "resnet50", 8, 224, 1000, "float32", "1 core", Exchange(162, 102_400_000), {1: (1.0, 1.0), 2: (1.25, 1.25)}
)
FIELDS = {"device": {"cpu": "a CPU", "cores": 2, "flags": [], "gpus": []}, "date": "2026-01-01"}
FIELDS["versions"] = {"python": "3.11", "tensorflow": "2.21", "keras": "3"}


def record(result: ScaleResult) -> dict:
    return FIELDS | result.to_json()


def test_what_a_step_sums():
    """Gradients, batch norm's averages and two metrics; per norm two moments and two sums of its gradient."""
    network = rawcnn.create("cifar_resnet20", size=8)
    recipe = Recipe("a test", "ours", batch=4, epochs=1, rate=0.1, momentum=0.9)
    metadata = step_metadata(network, recipe, State.begin(network, recipe))
    norms = [operation for operation in network.operations if operation.kind == "batch_norm"]
    channels = sum(operation.output_shape[-1] for operation in norms)
    trained = sum(v.shape.num_elements() for v in network.trained_variables.values())
    expected = {"sums": 3 * len(norms) + 3, "bytes": 4 * (trained + 2 * channels + 4 * channels + 2), "random": 0}
    assert metadata == expected


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are pinned on Linux alone")
def test_two_workers():
    """Each worker has a core; the measurement compares the loss with that of one device."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one core here")
    before, reported = os.sched_getaffinity(0), []
    result = measure_scale("cifar_resnet20", batch=4, size=8, rounds=1, progress=lambda *words: reported.append(words))
    assert os.sched_getaffinity(0) == before
    assert list(result.seconds)[:2] == [1, 2] and all(len(s) == 1 and s[0] > 0 for s in result.seconds.values())
    assert reported[0][0] == "a group of 1 starts" and reported[-1][1:] == (1, 1)
    assert result.exchange.sums == 60


@pytest.mark.slow
def test_a_failing_worker_is_reported(monkeypatch):
    monkeypatch.setattr(scale, "find_model", lambda name: rawcnn.models.find_model("cifar_resnet20"))
    with pytest.raises(RuntimeError, match=r"a worker ended: ValueError: there is no model 'lenet'"):
        measure_scale("lenet", rounds=1)


def test_places(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    places, each = places_here()
    assert places == [{"cores": [k]} for k in range(4)] and each == "1 core"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert places_here()[0][7] == {"cores": [14, 15]} and places_here()[1] == "2 cores"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    with pytest.raises(ValueError, match="scaling needs two GPUs, or two cores"):
        places_here()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
    assert places_here() == ([{"gpu": [0]}, {"gpu": [1]}], "a GPU")


def test_efficiency_and_table():
    assert RESULT.efficiency(2) == (0.8, 0.8, 0.8) and RESULT.images_per_second(2) == 12.8
    rows = scale_tables.scale_table([record(RESULT), record(replace(RESULT, precision="bfloat16"))]).splitlines()
    assert rows[2] == (
        "| resnet50, 224 px, float32 | 1 core | 8 | 102.4 MB in 162 sums | 8.0 | 2 | 12.8 | **80%** (80%–80%) |"
    )
    assert len([row for row in rows if row.startswith("| resnet50")]) == 2


def test_arithmetic_on_paper():
    """8 devices with 1 GB/s: 2·7/8 of 1 GB, and 10 sums of 2·3 hops."""
    assert exchange_seconds(8, 1e9, 10, Device("", 1.0, 1e9, 1e-3)) == pytest.approx(1.75 + 0.06)
    assert scale_tables.paper_scale_table([record(RESULT)]) == ""
    step = {"chosen": "a", "complete": True, "contestants": [{"name": "a", "median": 0.5}]}
    settings = {"model": "resnet50", "job": "training", "precision": "bfloat16", "batch": 8, "size": 224}
    here = record(RESULT)["device"]
    race = {**FIELDS, "device": here, "settings": settings}
    elsewhere = [race | {"device": here | other} for other in ({"gpus": ["a GPU"]}, {"cpu": "Another"})]
    others = [*elsewhere, race | {"settings": settings | {"size": 64}}]  # not this CPU's
    assert scale_tables.paper_scale_table([record(RESULT), *(r | {"figures": step} for r in others)]) == ""
    text = scale_tables.paper_scale_table([record(RESULT), race | {"figures": step}])
    assert "this CPU (16 images/s)" in text and "102.4 MB in 162 sums per step" in text
    assert "| 256 | 8,192 | 157 |" in text and len([line for line in text.splitlines() if line.startswith("| ")]) == 7
