"""The race of feature visualization: its results, and that contestants with wrong results are not timed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from benchmarks import run
from benchmarks.harness import results
from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.timing import Timing
from benchmarks.races import visualize_peers
from benchmarks.races.visualize import RAW, VisualizeResult, compare, memory_apart, race_visualization
from benchmarks.races.visualize_peers import KERAS, PEERS, Clock, installed, keras_features, lucid_image
from rawcnn.nn.network import Network
from rawcnn.visualize.regularization import GRAY, ROBUST, draw_transforms, images_from, initial_parameters
from tests.benchmarks.toys import small, toy
from tests.references import random

QUICK = ("keras function", "rawcnn graph")


@pytest.fixture(autouse=True)
def fresh_keras():
    yield
    keras.backend.clear_session()


def layer_of(network) -> str:
    return next(op.name for op in network.operations if op.kind == "relu")


def test_a_race_of_images_that_are_not_square():
    network = Network("wide", small, size=(10, 14), classes=5, preprocessing="centered")
    result = race_visualization(network, layer_of(network), batch=1, rounds=1, contestants=QUICK)
    assert result.size == (10, 14) and json.loads(json.dumps(result.to_json()))["settings"]["size"] == [10, 14]


def test_the_size_on_the_command_line(rawcnn_command, tmp_path, monkeypatch):
    sizes = []
    monkeypatch.setattr(run, "run_visualizations", lambda *_, size, **settings: sizes.append(size) or [])
    for words in ((), ("--size", "160x128"), ("--size", "96")):
        code, _, err = rawcnn_command("benchmark", "visualize", "--output", tmp_path / "v.jsonl", *words)
        assert code == 0, err
    assert sizes == [128, (160, 128), 96]


@pytest.mark.slow
def test_all_but_the_libraries():
    network, reported = toy(small, preprocessing="centered"), []
    layer = layer_of(network)
    result = race_visualization(
        network, layer, batch=2, rounds=2, contestants=(*KERAS, *RAW), progress=lambda *counts: reported.append(counts)
    )
    assert [t.name for t in result.timings] == [*RAW, *KERAS]
    assert (result.network, result.layer, result.batch, result.size) == ("small", layer, 2, 12)
    assert (result.steps, result.opponent, result.complete) == (2, "the same layers in Keras", True)
    for timing in result.timings:
        assert len(timing.seconds) == 2 and min(timing.seconds) > 0 and timing.first_call > 0
        assert timing.difference <= 1e-3
    assert [done for _, done, _ in reported] == sorted(done for _, done, _ in reported)
    assert reported[-1][1] == reported[-1][2]
    settings, figures = (json.loads(json.dumps(result.to_json(), allow_nan=False))[k] for k in ("settings", "figures"))
    assert (settings["visualize"], settings["rounds"], settings["steps"]) == ("small", 2, 2)
    assert figures["chosen"] in RAW and figures["keras_best"] in KERAS and figures["libraries"] == {}
    assert all(c["per_image"] == c["median"] / 2 for c in figures["contestants"])


@pytest.mark.deeper
def test_keras_inception_has_the_networks_weights():
    """keras.applications' model: its layers and variables are matched by their order."""
    network = rawcnn.create("inception_v3", classes=2, size=75)
    generator = np.random.default_rng(0)
    for path, variable in network.variables.items():  # averages that are not 0 and 1; Keras's model has no scales
        if len(variable.shape) == 1 and not path.endswith("scale"):
            variable.assign_add(generator.uniform(0, 0.3, variable.shape).astype(np.float32))
    features, what = keras_features(network, "mixed_6b")
    assert what == "keras.applications.InceptionV3"
    images = tf.constant(generator.random((2, 75, 75, 3), np.float32))
    expected = network.activations(images, ["mixed_6b"])["mixed_6b"].numpy()
    np.testing.assert_allclose(features(images, training=False), expected, rtol=0, atol=1e-4 * expected.max())


def test_the_two_ways_to_make_an_image():
    for size in ((9, 9), (9, 12), (14, 8)):
        z = initial_parameters(ROBUST, size, [[0], [1]]) * 50
        mine = images_from(tf.constant(z), ROBUST, size)
        np.testing.assert_allclose(lucid_image(tf.constant(z.transpose(1, 0, 4, 2, 3)), size), mine, atol=1e-6)


def test_the_two_ways_to_move_it():
    images = tf.constant(np.random.default_rng(0).random((3, 16, 16, 3), np.float32))
    moves = tf.constant(draw_transforms(ROBUST, 16, 1, [[0], [1], [2]])[0])
    expected = kernels.affine_resample(images, moves, GRAY)
    np.testing.assert_allclose(visualize_peers.projected(images, moves), expected, atol=1e-5)


