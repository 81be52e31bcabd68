"""The race of networks: contestants, order and results, and that contestants with wrong results are not timed."""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import run
from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.timing import SHORT, Timing, interleaved, memory_of
from benchmarks.races import contestants
from benchmarks.races import networks as race
from benchmarks.races.contestants import MIXED, NAMES
from benchmarks.races.kernels import SMALL_CASES, KernelCase, compare, forms, race_kernel
from benchmarks.races.networks import RaceResult
from benchmarks.twins.keras import twin_variables
from tests.benchmarks.toys import dropping, dropping_paths, small, toy

QUICK = ("keras function", "rawcnn graph", "keras default")


@pytest.mark.sample("inference")
@pytest.mark.parametrize("job", ["inference", "training"])
def test_all_contestants(job):
    network, reported = toy(small), []
    before = {path: v.numpy() for path, v in network.variables.items()}
    result = race.race(network, job, batch=3, rounds=2, progress=lambda *counts: reported.append(counts))
    assert (
        tuple(t.name for t in result.timings)
        == race.default_contestants("float32")
        == tuple(n for n in NAMES if n != MIXED)
    )
    assert result.complete and race.default_contestants("bfloat16") == NAMES
    assert (result.model, result.job, result.batch, result.size, result.classes) == ("small", job, 3, 12, 5)
    assert result.twin is None  # float32 without dropout: the contestants' gradients were compared
    for timing in result.timings:
        assert len(timing.seconds) == 2 and min(timing.seconds) > 0
        assert timing.first_call > 0
        assert timing.difference <= 1e-3
    assert [done for _, done, _ in reported] == sorted(done for _, done, _ in reported)
    assert reported[-1][1] == reported[-1][2]
    for path, value in before.items():
        np.testing.assert_array_equal(network.variables[path], value, err_msg=f"{path} was left changed")


def test_figures_follow_from_the_seconds():
    def timing(name, *seconds):
        return Timing(name, 1.0, seconds, 2**20, 0.0)

    result = RaceResult(
        *("toy", "training", 4, 8, 2, "float32", 10),
        (timing("rawcnn graph", 1, 2, 3), timing("keras default", 4, 4, 9), timing("keras function", 5, 3, 3)),
        "rawcnn graph",
        "reported",
        None,
    )
    assert result.keras_best.name == "keras function"
    assert result.ratio == 1.5
    assert result.ratios == (5.0, 1.5, 1.0)
    reported = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert reported["settings"]["rounds"] == 3
    assert reported["figures"]["ratio"] == 1.5
    assert reported["figures"]["ratio_minimum"] == 1.0
    assert reported["figures"]["contestants"][1]["interquartile_range"] == 2.5
    alone = replace(result, timings=result.timings[:1])
    assert alone.ratio is None and alone.ratios == ()
    json.dumps(alone.to_json(), allow_nan=False)
    with pytest.raises(ValueError, match="was not in this race"):
        result.timing("keras jit")


def test_dropout_is_compared_without_masks():
    result = race.race(toy(dropping), "training", batch=3, rounds=1, contestants=QUICK)
    assert [t.name for t in result.timings] == ["rawcnn graph", "keras default", "keras function"]
    assert [t.difference for t in result.timings] == [0.0, None, None]
    assert result.twin.gradient <= 1e-3


@pytest.mark.deeper
def test_bfloat16_is_compared_in_float32_too():
    result = race.race(toy(small, "bfloat16"), "training", batch=3, rounds=1, contestants=QUICK)
    assert result.precision == "bfloat16"
    assert result.twin.gradient <= 1e-3


@pytest.mark.parametrize("job, what", [("inference", "logits"), ("training", "gradients|loss")])
def test_a_wrong_opponent_is_not_timed(monkeypatch, job, what):
    def wrong_twin(network, dtype):
        twin = original(network, dtype)
        twin.get_layer("bn1").epsilon = 0.1
        return twin

    original = race.keras_twin
    monkeypatch.setattr(race, "keras_twin", wrong_twin)
    with pytest.raises(Disagreement, match=what):
        race.race(toy(small), job, batch=3, rounds=1, contestants=QUICK)


def test_a_step_that_does_not_move_the_weights_is_not_timed(monkeypatch):
    def idle(setup, name):
        contestant = original(setup, name)
        if name == "rawcnn graph":
            return contestant

        def run():
            loss = contestant.run()
            first = next(iter(setup.network.trained_variables))
            variable = twin_variables(setup.network, setup.twin)[first]
            variable.assign(tf.reshape(setup.network.variables[first], variable.shape))
            return loss

        return replace(contestant, run=run)

    original = contestants.training
    monkeypatch.setitem(contestants.JOBS, "training", idle)
    with pytest.raises(Disagreement, match="did not move conv1/filters"):
        race.race(toy(small), "training", batch=3, rounds=1, contestants=QUICK)


