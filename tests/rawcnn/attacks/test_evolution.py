"""Evolved images: runs that replay bit for bit, checkpoints, and a network that is confident about noise."""

from __future__ import annotations

import colorsys
import math
import os
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import cppn
from rawcnn.attacks.ascent import ascend, unit_rms
from rawcnn.attacks.evolution import ENCODINGS, colored, evolve, log_probabilities
from tests import references
from tests.rawcnn.attacked import WEIGHTS, Linear

SHAPE = (4, 5)  # of the linear model's images
SHORT: dict[str, Any] = {"size": SHAPE, "generations": 6, "population": 16}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def same(one, other) -> None:
    """Two results are the same, bit for bit."""
    for name in ("images", "confidences", "history"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.genomes == other.genomes and one.settings == other.settings


# Colors ----------------------------------------------------------------------------------------------------


def test_hsv_is_that_of_the_standard_library():
    channels = generator().random((200, 3))
    channels[:8] = [[h / 6, 1, 1] for h in range(7)] + [[0.3, 0, 0.4]]
    expected = [colorsys.hsv_to_rgb(*row) for row in channels]
    np.testing.assert_allclose(colored(channels, "hsv"), expected, atol=1e-6)


def test_gray_is_three_times_the_same():
    channels = generator().random((5, 6, 1))
    np.testing.assert_array_equal(colored(channels, "grey"), np.repeat(channels, 3, axis=-1).astype(np.float32))


# Evolution --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
@pytest.mark.parametrize("colours", [{"grey": True}, {"colours": "hsv"}, {"colours": "rgb"}])
def test_the_fitness_of_a_niche_never_falls(encoding, colours):
    result = evolve(Linear(), encoding=encoding, **colours, **SHORT)
    assert result.history.shape == (6, 3) and np.all(np.diff(result.history, axis=0) >= 0)
    assert np.any(result.history[-1] > result.history[0])
    assert result.images.shape == (3, *SHAPE, 3) and result.images.dtype == np.float32
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert ("grey" in colours) == bool(np.all(result.images == result.images[..., :1]))


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
def test_every_child_is_tried_in_every_niche(encoding):
    """After one generation a champion is the best of all images so far for its class: found one by one."""
    seen = []

    def network(images):
        seen.append(images.numpy())
        return Linear()(images)

    result = evolve(network, encoding=encoding, compile="eager", **{**SHORT, "generations": 1})
    everyone = np.concatenate(seen[:2])  # generation 0 and its children
    alone = np.concatenate([tf.nn.softmax(Linear()(image[None])) for image in everyone])
    assert len(everyone) == 32
    references.close(result.confidences, alone.max(0))
    np.testing.assert_array_equal(result.images, everyone[alone.argmax(0)])
    references.close(result.history[0], alone.max(0))


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
def test_a_seed_gives_the_same_images(encoding):
    network = Linear()
    one, again, other = (evolve(network, encoding=encoding, seed=seed, **SHORT) for seed in (3, 3, 4))
    same(one, again)
    assert np.any(one.images != other.images)


def test_the_share_of_pixels_that_change_halves():
    """The mutation rate halves every thousand generations; unchanged values are the parent's, bit for bit."""
    code = ENCODINGS["direct"]((60, 60), "rgb")
    parents = code.draw(generator(), 3)
    for generation, share in ((0, 0.1), (999, 0.1), (1000, 0.05), (2500, 0.025)):
        children = code.mutate(parents, generator(1), generation)
        assert abs(np.mean(np.stack(children) != np.stack(parents)) - share) < 0.01


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
def test_confidences_are_what_the_network_says(trained, encoding):
    network, _, _ = trained
    before = {path: v.numpy() for path, v in network.variables.items()}
    result = evolve(network, encoding=encoding, generations=3, population=20)
    assert result.images.shape == (10, 8, 8, 3)
    references.close(result.confidences, np.diagonal(tf.nn.softmax(network(result.images))), kind="network")
    references.close(result.confidences, result.history[-1], kind="network")
    for path, value in before.items():  # batch-norm averages among them
        np.testing.assert_array_equal(network.variables[path], value)
    summary = result.summary()
    assert summary["median_confidence"] == pytest.approx(np.median(result.confidences)) and summary["rounds"] == 3
    if encoding == "cppn":
        larger = colored(cppn.evaluate(result.genomes[0], (8, 8)), "hsv")
        np.testing.assert_array_equal(larger, result.images[0])


def test_a_batch_is_judged_as_its_images_one_by_one(trained):
    network, images, _ = trained
    together = log_probabilities(network, images[:9], 4)
    alone = [log_probabilities(network, image[None], 1)[0] for image in images[:9]]
    references.close(together, np.stack(alone), kind="network")
    references.close(together, tf.nn.log_softmax(network(images[:9])), kind="network")


# Checkpoints ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_goes_on_as_if_undisturbed(encoding, stop, tmp_path):
    network, path, told = Linear(), tmp_path / "runs" / "state.npz", []
    whole = evolve(network, encoding=encoding, **SHORT)
    settings = {"encoding": encoding, "checkpoint": path, "every": 2, **SHORT}
    with pytest.raises(KeyboardInterrupt):
        evolve(network, progress=lambda done, total: _stop_at(stop, done), **settings)
    result = evolve(network, progress=lambda *n: told.append(n), **settings)
    same(result, whole)
    assert told == [(n, 6) for n in range(stop // 2 * 2 + 1, 7)]
    assert [file.name for file in path.parent.iterdir()] == ["state.npz"]  # no temporary file is left
    same(evolve(network, **settings), whole)  # it has ended: nothing is left to do
    same(
        evolve(network, **{**settings, "generations": 9}),
        evolve(network, encoding=encoding, **{**SHORT, "generations": 9}),
    )


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    evolve(Linear(), checkpoint=path, **SHORT)
    kept = path.read_bytes()

    def full(*names):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        evolve(Linear(), checkpoint=path, **{**SHORT, "generations": 7})
    assert path.read_bytes() == kept


def _stop_at(stop: int, done: int) -> None:
    if done == stop:
        raise KeyboardInterrupt


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:200], lambda b: b[: len(b) // 2], lambda b: b"no archive at all"]
)
def test_a_damaged_checkpoint_is_refused(encoding, damage, tmp_path):
    path = tmp_path / "state.npz"
    evolve(Linear(), encoding=encoding, checkpoint=path, **SHORT)
    path.write_bytes(damage(path.read_bytes()))
    kept = path.read_bytes()
    with pytest.raises(ValueError, match=r"state\.npz is damaged.*delete it") as refused:
        evolve(Linear(), encoding=encoding, checkpoint=path, **SHORT)
    assert "\n" not in str(refused.value) and path.read_bytes() == kept


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
def test_a_checkpoint_that_was_tampered_with_is_refused(encoding, tmp_path):
    path = tmp_path / "state.npz"
    evolve(Linear(), encoding=encoding, checkpoint=path, **SHORT)
    with np.load(path) as archive:
        good = dict(archive)
    pickled = np.array([{"a": 1}], object)
    wrong = [
        {"genomes": pickled},
        {"settings": np.array("[]")},
        {"fitness": good["fitness"][:2]},
        {"fitness": good["fitness"] * np.nan},
        {"history": good["history"].astype(float)},
        {"genomes": np.array("[{}]") if encoding == "cppn" else good["genomes"] + 1},
        {"genomes": np.array("[" * 100_000) if encoding == "cppn" else good["genomes"][:, :2]},
    ]
    for change in wrong:
        np.savez(path, **{**good, **change})
        with pytest.raises(ValueError, match=r"state\.npz is damaged"):
            evolve(Linear(), encoding=encoding, checkpoint=path, **SHORT)
    np.savez(path, **{name: array for name, array in good.items() if name != "fitness"})
    with pytest.raises(ValueError, match=r"state\.npz is damaged"):
        evolve(Linear(), encoding=encoding, checkpoint=path, **SHORT)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    evolve(Linear(), checkpoint=path, **SHORT)
    others: list[dict[str, Any]] = [{"seed": 1}, {"encoding": "cppn"}, {"grey": True}, {"population": 17}]
    for other in others:
        with pytest.raises(
            ValueError, match=f"belongs to another run: .*{'colours' if 'grey' in other else next(iter(other))}"
        ):
            evolve(Linear(), checkpoint=path, **{**SHORT, **other})
    with pytest.raises(ValueError, match="is at generation 6, but 5 are requested"):
        evolve(Linear(), checkpoint=path, **{**SHORT, "generations": 5})
    for network in (Linear(-WEIGHTS), Linear(WEIGHTS[:, :2])):
        with pytest.raises(ValueError, match="does not give the champions the confidences"):
            evolve(network, checkpoint=path, **SHORT)


# Ascent -----------------------------------------------------------------------------------------------------


def test_one_step_of_ascent_by_hand():
    """∇ log P(k) = W·(onehot(k) − p); a step of RMS `rate`, drawn back to gray."""
    network, rate, decay = Linear(), 0.02, 0.1
    start = ascend(network, size=SHAPE, steps=1, rate=1e-9, decay=0.0).images
    result = ascend(network, size=SHAPE, steps=1, rate=rate, decay=decay)
    slope = (np.eye(3) - tf.nn.softmax(network(start))) @ np.transpose(WEIGHTS)
    slope = np.reshape(slope, start.shape)
    step = slope / np.sqrt(np.mean(slope**2, axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(result.images, 0.5 + (1 - decay) * (start + rate * step - 0.5), atol=1e-6)
    assert abs(start - 0.5).max() < 0.03


def test_ascent_keeps_the_best_image_of_the_way(trained):
    network, _, _ = trained
    result = ascend(network, steps=40, rate=0.2, decay=0.5)
    assert result.history.shape == (40, 10)
    assert np.all(result.confidences >= result.history.max(0) - 1e-4)
    references.close(result.confidences, np.diagonal(tf.nn.softmax(network(result.images))), kind="network")
    assert result.images.min() >= 0 and result.images.max() <= 1


def test_ascent_is_the_same_in_eager_graph_and_xla():
    results = [ascend(Linear(), size=SHAPE, steps=5, compile=mode) for mode in ("eager", "graph", "xla")]
    for result in results[1:]:
        references.close(result.images, results[0].images, kind="gradient")
        references.close(result.history, results[0].history, kind="gradient")
    same(results[1], ascend(Linear(), size=SHAPE, steps=5, compile="graph"))


def test_decay_keeps_images_nearer_to_gray(trained):
    network, _, _ = trained
    far, near = (ascend(network, steps=50, decay=decay).images - 0.5 for decay in (0.0, 0.1))
    assert np.linalg.norm(near) < 0.8 * np.linalg.norm(far)


def test_a_gradient_too_small_to_square_still_has_a_direction():
    slope = tf.constant(np.stack([np.full((2, 2, 3), -1e-30), np.zeros((2, 2, 3))]), tf.float32)
    np.testing.assert_allclose(unit_rms(slope)[0], -np.ones((2, 2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(unit_rms(slope)[1], np.zeros((2, 2, 3)))


# What it claims ---------------------------------------------------------------------------------------------


def test_gradient_ascent_makes_a_network_sure(trained):
    network, _, _ = trained
    assert np.median(ascend(network).confidences) >= 0.99


@pytest.mark.sample("direct.*False|False.*direct")
@pytest.mark.parametrize(("encoding", "generations"), [("direct", 60), ("cppn", 250)])
@pytest.mark.parametrize("grey", [False, True])
def test_evolution_makes_a_network_sure(trained, encoding, generations, grey):
    """Median confidence of 99 % and more over the digits, as in the paper's figures 4 and 5."""
    network, _, _ = trained
    result = evolve(network, encoding=encoding, grey=grey, generations=generations)
    assert np.median(result.confidences) >= 0.99


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"encoding": "pixels"}, "encoding is 'pixels'; expected one of direct, cppn"),
        ({"colours": "lab"}, "colours is 'lab'"),
        ({"generations": 0}, "generations is 0"),
        ({"population": 1.5}, "population is 1.5"),
        ({"every": 0}, "every is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"size": 0}, "size is 0"),
        ({"size": None}, "has no input_size"),
        ({"compile": "fast"}, "compile is 'fast'"),
    ],
)
def test_evolve_refuses(settings, wrong):
    with pytest.raises(ValueError, match=wrong):
        evolve(Linear(), **{**SHORT, **settings})


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"rate": math.nan}, "rate is nan"),
        ({"decay": 1.0}, "decay 1.0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"size": (4, 5, 3)}, "size is"),
    ],
)
def test_ascend_refuses(settings, wrong):
    with pytest.raises(ValueError, match=wrong):
        ascend(Linear(), **{"size": SHAPE, **settings})


def test_networks_that_cannot_be_fooled_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        evolve(lambda x: Linear()(x) * np.nan, **SHORT)
    with pytest.raises(ValueError, match="expected logits"):
        evolve(lambda x: x, **SHORT)
    with pytest.raises(ValueError, match="no gradient"):
        ascend(lambda x: tf.one_hot(tf.argmax(Linear()(x), 1), 3), size=SHAPE)