@pytest.mark.sample("values")
@pytest.mark.parametrize("what", ["gradients", "values"])
def test_a_wrong_opponent_is_not_timed(monkeypatch, what):
    def wrong(z, size):
        image, other = lucid_image(z, size), lucid_image(z[::-1], size)
        return image + 0.02 if what == "values" else other + tf.stop_gradient(image - other)

    monkeypatch.setattr(visualize_peers, "lucid_image", wrong)
    network = toy(small)
    with pytest.raises(Disagreement, match=f"the {what} of keras function differ from those of rawcnn graph"):
        race_visualization(network, layer_of(network), batch=1, rounds=1, contestants=QUICK)


def test_other_steps_are_seen():
    values, gradient = np.ones(2), random((2, 2, 3, 2, 3)).numpy()
    expected = [values, gradient, values]
    assert compare("b", expected, "a", expected) == 0
    assert compare("b", [values, gradient * 1.001, values], "a", expected) == pytest.approx(1e-3, rel=1e-2)
    one_image = np.stack([gradient[0], gradient[1] * 1.02])
    for wrong in ([values * 1.001, gradient, values], [values, one_image, values], [values, gradient, values * np.nan]):
        with pytest.raises(Disagreement, match="of b differ from those of a"):
            compare("b", wrong, "a", expected)


def test_the_clock_times_the_steps_after_the_first():
    clock, x = Clock(), tf.Variable([1.0])
    for _ in range(3):
        clock.apply_gradients(zip([tf.constant([1.0])], [x], strict=True))
    assert x.numpy() == pytest.approx(1 - 3 * 0.05, rel=1e-5)
    assert clock.seconds_per_step == pytest.approx((clock.ends[2] - clock.ends[0]) / 2) and clock.seconds_per_step > 0


@pytest.mark.parametrize("name", PEERS)
def test_a_library(name):
    network = toy(small)
    if not installed(name):
        with pytest.raises(ValueError, match=f"{name} must be installed"):
            race_visualization(network, layer_of(network), contestants=[*QUICK, name])
        return
    result = race_visualization(network, layer_of(network), batch=2, rounds=1, contestants=["rawcnn graph", name])
    assert result.by_name[name].difference is None and result.by_name[name].median > 0
    assert result.to_json()["figures"]["libraries"] == {name: installed(name)}


@pytest.mark.deeper
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak of resident memory")
def test_memory_is_that_of_a_step_though_tensorflow_keeps_it():
    """A step of 64 images of 32 pixels has at least the activations of the stem, 4 MiB, forward and backward."""
    memory = memory_apart("cifar_resnet20", "conv1", 64, 32, 0, ["rawcnn graph"])
    assert 8 <= memory["rawcnn graph"] / 2**20 <= 200


def test_refusals():
    for wrong, match in (
        ({"batch": 0}, "batch is 0"),
        ({"rounds": 0}, "rounds 0"),
        ({"contestants": ["keras"]}, "contestants are keras"),
        ({"contestants": []}, "contestants are none"),
    ):
        with pytest.raises(ValueError, match=match):
            race_visualization("googlenet", **wrong)
    with pytest.raises(ValueError, match="no layer of small is named"):
        race_visualization(toy(small))


def test_a_list_of_races_and_its_file(tmp_path, monkeypatch):
    def quick(model, layer, *, batch, rounds, progress, **settings):
        progress("raced", 1, 1)
        timings = tuple(Timing(name, 1.0, (0.5,) * rounds, None, 0.0) for name in (*RAW, *KERAS))
        return VisualizeResult(model, layer, 0, batch, 64, 1, "Keras", timings, "rawcnn xla", "reported")

    monkeypatch.setattr(run, "race_visualization", quick)
    reported: list[str] = []
    file = tmp_path / "new" / "visualize.jsonl"
    raced = run.run_visualizations(
        {"small": "conv1"},
        (1, 2),
        rounds=2,
        file=file,
        command="a test",
        progress=lambda what, *_: reported.append(what),
    )
    assert reported == ["small conv1, batch 1: raced", "small conv1, batch 2: raced"]
    records = results.read(file.parent)
    assert [r["command"] for r in records] == ["a test"] * 2
    assert [r["settings"] for r in records] == [r.to_json()["settings"] for r in raced]


def test_figures_follow_from_the_seconds():
    timings = tuple(
        Timing(name, 1.0, seconds, None, 0.0)
        for name, seconds in {
            "rawcnn graph": (1.0, 2.0, 3.0),
            "rawcnn xla": (9.0, 9.0, 9.0),
            "keras loop": (4.0, 4.0, 9.0),
            "keras function": (5.0, 3.0, 3.0),
            "xplique": (0.1, 0.1, 0.1),
        }.items()
    )
    result = VisualizeResult("toy", "conv1", 0, 2, 8, 1, "Keras", timings, "rawcnn graph", "reported")
    assert result.keras_best.name == "keras function"  # libraries do not count as Keras's contestants
    assert (result.ratios, result.ratio, result.complete) == ((5.0, 1.5, 1.0), 1.5, False)
    alone = replace(result, timings=timings[:1])
    assert alone.ratio is None
    json.dumps(alone.to_json(), allow_nan=False)