def test_refusals():
    for wrong, match in (
        ({"job": "both"}, "job is 'both'"),
        ({"contestants": ["keras"]}, "contestants are keras"),
        ({"contestants": []}, "contestants are none"),
        ({"batch": 0}, "batch is 0"),
    ):
        with pytest.raises(ValueError, match=match):
            race.race("cifar_resnet20", **({"job": "inference"} | wrong))
    with pytest.raises(ValueError, match="rounds is 0"):
        interleaved({}, 0)


def test_runs_take_turns_in_an_order_that_is_drawn_anew():
    calls, rounds = [], []
    runs = {name: partial(calls.append, name) for name in "ABC"}
    seconds = interleaved(runs, 20, rounds.append, short=0.0)
    turns = ["".join(calls[k : k + 3]) for k in range(0, len(calls), 3)]
    assert len(turns) == 21 and all(sorted(turn) == ["A", "B", "C"] for turn in turns)  # the first is not counted
    assert {turn[0] for turn in turns[1:]} == set("ABC") and len(set(turns)) > 3
    assert rounds == list(range(-1, 20))
    assert {name: len(values) for name, values in seconds.items()} == {"A": 20, "B": 20, "C": 20}
    assert interleaved(runs, 2).keys() == seconds.keys() and calls[63:].count("A") == 1 + 2 * 2


def test_objects_that_were_frozen_before_stay_frozen():
    """The tests freeze TensorFlow's modules; otherwise each later collection of garbage would scan them."""
    frozen = gc.get_freeze_count()
    interleaved({"A": lambda: None}, 1)
    assert 0 < 0.9 * frozen < gc.get_freeze_count() and gc.isenabled()


def test_where_one_is_short_all_are_called_once_more_and_only_that_counts():
    waits = iter([SHORT, 0.05, 0, 0.05, 0])  # the warm-up round; then a cold and a warm call, twice
    quick = []
    seconds = interleaved({"A": lambda: time.sleep(next(waits)), "B": partial(quick.append, None)}, 2)
    assert next(waits, None) is None and max(seconds["A"]) < 0.05 and len(quick) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak of resident memory")
def test_memory_of_a_call():
    megabytes = memory_of(lambda: np.ones(2**25, np.uint8)) / 2**20
    assert 30 <= megabytes <= 40


def test_a_list_of_races_and_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "race", lambda model, job, **settings: race.race(toy(small), job, **settings))
    reported = []
    results = run.run(
        ["small"],
        ["inference"],
        batch=2,
        rounds=1,
        contestants=QUICK,
        file=tmp_path / "new" / "races.jsonl",
        command="a test",
        progress=lambda what, done, total: reported.append(what),
    )
    assert [r.job for r in results] == ["inference"]
    assert reported[0].startswith("small inference: ")
    (line,) = (tmp_path / "new" / "races.jsonl").read_text().splitlines()
    assert json.loads(line)["command"] == "a test"


@pytest.mark.sample(3)
@pytest.mark.parametrize("case", SMALL_CASES[:1] + SMALL_CASES[3:], ids=str)
def test_kernel_forms_race(case):
    result = race_kernel(case, "forward", rounds=1)
    assert [t.name for t in result.timings] == [f"{form} {mode}" for form in forms(case) for mode in ("graph", "xla")]
    slow = replace(result, flops=6_000_000_000, timings=(replace(result.best, seconds=(2.0, 3.0, 4.0)),))
    assert slow.gflops(slow.best) == 2.0
    assert max(result.gflops(t) for t in result.timings) == result.gflops(result.best)
    json.dumps(result.to_json(), allow_nan=False)


def test_a_training_that_drops_paths_is_not_raced():
    """The twin is built from the operations of inference, which have no drop path."""
    with pytest.raises(ValueError, match="drops paths in training"):
        race.race(toy(dropping_paths), "training", rounds=1)


@pytest.mark.deeper
def test_kernel_gradients_cost_more():
    case, reported = KernelCase("lrn", 2, 5, 8), []
    forward, gradient = run.run_kernels([case], rounds=1, progress=lambda *counts: reported.append(counts))
    assert gradient.flops > forward.flops
    assert [counts[1:] for counts in reported] == [(1, 2), (2, 2)]


def test_a_wrong_form_is_not_timed():
    right = [np.ones((2, 2), np.float32)]
    with pytest.raises(Disagreement, match="nn xla of lrn"):
        compare(SMALL_CASES[-1], "nn xla", "float32", right, [right[0] * 1.001])
    with pytest.raises(ValueError, match="job is 'backward'"):
        race_kernel(SMALL_CASES[0], "backward")
    with pytest.raises(ValueError, match="precision is 'float16'"):
        race_kernel(SMALL_CASES[0], precision="float16")
